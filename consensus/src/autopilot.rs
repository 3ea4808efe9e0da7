//! Who should vote. Pure: the leader's agent gathers, this decides, the agent acts and asks again.
//!
//! One step at a time, the most urgent first: replace a dead voter, remove one that is no longer
//! eligible, grow, spread over zones, shrink. A step is returned only if the group can take it, so
//! doing nothing is always safe, and asking again after any crash continues where it ended.

use std::collections::{BTreeMap, BTreeSet};

use qb_model::{Millis, NodeId, RaftId};

use crate::view::RaftView;

/// A node must have been healthy for this long before it votes: one that comes and goes would take
/// the quorum with it.
pub const STABLE_FOR_MS: u64 = 10_000;
/// A voter must have been away for this long before it is replaced: shorter than a reboot, a
/// replacement would cost more than it helps.
pub const DEAD_AFTER_MS: u64 = 60_000;

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its zone; voters are spread over zones.
    pub zone: String,
    /// Whether a majority of voters holds it for healthy.
    pub healthy: bool,
    /// Since when `healthy` has been what it is.
    pub since: Millis,
    /// Whether an owner made it eligible. A voter that is not any more has to leave.
    pub eligible: bool,
    /// The seat that the replicated state granted it, if it did.
    pub seat: Option<RaftId>,
}

/// What the autopilot decides from.
#[derive(Debug, Clone)]
pub struct Situation<'a> {
    /// The nodes of the site. A voter that is not among them counts as dead and not eligible.
    pub nodes: &'a BTreeMap<NodeId, Candidate>,
    /// The group as its leader sees it.
    pub view: &'a RaftView,
    /// The seat of the leader.
    pub leader: RaftId,
    /// Now, by the clock that `since` is of.
    pub now: Millis,
}

/// One step towards the group as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Have the replicated state grant this node a seat.
    GrantSeat {
        /// The node.
        node: NodeId,
    },
    /// Have the node promote itself to a learner, then add it.
    AddLearner {
        /// Its seat.
        raft_id: RaftId,
        /// The node.
        node: NodeId,
    },
    /// Make a learner that has caught up a voter.
    Promote {
        /// Its seat.
        raft_id: RaftId,
    },
    /// Exchange a voter for a learner that has caught up, in one joint change.
    Replace {
        /// The voter that leaves.
        remove: RaftId,
        /// The learner that takes its place.
        add: RaftId,
    },
    /// Remove a member.
    Remove {
        /// Its seat.
        raft_id: RaftId,
    },
    /// Hand the lead over, because the leader itself should leave.
    Transfer {
        /// To this voter.
        to: RaftId,
    },
}

/// How many voters a site of so many eligible nodes should have.
///
/// | eligible nodes | voters | survives |
/// |---|---|---|
/// | 0 to 2 | 1 | no death; a second voter would only add another way to stop |
/// | 3 to 9 | 3 | one death |
/// | 10 and more | 5 | two deaths |
pub fn target_voters(eligible: usize) -> usize {
    match eligible {
        0..=2 => 1,
        3..=9 => 3,
        _ => 5,
    }
}

/// The next step, if one is due.
pub fn next_step(situation: &Situation<'_>) -> Option<Step> {
    // One change at a time: the second would be judged by a membership that is passing.
    if situation.view.joint {
        return None;
    }
    let target = target_voters(situation.nodes.values().filter(|c| c.eligible).count());
    let voters = situation.view.voters.len();
    let leaving = situation.leaving();
    if voters < target || leaving.is_some() {
        if let Some(step) = situation.bring_in(leaving) {
            return Some(step);
        }
    } else if voters == target
        && let Some(crowded) = situation.crowded_voter()
        && let Some(step) = situation.bring_in(Some(crowded))
    {
        return Some(step);
    }
    if voters > target {
        let surplus = situation.surplus()?;
        return situation.remove(surplus);
    }
    if let Some(leaving) = leaving.filter(|id| !situation.is_eligible(*id)) {
        // No one can take its place, but it must not stay: revocation does not wait.
        return situation.remove(leaving);
    }
    situation.stray_learner().map(|raft_id| Step::Remove { raft_id })
}

