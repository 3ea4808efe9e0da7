//! Who votes: the leader asks the autopilot for one step at a time and takes it; every node takes or
//! gives up the seat that the state says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use qb_consensus::autopilot::{Candidate, Situation, Step, next_step};
use qb_consensus::{ChangeError, Consensus, PromoteError, SeatError, VoterChange};
use qb_model::command::Command;
use qb_model::{Millis, NodeId, RaftId};

use crate::events;
use crate::leader::propose;
use crate::node::Node;

/// A node whose last report is older is not healthy, in milliseconds.
const HEALTHY_MS: u64 = 3_000;
/// A seat that is in no group this long after it was granted is taken back, in milliseconds.
const UNUSED_MS: u64 = 30_000;
/// Answers in a row by voters that do not know this node's seat, after which it gives it up.
const UNSEATED: u32 = 3;
/// How often a node looks whether its seat is what the state says, besides changes.
const LOOK: Duration = Duration::from_secs(2);

/// Health of nodes and since when, by the leader's own clock.
pub type Health = BTreeMap<NodeId, (bool, Millis)>;

/// Notes who is healthy now and says since when.
fn health(node: &Node, now: Millis) -> Health {
    let state = node.site();
    let connected = node.mesh().map(qb_mesh::Mesh::connected).unwrap_or_default();
    let board = node.board();
    let mut held = node.health.lock().expect("no code that holds the lock can panic");
    held.retain(|n, _| state.nodes().contains_key(n));
    for id in state.nodes().keys() {
        let fresh = board.get(id).is_some_and(|h| now.since(h.at) < HEALTHY_MS);
        let granted = state.node(id).and_then(|n| n.seat);
        let lost = board.get(id).and_then(|h| h.report.lost_seat);
        let whole = kept(granted, lost) == granted;
        let well = *id == node.id() || (fresh && connected.contains(id) && whole);
        let entry = held.entry(*id).or_insert((well, now));
        if entry.0 != well {
            *entry = (well, now);
        }
    }
    held.clone()
}

/// The seat that a node has for the autopilot. One whose log the node has lost is none: under that number it may
/// have voted and does not know, so it must leave the group and come in again under another.
fn kept(granted: Option<RaftId>, lost: Option<RaftId>) -> Option<RaftId> {
    granted.filter(|seat| lost != Some(*seat))
}

/// One round of the autopilot, on the leader.
pub async fn turn(node: &Arc<Node>) {
    let Some(consensus) = node.consensus.get() else { return };
    let raft = node.raft();
    let Some(leader) = raft.raft_id else { return };
    let state = node.site();
    let now = node.site_now();
    let board = node.board().clone();
    let nodes: BTreeMap<NodeId, Candidate> = health(node, now)
        .into_iter()
        .map(|(id, (healthy, since))| {
            let zone = board.get(&id).map(|h| h.report.facts.zone.clone()).unwrap_or_default();
            let lost = board.get(&id).and_then(|h| h.report.lost_seat);
            let seat = kept(state.node(&id).and_then(|n| n.seat), lost);
            (id, Candidate { zone, healthy, since, eligible: state.eligible(&id), seat })
        })
        .collect();
    let step = next_step(&Situation { nodes: &nodes, view: &raft, leader, now });
    if let Some(step) = step {
        if let Err(e) = take(node, consensus, &step).await {
            tracing::debug!(?step, "autopilot: {e}");
        } else {
            tracing::info!(?step, "autopilot");
        }
    }
    clear_seats(node).await;
}

async fn take(node: &Arc<Node>, consensus: &Consensus, step: &Step) -> Result<(), ChangeError> {
    let change = |promote: Option<RaftId>, remove: Option<RaftId>| VoterChange {
        promote: promote.into_iter().collect(),
        remove: remove.into_iter().collect(),
    };
    let raft = node.raft();
    let host = |id: &RaftId| {
        let who = raft.node_of(*id);
        let state = node.site();
        who.and_then(|n| state.node(&n).map(|r| r.host.to_string())).unwrap_or_else(|| format!("seat {id}"))
    };
    let told = match step {
        Step::GrantSeat { node: who } => {
            propose(node, Command::Seat(*who)).await;
            None
        }
        Step::AddLearner { raft_id, node: who } => {
            consensus.add_learner(*raft_id, *who).await?;
            None
        }
        Step::Promote { raft_id } => {
            consensus.change_voters(change(Some(*raft_id), None)).await?;
            Some((host(raft_id), "votes now"))
        }
        Step::Replace { remove, add } => {
            consensus.change_voters(change(Some(*add), Some(*remove))).await?;
            Some((host(add), "votes now, in the place of a voter that left"))
        }
        Step::Remove { raft_id } => {
            consensus.change_voters(change(None, Some(*raft_id))).await?;
            Some((host(raft_id), "votes no more"))
        }
        Step::Transfer { to } => {
            consensus.transfer_leader(*to).await?;
            Some((host(to), "leads now"))
        }
    };
    if let Step::Replace { remove, .. } | Step::Remove { raft_id: remove } = step {
        propose(node, Command::Unseat(*remove)).await;
    }
    if let Some((who, text)) = told {
        node.events.say(events::now(), "raft", &who, text);
    }
    Ok(())
}

/// Takes Raft ids off the state whose holders left the group.
async fn clear_seats(node: &Arc<Node>) {
    let raft = node.raft();
    let state = node.site();
    let gone = state.seats().iter().find(|(id, seat)| {
        let out = !raft.joint && !raft.voters.contains_key(id) && !raft.learners.contains_key(id);
        let unused = node.site_now().since(seat.since) > UNUSED_MS;
        out && (unused || state.node(&seat.node).is_none_or(|n| n.seat != Some(**id)))
    });
    if let Some((id, _)) = gone {
        propose(node, Command::Unseat(*id)).await;
    }
}

/// Every node: takes the seat that the state gives it, gives up one that it has no more.
pub async fn follow(node: Arc<Node>) {
    let Some(consensus) = node.consensus.get() else { return };
    let mut state = node.state.clone();
    loop {
        let granted = node.site().node(&node.id()).and_then(|n| n.seat);
        let held = node.raft().raft_id;
        let founded = node.site().founded();
        match (granted, held) {
            (Some(seat), None) => match consensus.promote(seat).await {
                Ok(()) => tracing::info!(%seat, "took a seat"),
                Err(PromoteError::Seat(e @ SeatError::Used(_))) => {
                    if node.note_lost_seat(seat) {
                        tracing::warn!(%seat, "{e}");
                        node.report_now.notify_one();
                    }
                }
                Err(e) => tracing::warn!(%seat, "cannot take the seat: {e}"),
            },
            (granted, Some(seat))
                if founded
                    && (node.unseated() >= UNSEATED
                        || (granted.is_none() && !node.site().seats().contains_key(&seat))) =>
            {
                match consensus.demote().await {
                    Ok(()) => {
                        node.note_seat(true);
                        tracing::info!(%seat, "gave up the seat");
                    }
                    Err(e) => tracing::warn!(%seat, "cannot give up the seat: {e}"),
                }
            }
            _ => {}
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK) => {}
            () = node.cancel.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_whose_log_is_lost_is_nobodys() {
        let (one, other) = (Some(RaftId(7)), Some(RaftId(9)));
        for (granted, lost, seat) in
            [(one, None, one), (one, one, None), (other, one, other), (None, one, None), (None, None, None)]
        {
            assert_eq!(kept(granted, lost), seat, "{granted:?} {lost:?}");
        }
    }
}
