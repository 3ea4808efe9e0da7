//! The crate's own forms of everything that goes to disk or to a peer, so that a new version of
//! the consensus library changes conversions (`types`), not formats.
//!
//! Rules for changing this: every message is one version byte and postcard. Variants are appended,
//! never reordered; fields are never added to a struct of a published version. A change of meaning
//! takes a new version byte, and version n-1 is read for one release. Golden bytes are below.

use bytes::Bytes;
use qb_model::NodeId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::limits::MAX_FRAME;

/// The version of every format here.
const VERSION: u8 = 1;

/// Bytes that are not a message of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// Longer than a frame may be.
    #[error("message of {0} bytes is longer than {MAX_FRAME}")]
    TooLong(usize),
    /// Another version, or empty.
    #[error("message of version {0:?}, this agent reads {VERSION}: upgrade the older agent")]
    Version(Option<u8>),
    /// Not a message.
    #[error("malformed message: {0}")]
    Malformed(String),
}

/// Version byte and postcard.
pub(crate) fn encode<T: Serialize>(value: &T) -> Bytes {
    // Serialising to memory fails only for types without a length, which none here is.
    let bytes = postcard::to_extend(value, vec![VERSION]).unwrap_or_default();
    Bytes::from(bytes)
}

/// The inverse of [`encode`]; trailing bytes are an error.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    if bytes.len() > MAX_FRAME {
        return Err(WireError::TooLong(bytes.len()));
    }
    let (version, body) = bytes.split_first().ok_or(WireError::Version(None))?;
    if *version != VERSION {
        return Err(WireError::Version(Some(*version)));
    }
    let (value, rest) = postcard::take_from_bytes(body).map_err(|e| WireError::Malformed(e.to_string()))?;
    if rest.is_empty() { Ok(value) } else { Err(WireError::Malformed("trailing bytes".into())) }
}

/// The place of an entry in the log: ordered by term, leader, index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct LogPos {
    /// Term of the leader that made the entry.
    pub(crate) term: u64,
    /// Raft id of that leader.
    pub(crate) leader: u64,
    /// Index, counted from 0.
    pub(crate) index: u64,
}

/// A vote: for whom, and whether a quorum granted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireVote {
    pub(crate) term: u64,
    pub(crate) leader: u64,
    pub(crate) committed: bool,
}

/// Names the storage that a Raft id is bound to: a wiped disk has another one.
pub(crate) type StoreUuid = [u8; 16];

/// A member: its node and the storage its Raft id is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct WireMember {
    pub(crate) node: [u8; 32],
    pub(crate) store: StoreUuid,
}

impl WireMember {
    pub(crate) fn node(&self) -> NodeId {
        NodeId(self.node)
    }
}

impl std::fmt::Display for WireMember {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.node().fmt(f)
    }
}

/// Voters (two sets while a change is under way) and all members.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct WireMembership {
    pub(crate) configs: Vec<Vec<u64>>,
    pub(crate) members: Vec<(u64, WireMember)>,
}

/// A membership and the entry that set it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct WireStoredMembership {
    pub(crate) at: Option<LogPos>,
    pub(crate) membership: WireMembership,
}

/// What an entry holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum WirePayload {
    Blank,
    Command(Bytes),
    Membership(WireMembership),
}

/// An entry: where, and the stored bytes of its [`WirePayload`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireEntry {
    pub(crate) at: LogPos,
    pub(crate) payload: Bytes,
}

/// What a snapshot covers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct WireSnapshotMeta {
    pub(crate) last: Option<LogPos>,
    pub(crate) membership: WireStoredMembership,
}

/// Every Raft request: who it is for, and from which site and epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RaftFrame {
    pub(crate) tag: [u8; 32],
    pub(crate) to_seat: u64,
    pub(crate) to_store: StoreUuid,
    pub(crate) request: RaftRequest,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RaftRequest {
    Append { vote: WireVote, prev: Option<LogPos>, entries: Vec<WireEntry>, commit: Option<LogPos> },
    Vote { vote: WireVote, last: Option<LogPos>, transfer: bool },
    PreVote { vote: WireVote, last: Option<LogPos> },
    Transfer { vote: WireVote, to: u64, last: Option<LogPos> },
    Snapshot { vote: WireVote, meta: WireSnapshotMeta, chunk: SnapshotChunk },
}

impl RaftRequest {
    /// The vote under which the sender speaks: it is the leader or candidate in it.
    pub(crate) fn vote(&self) -> &WireVote {
        match self {
            Self::Append { vote, .. }
            | Self::Vote { vote, .. }
            | Self::PreVote { vote, .. }
            | Self::Transfer { vote, .. }
            | Self::Snapshot { vote, .. } => vote,
        }
    }
}

/// A piece of a snapshot; `sha256` is of the whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotChunk {
    pub(crate) offset: u64,
    pub(crate) total: u64,
    pub(crate) sha256: [u8; 32],
    pub(crate) data: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RaftAnswer {
    Appended,
    AppendedTo(Option<LogPos>),
    Conflict,
    HigherVote(WireVote),
    Vote { vote: WireVote, granted: bool, last: Option<LogPos> },
    Transferred,
    TransferRefused(String),
    SnapshotChunk { next: u64 },
    SnapshotInstalled(WireVote),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let at = LogPos { term: 1, leader: 2, index: 300 };
        assert_eq!(encode(&at).as_ref(), [1, 1, 2, 172, 2]);
        let payload = encode(&WirePayload::Command(Bytes::from_static(b"ab")));
        assert_eq!(payload.as_ref(), [1, 1, 2, b'a', b'b']);
        assert_eq!(encode(&WirePayload::Blank).as_ref(), [1, 0]);
        let request = RaftRequest::Append {
            vote: WireVote { term: 3, leader: 2, committed: true },
            prev: None,
            entries: vec![WireEntry { at, payload }],
            commit: Some(at),
        };
        let golden = [1, 0, 3, 2, 1, 0, 1, 1, 2, 172, 2, 5, 1, 1, 2, b'a', b'b', 1, 1, 2, 172, 2];
        assert_eq!(encode(&request).as_ref(), golden);
        assert_eq!(decode::<RaftRequest>(&golden), Ok(request));
    }

    #[test]
    fn foreign_bytes_are_refused() {
        assert_eq!(decode::<LogPos>(&[]), Err(WireError::Version(None)));
        assert_eq!(decode::<LogPos>(&[9, 0]), Err(WireError::Version(Some(9))));
        assert!(matches!(decode::<LogPos>(&[1, 1]), Err(WireError::Malformed(_))));
        assert!(matches!(decode::<LogPos>(&[1, 1, 1, 1, 1]), Err(WireError::Malformed(_))));
        let long = vec![1; MAX_FRAME + 1];
        assert_eq!(decode::<LogPos>(&long), Err(WireError::TooLong(long.len())));
    }
}
