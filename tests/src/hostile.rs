//! A relay in the wrong hands: it owns a key that the site trusts, speaks the link as a relay does, and
//! is a door to `qb`. It passes on, or says what it likes; what it sends down the link is the test's.

use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qb_link::limits::BEAT;
use qb_link::noise::StaticKey;
use qb_link::ws::{self, WsIo};
use qb_link::{Mux, MuxEnd, Push, RelayEnd, Stream, Told, Verdict, handshake, mux, push};
use qb_model::dsse::{SecretKey, Signer as _};
use qb_model::statement::Receipt;
use qb_model::{Digest, PublicKey};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::http::{self, Answer};

/// How long the site may take for one answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of a request's head, and of its body.
const ASK_BYTES: usize = 256 * 1024;

/// A request of `qb`.
#[derive(Debug, Clone)]
pub struct Ask {
    /// `GET`, `POST`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The body.
    pub body: Vec<u8>,
    /// `Sec-WebSocket-Key`, of a link.
    upgrade: Option<String>,
}

/// What the relay says in place of the site; none to pass the request on.
pub type Lie = Box<dyn Fn(&Ask) -> Option<Answer> + Send>;

/// An answer that nobody but the relay gives.
pub fn says(status: u16, body: &serde_json::Value) -> Option<Answer> {
    Some(Answer { status, body: body.to_string().into_bytes() })
}

struct Shared {
    url: String,
    host: String,
    seed: Mutex<[u8; 32]>,
    noise: StaticKey,
    link: watch::Sender<Option<Mux>>,
    /// Receipts with their signed bytes.
    receipts: Mutex<Vec<(Receipt, Vec<u8>)>>,
    lie: Mutex<Lie>,
    /// Counts up when all links are to end.
    cut: watch::Sender<u64>,
}

/// The relay. Dropped, it is gone with its connections.
pub struct Hostile {
    shared: Arc<Shared>,
    runtime: Runtime,
}

/// An intent that is sent in part.
pub struct Part {
    stream: Stream,
    rest: Vec<u8>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn seed() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).context("the system gives no random bytes")?;
    Ok(bytes)
}

impl Hostile {
    /// Opens one at `localhost`, which passes everything on.
    ///
    /// # Errors
    /// The port is taken.
    pub fn open(port: u16) -> Result<Self> {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, port))
            .with_context(|| format!("port {port} of 127.0.0.1"))?;
        listener.set_nonblocking(true)?;
        let host = format!("localhost:{port}");
        let shared = Arc::new(Shared {
            url: format!("http://{host}"),
            host,
            seed: Mutex::new(seed()?),
            noise: StaticKey::generate()?,
            link: watch::channel(None).0,
            receipts: Mutex::default(),
            lie: Mutex::new(Box::new(|_| None)),
            cut: watch::channel(0).0,
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let own = Arc::clone(&shared);
        runtime.spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((io, _)) = listener.accept().await {
                // Whoever breaks off is not missed: the test judges by what the site does.
                let own = Arc::clone(&own);
                tokio::spawn(async move { drop(own.serve(io).await) });
            }
        });
        Ok(Self { shared, runtime })
    }

    /// Its address as sites have it.
    pub fn url(&self) -> String {
        self.shared.url.clone()
    }

    /// Its door as `qb` names it.
    pub fn door(&self) -> String {
        format!("relay:{}", self.shared.url)
    }

    /// Its key.
    pub fn key(&self) -> SecretKey {
        self.shared.key()
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        self.key().public_key()
    }

    /// What it says from now on.
    pub fn lie(&self, lie: impl Fn(&Ask) -> Option<Answer> + Send + 'static) {
        *lock(&self.shared.lie) = Box::new(lie);
    }

    /// Another key from now on: links end, and begin anew with it.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn swap_key(&self) -> Result<()> {
        *lock(&self.shared.seed) = seed()?;
        self.shared.cut.send_modify(|times| *times += 1);
        Ok(())
    }

    /// Whether an agent's link is up.
    pub fn is_linked(&self) -> bool {
        self.shared.link.borrow().as_ref().is_some_and(|mux| !mux.is_gone())
    }

    /// The receipts that came so far.
    pub fn receipts(&self) -> Vec<Receipt> {
        lock(&self.shared.receipts).iter().map(|(receipt, _)| receipt.clone()).collect()
    }

    /// Begins to send an intent down the link: its first `sent` bytes.
    ///
    /// # Errors
    /// There is no link.
    pub fn begin(&self, site: &str, body: &[u8], sent: usize) -> Result<Part> {
        self.runtime.block_on(async {
            let stream = self.shared.intent(site, body, sent).await?;
            Ok(Part { stream, rest: body[sent..].to_vec() })
        })
    }

    /// Sends the rest; the status that the site answers with.
    ///
    /// # Errors
    /// It does not answer.
    pub fn finish(&self, part: Part) -> Result<u16> {
        self.runtime.block_on(finish(part))
    }

    /// Sends an intent to the site on so many streams at once.
    ///
    /// # Errors
    /// It does not answer.
    pub fn send(&self, site: &str, body: &[u8], times: usize) -> Result<Vec<u16>> {
        let mut parts = Vec::new();
        for _ in 0..times {
            parts.push(self.begin(site, body, body.len().saturating_sub(1))?);
        }
        parts.into_iter().map(|part| self.finish(part)).collect()
    }

    /// Sends bytes that are no request.
    ///
    /// # Errors
    /// There is no link.
    pub fn noise(&self, bytes: &[u8]) -> Result<()> {
        self.runtime.block_on(async {
            let mut stream = self.shared.stream().await?;
            stream.write_all(bytes).await?;
            Ok(stream.flush().await?)
        })
    }
}

