//! The trust log: one entry per applied action on trust, chained by hashes (security rules 3.1).

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::charter::Charter;
use crate::ids::{Digest, Millis};
use crate::judge::{LoggedError, verify_logged};
use crate::outcome::Reason;
use crate::trust::TrustState;

/// Separates the trust log's hashes from all others.
const DOMAIN: &[u8] = b"qb/trust/1\0";

/// One applied action on trust.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustEntry {
    /// The head before it: the site's digest for the first.
    pub parent: Digest,
    /// The intent.
    pub digest: Digest,
    /// Its record in the audit chain.
    pub index: u64,
    /// Log time when it was applied.
    pub log_time: Millis,
    /// The intent's envelope, with the signatures that verified.
    pub envelope: Vec<u8>,
}

impl TrustEntry {
    /// The head after it.
    pub fn head(&self) -> Digest {
        next_trust_head(&self.parent, &self.digest, self.index, self.log_time)
    }
}

/// SHA-256 of the domain, parent, digest, index and log time; numbers as 8 bytes, big endian.
pub fn next_trust_head(parent: &Digest, digest: &Digest, index: u64, log_time: Millis) -> Digest {
    let mut hash = Sha256::new();
    hash.update(DOMAIN);
    hash.update(parent.0);
    hash.update(digest.0);
    hash.update(index.to_be_bytes());
    hash.update(log_time.0.to_be_bytes());
    Digest(hash.finalize().into())
}

/// Why a trust log does not follow from its charter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("trust log: entry {at} (audit index {index}): {why}: take the log from another node")]
pub struct TrustError {
    /// Its number in the log, 0 for the first.
    pub at: usize,
    /// Its record in the audit chain.
    pub index: u64,
    /// What is wrong.
    pub why: TrustFault,
}

/// What is wrong with an entry of a trust log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustFault {
    /// It does not name the head before it.
    #[error("it does not follow the entry before it")]
    Parent,
    /// Its digest is not that of its envelope.
    #[error("its digest is not that of its envelope")]
    Digest,
    /// Index or time run backwards.
    #[error("its index or its time is not after the entry before it")]
    Order,
    /// Its signatures do not suffice under the trust of that time.
    #[error("{0}")]
    Unsigned(#[from] LoggedError),
    /// The action breaks a rule under the trust of that time.
    #[error("{0}")]
    Refused(#[from] Reason),
}

/// Derives the trust state from a charter and a log, verifying every entry under the state before it.
/// Used when a snapshot is installed, and by whoever acts on assignments.
///
/// # Errors
/// The first entry that does not follow.
pub fn replay_log(charter: &Charter, entries: &[TrustEntry]) -> Result<TrustState, TrustError> {
    let mut trust = TrustState::from_charter(charter);
    for (at, entry) in entries.iter().enumerate() {
        let fail = |why| TrustError { at, index: entry.index, why };
        step(&mut trust, entry).map_err(fail)?;
    }
    Ok(trust)
}

fn step(trust: &mut TrustState, entry: &TrustEntry) -> Result<(), TrustFault> {
    if entry.parent != trust.head() {
        return Err(TrustFault::Parent);
    }
    if trust.log().last().is_some_and(|last| entry.index <= last.index || entry.log_time < last.log_time) {
        return Err(TrustFault::Order);
    }
    let verified = verify_logged(trust, &entry.envelope, entry.log_time)?;
    if verified.digest() != entry.digest {
        return Err(TrustFault::Digest);
    }
    // Keys of nodes and tokens were compared when the entry was applied; the log alone lacks them.
    trust.apply(&verified, entry.index, entry.log_time, &|_| None)?;
    Ok(())
}
