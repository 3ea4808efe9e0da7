//! A relay: its process, and somebody with a key at its door. Plain HTTP, which a charter allows at
//! `localhost` alone: each relay has a port of its own there.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use qb_model::action::Action;
use qb_model::{Name, PublicKey, SiteId};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::binaries::Binaries;
use crate::http::{self, Answer};
use crate::process::{self, Process};
use crate::signing::Signatory;
use crate::tls;
use crate::views::Head;
use crate::wait::eventually;

/// How long it may take from its start until it answers.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Longest wait for an answer: longer than any `?wait=` that is asked for.
const TIMEOUT: Duration = Duration::from_secs(40);

/// A relay, running or not.
#[derive(Debug)]
pub struct Relay {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where people and agents reach it: the same, unless something stands in front of it.
    pub public: SocketAddr,
    /// Its key, which sites trust.
    pub key: PublicKey,
    /// Where its output goes.
    pub log: PathBuf,
    program: PathBuf,
    state: PathBuf,
    tls: Option<TlsFiles>,
    process: Option<Process>,
}

/// A certificate and its key, as PEM files.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The chain.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Relay {
    /// Starts one below a directory and waits until it answers.
    ///
    /// # Errors
    /// It does not come up.
    pub fn open(dir: &Path, port: u16, binaries: &Binaries) -> Result<Self> {
        Self::open_behind(dir, port, port, binaries)
    }

    /// The same, known by another port: what listens there passes on to it.
    ///
    /// # Errors
    /// It does not come up.
    pub fn open_behind(dir: &Path, port: u16, public: u16, binaries: &Binaries) -> Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let mut relay = Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            public: SocketAddr::from((Ipv4Addr::LOCALHOST, public)),
            key: PublicKey([0; 32]),
            log: dir.join("relay.log"),
            program: binaries.relay.clone(),
            state: dir.join("relay"),
            tls: None,
            process: None,
        };
        relay.start()?;
        let challenge: Value = relay.door().get("/v1/login")?;
        relay.key = challenge["server_key"].as_str().context("the relay tells no key")?.parse()?;
        Ok(relay)
    }

    /// Its address as sites have it.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://localhost:{}", self.public.port())
    }

    /// Where it looks for packages of agents: nothing is there unless a test puts it there.
    pub fn packages(&self) -> PathBuf {
        self.state.with_extension("packages")
    }

    /// Starts it again with TLS: same key, same sites.
    ///
    /// # Errors
    /// It does not come up.
    pub fn restart_with_tls(&mut self, files: TlsFiles) -> Result<()> {
        self.kill();
        self.process = None;
        self.tls = Some(files);
        self.start()
    }

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(&mut self) -> Result<()> {
        let mut args = vec![
            "--open-registration".to_owned(),
            format!("--listen={}", self.address),
            format!("--url={}", self.url()),
            format!("--state={}", self.state.display()),
            format!("--packages={}", self.packages().display()),
        ];
        if let Some(TlsFiles { certificate, key }) = &self.tls {
            args.push(format!("--tls-certificate={}", certificate.display()));
            args.push(format!("--tls-key={}", key.display()));
        }
        self.process = Some(Process::spawn(&self.program, args, &self.log)?);
        let door = self.door();
        let listens = || TcpStream::connect(self.address).map(drop).context("nothing listens");
        let answers =
            || if self.tls.is_some() { listens() } else { door.get::<Value>("/v1/login").map(drop) };
        eventually(START_LIMIT, "the relay answers", answers)
    }

    /// Ends it as a loss of power would.
    pub fn kill(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill();
        }
    }

    /// Whether it ended, or was ended.
    pub fn ended(&mut self) -> bool {
        self.process.as_mut().is_none_or(|process| process.ended().is_some())
    }

    /// Its process.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("the relay does not run")?.id())
    }

    /// The last lines of its log.
    pub fn tail(&self, lines: usize) -> String {
        process::tail(&self.log, lines)
    }

    /// Its door, to a stranger.
    pub fn door(&self) -> Door {
        Door { address: self.public, origin: self.url(), token: None }
    }

    /// Registers a site to an org.
    ///
    /// # Errors
    /// The relay refuses.
    pub fn register(&self, charter: &[u8], owner: &Signatory, site: SiteId, head: &Head) -> Result<()> {
        let org: Name = "acme".parse()?;
        let intent = owner.intent(site, head, Action::RelayRegister { org, key: self.key })?;
        let body = json!({
            "v": 1,
            "charter": std::str::from_utf8(charter)?,
            "trust": [],
            "intent": String::from_utf8(owner.sign(&intent)?)?,
        });
        self.take(&serde_json::to_vec(&body)?)
    }

    /// Presents a registration as it is.
    ///
    /// # Errors
    /// The relay refuses.
    pub fn take(&self, registration: &[u8]) -> Result<()> {
        let answer = self.door().post("/v1/register", registration)?;
        ensure!(answer.status == 201, "not registered: {} {}", answer.status, answer.text("detail"));
        Ok(())
    }

    /// Its door, to an admin who signs a login.
    ///
    /// # Errors
    /// The relay refuses.
    pub fn log_in(&self, admin: &Signatory) -> Result<Door> {
        self.door().log_in(admin)
    }
}

