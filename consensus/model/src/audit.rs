//! Verifying a whole audit chain: the core of `qb audit verify` (security rules 2.8).
//!
//! It proves who signed what, under the trust of that time, in which order, without a gap. It proves
//! completeness only up to a head that is remembered elsewhere, and it does not repeat preconditions
//! that only the state of that moment knew.

use std::collections::{BTreeMap, BTreeSet};

use crate::action::Action;
use crate::assignment::Citation;
use crate::chain::{AuditKind, AuditRecord, Head, tick_digest};
use crate::charter::Charter;
use crate::dsse::Purpose;
use crate::ids::{Digest, Generation, Millis, NodeId, PublicKey, SiteId};
use crate::judge::{LoggedError, Refusal, Verified, verify_author, verify_logged};
use crate::outcome::{Outcome, Reason};
use crate::statement::{NodeCommand, SignedBytes, Statement, StatementError};
use crate::token::{Entry, Terms, TokenError};
use crate::trust::{TrustState, required};

/// What a chain proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainProof {
    /// The end of the chain: compare it with a head remembered elsewhere.
    pub head: Head,
    /// The head of the trust log.
    pub trust_head: Digest,
    /// Intents accepted.
    pub accepted: u64,
    /// Intents rejected.
    pub rejected: u64,
    /// Intents that waited for signatures, counted each time they did.
    pub pending: u64,
    /// Commands of nodes.
    pub commands: u64,
    /// Nodes that came in by join tokens.
    pub entries: u64,
    /// Ticks.
    pub ticks: u64,
}

