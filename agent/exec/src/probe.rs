//! Probes between nodes: does the right node answer on this port?
//!
//! ```text
//! request   "qb-probe/1 "    16 random bytes
//! answer    "qb-probe/1 ok " the same 16 bytes, 32 bytes NodeId of the answerer
//! ```
//!
//! Responders hold a role's ports for the time of a preflight; the rehearsal's node service answers
//! on its ports for good. An answer names the node but does not prove it: preflight looks for
//! mistakes, not for liars.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use qb_model::ids::NodeId;
use qb_model::preflight::{Port, ProbeResult, Proto};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

const REQUEST: &[u8; 11] = b"qb-probe/1 ";
const ANSWER: &[u8; 14] = b"qb-probe/1 ok ";
/// Bytes of a probe's nonce.
pub const NONCE: usize = 16;
/// Bytes of a request.
pub const REQUEST_BYTES: usize = REQUEST.len() + NONCE;
/// Bytes of an answer.
pub const ANSWER_BYTES: usize = ANSWER.len() + NONCE + 32;
/// Connections of one port that are served at once: a site's nodes all probe at the same time.
const CONNECTIONS: usize = 512;
/// How long a connection may take to ask.
const ASK_LIMIT: Duration = Duration::from_secs(2);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// Datagrams sent before a port counts as dropped: one or two may be lost on a healthy network.
const DATAGRAMS: u32 = 5;

/// A request with this nonce.
pub fn encode_request(nonce: &[u8; NONCE]) -> [u8; REQUEST_BYTES] {
    let mut out = [0; REQUEST_BYTES];
    out[..REQUEST.len()].copy_from_slice(REQUEST);
    out[REQUEST.len()..].copy_from_slice(nonce);
    out
}

/// The nonce of a request; none if it is not one.
pub fn decode_request(bytes: &[u8]) -> Option<[u8; NONCE]> {
    bytes.strip_prefix(REQUEST)?.try_into().ok()
}

/// The answer of `node` to a nonce.
pub fn encode_answer(nonce: &[u8; NONCE], node: &NodeId) -> [u8; ANSWER_BYTES] {
    let mut out = [0; ANSWER_BYTES];
    out[..ANSWER.len()].copy_from_slice(ANSWER);
    out[ANSWER.len()..ANSWER.len() + NONCE].copy_from_slice(nonce);
    out[ANSWER.len() + NONCE..].copy_from_slice(node.as_bytes());
    out
}

/// Nonce and node of an answer; none if it is not one.
pub fn decode_answer(bytes: &[u8]) -> Option<([u8; NONCE], NodeId)> {
    let (nonce, node) = bytes.strip_prefix(ANSWER)?.split_first_chunk::<NONCE>()?;
    Some((*nonce, NodeId(node.try_into().ok()?)))
}

/// Ports that answer probes until this is dropped.
#[derive(Debug)]
pub struct Responders {
    _tasks: JoinSet<()>,
}

impl Responders {
    /// Binds every port and answers on it. Ports that cannot be bound come back with the reason.
    pub async fn open(address: IpAddr, ports: &[Port], node: NodeId) -> (Self, Vec<(Port, String)>) {
        let (mut tasks, mut busy) = (JoinSet::new(), Vec::new());
        for port in ports {
            let at = SocketAddr::new(address, port.port);
            let bound = match port.proto {
                Proto::Tcp => bind_tcp(at).map(|listener| {
                    tasks.spawn(serve_tcp(listener, node));
                }),
                Proto::Udp => UdpSocket::bind(at).await.map(|socket| {
                    tasks.spawn(serve_udp(socket, node));
                }),
            };
            if let Err(error) = bound {
                busy.push((port.clone(), error.to_string()));
            }
        }
        (Self { _tasks: tasks }, busy)
    }
}

