//! The planner of leaving's first half: who takes a leaving node out of its cluster, and when.
//!
//! ```text
//! workers: all at once                       control plane nodes: one after the other, those that are
//!                                            silent or revoked first, none while another one joins, none
//!                                            without which too few would answer
//! ```

use super::why::SILENT_MS;
use crate::action::NodeRole;
use crate::assignment::{KUBEADM, Stage};
use crate::board::{Board, MAX_RELEASING};
use crate::ids::{HostName, Millis, Name, NodeId};
use crate::outcome::Reason;
use crate::plan::Effect;
use crate::release::Release;
use crate::state::{Cluster, NodePhase, NodeRecord, SiteState, rules};

/// Why a node is not taken out yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// No control plane member that stays is heard of.
    Nobody,
    /// Another control plane node comes or goes.
    Turn(HostName),
    /// Too few control plane nodes would answer, or do already.
    Quorum(Quorum),
    /// It is this node's turn to take it out.
    At(NodeId),
}

/// The members of a cluster's store, and who of them answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum {
    /// Members.
    pub members: usize,
    /// Members that answer.
    pub answer: usize,
    /// One that is silent.
    pub silent: Option<HostName>,
}

impl Quorum {
    /// Whether a majority answers.
    pub fn holds(&self) -> bool {
        self.answer > self.members / 2
    }
}

/// What is to be asked of whom.
pub(super) fn next(
    state: &SiteState,
    board: &Board,
    cluster: &Cluster,
    now: Millis,
    effects: &mut Vec<Effect>,
) {
    for node in cluster.releases.keys().take(MAX_RELEASING) {
        if let Some((by, Wait::At(_))) = turn(state, board, cluster, node, now)
            && state.release_order(&cluster.name, node, &by).is_some()
        {
            effects.push(Effect::Release { cluster: cluster.name.clone(), node: *node, by });
        }
    }
}

/// Who takes a node out, or why nobody does yet; none if it is not to be taken out.
pub fn wait(state: &SiteState, board: &Board, cluster: &Cluster, node: &NodeId, now: Millis) -> Option<Wait> {
    cluster.releases.get(node)?;
    Some(match turn(state, board, cluster, node, now) {
        Some((_, wait)) => wait,
        None => Wait::Nobody,
    })
}

fn turn(
    state: &SiteState,
    board: &Board,
    cluster: &Cluster,
    node: &NodeId,
    now: Millis,
) -> Option<(NodeId, Wait)> {
    let release = cluster.releases.get(node)?;
    let by = taker(state, board, cluster, node, now)?;
    if release.member.role == NodeRole::Worker {
        return Some((by, Wait::At(by)));
    }
    if let Some(other) = entering(state, cluster) {
        return Some((by, Wait::Turn(other)));
    }
    let upgrade = cluster.upgrade.as_ref();
    let flying = state.members(&cluster.name).find(|n| rules(n) && upgrade.is_some_and(|u| u.flies(&n.node)));
    if let Some(other) = flying {
        return Some((by, Wait::Turn(other.host.clone())));
    }
    let first = order(board, cluster, now).into_iter().next()?;
    if first.member.node != *node {
        return Some((by, Wait::Turn(first.member.host.clone())));
    }
    let store = Store::of(state, board, cluster, now);
    let (is, then) = (store.quorum(), store.without(node).quorum());
    let wait = [is, then].into_iter().find(|q| !q.holds()).map_or(Wait::At(by), Wait::Quorum);
    Some((by, wait))
}

/// Control plane nodes that are to be taken out: those that do not answer first, since each that is gone
/// makes the rest stronger.
fn order<'a>(board: &Board, cluster: &'a Cluster, now: Millis) -> Vec<&'a Release> {
    let mut all: Vec<&Release> =
        cluster.releases.values().filter(|r| r.member.role == NodeRole::ControlPlane).collect();
    all.sort_by_key(|r| (!r.revoked, answers(board, &r.member.node, now), r.since, r.member.node));
    all
}

/// The control plane node that is joining.
fn entering(state: &SiteState, cluster: &Cluster) -> Option<HostName> {
    let enters = |n: &&NodeRecord| {
        n.phase.role() == Some(NodeRole::ControlPlane)
            && matches!(n.phase, NodePhase::Attached { done: Some(Stage::Prepare), .. })
            && n.assignment.as_ref().is_some_and(|a| a.stage == Stage::Join)
    };
    state.members(&cluster.name).find(enters).map(|n| n.host.clone())
}

