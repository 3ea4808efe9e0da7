//! The audit chain (security rules 2.8) and the ring of its recent heads, which are the anchors of
//! intents (2.3).
//!
//! A head's index is its number in the chain, not in the Raft log: 0 is the beginning, whose head is
//! the site's digest; every record adds one. So a missing record shows as a gap.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::dsse::{TICK_TYPE, digest_of};
use crate::ids::{Digest, Generation, Millis, SiteId};
use crate::intent::Anchor;
use crate::limits::{ANCHOR_KEEP_MS, ANCHORS, IDLE_HEAD_MS};
use crate::outcome::Outcome;

pub use crate::audit::{ChainBreak, ChainProof, verify_chain};

/// Separates the chain's hashes from all others.
const DOMAIN: &[u8] = b"qb/chain/1\0";

/// The next head: SHA-256 of the domain, the head before, index, log time, digest, outcome and
/// generation; numbers as 8 bytes, big endian, the outcome as 1.
pub fn next_head(
    head: &Digest,
    index: u64,
    log_time: Millis,
    digest: &Digest,
    outcome: u8,
    generation: Generation,
) -> Digest {
    let mut hash = Sha256::new();
    hash.update(DOMAIN);
    hash.update(head.0);
    hash.update(index.to_be_bytes());
    hash.update(log_time.0.to_be_bytes());
    hash.update(digest.0);
    hash.update([outcome]);
    hash.update(generation.0.to_be_bytes());
    Digest(hash.finalize().into())
}

/// The digest under which the body of a tick is chained.
pub fn tick_digest(body: &[u8]) -> Digest {
    digest_of(TICK_TYPE, body)
}

/// The end of the audit chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// How many records there are: the number of the newest.
    pub index: u64,
    /// The hash.
    pub hash: Digest,
    /// Log time of the newest record.
    pub log_time: Millis,
}

impl Head {
    /// The beginning of a site's chain.
    pub fn beginning(site: SiteId) -> Self {
        Self { index: 0, hash: site.0, log_time: Millis(0) }
    }

    /// The head after one more record. `outcome`: none for a node's command and a tick.
    #[must_use]
    pub fn next(self, log_time: Millis, digest: &Digest, outcome: Option<&Outcome>) -> Self {
        let index = self.index.saturating_add(1);
        let code = outcome.map_or(0, Outcome::chain_code);
        let generation = outcome.map_or(Generation(0), Outcome::generation);
        let hash = next_head(&self.hash, index, log_time, digest, code, generation);
        Self { index, hash, log_time }
    }

    /// Whether a tick at `log_time` must be chained, so that an idle site has fresh anchors.
    pub fn is_idle(&self, log_time: Millis) -> bool {
        log_time.since(self.log_time) >= IDLE_HEAD_MS
    }

    /// The head as an intent names it.
    pub fn anchor(&self) -> Anchor {
        Anchor { index: self.index, hash: self.hash }
    }
}

/// The recent heads that intents may name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchorRing {
    heads: VecDeque<Head>,
}

impl AnchorRing {
    /// A ring that knows the beginning.
    pub fn new(site: SiteId) -> Self {
        Self { heads: VecDeque::from([Head::beginning(site)]) }
    }

    /// Remembers a head, which follows the newest one, and forgets those too old to be named.
    pub fn push(&mut self, head: Head) {
        self.heads.push_back(head);
        let old = |h: &Head| h.log_time.plus(ANCHOR_KEEP_MS) < head.log_time;
        while self.heads.len() > 1 && (self.heads.len() > ANCHORS || self.heads.front().is_some_and(old)) {
            self.heads.pop_front();
        }
    }

    /// The newest head.
    pub fn newest(&self) -> Option<&Head> {
        self.heads.back()
    }

    /// How many heads are remembered.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// The head that an anchor names, if it is one of this site's.
    pub fn find(&self, anchor: &Anchor) -> Option<&Head> {
        let first = self.heads.front()?.index;
        let at = usize::try_from(anchor.index.checked_sub(first)?).ok()?;
        self.heads.get(at).filter(|h| h.index == anchor.index && h.hash == anchor.hash)
    }
}

/// What a record of the audit chain holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditKind {
    /// An intent, judged for the first time. Body: its envelope with the signatures that verified.
    Intent,
    /// More signatures for an intent that waited for them. Body: the envelope with all of them.
    Approval,
    /// A node's command. Body: the signed statement.
    NodeCommand,
    /// Time went on and nothing else happened. Body: the tick's signed stamps.
    Tick,
    /// A node came in by a join token. Body: the envelope of the voter's word.
    TokenEntry,
}

/// One record of the audit chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Its number, 1 for the first.
    pub index: u64,
    /// Log time when it was applied.
    pub log_time: Millis,
    /// The digest of what it holds.
    pub digest: Digest,
    /// What became of it; none for a node's command and a tick.
    pub outcome: Option<Outcome>,
    /// What it holds.
    pub kind: AuditKind,
    /// The bytes: an envelope, a signed statement, or a tick.
    pub body: Vec<u8>,
    /// The chain's head after it.
    pub head: Digest,
}

impl AuditRecord {
    /// The record that follows `before`.
    pub fn after(
        before: &Head,
        log_time: Millis,
        kind: AuditKind,
        digest: Digest,
        outcome: Option<Outcome>,
        body: Vec<u8>,
    ) -> Self {
        let next = before.next(log_time, &digest, outcome.as_ref());
        Self { index: next.index, log_time, digest, outcome, kind, body, head: next.hash }
    }

    /// The head after this record.
    pub fn head(&self) -> Head {
        Head { index: self.index, hash: self.head, log_time: self.log_time }
    }
}
