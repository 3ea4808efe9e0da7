//! What this node knows of the group, for status, the planner and the autopilot.

use std::collections::BTreeMap;

use openraft::ServerState;
use qb_model::{NodeId, RaftId};

use crate::types::Metrics;
use crate::wire::WireMembership;

/// The part this node plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Orders commands.
    Leader,
    /// Votes and stores the log.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Holds a seat without a vote: catching up, or removed.
    Learner,
    /// Holds no seat and follows the committed log of a voter.
    #[default]
    Following,
}

/// A view of the group. Not linearizable: what this node last heard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RaftView {
    /// The part this node plays.
    pub role: Role,
    /// The seat of this node, if it holds one.
    pub raft_id: Option<RaftId>,
    /// The term; 0 while following and nothing was heard.
    pub term: u64,
    /// The leader, as far as known.
    pub leader: Option<NodeId>,
    /// The voters of the effective membership; of both sets while a change is under way.
    pub voters: BTreeMap<RaftId, NodeId>,
    /// Members without a vote.
    pub learners: BTreeMap<RaftId, NodeId>,
    /// Whether a change of voters is under way.
    pub joint: bool,
    /// The last entry in the log.
    pub last_log: Option<u64>,
    /// The last entry applied here.
    pub applied: Option<u64>,
    /// The last entry known to be committed.
    pub committed: Option<u64>,
    /// On the leader: how far each member's log matches. Empty elsewhere.
    pub matching: BTreeMap<RaftId, Option<u64>>,
}

impl RaftView {
    /// The node behind a seat.
    pub fn node_of(&self, raft_id: RaftId) -> Option<NodeId> {
        self.voters.get(&raft_id).or_else(|| self.learners.get(&raft_id)).copied()
    }

    /// Whether this node leads.
    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }

    fn set_membership(&mut self, membership: &WireMembership) {
        let is_voter = |id: &u64| membership.configs.iter().any(|c| c.contains(id));
        for (id, member) in &membership.members {
            let side = if is_voter(id) { &mut self.voters } else { &mut self.learners };
            side.insert(RaftId(*id), member.node());
        }
        self.joint = membership.configs.len() > 1;
    }

    pub(crate) fn of_follower(membership: &WireMembership, applied: Option<u64>) -> Self {
        let mut view = Self { applied, committed: applied, last_log: applied, ..Self::default() };
        view.set_membership(membership);
        view
    }

    pub(crate) fn of_seat(metrics: &Metrics) -> Self {
        let role = match metrics.state {
            ServerState::Leader => Role::Leader,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Learner | ServerState::Shutdown => Role::Learner,
        };
        let replication = metrics.replication.iter().flatten();
        let matching = replication.map(|(id, at)| (RaftId(*id), at.as_ref().map(|at| at.index)));
        let mut view = Self {
            role,
            raft_id: Some(RaftId(metrics.id)),
            term: metrics.current_term,
            last_log: metrics.last_log_index,
            applied: metrics.last_applied.as_ref().map(|at| at.index),
            committed: metrics.local_committed.as_ref().map(|at| at.index),
            matching: matching.collect(),
            ..Self::default()
        };
        view.set_membership(&crate::types::membership_to_wire(metrics.membership_config.membership()));
        view.leader = metrics.current_leader.and_then(|id| view.node_of(RaftId(id)));
        view
    }
}