impl Situation<'_> {
    fn candidate(&self, id: RaftId) -> Option<&Candidate> {
        self.nodes.get(&self.view.node_of(id)?)
    }

    fn is_eligible(&self, id: RaftId) -> bool {
        self.candidate(id).is_some_and(|c| c.eligible && c.seat == Some(id))
    }

    fn is_alive(&self, id: RaftId) -> bool {
        // The leader is alive: it asks.
        id == self.leader || self.candidate(id).is_some_and(|c| c.healthy)
    }

    fn age(&self, candidate: &Candidate) -> u64 {
        self.now.since(candidate.since)
    }

    /// The voter that should go first: dead for long, or no longer eligible.
    fn leaving(&self) -> Option<RaftId> {
        let dead = |id: &RaftId| {
            let candidate = self.candidate(*id);
            *id != self.leader && candidate.is_some_and(|c| !c.healthy && self.age(c) >= DEAD_AFTER_MS)
        };
        let voters = || self.view.voters.keys().copied();
        voters()
            .find(|id| !self.is_eligible(*id) && *id != self.leader)
            .or_else(|| voters().find(dead))
            .or_else(|| voters().find(|id| !self.is_eligible(*id)))
    }

    /// How many voters each zone has, without `except`.
    fn zones(&self, except: Option<RaftId>) -> BTreeMap<&str, usize> {
        let mut zones = BTreeMap::new();
        for id in self.view.voters.keys().filter(|id| Some(**id) != except) {
            if let Some(candidate) = self.candidate(*id) {
                *zones.entry(candidate.zone.as_str()).or_insert(0) += 1;
            }
        }
        zones
    }

    /// A voter in a zone with at least two more voters than some zone has that could take one.
    fn crowded_voter(&self) -> Option<RaftId> {
        let zones = self.zones(None);
        let count = |zone: &str| zones.get(zone).copied().unwrap_or(0);
        let newcomer = self.newcomer(None)?;
        let fewest = count(&self.nodes.get(&newcomer)?.zone);
        let crowded = |id: &RaftId| {
            *id != self.leader && self.candidate(*id).is_some_and(|c| count(&c.zone) >= fewest + 2)
        };
        self.view.voters.keys().copied().find(crowded)
    }

    /// The node that should vote next: stable, in the zone with the fewest voters; one that is
    /// underway already before others, then the least id, so that the choice does not waver.
    fn newcomer(&self, leaving: Option<RaftId>) -> Option<NodeId> {
        let zones = self.zones(leaving);
        let voters: BTreeSet<NodeId> = self.view.voters.values().copied().collect();
        self.nodes
            .iter()
            .filter(|(node, c)| {
                let stable = c.healthy && self.age(c) >= STABLE_FOR_MS;
                c.eligible && stable && !voters.contains(node)
            })
            .min_by_key(|(node, c)| {
                let in_zone = zones.get(c.zone.as_str()).copied().unwrap_or(0);
                let learner = c.seat.is_some_and(|id| self.view.learners.contains_key(&id));
                (in_zone, !learner, c.seat.is_none(), **node)
            })
            .map(|(node, _)| *node)
    }

    /// Brings a node in, in the place of `leaving` if that is given, one stage further.
    fn bring_in(&self, leaving: Option<RaftId>) -> Option<Step> {
        let node = self.newcomer(leaving)?;
        let Some(raft_id) = self.nodes.get(&node)?.seat else {
            return Some(Step::GrantSeat { node });
        };
        if !self.view.learners.contains_key(&raft_id) {
            return Some(Step::AddLearner { raft_id, node });
        }
        if !self.caught_up(raft_id) {
            return None;
        }
        match leaving {
            Some(remove) if remove == self.leader => self.hand_over(),
            Some(remove) => self
                .keeps_quorum(Some(remove), Some(raft_id))
                .then_some(Step::Replace { remove, add: raft_id }),
            None => self.keeps_quorum(None, Some(raft_id)).then_some(Step::Promote { raft_id }),
        }
    }

    fn caught_up(&self, id: RaftId) -> bool {
        let matching = self.view.matching.get(&id).copied().flatten().map_or(0, |at| at + 1);
        let last = self.view.last_log.map_or(0, |at| at + 1);
        matching > 0 && matching + crate::limits::CAUGHT_UP_LAG >= last
    }

    /// Whether the voters after a change would have a living majority, and have one now: a joint
    /// change needs both.
    fn keeps_quorum(&self, remove: Option<RaftId>, add: Option<RaftId>) -> bool {
        let majority =
            |ids: &BTreeSet<RaftId>| ids.iter().filter(|id| self.is_alive(**id)).count() * 2 > ids.len();
        let now: BTreeSet<RaftId> = self.view.voters.keys().copied().collect();
        let mut after = now.clone();
        after.extend(add);
        after.retain(|id| Some(*id) != remove);
        majority(&now) && majority(&after)
    }

    /// The voter that a group which is too large can best do without: dead, then ineligible, then
    /// in the fullest zone; never the leader unless it is the only choice.
    fn surplus(&self) -> Option<RaftId> {
        let zones = self.zones(None);
        let count = |id: RaftId| {
            let zone = self.candidate(id).map(|c| c.zone.as_str());
            zone.and_then(|zone| zones.get(zone)).copied().unwrap_or(usize::MAX)
        };
        let voters = self.view.voters.keys().copied();
        voters.max_by_key(|id| {
            (*id != self.leader, !self.is_alive(*id), !self.is_eligible(*id), count(*id), *id)
        })
    }

    fn remove(&self, raft_id: RaftId) -> Option<Step> {
        if raft_id == self.leader {
            return self.hand_over();
        }
        let last = self.view.voters.len() == 1;
        (!last && self.keeps_quorum(Some(raft_id), None)).then_some(Step::Remove { raft_id })
    }

    fn hand_over(&self) -> Option<Step> {
        let fit = |id: &RaftId| *id != self.leader && self.is_alive(*id) && self.is_eligible(*id);
        let to = self.view.voters.keys().copied().filter(fit);
        to.max_by_key(|id| self.view.matching.get(id).copied().flatten()).map(|to| Step::Transfer { to })
    }

    /// A learner that will not become a voter: not eligible, or of a seat that was replaced.
    fn stray_learner(&self) -> Option<RaftId> {
        self.view.learners.keys().copied().find(|id| !self.is_eligible(*id))
    }
}

#[cfg(test)]
mod tests;