/// Who does it: whoever is at it, else the first node, else another one that is heard of.
fn taker(state: &SiteState, board: &Board, cluster: &Cluster, node: &NodeId, now: Millis) -> Option<NodeId> {
    let at_it = |n: &NodeId| board.get(n).is_some_and(|h| h.report.releasing.iter().any(|r| r.node == *node));
    state
        .members(&cluster.name)
        .filter(|n| rules(n) && answers(board, &n.node, now))
        .min_by_key(|n| (!at_it(&n.node), cluster.first != Some(n.node), n.host.clone(), n.node))
        .map(|n| n.node)
}

/// The members of a cluster's store besides one, with who of them answers.
pub(super) fn store_without(
    state: &SiteState,
    board: &Board,
    cluster: &Cluster,
    node: &NodeId,
    now: Millis,
) -> Quorum {
    Store::of(state, board, cluster, now).without(node).quorum()
}

pub(super) fn answers(board: &Board, node: &NodeId, now: Millis) -> bool {
    board.get(node).is_some_and(|heard| now.since(heard.at) < SILENT_MS)
}

/// The members of a cluster's store (etcd), with whether each answers.
struct Store(Vec<(NodeId, HostName, bool)>);

impl Store {
    fn of(state: &SiteState, board: &Board, cluster: &Cluster, now: Millis) -> Self {
        let stay = state.members(&cluster.name).filter(|n| rules(n));
        let stay = stay.map(|n| (n.node, n.host.clone(), answers(board, &n.node, now)));
        let leave = cluster.releases.values().filter(|r| r.member.role == NodeRole::ControlPlane);
        let leave = leave.map(|r| {
            let node = r.member.node;
            (node, r.member.host.clone(), !r.revoked && answers(board, &node, now))
        });
        Self(stay.chain(leave).collect())
    }

    fn without(&self, node: &NodeId) -> Self {
        Self(self.0.iter().filter(|(n, _, _)| n != node).cloned().collect())
    }

    fn quorum(&self) -> Quorum {
        let silent = self.0.iter().find(|(_, _, answers)| !answers).map(|(_, host, _)| host.clone());
        let answer = self.0.iter().filter(|(_, _, answers)| *answers).count();
        Quorum { members: self.0.len(), answer, silent }
    }
}

/// What a detach would make of the cluster's control plane: how many nodes of it stay, where it loses
/// some; none where it loses none or all.
///
/// # Errors
/// Too few would answer: a leader refuses the intent, which leaves no trace.
pub fn detaches(
    state: &SiteState,
    board: &Board,
    name: &Name,
    nodes: &[NodeId],
    now: Millis,
) -> Result<Option<usize>, Reason> {
    let Some(cluster) = state.cluster(name).filter(|c| c.driver.as_str() == KUBEADM) else { return Ok(None) };
    let mut store = Store::of(state, board, cluster, now);
    let mut leaving: Vec<NodeId> =
        nodes.iter().copied().filter(|n| state.node(n).is_some_and(rules)).collect();
    leaving.sort_by_key(|n| answers(board, n, now));
    let stay = state.members(name).filter(|n| rules(n) && !nodes.contains(&n.node)).count();
    if leaving.is_empty() || stay == 0 {
        return Ok(None);
    }
    for node in &leaving {
        let (is, then) = (store.quorum(), store.without(node).quorum());
        if let Some(lost) = [is, then].into_iter().find(|q| !q.holds()) {
            let host = state.node(node).map(|n| n.host.to_string()).unwrap_or_default();
            return Err(refused(&host, &lost));
        }
        store = store.without(node);
    }
    Ok(Some(stay))
}

fn refused(host: &str, lost: &Quorum) -> Reason {
    let silent = lost.silent.as_ref().map(ToString::to_string).unwrap_or_default();
    Reason::Precondition {
        code: "etcd_quorum".into(),
        text: format!(
            "without {host} too few control plane nodes would answer: {} of {}, since {silent} is silent",
            lost.answer, lost.members
        ),
        remedy: Some(format!("bring {silent} back, or give it up first: qb node revoke {silent}")),
    }
}