/// A listener on an address that may have connections in TIME-WAIT, but no other listener.
pub(crate) fn bind_tcp(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

/// Answers probes on a listener, for ever.
pub(crate) async fn serve_tcp(listener: TcpListener, node: NodeId) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        let Ok((mut stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: others must close first.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        connections.spawn(async move {
            let _permit = permit;
            let mut request = [0; REQUEST_BYTES];
            let answered = timeout(ASK_LIMIT, async {
                stream.read_exact(&mut request).await?;
                if let Some(nonce) = decode_request(&request) {
                    stream.write_all(&encode_answer(&nonce, &node)).await?;
                }
                stream.shutdown().await
            });
            // A probe that fails is the sender's to report.
            let _ = answered.await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Answers probes on a socket, for ever.
pub(crate) async fn serve_udp(socket: UdpSocket, node: NodeId) {
    let mut bytes = [0; REQUEST_BYTES + 1];
    loop {
        // An error here is that of an earlier answer which nobody took.
        let Ok((length, from)) = socket.recv_from(&mut bytes).await else {
            continue;
        };
        if let Some(nonce) = bytes.get(..length).and_then(decode_request) {
            let _ = socket.send_to(&encode_answer(&nonce, &node), from).await;
        }
    }
}

/// One probe to make.
#[derive(Debug, Clone, Copy)]
pub struct ProbeTarget {
    /// The sender's own address.
    pub from: IpAddr,
    /// Where to.
    pub to: SocketAddr,
    /// Transport.
    pub proto: Proto,
    /// Who must answer.
    pub expect: NodeId,
    /// True if the answerer serves its cluster already and this port speaks another protocol: that
    /// it accepts a connection is then enough. TCP only.
    pub serving: bool,
    /// When to give up.
    pub limit: Duration,
}

/// Probes one port of one node.
pub async fn probe(target: ProbeTarget) -> ProbeResult {
    let start = Instant::now();
    let tried = match target.proto {
        Proto::Tcp => timeout(target.limit, probe_tcp(target)).await.unwrap_or(Err(timed_out())),
        Proto::Udp => probe_udp(target, start + target.limit).await,
    };
    match tried {
        Ok(true) => {
            ProbeResult::Ok { rtt_us: u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX) }
        }
        Ok(false) => ProbeResult::WrongAnswer,
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => ProbeResult::Refused,
            io::ErrorKind::TimedOut => ProbeResult::Dropped,
            // It took the connection and closed it without an answer.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                ProbeResult::WrongAnswer
            }
            _ => ProbeResult::Failed { reason: error.to_string() },
        },
    }
}

fn timed_out() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

fn nonce() -> io::Result<[u8; NONCE]> {
    let mut nonce = [0; NONCE];
    getrandom::fill(&mut nonce).map_err(|_| io::Error::other("the system gives no randomness"))?;
    Ok(nonce)
}

async fn probe_tcp(target: ProbeTarget) -> io::Result<bool> {
    let socket = if target.to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(target.from, 0))?;
    let mut stream = socket.connect(target.to).await?;
    if target.serving {
        return Ok(true);
    }
    let nonce = nonce()?;
    stream.write_all(&encode_request(&nonce)).await?;
    let mut answer = [0; ANSWER_BYTES];
    stream.read_exact(&mut answer).await?;
    Ok(decode_answer(&answer) == Some((nonce, target.expect)))
}

async fn probe_udp(target: ProbeTarget, deadline: Instant) -> io::Result<bool> {
    let socket = UdpSocket::bind(SocketAddr::new(target.from, 0)).await?;
    socket.connect(target.to).await?;
    let nonce = nonce()?;
    let mut bytes = [0; ANSWER_BYTES + 1];
    for left in (0..DATAGRAMS).rev() {
        socket.send(&encode_request(&nonce)).await?;
        let until = deadline - target.limit * left / DATAGRAMS;
        if let Ok(received) = timeout_at(until, socket.recv(&mut bytes)).await {
            let answer = bytes.get(..received?).and_then(decode_answer);
            return Ok(answer == Some((nonce, target.expect)));
        }
    }
    Err(timed_out())
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
