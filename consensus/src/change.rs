//! Changes of the group, on its leader.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use qb_model::{NodeId, RaftId};
use serde::{Deserialize, Serialize};

use crate::limits::{ASK_DEADLINE, CAUGHT_UP_LAG};
use crate::peer::RpcKind;
use crate::seat::Seat;
use crate::types::{Command, Types};
use crate::view::RaftView;
use crate::wire::{StoreUuid, WireMember};

/// Why a command has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This node does not lead. Nothing was accepted: ask the leader.
    #[error("this node does not lead; the leader is {leader:?}")]
    NotLeader {
        /// The leader, as far as known.
        leader: Option<NodeId>,
    },
    /// The command may or may not take effect. Ask for its outcome by its digest.
    #[error("outcome unknown: ask for it by the digest of what was signed")]
    Unknown,
    /// Nothing was accepted: there is no quorum or no seat here. Try again.
    #[error("no quorum at the moment; nothing was accepted, try again")]
    Unavailable,
    /// The command is too large for the log.
    #[error("command of {0} bytes is greater than {max}", max = crate::limits::MAX_COMMAND)]
    TooLarge(usize),
}

/// Why a linearizable read is not possible now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// This node does not lead.
    #[error("this node does not lead; the leader is {leader:?}")]
    NotLeader {
        /// The leader, as far as known.
        leader: Option<NodeId>,
    },
    /// A quorum did not confirm the leader before the deadline.
    #[error("no quorum confirmed the leader in time; read this node's own copy instead")]
    Unavailable,
}

/// Why the group was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// This node does not lead.
    #[error("this node does not lead; the leader is {leader:?}")]
    NotLeader {
        /// The leader, as far as known.
        leader: Option<NodeId>,
    },
    /// The learner's log lacks too much: as a voter it would hold up the quorum.
    #[error("seat {0} has not caught up; wait for it")]
    NotCaughtUp(RaftId),
    /// The node does not hold the seat that it was granted.
    #[error("node {node} does not answer for seat {seat}: {why}")]
    NoSeat {
        /// The node.
        node: NodeId,
        /// The seat.
        seat: RaftId,
        /// Its answer.
        why: String,
    },
    /// The change is not valid.
    #[error("change refused: {0}")]
    Refused(String),
    /// It is not known whether the change took place; look at the view.
    #[error("change not confirmed in time; look at the group again")]
    Unknown,
}

/// A change of voters, made in one step: a joint change if more than one voter is involved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VoterChange {
    /// Learners that become voters.
    pub promote: BTreeSet<RaftId>,
    /// Members, voters or learners, that leave the group.
    pub remove: BTreeSet<RaftId>,
}

/// "Which seat do you hold, on which storage?"
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeatQuestion {
    pub(crate) tag: [u8; 32],
}

/// The seat that a node holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeatAnswer {
    pub(crate) seat: u64,
    pub(crate) store: StoreUuid,
}

impl Seat {
    fn leader(&self) -> Option<NodeId> {
        RaftView::of_seat(&self.metrics()).leader
    }

    pub(crate) async fn propose(
        &self,
        command: Vec<u8>,
        deadline: Duration,
    ) -> Result<Vec<u8>, ProposeError> {
        use openraft::errors::ForwardReason;
        let write = self.raft.client_write(Command(command.into()));
        let Ok(written) = tokio::time::timeout(deadline, write).await else {
            return Err(ProposeError::Unknown);
        };
        match written {
            Ok(response) => Ok(response.data),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => match forward.reason {
                ForwardReason::NotLeader => {
                    Err(ProposeError::NotLeader { leader: forward.leader_node.map(|m| m.node()) })
                }
                ForwardReason::LeadershipTransfer | ForwardReason::LeaseExpired => {
                    Err(ProposeError::Unavailable)
                }
            },
            // Appended and discarded, or the core ended: others may have committed it.
            Err(_) => Err(ProposeError::Unknown),
        }
    }

