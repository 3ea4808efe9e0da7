//! Real connections: sockets, TLS, slow clients, the end of a door.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing;
use bytes::Bytes;
use futures::stream;
use qb_portal::limits::{CONNECTIONS, CONNECTIONS_ADDRESS, TLS_DEADLINE};
use qb_portal::{Listener, serve, serve_tls};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::ask::local;
use crate::stub::Stub;

const ASK: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

/// Sends a request on a connection and reads until its end.
async fn round<S: AsyncRead + AsyncWrite + Unpin>(mut io: S) -> String {
    io.write_all(ASK).await.unwrap();
    let mut out = String::new();
    io.read_to_string(&mut out).await.unwrap();
    out
}

fn well(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("ok\n")
}

/// Connections out of memory.
struct Pipes(mpsc::Receiver<DuplexStream>);

impl Listener for Pipes {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<DuplexStream> {
        match self.0.recv().await {
            Some(io) => Ok(io),
            None => std::future::pending().await,
        }
    }
}

/// A door on pipes: connect by the sender, close by the other.
fn pipes(router: Router) -> (mpsc::Sender<DuplexStream>, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let (connect, connections) = mpsc::channel(1);
    let (close, closed) = oneshot::channel::<()>();
    let end = async { drop(closed.await) };
    (connect, close, tokio::spawn(serve(Pipes(connections), router, end)))
}

async fn connect(door: &mpsc::Sender<DuplexStream>) -> DuplexStream {
    let (client, server) = tokio::io::duplex(1024);
    door.send(server).await.unwrap();
    client
}

