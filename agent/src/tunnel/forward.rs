//! A tunnel over the mesh, from the door that took it to the node where it ends: requests on the bulk
//! lane, which has a connection of its own. One sends what came, one waits for what comes; each waits for
//! its answer, so that a slow end slows the other.
//!
//! ```text
//!  door                                      member
//!    TUNNEL_OPEN cluster          >            a pipe; its other end is a tunnel's
//!                                 <  id
//!    TUNNEL_SEND id, bytes        >            into the pipe; none: the end
//!    TUNNEL_TAKE id               >
//!                                 <  bytes, or nothing yet, or the end
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use qb_mesh::Lane;
use qb_model::{Name, NodeId};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::{end, lock};
use crate::node::Node;
use crate::rpc::kind;

/// Bytes of one piece: two pieces fill what a pipe holds.
const PIECE: usize = 64 * 1024;
/// Bytes that wait in a pipe.
const PIPE: usize = 2 * PIECE;
/// Tunnels that one door carries here: each keeps two requests of 32 on the lane busy.
const FROM_ONE: usize = 8;
/// How long a member has to take a tunnel.
const OPEN: Duration = Duration::from_secs(3);
/// How long a question for bytes waits for some.
const POLL: Duration = Duration::from_secs(10);
/// Deadline of a request: a poll, and a pipe that is full meanwhile.
const REQUEST: Duration = Duration::from_secs(60);
/// A pipe from which nobody takes for this long has lost its door.
const LOST: Duration = Duration::from_secs(30);

/// Bytes for a tunnel; none for its end.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sent {
    /// The tunnel.
    pub id: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Bytes of a tunnel.
#[derive(Debug, Serialize, Deserialize)]
pub enum Taken {
    /// Some; empty while there are none.
    Bytes(Vec<u8>),
    /// It is over.
    End,
}

/// The tunnels that others carry here.
pub type Table = BTreeMap<u64, Arc<Pipe>>;

/// One of them.
pub struct Pipe {
    door: NodeId,
    read: tokio::sync::Mutex<ReadHalf<DuplexStream>>,
    write: tokio::sync::Mutex<WriteHalf<DuplexStream>>,
    taken: std::sync::Mutex<Instant>,
    /// The door said that nothing more comes: nobody takes any more.
    gone: Notify,
}

