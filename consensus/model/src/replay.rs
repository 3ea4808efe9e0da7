//! The replay table (security rules 3.7): the outcome of every validly signed intent until log time
//! passes its expiry. Part of the snapshot and of the state hash. Never evicts.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, IntentId, Millis, Name, PublicKey};
use crate::judge::Record;
use crate::limits::{
    CANCELS_ADMIN, ISSUED_AHEAD_MS, LIFETIME_MANY_MS, REPLAY_ADMIN, REPLAY_PRUNE, REPLAY_RESERVED,
    REPLAY_SITE,
};
use crate::outcome::{Outcome, Reason};

/// What is remembered of one intent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayEntry {
    /// The intent.
    pub digest: Digest,
    /// Its label.
    pub id: IntentId,
    /// The author's key that signed it (the smallest one, if several did).
    pub key: PublicKey,
    /// The author.
    pub admin: Name,
    /// Log time after which it is forgotten.
    pub expires: Millis,
    /// What became of it.
    pub outcome: Outcome,
    /// Its record in the audit chain.
    pub index: u64,
}

/// A cancelled intent that may not have arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Cancel {
    digest: Digest,
    by: Name,
    owner: bool,
    expires: Millis,
}

/// Digests of intents with their outcomes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct ReplayTable {
    entries: BTreeMap<Digest, ReplayEntry>,
    cancels: BTreeMap<Digest, Vec<Cancel>>,
    cancels_by_expiry: BTreeSet<(Millis, Digest, Name)>,
    cancels_by_admin: BTreeMap<Name, usize>,
    by_expiry: BTreeSet<(Millis, Digest)>,
    by_admin: BTreeMap<Name, usize>,
    /// Ordered by record, so that the first one does not depend on how the table was filled.
    by_id: BTreeMap<(PublicKey, IntentId), BTreeSet<(u64, Digest)>>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    entries: Vec<ReplayEntry>,
    cancels: Vec<Cancel>,
}

impl From<Stored> for ReplayTable {
    fn from(stored: Stored) -> Self {
        let mut table = Self::default();
        for entry in stored.entries {
            table.insert(entry);
        }
        for cancel in stored.cancels {
            table.insert_cancel(cancel);
        }
        table
    }
}

impl From<ReplayTable> for Stored {
    fn from(table: ReplayTable) -> Self {
        Self {
            entries: table.entries.into_values().collect(),
            cancels: table.cancels.into_values().flatten().collect(),
        }
    }
}

