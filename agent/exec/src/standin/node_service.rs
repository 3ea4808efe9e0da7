//! Stands in for the kubelet and the pod network: answers probes on their ports, joins the API
//! server, sends heartbeats, writes how it stands.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use qb_drivers::config::NodeServiceConfig;
use tokio::net::UdpSocket;
use tokio::time::sleep;
use zeroize::Zeroizing;

use super::identity::{Identity, Status, read_status};
use super::wire::{Answer, Bootstrap, JoinRequest, NodeRequest};
use super::{FILE_BYTES, StandInError, address, listen, patiently, read_bytes};
use crate::client::Client;
use crate::clock;
use crate::dir::Dir;
use crate::probe::{serve_tcp, serve_udp};

/// How long the API server may take.
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// Pause between tries to join.
const JOIN_PAUSE: Duration = Duration::from_millis(250);

/// Serves until the process ends.
pub(super) async fn run(dir: &Dir, config: NodeServiceConfig) -> Result<(), StandInError> {
    let (tcp, udp) = (address(&config.tcp)?, address(&config.udp)?);
    let listener = listen(tcp).await?;
    let socket = patiently(udp, || UdpSocket::bind(udp)).await?;
    let client = Client::new(address(&config.server)?, &read_bytes(dir, &config.authority)?)?;
    let mut member = Member::open(dir, &config, client)?;
    tokio::select! {
        () = serve_tcp(listener, config.node) => Ok(()),
        () = serve_udp(socket, config.node) => Ok(()),
        ended = member.live() => ended,
    }
}

/// The node's standing with the API server.
struct Member<'a> {
    dir: &'a Dir,
    config: &'a NodeServiceConfig,
    client: Client,
    identity: Identity,
    status: Status,
}

impl<'a> Member<'a> {
    fn open(dir: &'a Dir, config: &'a NodeServiceConfig, client: Client) -> Result<Self, StandInError> {
        let identity = match Identity::read(dir, &config.identity)? {
            Some(identity) => identity,
            None => {
                let identity = Identity::new()?;
                identity.write(dir, &config.identity)?;
                identity
            }
        };
        let pid = std::process::id();
        let status = Status {
            v: 1,
            rehearsal: true,
            pid,
            joined: false,
            problem: String::new(),
            since_ms: clock::now(),
        };
        Ok(Self { dir, config, client, identity, status })
    }

    /// Joins, then sends heartbeats, for ever.
    async fn live(&mut self) -> Result<(), StandInError> {
        loop {
            let result = if self.identity.joined { self.heartbeat().await } else { self.join().await };
            let joined = self.identity.joined;
            match result {
                Ok(()) => self.note(true, String::new())?,
                // Silence of the API server does not end the membership; a refusal does.
                Err(Problem::Silent(text)) => self.note(self.status.joined, text)?,
                Err(Problem::Refused(text)) => self.note(false, text)?,
                Err(Problem::Here(error)) => return Err(error),
            }
            let pause = Duration::from_millis(u64::from(self.config.heartbeat_ms));
            sleep(if joined { pause } else { JOIN_PAUSE }).await;
        }
    }

    async fn join(&mut self) -> Result<(), Problem> {
        let bytes =
            self.dir.read(&self.config.credential, FILE_BYTES).map_err(|e| Problem::Here(e.into()))?;
        let bytes =
            bytes.map(Zeroizing::new).ok_or_else(|| Problem::Refused("waits for a credential".to_owned()))?;
        let bootstrap: Bootstrap = serde_json::from_slice(&bytes)
            .map_err(|_| Problem::Refused("the credential is damaged".to_owned()))?;
        let request = JoinRequest {
            node: self.config.node,
            host: self.config.host.clone(),
            role: self.config.role,
            bootstrap: bootstrap.credential,
            credential: self.identity.credential.clone(),
        };
        self.say("/join", &request).await?;
        self.identity.joined = true;
        self.identity.write(self.dir, &self.config.identity).map_err(|e| Problem::Here(e.into()))
    }

    async fn heartbeat(&self) -> Result<(), Problem> {
        let request = NodeRequest { node: self.config.node, credential: self.identity.credential.clone() };
        self.say("/heartbeat", &request).await
    }

    async fn say(&self, path: &str, request: &impl serde::Serialize) -> Result<(), Problem> {
        let body = serde_json::to_vec(request).map_err(|e| Problem::Here(std::io::Error::from(e).into()))?;
        let answer = self.client.call(Method::POST, path, body, CALL_LIMIT).await;
        let (status, body) = answer.map_err(|e| Problem::Silent(e.to_string()))?;
        if status == StatusCode::OK {
            return Ok(());
        }
        let text = serde_json::from_slice::<Answer>(&body)
            .map_or_else(|_| status.to_string(), |answer| answer.error);
        let server: SocketAddr = address(&self.config.server).map_err(Problem::Here)?;
        let text = format!("{server} refuses: {text}");
        Err(if status.is_client_error() { Problem::Refused(text) } else { Problem::Silent(text) })
    }

    /// Writes the status if it is another one.
    fn note(&mut self, joined: bool, problem: String) -> Result<(), StandInError> {
        let at = &self.config.status;
        let next = Status { joined, problem, since_ms: self.status.since_ms, ..self.status.clone() };
        if next == self.status && read_status(self.dir, at)?.as_ref() == Some(&next) {
            return Ok(());
        }
        self.status = Status { since_ms: clock::now(), ..next };
        let bytes = serde_json::to_vec_pretty(&self.status).map_err(std::io::Error::from)?;
        Ok(self.dir.write(at, &bytes, 0o600)?)
    }
}

/// Why a call did not succeed.
enum Problem {
    /// The API server does not answer, or cannot now.
    Silent(String),
    /// It answers no.
    Refused(String),
    /// This machine is at fault.
    Here(StandInError),
}
