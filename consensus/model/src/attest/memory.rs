//! What a reader remembers of a site, and what it makes of what a door shows.

use serde::{Deserialize, Serialize};

use super::{Attested, Unverified, age};
use crate::ids::{Digest, Millis};
use crate::limits::STALE_MS;

/// The newest attested state that a reader has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// The site's epoch.
    pub epoch: u64,
    /// The last applied entry of the log.
    pub index: u64,
    /// The head of the audit chain.
    pub chain_head: Digest,
    /// The head of the trust log.
    pub trust_head: Digest,
    /// The hash of the state.
    pub state_hash: Digest,
    /// The time that the voters attested.
    pub log_time: Millis,
}

impl From<&Attested> for Memory {
    fn from(seen: &Attested) -> Self {
        Self {
            epoch: seen.epoch,
            index: seen.index,
            chain_head: seen.chain_head,
            trust_head: seen.trust_head,
            state_hash: seen.state_hash,
            log_time: seen.log_time,
        }
    }
}

impl Memory {
    fn place(&self) -> (u64, u64, Millis) {
        (self.epoch, self.index, self.log_time)
    }

    /// Remembers what was seen if it is newer and no contradiction. Never goes back.
    pub fn advance(held: &mut Option<Self>, seen: &Attested) {
        let fresh = Self::from(seen);
        let newer = match held {
            None => true,
            Some(old) => fresh.place() > old.place() && differ(old, seen).is_none(),
        };
        if newer {
            *held = Some(fresh);
        }
    }
}

/// In what two views of one place differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Differ {
    /// The audit chain.
    Chain,
    /// The trust log.
    Trust,
    /// The state.
    State,
}

impl Differ {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Chain => "heads",
            Self::Trust => "trust heads",
            Self::State => "state hashes",
        }
    }
}

/// What is to be thought of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Voters signed it, lately.
    Verified {
        /// Milliseconds since the signed time, by the reader's clock.
        age_ms: u64,
    },
    /// Voters signed it, but not lately.
    StaleSince(Millis),
    /// It is older than what was seen before.
    RolledBack {
        /// The index seen before.
        ours: u64,
        /// The index shown.
        theirs: u64,
    },
    /// Two states that cannot both be.
    Split {
        /// Where.
        index: u64,
        /// In what.
        what: Differ,
        /// What was seen before.
        ours: Digest,
        /// What is shown.
        theirs: Digest,
    },
    /// It is not proved.
    Unverified(Unverified),
}

impl Verdict {
    /// Whether it is proved and fresh.
    pub fn is_verified(&self) -> bool {
        matches!(self, Self::Verified { .. })
    }

    /// Whether nothing must be signed over this view.
    pub fn forbids_signing(&self) -> bool {
        matches!(self, Self::Split { .. } | Self::RolledBack { .. })
    }
}

fn differ(ours: &Memory, theirs: &Attested) -> Option<Verdict> {
    if ours.epoch != theirs.epoch {
        return None;
    }
    let split = |index, what, ours, theirs| Some(Verdict::Split { index, what, ours, theirs });
    let index = ours.index;
    if ours.index == theirs.index {
        let pairs = [
            (Differ::Chain, ours.chain_head, theirs.chain_head),
            (Differ::Trust, ours.trust_head, theirs.trust_head),
            (Differ::State, ours.state_hash, theirs.state_hash),
        ];
        let found = pairs.into_iter().find(|(_, a, b)| a != b);
        return found.and_then(|(what, a, b)| split(index, what, a, b));
    }
    // Trust logs only grow: a later one that lacks the head of an earlier one is another history.
    if theirs.index > ours.index && !theirs.knows_trust(&ours.trust_head) {
        return split(index, Differ::Trust, ours.trust_head, theirs.trust_head);
    }
    None
}

/// Judges what is shown against what is remembered, at `now` by the reader's own clock.
///
/// A door that lags a little is no roll-back: what is behind the memory passes while its signed time is
/// fresh and not later than the remembered one.
pub fn judge(memory: Option<&Memory>, offered: &Attested, now: Millis) -> Verdict {
    let age_ms = age(offered.log_time, now);
    if let Some(held) = memory {
        if let Some(split) = differ(held, offered) {
            return split;
        }
        let lags = offered.epoch == held.epoch && age_ms <= STALE_MS && offered.log_time <= held.log_time;
        if (offered.epoch, offered.index) < (held.epoch, held.index) && !lags {
            return Verdict::RolledBack { ours: held.index, theirs: offered.index };
        }
    }
    let ahead = offered.log_time.since(now);
    if ahead > STALE_MS {
        return Verdict::Unverified(Unverified::Ahead(ahead));
    }
    if age_ms > STALE_MS { Verdict::StaleSince(offered.log_time) } else { Verdict::Verified { age_ms } }
}

/// Judges what one of several doors shows. A door that never showed more, such as a relay whose site is
/// dark, is stale and not rolled back, though another door has shown more meanwhile.
pub fn judge_door(site: Option<&Memory>, door: Option<&Memory>, offered: &Attested, now: Millis) -> Verdict {
    let own = judge(door, offered, now);
    if own.forbids_signing() {
        return own;
    }
    let all = judge(site, offered, now);
    let late = site.is_some_and(|held| offered.epoch == held.epoch && offered.log_time <= held.log_time);
    match all {
        Verdict::RolledBack { .. } if late => own,
        other => other,
    }
}

/// Whether two doors show states that cannot both be.
pub fn compare(one: &Attested, other: &Attested) -> Option<Verdict> {
    let (early, late) = if one.index <= other.index { (one, other) } else { (other, one) };
    differ(&Memory::from(early), late)
}
