//! The writers against a stand-in for an API server.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::*;

/// How long a phase may take to be seen.
const LONG: Duration = Duration::from_secs(30);

/// What the stand-in does with a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Refuses,
    Hangs,
}

struct StandIn {
    at: SocketAddr,
    credentials: Credentials,
    mood: watch::Sender<Mood>,
    /// Writes that came in this mood.
    writes: Arc<AtomicUsize>,
    /// Connections that were made.
    connections: Arc<AtomicUsize>,
    /// Objects that were made, and clearings.
    made: Arc<[AtomicUsize; 2]>,
    task: tokio::task::JoinHandle<()>,
}

fn pem(params: &CertificateParams, issuer: &Issuer<'_, &KeyPair>) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

/// A client's credentials, and a server that asks for them.
fn certificates() -> (Credentials, TlsAcceptor) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::from_params(&params, &key);
    let mut server = CertificateParams::default();
    server.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
    let (server, server_key) = pem(&server, &issuer);
    let (certificate, client_key) = pem(&CertificateParams::default(), &issuer);
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(server.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(server_key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let credentials = Credentials {
        authority: authority.pem().into_bytes(),
        certificate: certificate.into_bytes(),
        key: client_key.into_bytes(),
    };
    (credentials, TlsAcceptor::from(Arc::new(config)))
}

impl StandIn {
    async fn new() -> Self {
        let (credentials, acceptor) = certificates();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let mood = watch::channel(Mood::Well).0;
        let (writes, connections, made) = <(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<_>)>::default();
        let (told, wrote, connected, counts) =
            (mood.clone(), writes.clone(), connections.clone(), Arc::clone(&made));
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, told, wrote) = (acceptor.clone(), told.clone(), wrote.clone());
                let (connected, counts) = (connected.clone(), Arc::clone(&counts));
                open.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    connected.fetch_add(1, Ordering::Relaxed);
                    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let answer = service_fn(move |request| {
                        answer(request, told.subscribe(), wrote.clone(), Arc::clone(&counts))
                    });
                    let stream = TokioIo::new(stream);
                    // How a client goes is not looked at.
                    if http2 {
                        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        drop(server.serve_connection(stream, answer).await);
                    } else {
                        let server = hyper::server::conn::http1::Builder::new();
                        drop(server.serve_connection(stream, answer).await);
                    }
                });
            }
        });
        Self { at, credentials, mood, writes, connections, made, task }
    }

    /// Changes the mood, then says so in the file of phases, and waits for some writes in it.
    async fn turns(&self, mood: Mood, phases: &std::path::Path, lines: &mut String, line: &str) {
        self.mood.send_replace(mood);
        self.writes.store(0, Ordering::Relaxed);
        lines.push_str(line);
        lines.push('\n');
        std::fs::write(phases, &*lines).unwrap();
        let seen = async {
            while self.writes.load(Ordering::Relaxed) < 20 {
                sleep(LOOK).await;
            }
        };
        assert!(tokio::time::timeout(LONG, seen).await.is_ok(), "no writes come in {mood:?}");
    }
}

async fn answer(
    request: Request<Incoming>,
    mut mood: watch::Receiver<Mood>,
    writes: Arc<AtomicUsize>,
    made: Arc<[AtomicUsize; 2]>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let all = "/api/v1/namespaces/default/configmaps";
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let status = match method {
        Method::POST if path == all => {
            made[0].fetch_add(1, Ordering::Relaxed);
            201
        }
        Method::DELETE if request.uri().query() == Some("labelSelector=qb-writers") => {
            made[1].fetch_add(1, Ordering::Relaxed);
            200
        }
        Method::PATCH if path.starts_with(&format!("{all}/qb-writers-")) => {
            assert_eq!(request.headers()["content-type"], "application/merge-patch+json");
            let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            serde_json::from_slice::<serde_json::Value>(&body).unwrap();
            writes.fetch_add(1, Ordering::Relaxed);
            // It hangs for as long as the mood lasts, and longer: what was lost stays lost.
            if *mood.borrow_and_update() == Mood::Hangs {
                std::future::pending::<()>().await;
            }
            if *mood.borrow() == Mood::Well { 200 } else { 503 }
        }
        _ => 404,
    };
    let mut response = Response::new(Full::new(Bytes::from_static(b"{}")));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap();
    Ok(response)
}

async fn faults_are_seen(connections: Connections) {
    let server = StandIn::new().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("phases");
    let settings = Settings {
        server: server.at,
        credentials: server.credentials.clone(),
        connections,
        namespace: "default".to_owned(),
        every: Duration::from_millis(10),
        limit: Duration::from_millis(500),
        lasts: LONG * 4,
        phases: Some(file.clone()),
    };
    let running = tokio::spawn(run(settings));
    let mut lines = String::new();
    for (mood, line) in
        [(Mood::Well, "before"), (Mood::Refuses, "refuses"), (Mood::Hangs, "hangs"), (Mood::Well, "after")]
    {
        server.turns(mood, &file, &mut lines, line).await;
    }
    std::fs::write(&file, format!("{lines}end\n")).unwrap();
    let report = tokio::time::timeout(LONG, running).await.unwrap().unwrap().unwrap();
    let names: Vec<&str> = report.phases.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["first", "before", "refuses", "hangs", "after"]);
    let of = |n: usize| &report.phases[n].figures;
    // What was begun before the mood changed may see the new one.
    assert!(of(1).requests - of(1).failed > 0 && of(4).requests - of(4).failed > 0, "{report:?}");
    assert!(of(2).errors.get("503").is_some_and(|n| *n >= 10), "{report:?}");
    assert!(of(3).errors.get("late").is_some_and(|n| *n >= 10), "{report:?}");
    assert!(report.all.requests == report.phases.iter().map(|p| p.figures.requests).sum::<usize>());
    // Twenty requests each failed one after the other, ten milliseconds apart.
    assert!(
        report.all.longest_lost_ms >= 200.0 && report.gaps[0].ms == report.all.longest_gap_ms,
        "{report:?}"
    );
    let made = [&server.made[0], &server.made[1]].map(|n| n.load(Ordering::Relaxed));
    assert_eq!(made, [OBJECTS as usize, 1]);
    let count = server.connections.load(Ordering::Relaxed);
    match connections {
        Connections::One => assert_eq!(count, 1, "all share one"),
        // Some were given up before their greeting was over.
        Connections::Each => assert!(count > report.all.requests - report.all.failed, "{count}"),
    }
    server.task.abort();
}

#[tokio::test]
async fn faults_are_seen_over_one_connection() {
    faults_are_seen(Connections::One).await;
}

#[tokio::test]
async fn faults_are_seen_over_a_connection_for_each() {
    faults_are_seen(Connections::Each).await;
}

#[tokio::test]
async fn whoever_may_not_write_is_told() {
    let server = StandIn::new().await;
    let settings = Settings {
        server: server.at,
        credentials: server.credentials.clone(),
        connections: Connections::One,
        namespace: "elsewhere".to_owned(),
        every: LOOK,
        limit: LONG,
        lasts: LONG,
        phases: None,
    };
    let error = run(settings).await.unwrap_err().to_string();
    assert!(error.contains("404"), "{error}");
    server.task.abort();
}
