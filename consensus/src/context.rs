//! What every part of the crate shares: who this node is, how it reaches others, its state.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use qb_model::NodeId;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use crate::peer::{PeerTransport, RpcKind, TransportError};
use crate::state::State;
use crate::wire::{decode, encode};

/// Timers of the group, the same on every node of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How often a leader speaks.
    pub heartbeat: Duration,
    /// A follower that hears nothing waits at least this long beyond the lease.
    pub election_min: Duration,
    /// The lease, and the longest such wait.
    pub election_max: Duration,
}

impl Default for Timing {
    /// For a LAN. Lower values would buy only deaths that close no connection, and a stalled fsync
    /// or a paused machine easily costs 200 ms.
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(1000),
        }
    }
}

/// Why the process must end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FatalReason {
    /// The disk under the log failed.
    #[error("{0}")]
    Disk(String),
    /// The Raft core ended.
    #[error("raft core ended: {0}")]
    Core(String),
    /// The Raft core does not answer.
    #[error("raft core has not answered for {0:?}")]
    Hung(Duration),
    /// The state cannot go on.
    #[error("state cannot go on: {0}")]
    State(String),
}

/// Shared by all parts.
pub(crate) struct Context {
    pub(crate) me: NodeId,
    pub(crate) tag: [u8; 32],
    pub(crate) dir: PathBuf,
    pub(crate) timing: Timing,
    pub(crate) transport: Arc<dyn PeerTransport>,
    pub(crate) state: State,
    pub(crate) hints: watch::Sender<Vec<NodeId>>,
    pub(crate) fatal: watch::Sender<Option<FatalReason>>,
}

impl Context {
    /// Reports the first reason to end.
    pub(crate) fn fail(&self, reason: FatalReason) {
        self.fatal.send_if_modified(|first| {
            let new = first.is_none();
            if new {
                tracing::error!(%reason, "consensus must stop");
                *first = Some(reason);
            }
            new
        });
    }

    /// One question, one answer, both of the crate's own types.
    pub(crate) async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        to: NodeId,
        kind: RpcKind,
        question: &Q,
        deadline: Duration,
    ) -> Result<A, TransportError> {
        let body: Bytes = encode(question);
        let request = self.transport.request(to, kind, body, deadline);
        let answer = tokio::time::timeout(deadline, request).await.map_err(|_| TransportError::Timeout)??;
        decode(&answer).map_err(|e| TransportError::Refused(e.to_string()))
    }
}
