//! A site whose voters are known: founding by one node, others authorized, links signed.

use std::collections::BTreeSet;

use qb_model::action::{Action, KeyClass, Role};
use qb_model::attest::{
    Attested, CitedEnvelope, KeySignature, Link, Proof, SignedBody, Unverified, VoterSet, verify,
};
use qb_model::dsse::{Purpose, Signer};
use qb_model::ids::{Digest, Millis, NodeId, SiteId};
use qb_model::key::Signature;
use qb_model::statement::{Checkpoint, Statement as _};

use crate::support::{NOW, OPAL, World, add, authorized, key, new_key, node};

/// Seeds of nodes. The founding one is 101.
pub(crate) const A: u8 = 101;
pub(crate) const B: u8 = 102;
pub(crate) const C: u8 = 103;
/// A node that is let in and no voter.
pub(crate) const D: u8 = 104;
/// A key that nobody let in.
pub(crate) const X: u8 = 150;

pub(crate) fn set(seeds: &[u8]) -> BTreeSet<NodeId> {
    seeds.iter().map(|s| node(*s)).collect()
}

/// Signs a body by the keys of these seeds.
pub(crate) fn signed_by(purpose: Purpose, body: &[u8], seeds: &[u8]) -> SignedBody {
    let one = |seed: &u8| {
        let key = key(*seed);
        KeySignature { key: key.public_key(), sig: Signature(key.sign(purpose, body)) }
    };
    SignedBody { body: body.to_vec(), signatures: seeds.iter().map(one).collect() }
}

/// A site and its chain of voters so far.
pub(crate) struct Votes {
    pub(crate) world: World,
    pub(crate) founding: Vec<u8>,
    pub(crate) roster: Vec<CitedEnvelope>,
    pub(crate) links: Vec<Link>,
    pub(crate) at: VoterSet,
}

impl Votes {
    /// Founded by A alone; B, C and D are let in; an operator was added.
    pub(crate) fn founded() -> Self {
        let mut world = World::founded();
        let founding = world.records[0].body.clone();
        world.must("olga", add("opal", Role::Operator, vec![new_key(OPAL, KeyClass::Cli)]), &[OPAL - 2]);
        let nodes = vec![authorized(B), authorized(C), authorized(D)];
        let mut sorted = nodes;
        sorted.sort_by_key(|n| n.node);
        world.must("opal", Action::NodeAuthorize { nodes: sorted }, &[OPAL]);
        let record = world.records.last().unwrap();
        let roster = vec![CitedEnvelope {
            index: record.index,
            log_time: record.log_time,
            envelope: record.body.clone(),
        }];
        let at = VoterSet::founding(world.site(), [node(A)]);
        Self { world, founding, roster, links: Vec::new(), at }
    }

    /// Grown to A, B and C in one link.
    pub(crate) fn three() -> Self {
        let mut votes = Self::founded();
        votes.grow(&[A, B, C], &[A]);
        votes
    }

    pub(crate) fn site(&self) -> SiteId {
        self.world.site()
    }

    /// The next set, signed by members of this one.
    pub(crate) fn grow(&mut self, to: &[u8], by: &[u8]) {
        let body = self.at.link_to(&set(to)).to_body();
        let link = signed_by(Purpose::Voters, &body, by);
        self.at = self.at.advance(&link).unwrap();
        self.links.push(link);
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            v: 1,
            site: self.site(),
            epoch: 0,
            index: 812,
            term: 3,
            log_time: Millis(NOW + 4_000),
            chain_head: self.world.head.hash,
            trust_head: self.world.trust.head(),
            state_hash: Digest([5; 32]),
            voters_seq: self.at.seq,
        }
    }

    pub(crate) fn signed(&self, checkpoint: &Checkpoint, by: &[u8]) -> Proof {
        Proof {
            charter: self.world.charter.envelope().to_vec(),
            trust: self.world.trust.log().to_vec(),
            founding: Some(self.founding.clone()),
            roster: self.roster.clone(),
            voters: self.links.clone(),
            checkpoint: Some(signed_by(Purpose::Checkpoint, &checkpoint.to_body(), by)),
            why: None,
        }
    }

    pub(crate) fn proof(&self, by: &[u8]) -> Proof {
        self.signed(&self.checkpoint(), by)
    }

    pub(crate) fn verify(&self, proof: &Proof) -> Result<Attested, Unverified> {
        verify(self.site(), proof)
    }

    /// What two of three sign, changed before it is signed.
    pub(crate) fn attested(&self, change: impl FnOnce(&mut Checkpoint)) -> Attested {
        let mut checkpoint = self.checkpoint();
        change(&mut checkpoint);
        self.verify(&self.signed(&checkpoint, &[A, B])).unwrap()
    }
}
