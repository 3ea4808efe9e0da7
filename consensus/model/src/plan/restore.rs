//! When the node that holds a backup restores it: once the others are reset, or are away.

use super::why::SILENT_MS;
use crate::assignment::Stage;
use crate::board::Board;
use crate::command::{Assign, Command};
use crate::ids::{HostName, Millis};
use crate::state::{Cluster, NodePhase, SiteState};

use super::Effect;

/// What is to be ordered now.
pub(super) fn next(
    state: &SiteState,
    board: &Board,
    cluster: &Cluster,
    now: Millis,
    effects: &mut Vec<Effect>,
) {
    let Some(restore) = cluster.restore.as_ref().filter(|r| r.goes_on()) else { return };
    if awaited(state, board, cluster, now).is_some() {
        return;
    }
    if let Some(order) = state.implied(&restore.node, Stage::Restore) {
        let (node, generation) = (order.node, order.generation);
        effects.push(Effect::Propose(Command::Assign(Assign { node, stage: Stage::Restore, generation })));
    }
}

/// A node that answers and is not reset yet: two stores of one cluster must not serve side by side. To one that
/// is away no balancer leads any more, and it leaves before anything else when it is back.
pub fn awaited(state: &SiteState, board: &Board, cluster: &Cluster, now: Millis) -> Option<HostName> {
    let restore = cluster.restore.as_ref().filter(|r| r.goes_on())?;
    let others = restore.others.iter().filter_map(|n| state.node(n));
    let leaving = |n: &&crate::state::NodeRecord| matches!(&n.phase, NodePhase::Detaching { cluster: c, .. } if *c == cluster.name);
    let answers = |n: &&crate::state::NodeRecord| {
        board.get(&n.node).is_some_and(|heard| now.since(heard.at) < SILENT_MS)
    };
    others.filter(leaving).find(answers).map(|n| n.host.clone())
}
