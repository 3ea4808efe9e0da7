//! Sets of voters, the links between them, and who counts for a majority.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{SignedBody, Unverified};
use crate::dsse::{Purpose, verify};
use crate::ids::{Digest, NodeId, SiteId};
use crate::key::check_public_key;
use crate::limits::{VOTER_LINKS, VOTER_SIGNATURES};
use crate::statement::{Statement as _, Voters, read_body};

/// More than half of `count`.
pub const fn majority(count: usize) -> usize {
    count / 2 + 1
}

/// Who of a set signed a body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ballot {
    /// Members of the set whose signature is valid.
    pub signed: BTreeSet<NodeId>,
    /// Members of the set.
    pub of: usize,
    /// Signatures by keys outside the set.
    pub outside: usize,
    /// Signatures by keys that had signed already.
    pub twice: usize,
    /// Signatures that are not valid.
    pub bad: usize,
}

impl Ballot {
    /// Counts the valid signatures of members. A bad or foreign one is skipped, never fatal: else
    /// whoever carries the document could spoil it by adding one.
    pub fn count(purpose: Purpose, signed: &SignedBody, set: &[NodeId]) -> Self {
        let mut ballot = Self { of: set.len(), ..Self::default() };
        for line in signed.signatures.iter().take(VOTER_SIGNATURES) {
            let voter = NodeId(line.key.0);
            if !set.contains(&voter) {
                ballot.outside += 1;
            } else if ballot.signed.contains(&voter) {
                ballot.twice += 1;
            } else if check_public_key(&line.key).is_ok()
                && verify(purpose, &signed.body, &line.key, &line.sig.0)
            {
                ballot.signed.insert(voter);
            } else {
                ballot.bad += 1;
            }
        }
        ballot
    }

    /// Whether more than half of the set signed.
    pub fn is_majority(&self) -> bool {
        self.signed.len() >= majority(self.of)
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} voters signed, {} must", self.signed.len(), self.of, majority(self.of))?;
        for (count, what) in
            [(self.outside, "by no voter"), (self.twice, "by a voter once more"), (self.bad, "not valid")]
        {
            if count > 0 {
                write!(f, "; {count} {} {what}", if count == 1 { "signature is" } else { "signatures are" })?;
            }
        }
        Ok(())
    }
}

/// A change of voters, signed by members of the set before.
pub type Link = SignedBody;

/// A set of voters that was reached from the founding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterSet {
    /// The site.
    pub site: SiteId,
    /// The site's epoch.
    pub epoch: u64,
    /// 0 for the founding nodes, one more with each link.
    pub seq: u64,
    /// The voters, sorted.
    pub nodes: Vec<NodeId>,
    /// Digest of its `voters.v1` body: what the next link names as `previous`.
    pub digest: Digest,
}

impl VoterSet {
    /// Set 0: the nodes of the founding intent. Its body is made, not signed: the intent stands for it.
    pub fn founding(site: SiteId, nodes: impl IntoIterator<Item = NodeId>) -> Self {
        let nodes: BTreeSet<NodeId> = nodes.into_iter().collect();
        let set: Vec<NodeId> = nodes.into_iter().collect();
        let body = Voters { v: 1, site, epoch: 0, seq: 0, set: set.clone(), previous: site.0 };
        Self { site, epoch: 0, seq: 0, nodes: set, digest: body.digest() }
    }

    /// The body of the link to `nodes`, for members of this set to sign.
    pub fn link_to(&self, nodes: &BTreeSet<NodeId>) -> Voters {
        Voters {
            v: 1,
            site: self.site,
            epoch: self.epoch,
            seq: self.seq.saturating_add(1),
            set: nodes.iter().copied().collect(),
            previous: self.digest,
        }
    }

    /// The set that a body says comes next, if it follows this one. Its signatures are not looked at.
    ///
    /// # Errors
    /// It does not follow.
    pub fn follow(&self, body: &[u8]) -> Result<Self, Unverified> {
        let next: Voters = read_body(body).map_err(|e| Unverified::Form(e.to_string()))?;
        let seq = next.seq;
        let fail = |why| Err(Unverified::Link { seq, why });
        if next.site != self.site {
            return fail("it is of another site");
        }
        if next.epoch != self.epoch {
            return fail("it is of another epoch");
        }
        if Some(next.seq) != self.seq.checked_add(1) {
            return fail("its number is not the next one");
        }
        if next.previous != self.digest {
            return fail("it names another set before");
        }
        Ok(Self { digest: next.digest(), site: next.site, epoch: next.epoch, seq, nodes: next.set })
    }

    /// The set that a link leads to, if a majority of this one signed it.
    ///
    /// # Errors
    /// It does not follow, or too few signed.
    pub fn advance(&self, link: &Link) -> Result<Self, Unverified> {
        let next = self.follow(&link.body)?;
        let ballot = Ballot::count(Purpose::Voters, link, &self.nodes);
        if ballot.is_majority() { Ok(next) } else { Err(Unverified::LinkFew { seq: next.seq, ballot }) }
    }

    /// The set at the end of a chain of links.
    ///
    /// # Errors
    /// The first link that does not stand.
    pub fn walk(self, links: &[Link]) -> Result<Self, Unverified> {
        if links.len() > VOTER_LINKS {
            return Err(Unverified::Form(format!("{} links of voters, {VOTER_LINKS} at most", links.len())));
        }
        links.iter().try_fold(self, |set, link| set.advance(link))
    }
}
