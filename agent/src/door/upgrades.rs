//! The upgrade of agents as the API shows it: pure functions.

use std::collections::BTreeSet;

use qb_model::plan::upgrade::{Scene, waiting_on, waves};
use qb_model::state::{Cluster, NodeUpgrade, SiteState, UpgradePhase};
use qb_model::waiting::WaitingOn;
use qb_model::{Millis, NodeId, Version};
use qb_portal::view::{
    AgentUpgradeState, AgentUpgradeView, ClusterUpgradeState, ClusterUpgradeView, NodeUpgradeState,
    NodeUpgradeView,
};

use super::plan::Planner;
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

/// The last upgrade of a cluster.
pub fn of_cluster(state: &SiteState, cluster: &Cluster) -> Option<ClusterUpgradeView> {
    let upgrade = cluster.upgrade.as_ref()?;
    Some(ClusterUpgradeView {
        intent: upgrade.cites.digest,
        version: upgrade.version.clone(),
        bundle: upgrade.bundle,
        batch: upgrade.batch,
        state: match upgrade.phase {
            UpgradePhase::Rolling => ClusterUpgradeState::Rolling,
            UpgradePhase::Halted { .. } => ClusterUpgradeState::Halted,
            UpgradePhase::Done => ClusterUpgradeState::Done,
        },
        since: upgrade.since,
        done: state.members(&cluster.name).filter(|n| upgrade.is_done(&n.node)).count() as u32,
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

/// What an upgrade would do, wave by wave, one line each.
pub fn planned(planner: &Planner<'_>, version: &Version, first: &[NodeId], batch: u16) -> Vec<String> {
    let state = planner.state;
    let voters: BTreeSet<NodeId> = planner.raft.voters.values().copied().collect();
    let scene = Scene {
        state,
        board: planner.board,
        leader: planner.raft.leader,
        voters: &voters,
        changing: planner.raft.joint,
        watching: state.log_time(),
        now: state.log_time(),
    };
    let runs = |node: &NodeId| planner.board.get(node).map(|h| h.report.facts.agent.clone());
    let host = |node: &NodeId| {
        let name = state.node(node).map(|n| n.host.to_string()).unwrap_or_default();
        match runs(node) {
            Some(runs) => format!("{name} ({runs})"),
            None => format!("{name} (away: when it returns)"),
        }
    };
    let waves = waves(&scene, first, batch);
    let mut lines =
        vec![format!("~ agents  > {version}, {} nodes in {} waves", state.nodes().len(), waves.len())];
    lines.extend(waves.iter().enumerate().map(|(at, wave)| {
        let nodes = wave.nodes.iter().map(host).collect::<Vec<_>>().join(", ");
        let how = match (wave.votes, wave.leads) {
            (_, true) => "  leads: hands over first",
            (true, false) => "  votes: goes alone",
            _ => "",
        };
        format!("~ wave {}  {nodes}{how}", at + 1)
    }));
    lines
}