async fn finish(mut part: Part) -> Result<u16> {
    part.stream.write_all(&part.rest).await?;
    part.stream.flush().await?;
    Ok(answer(&mut part.stream).await?.status)
}

async fn answer(stream: &mut Stream) -> Result<Answer> {
    let mut raw = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut raw))
        .await
        .context("the site does not answer")??;
    http::parse(&raw)
}

impl Shared {
    fn key(&self) -> SecretKey {
        SecretKey::from_bytes(&lock(&self.seed))
    }

    async fn stream(&self) -> Result<Stream> {
        let mux = self.link.borrow().clone().context("no agent has a link")?;
        Ok(mux.open().await?)
    }

    async fn intent(&self, site: &str, body: &[u8], sent: usize) -> Result<Stream> {
        let mut stream = self.stream().await?;
        let path = format!("/v1/sites/{site}/intents?wait=0s");
        stream.write_all(head("POST", &path, body.len()).as_bytes()).await?;
        stream.write_all(&body[..sent]).await?;
        stream.flush().await?;
        Ok(stream)
    }

    /// One connection: requests of `qb` one after the other, or an agent's link.
    async fn serve(self: Arc<Self>, mut io: TcpStream) -> Result<()> {
        io.set_nodelay(true)?;
        while let Some(ask) = read(&mut io).await? {
            if let Some(key) = ask.upgrade.as_ref().filter(|_| ask.path == ws::PATH) {
                let accept = ws::accept_key(key);
                let head = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: {accept}\r\n\r\n"
                );
                io.write_all(head.as_bytes()).await?;
                return self.link(io).await;
            }
            let answer = self.answer(&ask).await?;
            let head = format!(
                "HTTP/1.1 {} Said\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                answer.status,
                answer.body.len()
            );
            io.write_all(head.as_bytes()).await?;
            io.write_all(&answer.body).await?;
        }
        Ok(())
    }

    async fn answer(&self, ask: &Ask) -> Result<Answer> {
        let lie = lock(&self.lie)(ask);
        if let Some(lie) = lie {
            return Ok(lie);
        }
        let key = self.key().public_key();
        // It lets everybody in: what it shows is not its secret.
        let login = match (ask.path.as_str(), ask.method.as_str()) {
            ("/v1/login", "GET") => Some(json!({
                "v": 1, "nonce": qb_model::Nonce([7; 32]), "server_key": key, "origins": [self.url],
            })),
            ("/v1/login", _) => Some(json!({
                "v": 1, "token": "A".repeat(43), "admin": "mira", "role": "owner", "key": key,
                "idle_ms": 3_600_000, "max_ms": 3_600_000,
            })),
            _ => None,
        };
        if let Some(answer) = login.and_then(|body| says(200, &body)) {
            return Ok(answer);
        }
        let mut stream = self.stream().await?;
        stream.write_all(head(&ask.method, &ask.path, ask.body.len()).as_bytes()).await?;
        stream.write_all(&ask.body).await?;
        stream.flush().await?;
        Ok(self.with_receipt(ask, answer(&mut stream).await?))
    }

    /// The site's answer for an intent, with the receipt that came for it, as a relay hands it out.
    fn with_receipt(&self, ask: &Ask, answer: Answer) -> Answer {
        let mut view = answer.json();
        let Some(digest) = view["digest"].as_str().filter(|_| ask.path.contains("/intents")) else {
            return answer;
        };
        let receipts = lock(&self.receipts);
        let found = receipts.iter().rev().find(|(receipt, _)| receipt.intent.to_string() == digest);
        let Some((_, signed)) = found else { return answer };
        view["receipt"] = STANDARD.encode(signed).into();
        Answer { body: view.to_string().into_bytes(), ..answer }
    }

    async fn link(&self, io: TcpStream) -> Result<()> {
        let (key, hosts) = (self.key(), [self.host.clone()]);
        let end = RelayEnd { signer: &key, noise: &self.noise, hosts: &hosts, versions: &[1] };
        let (mut stream, _) = handshake::accept(WsIo::server(io).await, &end).await?;
        handshake::answer(&mut stream, &Verdict::Welcome).await?;
        let mut cut = self.cut.subscribe();
        let (mux, mut incoming, driver) = mux::streams(stream, MuxEnd::Relay);
        let talk = async {
            let pushed = incoming.recv().await.context("no push stream")?;
            let (mut from, mut to) = tokio::io::split(pushed);
            // It says that it has nothing: the site tells all, again and again.
            push::write(&mut to, &Told::Held { trust: Digest([0; 32]), roster: 0 }).await?;
            to.flush().await?;
            self.link.send_replace(Some(mux));
            let listen = async {
                while let Some(message) = push::read::<_, Push>(&mut from).await? {
                    if let Push::Receipt(bytes) = message {
                        let signed = bytes.to_bytes();
                        lock(&self.receipts).push((bytes.open::<Receipt>()?.into_value(), signed));
                    }
                }
                Ok(())
            };
            let beat = async {
                loop {
                    tokio::time::sleep(BEAT).await;
                    push::write(&mut to, &Told::Beat).await?;
                    to.flush().await?;
                }
            };
            tokio::select! {
                ended = listen => ended,
                ended = beat => ended,
            }
        };
        tokio::select! {
            ended = driver => Ok(ended?),
            ended = talk => ended,
            _ = cut.changed() => Ok(()),
        }
    }
}

fn head(method: &str, path: &str, length: usize) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: site\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n"
    )
}

/// The next request; none at the end of the connection.
async fn read(io: &mut TcpStream) -> Result<Option<Ask>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match io.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) if head.is_empty() => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        ensure!(head.len() <= ASK_BYTES, "a head without an end");
    }
    let head = String::from_utf8(head)?;
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, path) = (words.next().context("no method")?, words.next().context("no path")?);
    let header = |name: &str| {
        let found = head.lines().filter_map(|line| line.split_once(':'));
        let mut found = found.filter(|(own, _)| own.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.trim().to_owned())
    };
    let length: usize = header("content-length").map_or(Ok(0), |length| length.parse())?;
    ensure!(length <= ASK_BYTES, "a body of {length} bytes");
    let mut body = vec![0; length];
    io.read_exact(&mut body).await?;
    Ok(Some(Ask { method, path, body, upgrade: header("sec-websocket-key") }))
}