#[tokio::test]
async fn a_unix_socket_and_tcp_are_served() {
    let directory = std::env::temp_dir().join(format!("qb-portal-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("agent.sock");
    let _ = std::fs::remove_file(&path);
    let unix = UnixListener::bind(&path).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let door = local(&Stub::new());
    let tasks = [
        tokio::spawn(serve(unix, door.clone(), std::future::pending())),
        tokio::spawn(serve(tcp, door, std::future::pending())),
    ];
    assert!(well(&round(UnixStream::connect(&path).await.unwrap()).await));
    assert!(well(&round(TcpStream::connect(address).await.unwrap()).await));
    tasks.iter().for_each(|task| task.abort());
    std::fs::remove_dir_all(directory).unwrap();
}

/// Both ends of a TLS that knows one certificate.
fn tls() -> (TlsAcceptor, TlsConnector) {
    let made = rcgen::generate_simple_self_signed(vec!["n1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = || Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client)))
}

#[tokio::test(start_paused = true)]
async fn tls_is_served_while_others_do_not_shake_hands() {
    let (acceptor, connector) = tls();
    let (door, connections) = mpsc::channel(1);
    let router = local(&Stub::new());
    let task = tokio::spawn(serve_tls(Pipes(connections), acceptor, router, std::future::pending()));
    let mut silent = connect(&door).await;
    let mut garbage = connect(&door).await;
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let name = ServerName::try_from("n1").unwrap();
    let client = connector.connect(name, connect(&door).await).await.unwrap();
    assert!(well(&round(client).await));
    let begun = Instant::now();
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap(), 0);
    assert!(begun.elapsed() <= Duration::from_secs(11));
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_ends_the_connection() {
    let (door, _close, task) = pipes(local(&Stub::new()));
    for head in ["", "GET /healthz HT", "GET /healthz HTTP/1.1\r\nhost: x\r\n"] {
        let mut client = connect(&door).await;
        client.write_all(head.as_bytes()).await.unwrap();
        let begun = Instant::now();
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest).await;
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{head:?}");
        assert!((9..12).contains(&begun.elapsed().as_secs()), "{head:?} {:?}", begun.elapsed());
    }
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends() {
    let (door, _close, task) = pipes(local(&Stub::new()));
    let mut client = connect(&door).await;
    client.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let begun = Instant::now();
    let mut all = String::new();
    client.read_to_string(&mut all).await.unwrap();
    assert!(all.starts_with("HTTP/1.1 200 OK") && begun.elapsed() <= Duration::from_secs(11));
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_dropped() {
    let piece = || Ok::<_, io::Error>(Bytes::from_static(&[b'x'; 4096]));
    let endless = move || async move { Body::from_stream(stream::repeat_with(piece)) };
    let (door, _close, task) = pipes(Router::new().route("/", routing::get(endless)));
    let mut client = connect(&door).await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let begun = Instant::now();
    // The other end is gone when writing to it fails.
    while client.write_all(b"y").await.is_ok() {
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(begun.elapsed() < Duration::from_secs(40));
    }
    assert!(begun.elapsed() >= Duration::from_secs(30));
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn connections_are_bounded() {
    let (door, _close, task) = pipes(local(&Stub::new()));
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        idle.push(connect(&door).await);
    }
    // This one waits for room, which the idle ones give back after ten seconds.
    let (client, server) = tokio::io::duplex(1024);
    door.send(server).await.unwrap();
    let begun = Instant::now();
    assert!(well(&round(client).await));
    assert!((9..12).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    task.abort();
}

/// A connection from one of this machine's loopback addresses.
async fn from(address: [u8; 4], to: std::net::SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((address, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test]
async fn two_thousand_silent_connections_of_one_address_harm_nobody_else() {
    let (acceptor, connector) = tls();
    let (plain, secret) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let (at, tls_at) = (plain.local_addr().unwrap(), secret.local_addr().unwrap());
    let tasks = [
        tokio::spawn(serve(plain, local(&Stub::new()), std::future::pending())),
        tokio::spawn(serve_tls(secret, acceptor, local(&Stub::new()), std::future::pending())),
    ];
    for door in [at, tls_at] {
        let mut silent = Vec::new();
        for number in 0..2_000 {
            let mut io = from([127, 0, 0, 2], door).await;
            // Some of them begin a handshake.
            if door == tls_at && number % 3 == 0 {
                let _ = io.write_all(b"\x16\x03\x01").await;
            }
            // Beyond the share they are closed at once, and here too: this process has few descriptors.
            if number < CONNECTIONS_ADDRESS || number == 1_999 {
                silent.push(io);
            }
        }
        // Served while those of the share are still held, and the rest was closed.
        let own = from([127, 0, 0, 3], door).await;
        let answer = async {
            if door == at {
                return round(own).await;
            }
            let name = ServerName::try_from("n1").unwrap();
            round(connector.connect(name, own).await.unwrap()).await
        };
        assert!(well(&timeout(TLS_DEADLINE / 2, answer).await.expect("others are served")));
        let mut last = silent.pop().unwrap();
        let closed = timeout(TLS_DEADLINE / 2, last.read(&mut [0; 8])).await.expect("it is over its share");
        assert!(!matches!(closed, Ok(1..)), "nothing was said to it");
    }
    tasks.iter().for_each(|task| task.abort());
}

#[tokio::test(start_paused = true)]
async fn a_closing_door_finishes_what_it_began() {
    let (begun, mut began) = mpsc::channel(1);
    let work = move || async move {
        begun.send(()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        "done"
    };
    let (door, close, task) = pipes(Router::new().route("/healthz", routing::get(work)));
    let busy = tokio::spawn(round(connect(&door).await));
    let mut idle = connect(&door).await;
    began.recv().await.unwrap();
    close.send(()).unwrap();
    let _ = idle.read(&mut [0; 8]).await;
    timeout(Duration::from_secs(3), task).await.unwrap().unwrap();
    assert!(busy.await.unwrap().ends_with("done"));
}

#[tokio::test(start_paused = true)]
async fn a_closing_door_does_not_wait_for_ever() {
    let forever = || async { Body::from_stream(stream::pending::<io::Result<Bytes>>()) };
    let (door, close, task) = pipes(Router::new().route("/healthz", routing::get(forever)));
    let mut client = connect(&door).await;
    client.write_all(ASK).await.unwrap();
    assert_ne!(client.read(&mut [0; 8]).await.unwrap(), 0);
    close.send(()).unwrap();
    timeout(Duration::from_secs(6), task).await.unwrap().unwrap();
}
