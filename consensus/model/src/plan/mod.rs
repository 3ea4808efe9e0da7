//! The planner: a pure function of state, board and now. It says what the leader should order next.
//! Everything it proposes is checked again by apply, so a wrong or lying leader orders nothing that
//! no intent implies.

pub mod cluster_upgrade;
pub mod place;
pub mod release;
pub mod restore;
pub mod upgrade;
pub mod why;

use crate::action::NodeRole;
use crate::assignment::{KUBEADM, Stage};
use crate::board::Board;
use crate::command::{Assign, Command, Place};
use crate::ids::{Digest, Millis, Name, NodeId};
use crate::state::{Attach, Cluster, NodePhase, SiteState};

/// How long after a preflight with errors the next one is tried, in milliseconds of log time.
pub const PREFLIGHT_AGAIN_MS: u64 = 3_000;

/// What the leader should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Put this command into the log.
    Propose(Command),
    /// Check these nodes for this attach, then propose what was found.
    Preflight {
        /// The cluster.
        cluster: Name,
        /// The attach intent.
        intent: Digest,
        /// The nodes that are to be attached.
        nodes: Vec<NodeId>,
    },
    /// Ask a control plane member to take a node that leaves out of the cluster. Asked again until it has
    /// said so; asking twice does no harm.
    Release {
        /// The cluster.
        cluster: Name,
        /// The node that leaves.
        node: NodeId,
        /// Who is asked.
        by: NodeId,
    },
}

/// What to do next. Order: clusters by name, nodes by key.
pub fn next(state: &SiteState, board: &Board, now: Millis) -> Vec<Effect> {
    let mut effects = Vec::new();
    for cluster in state.clusters().values() {
        if let Some(attach) = &cluster.attach {
            next_of_attach(state, board, cluster, attach, now, &mut effects);
        }
        release::next(state, board, cluster, now, &mut effects);
        cluster_upgrade::next(state, board, cluster, now, &mut effects);
        restore::next(state, board, cluster, now, &mut effects);
        for node in state.members(&cluster.name) {
            if matches!(node.phase, NodePhase::Detaching { .. }) {
                push_assign(state, &node.node, Stage::Leave, &mut effects);
            }
        }
    }
    effects
}

fn next_of_attach(
    state: &SiteState,
    board: &Board,
    cluster: &Cluster,
    attach: &Attach,
    now: Millis,
    effects: &mut Vec<Effect>,
) {
    if state.held(&attach.cites) {
        return;
    }
    if !attach.placed {
        if let Ok(nodes) = place::choose(state, board, &cluster.name, &attach.placement) {
            effects.push(Effect::Propose(Command::Place(Place {
                cluster: cluster.name.clone(),
                intent: attach.cites.digest,
                nodes,
            })));
        }
        return;
    }
    // A node without address cannot be named to the others.
    if !attach.nodes.iter().all(|n| state.node(n).is_some_and(|r| r.present())) {
        return;
    }
    if attach.checked.is_none() {
        let due = attach.preflight_at.is_none_or(|at| now.since(at) >= PREFLIGHT_AGAIN_MS);
        if due {
            effects.push(Effect::Preflight {
                cluster: cluster.name.clone(),
                intent: attach.cites.digest,
                nodes: attach.nodes.clone(),
            });
        }
        return;
    }
    let prepared = attach.nodes.iter().all(|n| reached(state, n, Stage::Prepare));
    if !prepared {
        for node in &attach.nodes {
            push_assign(state, node, Stage::Prepare, effects);
        }
        return;
    }
    let Some(first) = cluster.first else { return };
    if !reached(state, &first, Stage::Initialize) {
        push_assign(state, &first, Stage::Initialize, effects);
        return;
    }
    // Each order is judged by itself: of several that may enter a control plane, one is proposed.
    let alone = |n: &NodeId| {
        cluster.driver.as_str() == KUBEADM
            && state.node(n).and_then(|r| r.phase.role()) == Some(NodeRole::ControlPlane)
    };
    let (mut enters, others): (Vec<&NodeId>, Vec<&NodeId>) =
        attach.nodes.iter().filter(|n| **n != first).partition(|n| alone(n));
    enters.sort_by_key(|n| state.node(n).map(|r| (r.host.clone(), r.node)));
    for node in enters {
        if push_assign(state, node, Stage::Join, effects) {
            break;
        }
    }
    for node in others {
        push_assign(state, node, Stage::Join, effects);
    }
}

/// Whether a node is through a stage.
fn reached(state: &SiteState, node: &NodeId, stage: Stage) -> bool {
    state
        .node(node)
        .is_some_and(|n| matches!(&n.phase, NodePhase::Attached { done: Some(done), .. } if *done >= stage))
}

/// Proposes an order that is due and not given. True if it did.
fn push_assign(state: &SiteState, node: &NodeId, stage: Stage, effects: &mut Vec<Effect>) -> bool {
    let given = state.node(node).and_then(|n| n.assignment.as_ref()).is_some_and(|a| a.stage == stage);
    let implied = if given { None } else { state.implied(node, stage) };
    let assign = implied.map(|order| Assign { node: *node, stage, generation: order.generation });
    let due = assign.is_some();
    effects.extend(assign.map(|a| Effect::Propose(Command::Assign(a))));
    due
}
