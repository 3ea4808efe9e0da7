//! What the mesh calls: the handler of the node that runs it, and the words of that contract.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use qb_model::NodeId;
use tokio::time::Instant;

use crate::gossip::Topic;
use crate::knock::KnockStream;
use crate::limits;

/// Which stream a request rides. Lanes never wait for one another; bulk and blobs have a TCP connection
/// of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Raft messages.
    Raft,
    /// Everything small: reports, proposals, queries, long polls.
    Control,
    /// Chunks of snapshots, pages of the log, tunnels.
    Bulk,
    /// Chunks of bundles: few at a time, and nothing else waits behind them.
    Blob,
}

impl Lane {
    /// All lanes.
    pub const ALL: [Self; 4] = [Self::Raft, Self::Control, Self::Bulk, Self::Blob];

    /// The largest body, of a request and of an answer.
    pub fn max_body(self) -> usize {
        match self {
            Self::Raft => limits::RAFT_BODY,
            Self::Control => limits::CONTROL_BODY,
            Self::Bulk => limits::BULK_BODY,
            Self::Blob => limits::BLOB_BODY,
        }
    }

    /// Requests that may wait for an answer on it, to one peer.
    pub fn outstanding(self) -> usize {
        match self {
            Self::Raft | Self::Control | Self::Bulk => limits::OUTSTANDING_PER_LANE,
            Self::Blob => limits::OUTSTANDING_BLOBS,
        }
    }

    /// Requests of one peer that are handled at a time: those of its streams, and as many that it has
    /// cancelled and that have not ended.
    pub(crate) fn inbound(self) -> usize {
        2 * self.outstanding()
    }

    /// Whether it rides the connection for bulk.
    pub(crate) fn is_bulk(self) -> bool {
        matches!(self, Self::Bulk | Self::Blob)
    }

    /// The protocol's name on the wire.
    pub(crate) fn protocol(self) -> &'static str {
        match self {
            Self::Raft => "/qb/raft/1",
            Self::Control => "/qb/rpc/1",
            Self::Bulk => "/qb/bulk/1",
            Self::Blob => "/qb/blob/1",
        }
    }

    /// The lane with that protocol.
    pub(crate) fn of_protocol(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.protocol() == name)
    }
}

/// A peer came or went. For each peer the two alternate, starting with `Connected`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerEvent {
    /// Its first connection is up.
    Connected(NodeId),
    /// Its last connection closed.
    Closed(NodeId),
}

/// What is known of a connected peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Since when there was always a connection.
    pub connected_since: Instant,
    /// Round trip of the latest ping; `None` until the first.
    pub rtt: Option<Duration>,
    /// The remote address of the connection that requests ride.
    pub address: SocketAddr,
    /// How many connections there are: one, one more for bulk, and one more if dials crossed.
    pub connections: usize,
    /// Whether this node dialled it; if not, the port of `address` is not where the peer listens.
    pub dialled: bool,
    /// Numbers the times that a peer came; tells a peer that came back from one that stayed.
    pub(crate) session: u64,
}

/// The node's side of the mesh. Every call runs on a task of its own, never on the swarm's loop;
/// a call is dropped at an await point when its caller gave up, its peer left, or at shutdown.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Answers a member's request. The text of an `Err` goes to the caller as a refusal.
    async fn request(&self, from: NodeId, lane: Lane, kind: u8, body: Bytes) -> Result<Bytes, String>;

    /// Takes a gossiped fact, signed by `from`, which is a member. One at a time.
    async fn gossip(&self, from: NodeId, topic: Topic, body: Bytes);

    /// A peer came or went. One at a time, in order.
    async fn peer(&self, event: PeerEvent);

    /// A stranger knocks. `from` is proved by the handshake, and is all that is known of it.
    async fn knock(&self, from: NodeId, address: SocketAddr, stream: KnockStream);
}
