//! What voters signed of a site's state, verified from the charter alone: nobody between a voter and
//! a reader can invent a view, turn it back or freeze it without being seen (security rules 3.9, 5.5).
//!
//! ```text
//!  charter ─> trust log ─> founding intent ─> set 0 ─link 1─> set 1 ─link 2─> set 2 ─> checkpoint
//!  (SiteId)    (admins)     (set of voters)      each link: a majority of the set before
//! ```
//!
//! | file | what |
//! |---|---|
//! | `document.rs` | [`Attestation`]: the JSON document of a door, and its [`Proof`] in bytes |
//! | `voters.rs` | sets, links, who counts for a majority |
//! | `verify.rs` | [`verify`]: document to [`Attested`], or the first thing that does not stand |
//! | `memory.rs` | [`judge`]: what a reader remembers, against what a door shows |
//!
//! # For other implementations
//! Everything signed is ed25519 over `PAE(type, body)`, see [`crate::dsse`]; the digest of a body is
//! SHA-256 over the same PAE. Types: `application/vnd.qb.voters.v1` and
//! `application/vnd.qb.checkpoint.v1`. A body is the concatenation of its fields, in this order:
//!
//! | `voters.v1` | bytes | `checkpoint.v1` | bytes |
//! |---|---|---|---|
//! | `v` | 1 byte, is 1 | `v` | 1 byte, is 1 |
//! | `site` | 32 | `site` | 32 |
//! | `epoch` | varint | `epoch` | varint |
//! | `seq` | varint | `index` (log) | varint |
//! | `set` | varint of the count (1 to 7), then 32 bytes each, sorted, no two alike | `term` | varint |
//! | `previous` | 32 | `log_time` (ms since 1970) | varint |
//! | | | `chain_head` | 32 |
//! | | | `trust_head` | 32 |
//! | | | `state_hash` | 32 |
//! | | | `voters_seq` | varint |
//!
//! A varint is an unsigned 64-bit number in groups of 7 bits, least significant first, bit 7 set in
//! all bytes but the last; the shortest form only. Nothing may follow the last field, so re-encoding
//! gives the same bytes. `site` is the 32 bytes behind the `qb1...` text; a node's id is its public key.
//!
//! To verify a document, in this order:
//! 1. The charter verifies and its digest is the **pinned** site; never a site that the door names.
//! 2. The trust log: entry by entry, `parent` = head before (the site's bytes for the first),
//!    `digest` = that of its envelope, an envelope that admins of that time signed;
//!    head = SHA-256(`qb/trust/1\0`, parent, digest, u64 index, u64 log time), big endian.
//! 3. The founding envelope is a `site.found` of this site, signed by an owner of the charter (with an
//!    empty trust log). Its nodes, sorted, are set 0.
//! 4. Digest of set 0 = digest of the `voters.v1` body {1, site, epoch 0, seq 0, set, previous = site},
//!    which nobody signs. Each link: site, epoch = that of the set before, seq = one more, `previous`
//!    = digest of the body before; signed by more than half of the set before. Keys outside the set do
//!    not count, a key counts once, a bad signature is skipped.
//! 5. Each node of the last set is in the founding intent or in a `node.authorize` of `roster` that
//!    admins signed under the trust entries with a smaller `index` than its own.
//! 6. The checkpoint: site; epoch and `voters_seq` are those of the last set; signed by more than half
//!    of it; `trust_head` is a head of the trust log.
//! 7. Age = reader's clock less `log_time`: over 90 s is stale, a time more than 90 s ahead is not
//!    believed. What the server says of its age does not count.
//!
//! `log_time` of a checkpoint is the site's time or the announced time that each signer found within
//! a minute of its own clock, whichever is later: an idle site's state stands still, its proof does not.
//! Vectors: `tests/golden/attest.json`.

mod document;
mod memory;
mod verify;
mod voters;

pub use document::{
    Attestation, BodyLine, CitedEnvelope, EntryLine, KeySignature, Proof, SignatureLine, SignedBody,
};
pub use memory::{Differ, Memory, Verdict, compare, judge, judge_door};
pub use verify::{Attested, chain, reach, verify};
pub use voters::{Ballot, Link, VoterSet, majority};

use crate::ids::{Millis, NodeId, SiteId};

/// Why a view is not verified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// The door has none yet.
    #[error("the door has no checkpoint that voters signed")]
    None,
    /// The document is not of the exact form.
    #[error("the attestation is not of the exact form: {0}")]
    Form(String),
    /// The charter does not verify.
    #[error("the charter does not verify: {0}")]
    Charter(String),
    /// It is of another site than the pinned one.
    #[error("it is of site {found}, not of {expected}")]
    Site {
        /// Found.
        found: SiteId,
        /// Pinned.
        expected: SiteId,
    },
    /// The trust log does not follow from the charter.
    #[error("{0}")]
    Trust(String),
    /// The founding intent does not stand.
    #[error("the founding intent does not stand: {0}")]
    Founding(String),
    /// A link does not follow the set before.
    #[error("link {seq} of the voters does not follow the set before: {why}")]
    Link {
        /// Its number.
        seq: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// Too few of the set before signed a link.
    #[error("link {seq} of the voters: {ballot}")]
    LinkFew {
        /// Its number.
        seq: u64,
        /// Who signed.
        ballot: Ballot,
    },
    /// A voter was never let in by an admin.
    #[error("voter {0} was authorized by no administrator")]
    Stranger(NodeId),
    /// The checkpoint is of another epoch than its voters.
    #[error("the checkpoint is of epoch {found}, its voters are of epoch {expected}")]
    Epoch {
        /// Found.
        found: u64,
        /// That of the set.
        expected: u64,
    },
    /// The checkpoint names another set than the last of the chain.
    #[error("the checkpoint names voters {found}, the chain ends at {last}")]
    Set {
        /// Named.
        found: u64,
        /// The last proved.
        last: u64,
    },
    /// Too few voters signed the checkpoint.
    #[error("{0}")]
    Few(Ballot),
    /// The trust log does not hold the head that voters signed.
    #[error("the trust log shown does not hold the head that voters signed")]
    TrustBehind,
    /// The signed time is ahead of the reader's clock.
    #[error("voters signed a time {} s ahead of this computer's clock: one of them is wrong", .0 / 1_000)]
    Ahead(u64),
    /// The voters changed and the majority of the set before did not sign it.
    #[error("the voters changed and the set before has not signed the change: {0}")]
    Gap(String),
}

/// Milliseconds between a signed time and the reader's clock; 0 if the clock is behind.
pub(crate) fn age(log_time: Millis, now: Millis) -> u64 {
    now.since(log_time)
}