/// At the door: opens a tunnel at the first of these nodes that takes it.
///
/// # Errors
/// Why none does.
pub async fn open(node: &Node, cluster: &Name, ends: &[NodeId]) -> Result<(NodeId, u64), String> {
    let mut why = String::new();
    for member in ends {
        match node.ask_on::<_, u64>(Lane::Bulk, *member, kind::TUNNEL_OPEN, cluster, OPEN).await {
            Ok(id) => return Ok((*member, id)),
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

/// At the door: moves bytes until either side ends.
pub async fn carry<S: AsyncRead + AsyncWrite + Unpin>(node: &Node, member: NodeId, id: u64, io: S) {
    let (mut from, mut to) = tokio::io::split(io);
    let up = async {
        let mut piece = vec![0; PIECE];
        loop {
            // A client that is gone is an end like any other.
            let read = from.read(&mut piece).await.unwrap_or(0);
            let sent = Sent { id, bytes: piece[..read].to_vec() };
            let answer = node.ask_on::<_, ()>(Lane::Bulk, member, kind::TUNNEL_SEND, &sent, REQUEST).await;
            if read == 0 || answer.is_err() {
                return answer.err();
            }
        }
    };
    let down = async {
        loop {
            match node.ask_on::<_, Taken>(Lane::Bulk, member, kind::TUNNEL_TAKE, &id, REQUEST).await {
                Ok(Taken::Bytes(bytes)) => {
                    if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
                        return None;
                    }
                }
                Ok(Taken::End) => {
                    let _ = to.shutdown().await;
                    return None;
                }
                Err(error) => return Some(error),
            }
        }
    };
    let ended = tokio::select! {
        error = up => error,
        error = down => error,
        () = node.cancel.cancelled() => None,
    };
    if let Some(error) = ended {
        tracing::debug!(%member, "a tunnel on its way to another node: {error}");
    }
    give_up(node, member, id).await;
}

/// At the door: says that nothing more comes. If that is lost, the member finds out by itself.
pub async fn give_up(node: &Node, member: NodeId, id: u64) {
    let sent = Sent { id, bytes: Vec::new() };
    let _ = node.ask_on::<_, ()>(Lane::Bulk, member, kind::TUNNEL_SEND, &sent, OPEN).await;
}

/// At the member: takes a tunnel that a door carries.
///
/// # Errors
/// It does not end here, or there are too many.
pub fn opened(node: &Arc<Node>, door: NodeId, cluster: Name) -> Result<u64, String> {
    if super::ends(&node.site(), &cluster, node.id()).first() != Some(&node.id()) {
        return Err(format!("no tunnel to {cluster} ends at this node"));
    }
    let mut table = lock(&node.tunnels.carried);
    if table.values().filter(|pipe| pipe.door == door).count() >= FROM_ONE {
        return Err(format!("{FROM_ONE} tunnels come from this door: ask another one"));
    }
    let room = node.tunnels.room().ok_or("too many tunnels end here: ask another door")?;
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|e| e.to_string())?;
    let id = u64::from_le_bytes(bytes);
    let (ours, theirs) = tokio::io::duplex(PIPE);
    let (read, write) = tokio::io::split(ours);
    let pipe = Pipe {
        door,
        read: read.into(),
        write: write.into(),
        taken: Instant::now().into(),
        gone: Notify::new(),
    };
    let pipe = Arc::new(pipe);
    table.insert(id, Arc::clone(&pipe));
    let here = Arc::clone(node);
    node.tasks.spawn(async move {
        tokio::select! {
            () = end::serve(&here, &cluster, theirs, room) => {}
            () = lost(&pipe) => tracing::debug!(%door, "a door lost its tunnel"),
        }
        // What is still in the pipe can be taken for a while.
        tokio::select! {
            () = lost(&pipe) => {}
            () = pipe.gone.notified() => {}
            () = here.cancel.cancelled() => {}
        }
        lock(&here.tunnels.carried).remove(&id);
    });
    Ok(id)
}

/// Ready when nobody takes from a pipe any more.
async fn lost(pipe: &Pipe) {
    loop {
        let until = *lock(&pipe.taken) + LOST;
        if until <= Instant::now() {
            return;
        }
        tokio::time::sleep_until(until).await;
    }
}

fn pipe(node: &Node, door: NodeId, id: u64) -> Result<Arc<Pipe>, String> {
    let table = lock(&node.tunnels.carried);
    table.get(&id).filter(|pipe| pipe.door == door).cloned().ok_or_else(|| "no such tunnel".to_owned())
}

/// At the member: bytes from the door.
///
/// # Errors
/// There is no such tunnel, or its end is closed.
pub async fn sent(node: &Node, door: NodeId, sent: Sent) -> Result<(), String> {
    let pipe = pipe(node, door, sent.id)?;
    let mut write = pipe.write.lock().await;
    if sent.bytes.is_empty() {
        pipe.gone.notify_one();
        return write.shutdown().await.map_err(|e| e.to_string());
    }
    write.write_all(&sent.bytes).await.map_err(|e| e.to_string())
}

/// At the member: bytes for the door, waiting for some.
///
/// # Errors
/// There is no such tunnel.
pub async fn taken(node: &Node, door: NodeId, id: u64) -> Result<Taken, String> {
    let pipe = pipe(node, door, id)?;
    let mut read = pipe.read.lock().await;
    *lock(&pipe.taken) = Instant::now();
    let mut piece = vec![0; PIECE];
    // Nothing is lost if the wait ends: a pipe's read takes all or nothing.
    let taken = match timeout(POLL, read.read(&mut piece)).await {
        Err(_) => Taken::Bytes(Vec::new()),
        Ok(Ok(count @ 1..)) => Taken::Bytes(piece[..count].to_vec()),
        Ok(Ok(0) | Err(_)) => Taken::End,
    };
    *lock(&pipe.taken) = Instant::now();
    Ok(taken)
}
