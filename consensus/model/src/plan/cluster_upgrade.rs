//! The planner of cluster upgrades: who is next, and why nobody is. Whose turn it is, and how many go at
//! a time, is the state's rule; who answers is known here.

use super::Effect;
use super::release::{answers, store_without};
use super::why::unwell;
use crate::action::NodeRole;
use crate::assignment::Stage;
use crate::board::Board;
use crate::command::{Assign, Command};
use crate::ids::{HostName, Millis, NodeId};
use crate::state::{Cluster, ClusterUpgrade, NodePhase, NodeRecord, SiteState};

/// Why nobody is ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// This node has its order.
    Works(NodeId),
    /// This node is not well: it answers not, or one of its units is not as it should be.
    Unwell(NodeId),
    /// Without this control plane node too few others would answer; the one that is silent.
    Quorum(NodeId, HostName),
}

/// Members in the order in which they are upgraded: the first control plane node, the others by host
/// name, then workers by host name.
pub fn turns<'a>(state: &'a SiteState, cluster: &Cluster) -> Vec<&'a NodeRecord> {
    let stays = |n: &&NodeRecord| matches!(n.phase, NodePhase::Attached { .. });
    let mut all: Vec<&NodeRecord> = state.members(&cluster.name).filter(stays).collect();
    all.sort_by_key(|n| (n.phase.role(), cluster.first != Some(n.node), n.host.clone(), n.node));
    all
}

/// What is to be ordered now.
pub(super) fn next(
    state: &SiteState,
    board: &Board,
    cluster: &Cluster,
    now: Millis,
    effects: &mut Vec<Effect>,
) {
    let Some(upgrade) = cluster.upgrade.as_ref().filter(|u| u.rolling()) else { return };
    if unwell_done(state, board, cluster, upgrade, now).is_some() {
        return;
    }
    let turns = turns(state, cluster);
    let flies = |n: &NodeRecord| n.phase.role() == Some(NodeRole::Worker) && upgrade.flies(&n.node);
    let mut room = usize::from(upgrade.batch).saturating_sub(turns.iter().filter(|n| flies(n)).count());
    for node in turns {
        let Some(order) = state.implied(&node.node, Stage::Upgrade) else { continue };
        if room == 0 || blocked(state, board, cluster, node, now).is_some() {
            continue;
        }
        let (node, generation) = (order.node, order.generation);
        effects.push(Effect::Propose(Command::Assign(Assign { node, stage: Stage::Upgrade, generation })));
        // Each order is judged by itself: of control plane nodes one is proposed.
        room = if order.role == NodeRole::ControlPlane { 0 } else { room - 1 };
    }
}

/// Why the upgrade of a cluster does not go on; none if nothing is in its way.
pub fn wait(state: &SiteState, board: &Board, cluster: &Cluster, now: Millis) -> Option<Wait> {
    let upgrade = cluster.upgrade.as_ref().filter(|u| u.rolling())?;
    if let Some(node) = unwell_done(state, board, cluster, upgrade, now) {
        return Some(Wait::Unwell(node));
    }
    let turns = turns(state, cluster);
    if let Some(node) = turns.iter().find(|n| upgrade.flies(&n.node)) {
        return Some(Wait::Works(node.node));
    }
    let due = turns.into_iter().filter(|n| state.implied(&n.node, Stage::Upgrade).is_some());
    due.map(|n| blocked(state, board, cluster, n, now)).next().flatten()
}

/// A node that is done and not well: what it runs now is not to be spread.
fn unwell_done(
    state: &SiteState,
    board: &Board,
    cluster: &Cluster,
    upgrade: &ClusterUpgrade,
    now: Millis,
) -> Option<NodeId> {
    let done = turns(state, cluster).into_iter().filter(|n| upgrade.is_done(&n.node));
    done.filter(|n| !answers(board, &n.node, now) || unwell(state, board, n, now).is_some())
        .map(|n| n.node)
        .next()
}

/// Why a node whose turn it is has to wait.
fn blocked(
    state: &SiteState,
    board: &Board,
    cluster: &Cluster,
    node: &NodeRecord,
    now: Millis,
) -> Option<Wait> {
    if !answers(board, &node.node, now) {
        return Some(Wait::Unwell(node.node));
    }
    if node.phase.role() != Some(NodeRole::ControlPlane) {
        return None;
    }
    // One or two control plane nodes keep no majority without one of them, whatever is done.
    let others = store_without(state, board, cluster, &node.node, now);
    let lost = others.members >= 2 && others.answer <= others.members.div_ceil(2);
    others.silent.filter(|_| lost).map(|host| Wait::Quorum(node.node, host))
}
