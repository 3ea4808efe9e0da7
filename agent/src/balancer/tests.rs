//! The balancer over real sockets on loopback.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::health::Rank;
use super::{Backends, Balancer, View, balance};

/// A deadline, never a measure: nothing here takes long on a machine that has time.
const LONG: Duration = Duration::from_secs(30);

async fn within<T>(what: &str, done: impl Future<Output = T>) -> T {
    timeout(LONG, done).await.unwrap_or_else(|_| panic!("{what}: not within {LONG:?}"))
}

/// An API server's stand-in: greets with its letter, then says everything again.
struct Echo {
    at: SocketAddr,
    taken: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Echo {
    async fn new(letter: u8) -> Self {
        Self::new_at("127.0.0.1:0".parse().unwrap(), letter).await
    }

    async fn new_at(at: SocketAddr, letter: u8) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let at = listener.local_addr().unwrap();
        let taken = Arc::new(AtomicUsize::new(0));
        let count = taken.clone();
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let count = count.clone();
                open.spawn(async move {
                    // Looks close without a word; clients begin.
                    let mut bytes = [0u8; 1024];
                    let mut greeted = false;
                    while let Ok(n @ 1..) = stream.read(&mut bytes).await {
                        if !std::mem::replace(&mut greeted, true) {
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        bytes[0] = letter;
                        if stream.write_all(&bytes[..n]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { at, taken, task }
    }

    /// As when the process is killed: the kernel closes all its sockets. With bytes of it unread they end
    /// by a reset, else by an orderly close.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

struct Running {
    at: SocketAddr,
    backends: watch::Sender<Option<Backends>>,
    view: watch::Receiver<View>,
    said: Arc<Mutex<Vec<String>>>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

fn backends(list: &[SocketAddr]) -> Backends {
    Backends { cluster: "c1".parse().unwrap(), authority_pem: Vec::new(), backends: list.to_vec(), own: None }
}

/// A port that was free a moment ago: nobody listens there.
async fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

impl Running {
    async fn start(first: Option<Backends>) -> Self {
        let at = free_port().await;
        let running = Self::start_at(at, first.clone());
        if first.is_some() {
            running.sees("the port open", |view| view.listens == Some(at)).await;
        }
        running
    }

    fn start_at(at: SocketAddr, first: Option<Backends>) -> Self {
        let (backends, receiver) = watch::channel(first);
        let (view, shown) = watch::channel(View::default());
        let said = Arc::new(Mutex::new(Vec::new()));
        let (cancel, saying) = (CancellationToken::new(), said.clone());
        let say = Box::new(move |text| saying.lock().unwrap().push(text));
        let cancelled = cancel.clone();
        let balancer = Balancer {
            listen: at,
            seed: 0,
            backends: receiver,
            connections: 500,
            view,
            say,
            cancel: cancelled,
        };
        let task = tokio::spawn(balance(balancer));
        Self { at, backends, view: shown, said, cancel, task }
    }

    async fn sees(&self, what: &str, seen: impl FnMut(&View) -> bool) {
        let mut view = self.view.clone();
        let waited = timeout(LONG, view.wait_for(seen)).await;
        assert!(waited.is_ok_and(|ok| ok.is_ok()), "never seen: {what}; {:?}", *self.view.borrow());
    }

    async fn sees_rank(&self, at: SocketAddr, rank: Rank) {
        let all = |view: &View| view.servers.iter().any(|s| s.at == at && s.rank == rank);
        self.sees(&format!("{at} is {rank:?}"), all).await;
    }

    async fn client(&self) -> TcpStream {
        TcpStream::connect(self.at).await.unwrap()
    }

    async fn end(self) {
        self.cancel.cancel();
        within("its end", self.task).await.unwrap();
    }
}

/// Says a word; the letter of the server that said it again.
async fn ask(client: &mut TcpStream) -> std::io::Result<u8> {
    client.write_all(b"?!").await?;
    let mut answer = [0u8; 2];
    client.read_exact(&mut answer).await?;
    Ok(answer[0])
}

#[tokio::test]
async fn connections_are_spread_and_the_list_changes_live() {
    let (a, b) = (Echo::new(b'a').await, Echo::new(b'b').await);
    let run = Running::start(Some(backends(&[a.at]))).await;
    let mut first = run.client().await;
    assert_eq!(within("an answer", ask(&mut first)).await.unwrap(), b'a');
    run.backends.send_replace(Some(backends(&[a.at, b.at])));
    run.sees("both", |view| view.servers.len() == 2).await;
    let mut letters = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = run.client().await;
        letters.push(within("an answer", ask(&mut client)).await.unwrap());
        clients.push(client);
    }
    letters.sort_unstable();
    assert_eq!(letters, b"aabb");
    // One that leaves is drained: an orderly end, and nothing new goes there.
    run.backends.send_replace(Some(backends(&[b.at])));
    let ended = within("the drain", first.read(&mut [0; 8])).await;
    assert_eq!(ended.unwrap(), 0);
    let before = a.taken.load(Ordering::Relaxed);
    for _ in 0..4 {
        assert_eq!(within("an answer", ask(&mut run.client().await)).await.unwrap(), b'b');
    }
    assert_eq!(a.taken.load(Ordering::Relaxed), before);
    run.sees("drained", |view| view.ended.drained == 3 && view.ended.cut == 0).await;
    // Without servers the port is closed, and what is open is drained.
    let mut last = run.client().await;
    assert_eq!(within("an answer", ask(&mut last)).await.unwrap(), b'b');
    run.backends.send_replace(None);
    run.sees("closed", |view| view.listens.is_none()).await;
    assert_eq!(within("the drain", last.read(&mut [0; 8])).await.unwrap(), 0);
    assert_eq!(TcpStream::connect(run.at).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    run.end().await;
}

#[tokio::test]
async fn a_killed_server_is_told_and_the_next_one_takes_over() {
    let (a, b) = (Echo::new(b'a').await, Echo::new(b'b').await);
    let dead = a.at;
    let own = Some(a.at);
    let run = Running::start(Some(Backends { own, ..backends(&[a.at, b.at]) })).await;
    run.sees("both alive", |view| view.servers.len() == 2).await;
    let mut client = run.client().await;
    assert_eq!(within("an answer", ask(&mut client)).await.unwrap(), b'a', "its own is first");
    a.kill().await;
    let ended = within("the end", client.read(&mut [0; 8])).await;
    assert!(matches!(&ended, Ok(0)) || ended.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset));
    assert_eq!(within("an answer", ask(&mut run.client().await)).await.unwrap(), b'b');
    run.sees_rank(dead, Rank::Dead).await;
    let since = run.view.borrow().servers.iter().find(|s| s.at == dead).and_then(|s| s.since);
    assert!(since.is_some_and(|since| since <= crate::events::now()));
    within("words", async {
        while !run.said.lock().unwrap().contains(&format!("c1: API server {dead} takes no connections")) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    run.end().await;
}

#[tokio::test]
async fn a_reset_of_a_server_is_a_reset_for_its_client() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            if stream.read_u8().await.is_ok() {
                stream.set_zero_linger().unwrap();
            }
        }
    });
    let run = Running::start(Some(backends(&[at]))).await;
    let mut client = run.client().await;
    client.write_all(b"?").await.unwrap();
    let error = within("the reset", client.read(&mut [0; 8])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    run.end().await;
    server.abort();
}

/// Falls silent: its queue of connections is short, and from one moment on nobody takes any out of it, so
/// that the kernel answers nothing, as a host that is off. What was open stays open without a word.
struct Silent {
    at: SocketAddr,
    task: JoinHandle<()>,
    quiet: CancellationToken,
}

impl Silent {
    fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let at = listener.local_addr().unwrap();
        let quiet = CancellationToken::new();
        let told = quiet.clone();
        let task = tokio::spawn(async move {
            let mut open = Vec::new();
            loop {
                tokio::select! {
                    taken = listener.accept() => open.push(taken.unwrap()),
                    () = told.cancelled() => break,
                }
            }
            // Holds listener and connections for as long as the test lasts.
            std::future::pending::<()>().await;
            drop((listener, open));
        });
        Self { at, task, quiet }
    }
}

#[tokio::test]
async fn connections_to_a_silent_server_are_cut_by_a_reset() {
    let (silent, other) = (Silent::new(), Echo::new(b'o').await);
    let own = Some(silent.at);
    let run = Running::start(Some(Backends { own, ..backends(&[silent.at, other.at]) })).await;
    let mut client = run.client().await;
    client.write_all(b"?").await.unwrap();
    run.sees("a connection to it", |view| {
        view.servers.iter().any(|s| s.at == silent.at && s.connections == 1)
    })
    .await;
    silent.quiet.cancel();
    let error = within("the cut", client.read(&mut [0; 8])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    run.sees("it is counted", |view| view.ended.cut == 1).await;
    assert_eq!(within("an answer", ask(&mut run.client().await)).await.unwrap(), b'o');
    run.end().await;
    silent.task.abort();
}

#[tokio::test]
async fn with_nobody_up_a_connection_waits_and_is_served_when_somebody_comes() {
    let at = free_port().await;
    let run = Running::start(Some(backends(&[at]))).await;
    run.sees_rank(at, Rank::Dead).await;
    // It is taken, and ended when nobody came in time: never refused.
    let mut client = run.client().await;
    let error = within("its end", client.read(&mut [0; 8])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    run.sees("it is counted", |view| view.ended.unserved == 1).await;
    // It comes while a client waits: what takes a connection is not cut for what looks said before.
    let mut waits = run.client().await;
    let back = Echo::new_at(at, b'b').await;
    assert_eq!(within("an answer", ask(&mut waits)).await.unwrap(), b'b');
    assert_eq!(run.view.borrow().ended.cut, 0);
    back.kill().await;
    run.sees_rank(at, Rank::Dead).await;
    // Somebody who is thought dead is tried all the same.
    let come = Echo::new(b'c').await;
    run.backends.send_replace(Some(backends(&[at, come.at])));
    assert_eq!(within("an answer", ask(&mut run.client().await)).await.unwrap(), b'c');
    // An empty list is no reason to refuse either.
    run.backends.send_replace(Some(backends(&[])));
    run.sees("nobody", |view| view.servers.is_empty() && view.listens.is_some()).await;
    let mut waits = run.client().await;
    run.backends.send_replace(Some(backends(&[come.at])));
    assert_eq!(within("an answer", ask(&mut waits)).await.unwrap(), b'c');
    run.end().await;
}

#[tokio::test]
async fn as_many_connections_as_fit_are_served_and_one_more_is_refused() {
    // Four descriptors each, all of this process.
    let limits = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits }).unwrap();
    let echo = Echo::new(b'e').await;
    let run = Running::start(Some(backends(&[echo.at]))).await;
    let mut clients = JoinSet::new();
    for _ in 0..500 {
        let at = run.at;
        clients.spawn(async move {
            let mut client = TcpStream::connect(at).await.unwrap();
            for _ in 0..3 {
                assert_eq!(ask(&mut client).await.unwrap(), b'e');
            }
            client
        });
    }
    let held = within("all of them", clients.join_all()).await;
    assert_eq!(echo.taken.load(Ordering::Relaxed), 500);
    run.sees("all of them", |view| view.servers[0].connections == 500).await;
    let error = within("the refusal", run.client().await.read(&mut [0; 8])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    run.sees("it is counted", |view| view.ended.refused == 1).await;
    drop(held);
    run.sees("none of them", |view| view.servers[0].connections == 0).await;
    run.end().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_and_taken_over_when_it_is_free() {
    let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = holder.local_addr().unwrap();
    let echo = Echo::new(b'e').await;
    let run = Running::start_at(at, Some(backends(&[echo.at])));
    let me = format!("(process {})", std::process::id());
    run.sees("why", |view| view.waits.as_ref().is_some_and(|why| why.contains(&me))).await;
    assert!(run.view.borrow().listens.is_none());
    let said = run.said.lock().unwrap().clone();
    assert!(said.len() == 1 && said[0].contains("is taken by") && said[0].contains("stop that"), "{said:?}");
    drop(holder);
    run.sees("the port open", |view| view.listens == Some(at) && view.waits.is_none()).await;
    assert_eq!(within("an answer", ask(&mut run.client().await)).await.unwrap(), b'e');
    run.end().await;
}

#[tokio::test]
async fn a_way_back_to_the_balancer_itself_is_no_server() {
    let at = free_port().await;
    let echo = Echo::new(b'e').await;
    let run = Running::start_at(at, Some(backends(&[at, echo.at])));
    run.sees("one server", |view| view.servers.len() == 1 && view.servers[0].at == echo.at).await;
    run.end().await;
}

/// A cluster's authority, and TLS of servers with its certificates.
struct Authority {
    pem: String,
    key: KeyPair,
    params: CertificateParams,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { pem: params.self_signed(&key).unwrap().pem(), key, params }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let issuer = Issuer::from_params(&self.params, &self.key);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
            )
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Answers /readyz over TLS, and nothing to whoever else comes.
struct Apiserver {
    at: SocketAddr,
    ready: Arc<AtomicBool>,
    /// Connections over TLS: questions go over one that is kept.
    shakes: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Apiserver {
    async fn new(authority: &Authority) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (ready, shakes) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (acceptor, told, shaken) = (authority.acceptor(), ready.clone(), shakes.clone());
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, told, shaken) = (acceptor.clone(), told.clone(), shaken.clone());
                open.spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    shaken.fetch_add(1, Ordering::Relaxed);
                    let mut request = [0u8; 1024];
                    while let Ok(n @ 1..) = stream.read(&mut request).await {
                        assert!(request[..n].starts_with(b"GET /readyz HTTP/1.1\r\n"));
                        let answer: &[u8] = if told.load(Ordering::Relaxed) {
                            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
                        } else {
                            b"HTTP/1.1 500 no\r\ncontent-length: 15\r\n\r\n[-]etcd failed\n"
                        };
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { at, ready, shakes, task }
    }
}

#[tokio::test]
async fn who_is_not_ready_gets_nothing_new_and_is_drained_after_a_while() {
    let authority = Authority::new();
    let (a, b) = (Apiserver::new(&authority).await, Apiserver::new(&authority).await);
    let list = Backends {
        authority_pem: authority.pem.clone().into_bytes(),
        own: Some(a.at),
        ..backends(&[a.at, b.at])
    };
    let run = Running::start(Some(list.clone())).await;
    run.sees_rank(a.at, Rank::Ready).await;
    run.sees_rank(b.at, Rank::Ready).await;
    let mut held = run.client().await;
    let at_own = |view: &View| view.servers.iter().any(|s| s.at == a.at && s.connections == 1);
    run.sees("a connection to its own", at_own).await;
    a.ready.store(false, Ordering::Relaxed);
    run.sees_rank(a.at, Rank::NotReady).await;
    let why = run.view.borrow().servers.iter().find(|s| s.at == a.at).map(|s| s.why.clone());
    assert_eq!(why.as_deref(), Some("/readyz says 500: etcd failed"));
    let other = run.client().await;
    run.sees("a connection to the other", |view| {
        view.servers.iter().any(|s| s.at == b.at && s.connections == 1)
    })
    .await;
    // An orderly end, by a drain.
    assert_eq!(within("the drain", held.read(&mut [0; 8])).await.unwrap(), 0);
    run.sees("it is counted", |view| view.ended.drained == 1 && view.ended.cut == 0).await;
    assert_eq!(run.view.borrow().servers.iter().map(|s| s.connections).sum::<usize>(), 1);
    a.ready.store(true, Ordering::Relaxed);
    run.sees_rank(a.at, Rank::Ready).await;
    assert_eq!([a.shakes.load(Ordering::Relaxed), b.shakes.load(Ordering::Relaxed)], [1, 1]);
    // Somebody else's certificate makes nobody ready.
    let another = Authority::new().pem.into_bytes();
    run.backends.send_replace(Some(Backends { authority_pem: another, ..list.clone() }));
    run.sees_rank(a.at, Rank::NotReady).await;
    run.sees_rank(b.at, Rank::NotReady).await;
    run.backends.send_replace(Some(Backends { authority_pem: b"none".to_vec(), ..list }));
    run.sees("why", |view| view.waits.as_ref().is_some_and(|why| why.contains("no certificate in PEM")))
        .await;
    drop(other);
    run.end().await;
    a.task.abort();
    b.task.abort();
}
