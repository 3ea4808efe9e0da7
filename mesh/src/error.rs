//! Errors of the mesh. Messages name what failed, on what, and what to do about it.

use std::net::SocketAddr;
use std::time::Duration;

use qb_model::NodeId;

/// Why the mesh could not be started or could not do what it was told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeshError {
    /// A port could not be opened.
    #[error("cannot listen on {address}: {reason}; free the port or set another listen address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// A part of the network stack refused its settings.
    #[error("cannot set up {part}: {reason}")]
    Setup {
        /// Which part.
        part: &'static str,
        /// What it said.
        reason: String,
    },
    /// A gossip message was not taken.
    #[error("cannot publish on {topic}: {reason}")]
    Publish {
        /// The topic.
        topic: &'static str,
        /// Why.
        reason: String,
    },
    /// A knock did not reach the other side.
    #[error("cannot knock at {address}: {reason}; check the address and that its agent runs")]
    Knock {
        /// The address.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
    /// The mesh was shut down.
    #[error("the mesh is stopped")]
    Stopped,
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// There is no connection and none could be made.
    #[error("not connected to node {node}: {reason}")]
    NotConnected {
        /// The peer.
        node: NodeId,
        /// What the last dial said.
        reason: String,
    },
    /// No answer came in time. The peer may still have acted.
    #[error("no answer within {0:?}; the peer may still have acted")]
    Deadline(Duration),
    /// The peer's handler refused; its text.
    #[error("refused by the peer: {0}")]
    Refused(String),
    /// The body is larger than the lane carries; nothing was sent.
    #[error("a body of {size} bytes is over the lane's limit of {limit}; send it in pieces")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The lane's limit.
        limit: usize,
    },
    /// The connection ended before the answer. The peer may have acted.
    #[error("the connection closed before the answer; the peer may have acted")]
    Closed,
    /// The mesh was shut down.
    #[error("the mesh is stopped")]
    Stopped,
}

/// Why a knock's talk broke off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KnockError {
    /// The time of the knock is over.
    #[error("the knock took longer than {0:?}; knock again")]
    Deadline(Duration),
    /// A message over the limit, ours or theirs.
    #[error("a knock message of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The other side is gone.
    #[error("the other side closed the knock: {0}")]
    Closed(String),
}
