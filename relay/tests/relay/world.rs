//! A relay on a port of its own.

use std::sync::Arc;
use std::time::Duration;

use qb_model::PublicKey;
use qb_relay::{Config, Relay, Timing};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, Got};
use crate::site::FakeSite;

pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) authority: String,
    pub(crate) key: PublicKey,
    dir: Option<TempDir>,
    config: Config,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

pub(crate) fn timing() -> Timing {
    Timing {
        dark: Duration::from_secs(90),
        standby_after: Duration::from_millis(200),
        refresh: Duration::from_millis(100),
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(timing()).await
    }

    pub(crate) async fn with(timing: Timing) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listen = listener.local_addr().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            listen,
            state: dir.path().to_owned(),
            url: format!("http://{listen}"),
            tls: None,
            open: true,
            orgs: vec![],
            packages: dir.path().join("packages"),
            timing,
        };
        let relay = Relay::open(config.clone()).await.unwrap();
        let key = relay.public_key();
        let (stop, task) = run(relay, listener);
        let (url, authority) = (config.url.clone(), listen.to_string());
        Self { url, authority, key, dir: Some(dir), config, stop, task: Some(task) }
    }

    /// Ends the relay and starts it again in the same directory, on the same port.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        let listener = TcpListener::bind(self.config.listen).await.unwrap();
        let relay = Relay::open(self.config.clone()).await.unwrap();
        assert_eq!(relay.public_key(), self.key);
        let (stop, task) = run(relay, listener);
        (self.stop, self.task) = (stop, Some(task));
    }

    /// Starts again with TLS, as `https://localhost:PORT`.
    pub(crate) async fn restart_with_tls(&mut self, tls: qb_relay::config::TlsFiles) {
        self.config.url = format!("https://localhost:{}", self.config.listen.port());
        self.config.tls = Some(tls);
        self.url = self.config.url.clone();
        self.restart().await;
    }

    /// Starts again as what is reached at another address, where somebody passes on to it.
    pub(crate) async fn restart_behind(&mut self, url: &str) {
        self.config.url = url.to_owned();
        self.url = url.to_owned();
        self.restart().await;
    }

    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        self.task.take().unwrap().await.unwrap();
    }

    pub(crate) async fn register(&self, site: &FakeSite, org: &str) -> Got {
        let body = serde_json::to_vec(&site.registration(org)).unwrap();
        Client::stranger(&self.authority).post("/v1/register", body).await
    }

    /// A founded site that is registered.
    pub(crate) async fn site(&self, base: u8, name: &str, org: &str) -> Arc<FakeSite> {
        let site = FakeSite::founded(base, name, &self.url, self.key);
        let got = self.register(&site, org).await;
        assert_eq!(got.status, 201, "{}", got.text());
        site
    }

    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.as_ref().unwrap().path()
    }
}

fn run(relay: Arc<Relay>, listener: TcpListener) -> (CancellationToken, JoinHandle<()>) {
    let stop = CancellationToken::new();
    let ended = stop.clone().cancelled_owned();
    (stop, tokio::spawn(async move { qb_relay::serve(relay, listener, ended).await.unwrap() }))
}