impl ReplayTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many intents are remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What became of an intent.
    pub fn get(&self, digest: &Digest) -> Option<&ReplayEntry> {
        self.entries.get(digest)
    }

    /// The first intent of the same key with the same label.
    pub fn by_id(&self, key: &PublicKey, id: &IntentId) -> Option<Digest> {
        self.by_id.get(&(*key, id.clone()))?.first().map(|(_, digest)| *digest)
    }

    /// Every entry, by digest.
    pub fn entries(&self) -> impl Iterator<Item = &ReplayEntry> {
        self.entries.values()
    }

    /// Whether one more intent of this admin can be remembered. `owner_removal`: a removal or
    /// revocation by an owner, which has room of its own and no bound per admin.
    ///
    /// # Errors
    /// [`Reason::Busy`]: try again when some have expired.
    pub fn room(&self, admin: &Name, owner_removal: bool) -> Result<(), Reason> {
        let busy = |what: String| Err(Reason::Busy { what });
        let site = if owner_removal { REPLAY_SITE } else { REPLAY_SITE - REPLAY_RESERVED };
        if self.entries.len() >= site {
            return busy("the site's table of recent intents".into());
        }
        if !owner_removal && self.by_admin.get(admin).copied().unwrap_or(0) >= REPLAY_ADMIN {
            return busy(format!("the table of recent intents of admin {admin}"));
        }
        Ok(())
    }

    /// Remembers a final outcome. A digest that is remembered already stays as it is.
    ///
    /// What lives longer than any intent may is kept only that long: such an intent can never pass.
    pub fn record(&mut self, record: &Record, outcome: Outcome, index: u64, log_time: Millis) {
        let longest = log_time.plus(LIFETIME_MANY_MS + ISSUED_AHEAD_MS);
        // Site time is 0 until the first tick: a founding intent keeps its own expiry.
        let expires = if log_time == Millis(0) { record.expires } else { record.expires.min(longest) };
        self.insert(ReplayEntry {
            digest: record.digest,
            id: record.id.clone(),
            key: record.key,
            admin: record.author.clone(),
            expires,
            outcome,
            index,
        });
    }

    fn insert(&mut self, entry: ReplayEntry) {
        if self.entries.contains_key(&entry.digest) {
            return;
        }
        self.by_expiry.insert((entry.expires, entry.digest));
        *self.by_admin.entry(entry.admin.clone()).or_default() += 1;
        self.by_id.entry((entry.key, entry.id.clone())).or_default().insert((entry.index, entry.digest));
        self.entries.insert(entry.digest, entry);
    }

    /// Forgets what expired before `log_time`: at most 64 intents per call, the earliest expiry first,
    /// equal ones by digest. Returns how many.
    pub fn prune(&mut self, log_time: Millis) -> usize {
        let mut gone = 0;
        while gone < REPLAY_PRUNE {
            let Some(&(expires, digest)) = self.by_expiry.first().filter(|(e, _)| *e < log_time) else {
                break;
            };
            self.by_expiry.remove(&(expires, digest));
            gone += 1;
            let Some(entry) = self.entries.remove(&digest) else { continue };
            decrement(&mut self.by_admin, &entry.admin);
            let label = (entry.key, entry.id);
            if let Some(same) = self.by_id.get_mut(&label) {
                same.remove(&(entry.index, digest));
                if same.is_empty() {
                    self.by_id.remove(&label);
                }
            }
        }
        self.prune_cancels(log_time);
        gone
    }

    fn prune_cancels(&mut self, log_time: Millis) {
        for _ in 0..REPLAY_PRUNE {
            if self.cancels_by_expiry.first().is_none_or(|(e, _, _)| *e >= log_time) {
                break;
            }
            let Some((_, digest, by)) = self.cancels_by_expiry.pop_first() else { break };
            if let Some(list) = self.cancels.get_mut(&digest) {
                list.retain(|c| c.by != by);
                if list.is_empty() {
                    self.cancels.remove(&digest);
                }
            }
            decrement(&mut self.cancels_by_admin, &by);
        }
    }

    /// Cancels an intent, also before it arrives: it will be refused if `by` is its author, or was an
    /// owner when cancelling.
    ///
    /// # Errors
    /// [`Reason::Busy`]: this admin cancelled too many that may still arrive.
    pub fn cancel(&mut self, digest: Digest, by: &Name, owner: bool, log_time: Millis) -> Result<(), Reason> {
        if let Some(cancel) = self.cancels.get_mut(&digest).and_then(|l| l.iter_mut().find(|c| &c.by == by)) {
            cancel.owner |= owner;
            return Ok(());
        }
        if self.cancels_by_admin.get(by).copied().unwrap_or(0) >= CANCELS_ADMIN {
            return Err(Reason::Busy { what: format!("the table of intents cancelled by admin {by}") });
        }
        let expires = log_time.plus(LIFETIME_MANY_MS + ISSUED_AHEAD_MS);
        self.insert_cancel(Cancel { digest, by: by.clone(), owner, expires });
        Ok(())
    }

    fn insert_cancel(&mut self, cancel: Cancel) {
        self.cancels_by_expiry.insert((cancel.expires, cancel.digest, cancel.by.clone()));
        *self.cancels_by_admin.entry(cancel.by.clone()).or_default() += 1;
        self.cancels.entry(cancel.digest).or_default().push(cancel);
    }

    /// Who cancelled this intent of this author with effect.
    pub fn cancelled(&self, digest: &Digest, author: &Name) -> Option<&Name> {
        let list = self.cancels.get(digest)?;
        list.iter().find(|c| c.owner || &c.by == author).map(|c| &c.by)
    }
}

fn decrement(counts: &mut BTreeMap<Name, usize>, name: &Name) {
    if let Some(count) = counts.get_mut(name) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(name);
        }
    }
}
