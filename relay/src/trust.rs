//! What the relay believes of a site: admins as they replay from the charter, and nodes that these
//! admins let in. A gateway brings the entries; none of them is taken on its word.

use std::collections::{BTreeMap, BTreeSet};

use qb_link::RosterEntry;
use qb_model::action::Action;
use qb_model::charter::{Charter, CharterError};
use qb_model::judge::{LoggedError, verify_logged};
use qb_model::outcome::Reason;
use qb_model::trust::{TrustEntry, TrustError, TrustState, replay_log};
use qb_model::{Digest, HostName, Millis, NodeId, token};

use crate::limits::ROSTER;

/// Why something is not believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BeliefError {
    #[error(transparent)]
    Charter(#[from] CharterError),
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A validly signed log that does not go on from the one held.
    #[error("the trust log does not contain the head that the relay has verified: rolled back, or forked")]
    Fork,
    #[error("roster entry {index}: {why}")]
    Signed { index: u64, why: LoggedError },
    #[error("roster entry {index}: {why}")]
    Replayed { index: u64, why: Reason },
    #[error("roster entry {index}: {why}")]
    Token { index: u64, why: token::TokenError },
    #[error("roster entry {index}: {why}")]
    Entry { index: u64, why: &'static str },
}

/// The nodes that admins let in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roster {
    /// Host names, and the record that let each in.
    members: BTreeMap<NodeId, (HostName, u64)>,
    /// Those that were revoked, and the record that put each out.
    gone: BTreeMap<NodeId, u64>,
    /// Join tokens by which nodes came in, by the digest of the mint, and which nodes.
    mints: BTreeMap<Digest, (token::Terms, BTreeSet<NodeId>)>,
    last: u64,
    entries: usize,
}

impl Roster {
    pub(crate) fn host(&self, node: &NodeId) -> Option<&HostName> {
        self.members.get(node).map(|(host, _)| host)
    }

    /// The number of the entry that let a node in.
    pub(crate) fn entry(&self, node: &NodeId) -> Option<u64> {
        self.members.get(node).map(|(_, index)| *index)
    }

    pub(crate) fn is_revoked(&self, node: &NodeId) -> bool {
        self.gone.contains_key(node)
    }

    /// The number of the entry that put a node out.
    pub(crate) fn revocation(&self, node: &NodeId) -> Option<u64> {
        self.gone.get(node).copied()
    }

    /// The number of its last entry.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    fn take(&mut self, index: u64, action: &Action) -> Result<(), BeliefError> {
        match action {
            Action::SiteFound { nodes } | Action::NodeAuthorize { nodes } => {
                for node in nodes.iter().filter(|n| !self.gone.contains_key(&n.node)) {
                    self.members.insert(node.node, (node.host.clone(), index));
                }
            }
            Action::NodeRevoke { node, .. } => {
                self.members.remove(node);
                self.gone.insert(*node, index);
            }
            _ => return Err(BeliefError::Entry { index, why: "it makes and ends no membership" }),
        }
        (self.last, self.entries) = (index, self.entries + 1);
        Ok(())
    }

    /// A node that came in by a join token: admins minted it, it had not ended, and had uses left. That
    /// an administrator ended it early is not told to a relay.
    fn take_token(&mut self, entry: &RosterEntry, trust: &TrustState) -> Result<(), BeliefError> {
        let index = entry.index;
        let token = |why| BeliefError::Token { index, why };
        let opened = token::Entry::open(&entry.envelope).map_err(token)?;
        let node = opened.node();
        let minted = opened.mint().map_err(token)?;
        if minted.index >= index || self.gone.contains_key(&node) {
            return Err(BeliefError::Entry {
                index,
                why: "it comes before its mint, or is a revoked node's",
            });
        }
        let terms = match self.mints.get(&minted.digest) {
            Some((terms, _)) => terms.clone(),
            None => opened.terms(trust).map_err(token)?,
        };
        if terms.token != opened.token() {
            return Err(BeliefError::Entry { index, why: "it is by another token than was minted" });
        }
        let said = opened.said();
        terms.fits(&said.host, &said.address, entry.log_time).map_err(token)?;
        let uses = usize::from(terms.uses);
        let nodes = &mut self.mints.entry(minted.digest).or_insert_with(|| (terms, BTreeSet::new())).1;
        if !nodes.contains(&node) && nodes.len() >= uses {
            return Err(BeliefError::Entry { index, why: "its token has no use left" });
        }
        nodes.insert(node);
        self.members.insert(node, (said.host.clone(), index));
        (self.last, self.entries) = (index, self.entries + 1);
        Ok(())
    }
}

