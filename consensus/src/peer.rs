//! How this crate reaches other nodes. The agent implements it over its mesh.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use qb_model::NodeId;

/// What a request is for, so that the mesh can pick a connection: bulk must not delay votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RpcKind {
    /// Raft: append, vote, pre-vote, transfer. Small and urgent.
    Raft,
    /// A piece of a snapshot for a voter or learner. Bulk.
    Snapshot,
    /// Following the log without a seat. Bulk, long polls.
    Log,
    /// "Do you lead under this vote?"
    Echo,
    /// "Did you lose the leader of this vote, too?"
    Suspect,
    /// "Which seat do you hold, on which storage?"
    Seat,
}

impl RpcKind {
    /// All kinds, in the order of their codes.
    pub const ALL: [Self; 6] = [Self::Raft, Self::Snapshot, Self::Log, Self::Echo, Self::Suspect, Self::Seat];
}

impl From<RpcKind> for u8 {
    /// The code on the wire. Codes are never reused.
    fn from(kind: RpcKind) -> u8 {
        match kind {
            RpcKind::Raft => 1,
            RpcKind::Snapshot => 2,
            RpcKind::Log => 3,
            RpcKind::Echo => 4,
            RpcKind::Suspect => 5,
            RpcKind::Seat => 6,
        }
    }
}

/// A code that no kind has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind of consensus request {0}: upgrade this agent")]
pub struct UnknownKind(pub u8);

impl TryFrom<u8> for RpcKind {
    type Error = UnknownKind;
    fn try_from(code: u8) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| u8::from(*kind) == code).ok_or(UnknownKind(code))
    }
}

/// Why a request had no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// Nothing arrived before the deadline; whether the peer acted is unknown.
    #[error("no answer before the deadline")]
    Timeout,
    /// The peer's host refused the connection: no agent is listening there.
    #[error("connection refused")]
    ConnectionRefused,
    /// No connection to the peer.
    #[error("peer unreachable: {0}")]
    Unreachable(String),
    /// The peer answered with an error.
    #[error("peer refused: {0}")]
    Refused(String),
}

/// The mesh as seen from here.
#[async_trait]
pub trait PeerTransport: Send + Sync + 'static {
    /// Sends `body` to `to` and returns the answer of its [`crate::Consensus::handle_rpc`].
    async fn request(
        &self,
        to: NodeId,
        kind: RpcKind,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, TransportError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_round_trip() {
        for kind in RpcKind::ALL {
            assert_eq!(RpcKind::try_from(u8::from(kind)), Ok(kind));
        }
        assert_eq!(RpcKind::try_from(0), Err(UnknownKind(0)));
    }
}
