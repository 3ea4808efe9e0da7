//! Connections to doors: a socket or TLS, then HTTP/1.1. Doors are tried in order; each starts
//! 300 ms after the one before, and the first that answers is taken.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use qb_model::{NodeId, SiteId};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::memory::{Belief, Memory};
use super::{Outgoing, tls, webpki};
use crate::door::{Door, RelayUrl};

/// How long a door has to let somebody in.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a door has before the next one is tried as well.
const STAGGER: Duration = Duration::from_millis(300);

/// Where to connect, and whom to believe there.
#[derive(Debug, Clone)]
pub struct Target {
    /// The door.
    pub door: Door,
    /// The site.
    pub site: SiteId,
    /// What is remembered of it.
    pub memory: Memory,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    /// Sends requests, one after the other.
    pub sender: SendRequest<Outgoing>,
    /// The node that proved its key; none at a socket.
    pub node: Option<(NodeId, Belief)>,
}

async fn speak<S>(stream: S) -> Result<SendRequest<Outgoing>, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    // Ends with the connection: when the sender is dropped, or the door closes.
    tokio::spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}

async fn open(target: &Target) -> Result<Connection, String> {
    match &target.door {
        Door::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(|e| cause(&e))?;
            Ok(Connection { sender: speak(stream).await?, node: None })
        }
        Door::Https(address) => {
            let door = target.door.to_string();
            let (config, proof) =
                tls::config(target.site, &door, target.memory.clone()).map_err(|e| e.to_string())?;
            let stream = TcpStream::connect(address).await.map_err(|e| cause(&e))?;
            // Small requests, answered at once.
            let _ = stream.set_nodelay(true);
            let name = ServerName::IpAddress(address.ip().into());
            let stream = tokio_rustls::TlsConnector::from(Arc::clone(&config)).connect(name, stream).await;
            let stream = match (stream, proof.get()) {
                (_, Some(Err(refusal))) => return Err(refusal.to_string()),
                (Err(e), _) => return Err(format!("TLS fails: {e}")),
                (Ok(stream), _) => stream,
            };
            let node = proof.get().and_then(Result::ok);
            Ok(Connection { sender: speak(stream).await?, node })
        }
        Door::Relay(url) => Ok(Connection { sender: open_relay(url).await?, node: None }),
    }
}

/// To a relay: its name is resolved, and its certificate is checked as browsers do. What it says is
/// believed for none of that: what counts is signed by nodes of the site.
async fn open_relay(url: &RelayUrl) -> Result<SendRequest<Outgoing>, String> {
    let stream = TcpStream::connect((url.host(), url.port())).await.map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => e.to_string(),
        _ => cause(&e),
    })?;
    let _ = stream.set_nodelay(true);
    if !url.tls() {
        return speak(stream).await;
    }
    let config = webpki::config()?;
    let name = ServerName::try_from(url.host().to_owned()).map_err(|_| "its name is none".to_owned())?;
    let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await;
    speak(stream.map_err(|e| webpki::explain(&e))?).await
}

fn cause(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => "no agent runs here".to_owned(),
        ErrorKind::ConnectionRefused => "refuses connections".to_owned(),
        ErrorKind::PermissionDenied => "this user may not open it".to_owned(),
        ErrorKind::TimedOut => "times out".to_owned(),
        _ => error.to_string(),
    }
}

/// Connects to one door.
///
/// # Errors
/// Why it does not answer, as the end of a sentence.
pub async fn connect(target: &Target) -> Result<Connection, String> {
    tokio::time::timeout(CONNECT, open(target)).await.unwrap_or_else(|_| Err("times out".to_owned()))
}

/// Connects to the first of several doors that answers; its number among them.
///
/// # Errors
/// Every door with why it does not answer.
pub async fn race(targets: &[Target]) -> Result<(usize, Connection), Vec<String>> {
    let mut waiting: FuturesUnordered<_> = targets
        .iter()
        .enumerate()
        .map(|(at, target)| async move {
            tokio::time::sleep(STAGGER.saturating_mul(u32::try_from(at).unwrap_or(u32::MAX))).await;
            (at, connect(target).await)
        })
        .collect();
    let mut causes = vec![String::new(); targets.len()];
    while let Some((at, result)) = waiting.next().await {
        match result {
            Ok(connection) => return Ok((at, connection)),
            Err(cause) => causes[at] = format!("{}: {cause}", targets[at].door),
        }
    }
    Err(causes)
}
