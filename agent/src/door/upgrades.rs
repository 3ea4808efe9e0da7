//! The upgrade of agents as the API shows it: pure functions.

use qb_model::plan::upgrade::{Scene, waiting_on};
use qb_model::state::{NodeUpgrade, SiteState, UpgradePhase};
use qb_model::waiting::WaitingOn;
use qb_model::{Millis, NodeId};
use qb_portal::view::{AgentUpgradeState, AgentUpgradeView, NodeUpgradeState, NodeUpgradeView};

use super::views::Seen;

/// What the upgrade waits for, as far as this door can tell: it does not know since when the leader
/// listens, so it takes nobody for late.
pub fn wait(seen: &Seen<'_>) -> Option<WaitingOn> {
    let voters = seen.raft.voters.values().copied().collect();
    waiting_on(&Scene {
        state: seen.state,
        board: seen.board,
        leader: seen.raft.leader,
        voters: &voters,
        changing: seen.raft.joint,
        watching: seen.now,
        now: seen.now,
    })
}

/// The last upgrade of the site.
pub fn of_site(seen: &Seen<'_>) -> Option<AgentUpgradeView> {
    let upgrade = seen.state.agent_upgrade()?;
    Some(AgentUpgradeView {
        intent: upgrade.cites.digest,
        bundle: upgrade.bundle,
        version: upgrade.version.clone(),
        first: upgrade.first.iter().map(|n| seen.host(n)).collect(),
        batch: upgrade.batch,
        state: match upgrade.phase {
            UpgradePhase::Rolling => AgentUpgradeState::Rolling,
            UpgradePhase::Halted { .. } => AgentUpgradeState::Halted,
            UpgradePhase::Done => AgentUpgradeState::Done,
        },
        since: upgrade.since,
        done: seen.state.nodes().keys().filter(|n| upgrade.is_done(n)).count() as u32,
        nodes: seen.state.nodes().len() as u32,
        waiting_on: wait(seen),
    })
}

/// How far a node of the roster is in it.
pub fn of_node(state: &SiteState, node: &NodeId) -> Option<NodeUpgradeView> {
    let upgrade = state.agent_upgrade()?;
    let failed = match &upgrade.phase {
        UpgradePhase::Halted { node: Some(failed), why } if failed == node => Some(why.clone()),
        _ => None,
    };
    let view = |state, since: Option<Millis>, why| NodeUpgradeView { state, since, why };
    let is = upgrade.nodes.get(node);
    Some(match (is, failed) {
        (Some(NodeUpgrade::Returned { at, version, why }), _) => {
            view(NodeUpgradeState::Returned, Some(*at), Some(format!("runs {version}: {why}")))
        }
        (_, Some(why)) => view(NodeUpgradeState::Failed, Some(upgrade.since), Some(why)),
        (Some(NodeUpgrade::Ordered { at, .. }), None) => view(NodeUpgradeState::Ordered, Some(*at), None),
        (Some(NodeUpgrade::Done { at, .. }), None) => view(NodeUpgradeState::Done, Some(*at), None),
        // Whoever came in after the upgrade was done has no part in it.
        (None, None) if upgrade.phase == UpgradePhase::Done => return None,
        (None, None) => view(NodeUpgradeState::Waits, None, None),
    })
}