/// Where a chain breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("audit chain breaks at record {at}: {why}")]
pub struct ChainBreak {
    /// The number that the record should have.
    pub at: u64,
    /// What is wrong.
    pub why: ChainFault,
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// The charter is of another site.
    #[error("the charter is that of site {0}: give the charter of this site")]
    OtherSite(SiteId),
    /// A record is missing, twice, or out of order.
    #[error("it has number {0}: a record is missing or out of order")]
    Gap(u64),
    /// Log time runs backwards.
    #[error("its time {0} is before that of the record before")]
    Time(Millis),
    /// The head is not the hash of what the record says.
    #[error("its head does not follow from the record")]
    Head,
    /// The digest is not that of the body.
    #[error("its digest is not that of its body")]
    Digest,
    /// A record of this kind cannot have this outcome.
    #[error("a record of its kind cannot have its outcome")]
    Outcome,
    /// No valid signature by its author under the trust of that time.
    #[error("{0}")]
    Unsigned(#[from] Refusal),
    /// It cannot have been accepted under the trust of that time.
    #[error("it cannot have been accepted: {0}")]
    NotAuthorized(#[from] LoggedError),
    /// The action on trust breaks a rule.
    #[error("it cannot have been applied: {0}")]
    NotApplied(#[from] Reason),
    /// The generation is not the one that the change leads to.
    #[error("it says generation {said}, the change leads to {found}")]
    Generation {
        /// As recorded.
        said: Generation,
        /// As recomputed.
        found: Generation,
    },
    /// An intent was accepted twice.
    #[error("the same intent was accepted at record {0}")]
    Replayed(u64),
    /// More signatures for an intent that did not wait for them.
    #[error("it adds signatures to an intent that did not wait for them")]
    NotPending,
    /// No token of that time lets it in.
    #[error("no join token that had uses left then lets it in")]
    NoToken,
    /// A node comes in that is in already, or was revoked.
    #[error("node {0} was in already, or was revoked")]
    EntersTwice(NodeId),
    /// Not an entry by a join token.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// Not a node's command.
    #[error("{0}")]
    Statement(#[from] StatementError),
    /// The node was not authorized then.
    #[error("node {0} was not authorized at that time")]
    NotAMember(NodeId),
}

/// Verifies records 1 to n of a site's audit chain: heads, digests, signatures under the trust log of
/// that time, order, no gap.
///
/// # Errors
/// The first record that does not follow.
pub fn verify_chain(
    site: SiteId,
    charter: &Charter,
    records: &[AuditRecord],
) -> Result<ChainProof, ChainBreak> {
    if charter.site_id() != site {
        return Err(ChainBreak { at: 0, why: ChainFault::OtherSite(charter.site_id()) });
    }
    let mut walk = Walk::new(charter);
    for record in records {
        let at = walk.proof.head.index.saturating_add(1);
        walk.step(record).map_err(|why| ChainBreak { at, why })?;
    }
    walk.proof.trust_head = walk.trust.head();
    Ok(walk.proof)
}

/// A token, and what is left of it.
struct Minted {
    cites: Citation,
    terms: Terms,
    left: u16,
}

struct Walk {
    proof: ChainProof,
    trust: TrustState,
    members: BTreeSet<NodeId>,
    gone: BTreeSet<NodeId>,
    /// Tokens that were minted and not revoked.
    tokens: BTreeMap<PublicKey, Minted>,
    /// Accepted intents, and the record of it. (A rejected one may be refused once more, when the
    /// replay table has forgotten it and somebody sends it again.)
    accepted: BTreeMap<Digest, u64>,
    waiting: BTreeSet<Digest>,
}

impl Walk {
    fn new(charter: &Charter) -> Self {
        let head = Head::beginning(charter.site_id());
        let trust_head = head.hash;
        let proof = ChainProof {
            head,
            trust_head,
            accepted: 0,
            rejected: 0,
            pending: 0,
            commands: 0,
            entries: 0,
            ticks: 0,
        };
        let trust = TrustState::from_charter(charter);
        Self {
            proof,
            trust,
            members: BTreeSet::new(),
            gone: BTreeSet::new(),
            tokens: BTreeMap::new(),
            accepted: BTreeMap::new(),
            waiting: BTreeSet::new(),
        }
    }

    fn step(&mut self, record: &AuditRecord) -> Result<(), ChainFault> {
        let before = self.proof.head;
        if record.index != before.index.saturating_add(1) {
            return Err(ChainFault::Gap(record.index));
        }
        if record.log_time < before.log_time {
            return Err(ChainFault::Time(record.log_time));
        }
        let next = before.next(record.log_time, &record.digest, record.outcome.as_ref());
        if next.hash != record.head {
            return Err(ChainFault::Head);
        }
        match record.kind {
            AuditKind::Intent | AuditKind::Approval => self.intent(record)?,
            AuditKind::NodeCommand => self.command(record)?,
            AuditKind::TokenEntry => self.entry(record)?,
            AuditKind::Tick => {
                same_digest(record, tick_digest(&record.body))?;
                no_outcome(record)?;
                self.proof.ticks += 1;
            }
        }
        self.proof.head = next;
        Ok(())
    }

    fn intent(&mut self, record: &AuditRecord) -> Result<(), ChainFault> {
        let author = verify_author(&self.trust, &record.body, record.log_time)?;
        same_digest(record, author.digest)?;
        if (record.kind == AuditKind::Approval) != self.waiting.contains(&record.digest) {
            return Err(ChainFault::NotPending);
        }
        match &record.outcome {
            Some(Outcome::Accepted { generation }) => {
                if let Some(first) = self.accepted.insert(record.digest, record.index) {
                    return Err(ChainFault::Replayed(first));
                }
                let verified = verify_logged(&self.trust, &record.body, record.log_time)?;
                self.accept(record, &verified, *generation)?;
                self.proof.accepted += 1;
            }
            Some(Outcome::Rejected(_)) => self.proof.rejected += 1,
            Some(Outcome::Pending { .. }) => {
                self.waiting.insert(record.digest);
                self.proof.pending += 1;
                return Ok(());
            }
            Some(Outcome::Duplicate { .. }) | None => return Err(ChainFault::Outcome),
        }
        self.waiting.remove(&record.digest);
        Ok(())
    }

    fn accept(
        &mut self,
        record: &AuditRecord,
        verified: &Verified,
        said: Generation,
    ) -> Result<(), ChainFault> {
        let action = &verified.intent().action;
        match action {
            Action::SiteFound { nodes } | Action::NodeAuthorize { nodes } => {
                self.members.extend(nodes.iter().map(|n| n.node));
            }
            Action::NodeRevoke { node, .. } => {
                self.members.remove(node);
                self.gone.insert(*node);
            }
            Action::TokenRevoke { token } => {
                self.tokens.remove(token);
            }
            Action::TokenMint { .. } => {
                let cites = Citation { digest: record.digest, index: record.index };
                if let Some(terms) = Terms::of(action) {
                    self.tokens.insert(terms.token, Minted { cites, left: terms.uses, terms });
                }
            }
            _ => {}
        }
        if required(action).trust {
            let found = self.trust.apply(verified, record.index, record.log_time, &|_| None)?;
            if found != said {
                return Err(ChainFault::Generation { said, found });
            }
        }
        Ok(())
    }

    fn entry(&mut self, record: &AuditRecord) -> Result<(), ChainFault> {
        no_outcome(record)?;
        let entry = Entry::open(&record.body)?;
        same_digest(record, entry.digest())?;
        let (node, voter) = (entry.node(), entry.said().voter);
        if !self.members.contains(&voter) {
            return Err(ChainFault::NotAMember(voter));
        }
        let minted = self.tokens.get_mut(&entry.token()).filter(|m| entry.mint().ok() == Some(m.cites));
        let minted = minted.ok_or(ChainFault::NoToken)?;
        minted.terms.fits(&entry.said().host, &entry.said().address, record.log_time)?;
        minted.left = minted.left.checked_sub(1).ok_or(ChainFault::NoToken)?;
        if self.gone.contains(&node) || !self.members.insert(node) {
            return Err(ChainFault::EntersTwice(node));
        }
        self.proof.entries += 1;
        Ok(())
    }

    fn command(&mut self, record: &AuditRecord) -> Result<(), ChainFault> {
        no_outcome(record)?;
        let bytes = SignedBytes::from_bytes(Purpose::Command, &record.body, NodeCommand::MAX)?;
        let signed = bytes.open::<NodeCommand>()?;
        same_digest(record, signed.digest())?;
        let command = signed.value();
        if command.site != self.trust.site() || !self.members.contains(&command.node) {
            return Err(ChainFault::NotAMember(command.node));
        }
        self.proof.commands += 1;
        Ok(())
    }
}

fn same_digest(record: &AuditRecord, found: Digest) -> Result<(), ChainFault> {
    if record.digest == found { Ok(()) } else { Err(ChainFault::Digest) }
}

fn no_outcome(record: &AuditRecord) -> Result<(), ChainFault> {
    if record.outcome.is_none() { Ok(()) } else { Err(ChainFault::Outcome) }
}
