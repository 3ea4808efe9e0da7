//! Following the committed log without a seat.
//!
//! ```text
//!  follower                              voter
//!     │  entries after (term, leader, index), wait ≤ 5 s
//!     ├─────────────────────────────────►│ holds until it has applied more
//!     │◄─────────────────────────────────┤ Entries (≤ applied, stored bytes) | Snapshot | Behind
//!     │  pieces of the snapshot          │ | Diverged
//! ```
//! A voter ships only what it has applied and made durable: such entries are never taken back. The
//! follower applies them by the same code as a voter, so any node answers reads from its own copy.

mod client;
mod server;

use serde::{Deserialize, Serialize};

use crate::wire::{LogPos, SnapshotChunk, WireEntry, WireSnapshotMeta};

pub(crate) use client::Follower;

/// What a follower asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FollowQuestion {
    tag: [u8; 32],
    want: Want,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Want {
    Entries { after: Option<LogPos>, wait_ms: u32 },
    Chunk { last: LogPos, offset: u64 },
}

/// What a voter answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum FollowAnswer {
    Entries {
        entries: Vec<WireEntry>,
        term: u64,
        leader: Option<[u8; 32]>,
    },
    /// What was asked for is purged: fetch this first.
    Snapshot {
        meta: WireSnapshotMeta,
        total: u64,
        sha256: [u8; 32],
    },
    Chunk(SnapshotChunk),
    /// The voter has applied less than the follower.
    Behind,
    /// The voter holds another entry where the follower is.
    Diverged,
    /// The snapshot was replaced: ask for entries again.
    Gone,
}
