//! From a document to a state that voters stand for.

use std::collections::BTreeSet;

use super::voters::Ballot;
use super::{CitedEnvelope, Link, Proof, Unverified, VoterSet};
use crate::action::Action;
use crate::assignment::{Citation, signed_intent};
use crate::charter::Charter;
use crate::dsse::Purpose;
use crate::envelope::Envelope;
use crate::ids::{Digest, Millis, NodeId, SiteId};
use crate::intent::Intent;
use crate::statement::{Checkpoint, read_body};
use crate::trust::{TrustState, replay_log};

/// A state that a majority of the site's voters signed. Only [`verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    /// The site.
    pub site: SiteId,
    /// The site's epoch.
    pub epoch: u64,
    /// The last applied entry of the log.
    pub index: u64,
    /// The term in which it was signed.
    pub term: u64,
    /// The time that the voters attest.
    pub log_time: Millis,
    /// The head of the audit chain.
    pub chain_head: Digest,
    /// The head of the trust log.
    pub trust_head: Digest,
    /// The hash of the state.
    pub state_hash: Digest,
    /// The set of voters and who of it signed.
    pub voters: VoterSet,
    /// Who signed.
    pub signed: BTreeSet<NodeId>,
    /// The heads of the trust log up to the attested one.
    trust: BTreeSet<Digest>,
}

impl Attested {
    /// Whether the trust log had this head, then or before.
    pub fn knows_trust(&self, head: &Digest) -> bool {
        self.trust.contains(head)
    }
}

/// The set of voters that founding intent and links lead to, under a trust state that was derived from
/// the pinned charter.
///
/// # Errors
/// The first thing that does not stand.
pub fn chain(
    trust: &TrustState,
    founding: &[u8],
    roster: &[CitedEnvelope],
    links: &[Link],
) -> Result<VoterSet, Unverified> {
    let set = reach(trust, founding, links)?;
    let mut known = founders(trust, founding)?;
    for cited in roster {
        known.extend(let_in(trust, cited).map_err(Unverified::Trust)?);
    }
    match set.nodes.iter().find(|n| !known.contains(n)) {
        Some(stranger) => Err(Unverified::Stranger(*stranger)),
        None => Ok(set),
    }
}

/// As [`chain`], without asking who let the voters in: for members, whose own state says so.
///
/// # Errors
/// The first thing that does not stand.
pub fn reach(trust: &TrustState, founding: &[u8], links: &[Link]) -> Result<VoterSet, Unverified> {
    VoterSet::founding(trust.site(), founders(trust, founding)?).walk(links)
}

/// The nodes of a validly signed founding intent.
fn founders(trust: &TrustState, founding: &[u8]) -> Result<BTreeSet<NodeId>, Unverified> {
    // Index 1: the first record of every audit chain, judged under the charter alone.
    let cited = CitedEnvelope { index: 1, log_time: Millis(0), envelope: founding.to_vec() };
    let intent = read_intent(trust, &cited).map_err(Unverified::Founding)?;
    match intent.action {
        Action::SiteFound { nodes } => Ok(nodes.iter().map(|n| n.node).collect()),
        other => Err(Unverified::Founding(format!("it orders {}", other.name()))),
    }
}

fn let_in(trust: &TrustState, cited: &CitedEnvelope) -> Result<Vec<NodeId>, String> {
    match read_intent(trust, cited)?.action {
        Action::NodeAuthorize { nodes } => Ok(nodes.iter().map(|n| n.node).collect()),
        other => Err(format!("an intent of the roster orders {}", other.name())),
    }
}

fn read_intent(trust: &TrustState, cited: &CitedEnvelope) -> Result<Intent, String> {
    let digest = Envelope::parse(&cited.envelope).map_err(|e| e.to_string())?.digest();
    signed_intent(&cited.envelope, trust, &Citation { digest, index: cited.index }, cited.log_time)
}

/// Verifies a document against the pinned site.
///
/// # Errors
/// The first thing that does not stand.
pub fn verify(site: SiteId, proof: &Proof) -> Result<Attested, Unverified> {
    let charter = Charter::verify(&proof.charter).map_err(|e| Unverified::Charter(e.to_string()))?;
    let wrong = |found| Unverified::Site { found, expected: site };
    if charter.site_id() != site {
        return Err(wrong(charter.site_id()));
    }
    let trust = replay_log(&charter, &proof.trust).map_err(|e| Unverified::Trust(e.to_string()))?;
    let signed = proof.checkpoint.as_ref().ok_or(Unverified::None)?;
    let founding = proof.founding.as_ref().ok_or(Unverified::None)?;
    let checkpoint: Checkpoint = read_body(&signed.body).map_err(|e| Unverified::Form(e.to_string()))?;
    if checkpoint.site != site {
        return Err(wrong(checkpoint.site));
    }
    let set = chain(&trust, founding, &proof.roster, &proof.voters)?;
    if checkpoint.epoch != set.epoch {
        return Err(Unverified::Epoch { found: checkpoint.epoch, expected: set.epoch });
    }
    if checkpoint.voters_seq != set.seq {
        return Err(Unverified::Set { found: checkpoint.voters_seq, last: set.seq });
    }
    let ballot = Ballot::count(Purpose::Checkpoint, signed, &set.nodes);
    if !ballot.is_majority() {
        return Err(Unverified::Few(ballot));
    }
    let heads = heads_up_to(&trust, &checkpoint.trust_head).ok_or(Unverified::TrustBehind)?;
    Ok(Attested {
        site,
        epoch: checkpoint.epoch,
        index: checkpoint.index,
        term: checkpoint.term,
        log_time: checkpoint.log_time,
        chain_head: checkpoint.chain_head,
        trust_head: checkpoint.trust_head,
        state_hash: checkpoint.state_hash,
        voters: set,
        signed: ballot.signed,
        trust: heads,
    })
}

/// The heads of a trust log from its beginning to `head`; none if it is not among them.
fn heads_up_to(trust: &TrustState, head: &Digest) -> Option<BTreeSet<Digest>> {
    let parents = trust.log().iter().map(|e| e.parent);
    let mut heads = BTreeSet::new();
    for at in parents.chain([trust.head()]) {
        heads.insert(at);
        if at == *head {
            return Some(heads);
        }
    }
    None
}
