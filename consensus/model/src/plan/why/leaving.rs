//! What a node waits for that has to be taken out of its cluster first.

use crate::action::NodeRole;
use crate::assignment::Stage;
use crate::board::{Board, Releasing};
use crate::ids::{Millis, NodeId};
use crate::plan::release::{self, Quorum, Wait};
use crate::state::{Cluster, NodePhase, NodeRecord, SiteState};
use crate::waiting::WaitingOn;

/// Why a node is not out yet; none if nobody has to take it out.
pub(super) fn of(
    state: &SiteState,
    board: &Board,
    cluster: &Cluster,
    node: &NodeId,
    now: Millis,
) -> Option<WaitingOn> {
    let release = cluster.releases.get(node)?;
    let (host, name) = (release.member.host.as_str(), &cluster.name);
    let itself = |text: String| WaitingOn::itself("node.release", host, text, release.since);
    Some(match release::wait(state, board, cluster, node, now)? {
        Wait::At(by) => at_work(state, board, node, &by, host, release.since)
            .unwrap_or_else(|| itself(format!("waits to be taken out of {name} by {}", host_of(state, &by)))),
        Wait::Turn(other) => itself(format!("waits for {other}: control plane nodes change one at a time")),
        Wait::Quorum(lost) => quorum(host, &lost, release.since),
        Wait::Nobody => {
            let text = format!("waits for a control plane node of {name} that answers");
            let command = format!("qb cluster show {name}");
            WaitingOn::person("node.release", host, text, release.since, ("operator", command))
        }
    })
}

fn host_of(state: &SiteState, node: &NodeId) -> String {
    state.node(node).map(|n| n.host.to_string()).unwrap_or_default()
}

/// What the node that takes it out says.
fn at_work(
    state: &SiteState,
    board: &Board,
    node: &NodeId,
    by: &NodeId,
    host: &str,
    since: Millis,
) -> Option<WaitingOn> {
    let report = &board.get(by)?.report;
    let Releasing { title, text, remedy, .. } = report.releasing.iter().find(|r| r.node == *node)?;
    let by = host_of(state, by);
    if !remedy.is_empty() {
        let text = format!("is not out: {title}: {text}");
        return Some(WaitingOn {
            host: Some(by),
            ..WaitingOn::person("node.release", host, text, since, ("operator", remedy.clone()))
        });
    }
    let more = if text.is_empty() { String::new() } else { format!(": {text}") };
    Some(WaitingOn::itself("node.release", host, format!("is taken out by {by}: {title}{more}"), since))
}

fn quorum(host: &str, lost: &Quorum, since: Millis) -> WaitingOn {
    let silent = lost.silent.as_ref().map(ToString::to_string).unwrap_or_default();
    let Quorum { answer, members, .. } = lost;
    let text = format!("waits for {silent}: without both, {answer} of {members} control plane nodes answer");
    WaitingOn {
        host: Some(silent),
        ..WaitingOn::person(
            "release.quorum",
            host,
            text,
            since,
            ("operator", "systemctl status qb-agent".to_owned()),
        )
    }
}

/// Who has to be taken out before a node enters the control plane, and what it does until then.
pub(super) fn before(cluster: &Cluster, node: &NodeRecord) -> Option<(String, String)> {
    let enters = node.phase.role() == Some(NodeRole::ControlPlane)
        && matches!(node.phase, NodePhase::Attached { done: Some(Stage::Prepare), .. })
        && node.assignment.as_ref().is_none_or(|a| a.stage != Stage::Join);
    let mut leaving = cluster.releases.values().filter(|r| r.member.role == NodeRole::ControlPlane);
    let other = leaving.next().filter(|_| enters)?;
    Some((other.member.host.to_string(), "is taken out of the control plane first".to_owned()))
}