    /// ReadIndex: a quorum confirms this leader after the read arrived. Never by lease, since fast
    /// failover takes leases away.
    pub(crate) async fn linearizable(&self, deadline: Duration) -> Result<u64, ReadError> {
        let read = self.raft.ensure_linearizable(openraft::ReadPolicy::ReadIndex);
        match tokio::time::timeout(deadline, read).await {
            Ok(Ok(read)) => Ok(read.log_id().index),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)))) => {
                Err(ReadError::NotLeader { leader: forward.leader_node.map(|m| m.node()) })
            }
            Ok(Err(_)) | Err(_) => Err(ReadError::Unavailable),
        }
    }

    pub(crate) async fn add_learner(&self, raft_id: RaftId, node: NodeId) -> Result<(), ChangeError> {
        let question = SeatQuestion { tag: self.context.tag };
        let asked = self.context.ask(node, RpcKind::Seat, &question, ASK_DEADLINE).await;
        let no_seat = |why| ChangeError::NoSeat { node, seat: raft_id, why };
        let SeatAnswer { seat, store } = asked.map_err(|e| no_seat(e.to_string()))?;
        if seat != raft_id.0 {
            return Err(no_seat(format!("it holds seat {seat}")));
        }
        let member = WireMember { node: node.0, store };
        self.change(ChangeMembers::AddNodes(BTreeMap::from([(seat, member)]))).await
    }

    pub(crate) async fn change_voters(&self, change: VoterChange) -> Result<(), ChangeError> {
        let view = RaftView::of_seat(&self.metrics());
        if !view.is_leader() {
            return Err(ChangeError::NotLeader { leader: view.leader });
        }
        check_change(&view, &change)?;
        let ids = |set: &BTreeSet<RaftId>| set.iter().map(|id| id.0).collect::<BTreeSet<u64>>();
        let mut parts = Vec::new();
        if !change.promote.is_empty() {
            parts.push(ChangeMembers::AddVoterIds(ids(&change.promote)));
        }
        let is_voter = |id: &&RaftId| view.voters.contains_key(id);
        let voters: BTreeSet<u64> = change.remove.iter().filter(is_voter).map(|id| id.0).collect();
        let others: BTreeSet<u64> = ids(&change.remove).difference(&voters).copied().collect();
        if !voters.is_empty() {
            parts.push(ChangeMembers::RemoveVoters(voters));
        }
        if !others.is_empty() {
            parts.push(ChangeMembers::RemoveNodes(others));
        }
        match parts.len() {
            0 => Ok(()),
            1 => self.change(parts.remove(0)).await,
            _ => self.change(ChangeMembers::Batch(parts)).await,
        }
    }

    async fn change(&self, change: ChangeMembers<u64, WireMember>) -> Result<(), ChangeError> {
        match self.raft.change_membership(change, false).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                Err(ChangeError::NotLeader { leader: self.leader() })
            }
            Err(RaftError::APIError(
                error @ (ClientWriteError::<Types>::ChangeMembershipError(_)
                | ClientWriteError::PreconditionFailed(_)),
            )) => Err(ChangeError::Refused(error.to_string())),
            Err(_) => Err(ChangeError::Unknown),
        }
    }

    /// Hands the lead to a voter whose log is complete. Writes are refused while it lasts.
    pub(crate) async fn transfer_leader(&self, to: RaftId) -> Result<(), ChangeError> {
        let view = RaftView::of_seat(&self.metrics());
        if !view.is_leader() {
            return Err(ChangeError::NotLeader { leader: view.leader });
        }
        if !view.voters.contains_key(&to) {
            return Err(ChangeError::Refused(format!("seat {to} is not a voter")));
        }
        if view.matching.get(&to).copied().flatten() < view.last_log {
            return Err(ChangeError::NotCaughtUp(to));
        }
        self.raft.trigger().transfer_leader(to.0).await.map_err(|_| ChangeError::Unknown)
    }
}

/// Refuses what would leave the group without voters or make it wait for a log that is far behind.
fn check_change(view: &RaftView, change: &VoterChange) -> Result<(), ChangeError> {
    for id in &change.promote {
        let known = view.learners.contains_key(id) || view.voters.contains_key(id);
        if !known || change.remove.contains(id) {
            return Err(ChangeError::Refused(format!("seat {id} is not a learner that stays")));
        }
        let matching = view.matching.get(id).copied().flatten().map_or(0, |at| at + 1);
        let needed = view.last_log.map_or(0, |at| at + 1).saturating_sub(CAUGHT_UP_LAG);
        if view.learners.contains_key(id) && matching < needed {
            return Err(ChangeError::NotCaughtUp(*id));
        }
    }
    let stays = view.voters.keys().filter(|id| !change.remove.contains(id)).count();
    if stays + change.promote.len() == 0 {
        return Err(ChangeError::Refused("no voter would be left".into()));
    }
    Ok(())
}