/// A door of the network, a relay's or an agent's, for one session.
#[derive(Debug, Clone)]
pub struct Door {
    address: SocketAddr,
    /// With its scheme.
    origin: String,
    token: Option<String>,
}

impl Door {
    /// An agent's, to a stranger.
    pub fn of(agent: &Agent) -> Self {
        let address = SocketAddr::from((agent.spec.address, 8443));
        Self { address, origin: agent.url(), token: None }
    }

    /// The same door to an admin who signs a login. Whose door it is, is not asked here.
    ///
    /// # Errors
    /// It refuses.
    pub fn log_in(mut self, admin: &Signatory) -> Result<Self> {
        let challenge: Value = self.get("/v1/login")?;
        let nonce = challenge["nonce"].as_str().context("no challenge")?.parse()?;
        let key = challenge["server_key"].as_str().context("no key")?.parse()?;
        let answer = self.post("/v1/login", &admin.login(&self.origin, key, nonce)?)?;
        ensure!(answer.status == 200, "no login: {} {}", answer.status, answer.text("detail"));
        self.token = Some(answer.text("token"));
        Ok(self)
    }

    /// The status that a path is answered with.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn status(&self, path: &str) -> Result<u16> {
        Ok(self.exchange("GET", path, &[])?.status)
    }

    /// Asks for a document.
    ///
    /// # Errors
    /// Nobody listens, or it answers with a problem.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = self.exchange("GET", path, &[])?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text("detail"));
        serde_json::from_slice(&answer.body).with_context(|| format!("{path} answers with something else"))
    }

    /// Sends a body as `application/json`.
    ///
    /// # Errors
    /// Nobody listens, or it answers with no HTTP.
    pub fn post(&self, path: &str, body: &[u8]) -> Result<Answer> {
        self.exchange("POST", path, body)
    }

    fn exchange(&self, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
        let stream = TcpStream::connect(self.address)
            .with_context(|| format!("nothing listens at {}", self.address))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let login = self.token.as_ref().map(|t| format!("Authorization: Bearer {t}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{login}Content-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.origin.split_once("://").map_or("", |(_, host)| host),
            body.len()
        );
        let ask = [head.as_bytes(), body].concat();
        if self.origin.starts_with("https://") {
            answered(tls::connect(self.address.ip(), stream)?, &ask)
        } else {
            answered(stream, &ask)
        }
    }
}

fn answered(mut stream: impl Read + Write, ask: &[u8]) -> Result<Answer> {
    stream.write_all(ask)?;
    stream.flush()?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw)?;
    http::parse(&raw)
}
