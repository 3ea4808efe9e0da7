//! What an upgrade of a cluster waits for.

use super::{held, working};
use crate::board::Board;
use crate::ids::{Millis, NodeId};
use crate::plan::cluster_upgrade::{self, Wait};
use crate::state::{Cluster, NodeRecord, SiteState, UpgradePhase};
use crate::waiting::WaitingOn;

/// What a node is at that has its order to upgrade.
pub(super) fn at_work(board: &Board, node: &NodeRecord) -> WaitingOn {
    let text = "waits for its agent to take up its order to upgrade";
    working(board, node)
        .unwrap_or_else(|| WaitingOn::itself("node.turn", node.host.as_str(), text, node.assigned_at))
}

/// Why a cluster is not upgraded yet; none if no upgrade is open.
pub(super) fn of(state: &SiteState, board: &Board, cluster: &Cluster, now: Millis) -> Option<WaitingOn> {
    let upgrade = cluster.upgrade.as_ref()?;
    let name = cluster.name.as_str();
    let node = |id: &NodeId| state.node(id);
    let host = |id: &NodeId| node(id).map(|n| n.host.to_string()).unwrap_or_default();
    match &upgrade.phase {
        UpgradePhase::Done => return None,
        UpgradePhase::Halted { node, why } => {
            let at = node.as_ref().map(|n| format!("{}: ", host(n))).unwrap_or_default();
            let command = format!(
                "qb cluster upgrade {name} --version {} --bundle {}",
                upgrade.version, upgrade.bundle
            );
            let text = format!("is half at {}: {at}{why}", upgrade.version);
            return Some(WaitingOn::person(
                "upgrade.halted",
                name,
                text,
                upgrade.since,
                ("operator", command),
            ));
        }
        UpgradePhase::Rolling if state.held(&upgrade.cites) => {
            return Some(held(name, &upgrade.cites.digest, upgrade.since));
        }
        UpgradePhase::Rolling => {}
    }
    let person = |id: &NodeId, text: String| {
        let command = "systemctl status qb-agent".to_owned();
        WaitingOn {
            host: Some(host(id)),
            ..WaitingOn::person("upgrade.unwell", name, text, upgrade.since, ("operator", command))
        }
    };
    Some(match cluster_upgrade::wait(state, board, cluster, now) {
        Some(Wait::Works(id)) => {
            let cause = node(&id).map(|n| at_work(board, n))?;
            WaitingOn { subject: name.to_owned(), text: super::on_node(&cause), ..cause }
        }
        Some(Wait::Unwell(id)) => person(&id, format!("waits for {}: it is not well", host(&id))),
        Some(Wait::Quorum(id, silent)) => {
            let text = format!("waits for {silent}: without it {} cannot be taken down", host(&id));
            WaitingOn { host: Some(silent.to_string()), ..person(&id, text) }
        }
        None => WaitingOn::itself(
            "upgrade.order",
            name,
            "waits for the leader to order the next node",
            upgrade.since,
        ),
    })
}
