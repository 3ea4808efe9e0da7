//! Why the executor does not start, or does not take an order.

use std::io;

use qb_model::assignment::AssignmentError;

use crate::floor::FloorError;
use crate::site::SiteError;

/// Why the executor cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// Its directory cannot be used.
    #[error(
        "the executor's directory {path} cannot be used: {source}; check owner and disk, then restart the agent"
    )]
    Root {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The floor cannot be used.
    #[error(transparent)]
    Floor(#[from] FloorError),
    /// The thread that keeps units running cannot be started.
    #[error("the thread that keeps units running cannot be started: {0}; restart the agent")]
    Thread(#[source] io::Error),
}

/// Why an order is not verified.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The signed intents do not give it.
    #[error(transparent)]
    Assignment(#[from] AssignmentError),
    /// What this node remembers cannot be kept.
    #[error(transparent)]
    Floor(#[from] FloorError),
    /// It is not known which site this machine is of.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// The caller is not the node that this machine is.
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Why a caller does not speak for this machine's node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// Its seal key record is not one of this executor's key.
    #[error("the agent does not prove that it is its node: {0}; restart the agent")]
    Record(String),
    /// Orders of another node were taken here before.
    #[error(
        "this machine is node {held}, the agent says {got}: give the agent its identity back; if the machine is to be a new node, detach the old one first, then remove floor.json from the executor's directory and restart qb-exec"
    )]
    Another {
        /// Fingerprint of the one that it is.
        held: String,
        /// Fingerprint of the caller's.
        got: String,
    },
    /// Nobody gave an order yet.
    #[error("this machine's node is not known yet: it is by its first order")]
    Unknown,
}