/// A site as the relay has verified it.
#[derive(Debug, Clone)]
pub(crate) struct Belief {
    pub(crate) charter: Charter,
    pub(crate) trust: TrustState,
    pub(crate) roster: Roster,
}

impl Belief {
    /// Verifies a charter and a whole log. Takes as long as all its signatures: not for a runtime's
    /// own threads.
    pub(crate) fn verify(charter: &[u8], log: &[TrustEntry]) -> Result<Self, BeliefError> {
        let charter = Charter::verify(charter)?;
        let trust = replay_log(&charter, log)?;
        Ok(Self { charter, trust, roster: Roster::default() })
    }

    /// Takes further entries, or a whole log that contains what is held. Returns how many are new.
    pub(crate) fn learn_trust(&mut self, entries: &[TrustEntry]) -> Result<usize, BeliefError> {
        let held = self.trust.log();
        let goes_on = entries.first().is_some_and(|first| first.parent == self.trust.head());
        let whole = if goes_on { [held, entries].concat() } else { entries.to_vec() };
        let next = replay_log(&self.charter, &whole)?;
        if !next.contains(&self.trust.head()) {
            return Err(BeliefError::Fork);
        }
        let new = next.log().len() - held.len();
        self.trust = next;
        Ok(new)
    }

    /// Takes further roster entries; those held already are passed over. Returns the new ones.
    pub(crate) fn learn_roster(
        &mut self,
        entries: Vec<RosterEntry>,
    ) -> Result<Vec<RosterEntry>, BeliefError> {
        let mut roster = self.roster.clone();
        let mut past = Past::new(self);
        let mut new = Vec::new();
        for entry in entries {
            if entry.index <= roster.last {
                continue;
            }
            let index = entry.index;
            if roster.entries >= ROSTER {
                return Err(BeliefError::Entry { index, why: "the roster is full" });
            }
            let trust = past.before(&entry)?;
            if token::Entry::is_one(&entry.envelope) {
                roster.take_token(&entry, trust)?;
                new.push(entry);
                continue;
            }
            // A founding intent is judged at the beginning, where there is no time yet.
            let at = if index == 1 { Millis(0) } else { entry.log_time };
            let verified = verify_logged(trust, &entry.envelope, at);
            let verified = verified.map_err(|why| BeliefError::Signed { index, why })?;
            roster.take(index, &verified.intent().action)?;
            new.push(entry);
        }
        self.roster = roster;
        Ok(new)
    }

    /// The newest time that the site's admins are known to have been at.
    pub(crate) fn log_time(&self) -> Millis {
        self.trust.log().last().map_or(Millis(0), |last| last.log_time)
    }
}

/// The trust state as it was at earlier places of the audit chain, walked through once.
struct Past<'a> {
    belief: &'a Belief,
    state: TrustState,
    next: usize,
}

impl<'a> Past<'a> {
    fn new(belief: &'a Belief) -> Self {
        Self { belief, state: TrustState::from_charter(&belief.charter), next: 0 }
    }

    /// The trust under which an entry was judged. Entries come in the order of their numbers.
    fn before(&mut self, entry: &RosterEntry) -> Result<&TrustState, BeliefError> {
        let log = self.belief.trust.log();
        let (index, at) = (entry.index, entry.log_time);
        let split = log.partition_point(|e| e.index < index);
        let early = split > 0 && log[split - 1].log_time > at;
        if early || log.get(split).is_some_and(|later| later.log_time < at) {
            return Err(BeliefError::Entry { index, why: "its time is not that of its place in the chain" });
        }
        if split == log.len() {
            return Ok(&self.belief.trust);
        }
        while let Some(step) = log.get(self.next).filter(|_| self.next < split) {
            // Verified as a whole before; walked again only to see the states between.
            let verified = verify_logged(&self.state, &step.envelope, step.log_time)
                .map_err(|why| BeliefError::Signed { index: step.index, why })?;
            self.state
                .apply(&verified, step.index, step.log_time, &|_| None)
                .map_err(|why| BeliefError::Replayed { index: step.index, why })?;
            self.next += 1;
        }
        Ok(&self.state)
    }
}
