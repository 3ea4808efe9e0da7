//! Why nothing happens: `waiting_on` of nodes, clusters and intents, as a pure function of state,
//! board and now. One cause, the first in the causal chain.

pub mod keeping;
mod leaving;
mod upgrading;

use crate::action::NodeRole;
use crate::assignment::{KUBEADM, Stage};
use crate::board::{Board, StepState, Work};
use crate::ids::{Digest, Millis, Name, NodeId};
use crate::outcome::Reason;
use crate::plan::place;
use crate::preflight::Severity;
use crate::state::{Attach, Cluster, ClusterPhase, NodePhase, NodeRecord, RestorePhase, SiteState};
use crate::waiting::{Clears, WaitingOn};

/// Silence after which a node is said to be silent, in milliseconds.
pub const SILENT_MS: u64 = 5_000;
/// Most characters of a sentence, subject included: one line of a list.
const LONGEST: usize = 90;

/// What a node that only knocks waits for.
pub fn of_waiting_node(name: &str, since: Millis) -> WaitingOn {
    WaitingOn::person(
        "node.authorize",
        name,
        "waits for an administrator to authorize it",
        since,
        ("operator", format!("qb node authorize {name}")),
    )
}

/// What a node of the roster waits for; none if nothing is open.
pub fn of_node(state: &SiteState, board: &Board, node: &NodeRecord, now: Millis) -> Option<WaitingOn> {
    cause_of_node(state, board, node, now).map(fit)
}

/// A sentence of at most [`LONGEST`] characters: the rest is in the findings and steps themselves.
pub(super) fn fit(mut cause: WaitingOn) -> WaitingOn {
    let room = LONGEST.saturating_sub(cause.subject.chars().count() + 1).max(LONGEST / 3);
    if cause.text.chars().count() > room {
        cause.text = cause.text.chars().take(room - 1).collect();
        cause.text.push('…');
    }
    cause
}

fn cause_of_node(state: &SiteState, board: &Board, node: &NodeRecord, now: Millis) -> Option<WaitingOn> {
    let host = node.host.as_str();
    if !node.present() {
        return Some(WaitingOn::itself(
            "node.admission",
            host,
            "waits for its agent: it was authorized and has not come in yet",
            node.since,
        ));
    }
    if let NodePhase::Detaching { cluster, cites, .. } = &node.phase
        && !state.held(cites)
        && let Some(cause) = leaving::of(state, board, state.cluster(cluster)?, &node.node, now)
    {
        return Some(cause);
    }
    if let Some(silent) = silence(board, node, now) {
        return Some(silent);
    }
    match &node.phase {
        NodePhase::Pool => None,
        NodePhase::Attached { cluster, done, cites, .. } => {
            if state.held(cites) {
                return Some(held(host, &cites.digest, node.since));
            }
            let cluster = state.cluster(cluster)?;
            let first = cluster.first == Some(node.node);
            let end = if first { Stage::Initialize } else { Stage::Join };
            if *done == Some(end) {
                let at_it = node.assignment.as_ref().is_some_and(|a| state.upgrade_open(a));
                return at_it.then(|| upgrading::at_work(board, node));
            }
            working(board, node).or_else(|| turn(state, board, cluster, node, now))
        }
        NodePhase::Detaching { cites, .. } if state.held(cites) => {
            Some(held(host, &cites.digest, node.since))
        }
        NodePhase::Detaching { cluster, .. } => working(board, node).or_else(|| {
            Some(WaitingOn::itself(
                "node.leave",
                host,
                format!("waits for its order to leave {cluster}"),
                node.since,
            ))
        }),
    }
}

pub(super) fn held(subject: &str, intent: &Digest, since: Millis) -> WaitingOn {
    WaitingOn::person(
        "intent.held",
        subject,
        "is held: the key that signed its intent was revoked as compromised",
        since,
        ("owner", format!("qb intent release {intent}")),
    )
}

fn silence(board: &Board, node: &NodeRecord, now: Millis) -> Option<WaitingOn> {
    let heard = board.get(&node.node)?;
    let age = now.since(heard.at);
    if age < SILENT_MS {
        return None;
    }
    Some(WaitingOn {
        host: Some(node.host.to_string()),
        ..WaitingOn::person(
            "node.silent",
            node.host.as_str(),
            format!("is silent: no report for {} s", age / 1_000),
            heard.at,
            ("operator", "systemctl status qb-agent".to_owned()),
        )
    })
}

/// What its own executor says.
fn working(board: &Board, node: &NodeRecord) -> Option<WaitingOn> {
    let assignment = node.assignment.as_ref()?;
    let work = board.get(&node.node)?.report.work.as_ref()?;
    if work.generation != assignment.generation {
        return None;
    }
    let host = node.host.as_str();
    if let (StepState::Failed, Some((error, remedy))) = (work.state, &work.error) {
        return Some(WaitingOn {
            host: Some(host.to_owned()),
            ..WaitingOn::person(
                "step.failed",
                host,
                failed(host, work, error),
                work.since,
                ("operator", remedy.clone()),
            )
        });
    }
    Some(WaitingOn::itself(
        "step.running",
        host,
        format!("is at step {} of {} of {}: {}", work.step, work.steps, work.stage.word(), work.title),
        work.since,
    ))
}

/// What failed and how often, the cause cut where both do not fit. The step is in the node's steps.
fn failed(host: &str, work: &Work, error: &str) -> String {
    let tries = if work.tries == 1 { "1 try".to_owned() } else { format!("{} tries", work.tries) };
    let around = format!("{host} cannot {}:, {tries}", work.stage.word());
    let cause = fit(WaitingOn::itself("step.failed", &around, error, work.since)).text;
    format!("cannot {}: {cause}, {tries}", work.stage.word())
}

/// Whose turn it is when a member has no order of its own that runs.
fn turn(
    state: &SiteState,
    board: &Board,
    cluster: &Cluster,
    node: &NodeRecord,
    now: Millis,
) -> Option<WaitingOn> {
    let host = node.host.as_str();
    let attach = cluster.attach.as_ref()?;
    if attach.checked.is_none() {
        return Some(WaitingOn { subject: host.to_owned(), ..preflight(cluster, attach, node.since) });
    }
    let other = attach
        .nodes
        .iter()
        .filter_map(|n| state.node(n))
        .find(|n| n.node != node.node && blocks(cluster, n, node));
    let cause = other.map(|n| {
        let what = working(board, n).map(|w| w.text).or_else(|| silence(board, n, now).map(|w| w.text));
        (n.host.to_string(), what.unwrap_or_else(|| "has not answered yet".to_owned()))
    });
    let cause = cause.or_else(|| leaving::before(cluster, node));
    let done = match &node.phase {
        NodePhase::Attached { done, .. } => *done,
        _ => None,
    };
    let ordered = node.assignment.as_ref().is_some_and(|a| done < Some(a.stage));
    let text = match (cause, ordered) {
        (Some((other, what)), _) => format!("waits for {other}: it {what}"),
        (None, true) => "waits for its agent to take up its order".to_owned(),
        (None, false) => "waits for its order from the leader".to_owned(),
    };
    Some(WaitingOn::itself("node.turn", host, text, node.assigned_at.max(node.since)))
}

/// Whether `other` must be further before `node` goes on.
fn blocks(cluster: &Cluster, other: &NodeRecord, node: &NodeRecord) -> bool {
    let done = |n: &NodeRecord| match &n.phase {
        NodePhase::Attached { done, .. } => *done,
        _ => None,
    };
    match done(node) {
        None => false,
        Some(Stage::Prepare) if cluster.first == Some(node.node) => done(other).is_none(),
        Some(Stage::Prepare) => {
            done(other).is_none()
                || enters_before(cluster, other, node)
                || (cluster.first == Some(other.node) && done(other) < Some(Stage::Initialize))
        }
        Some(_) => false,
    }
}

/// Whether `other` is on its way into the control plane that `node` is to enter.
fn enters_before(cluster: &Cluster, other: &NodeRecord, node: &NodeRecord) -> bool {
    let ordered = |n: &NodeRecord| n.assignment.as_ref().is_some_and(|a| a.stage == Stage::Join);
    let rules = |n: &NodeRecord| n.phase.role() == Some(NodeRole::ControlPlane);
    let enters = rules(other) && ordered(other) && !other.phase.serves();
    cluster.driver.as_str() == KUBEADM && enters && rules(node) && !ordered(node)
}

fn preflight(cluster: &Cluster, attach: &Attach, since: Millis) -> WaitingOn {
    let errors: Vec<_> = attach.findings.iter().filter(|f| f.severity == Severity::Error).collect();
    match errors.first() {
        None => WaitingOn::itself(
            "cluster.preflight",
            cluster.name.as_str(),
            format!("waits for preflight of {} nodes", attach.nodes.len()),
            since,
        ),
        Some(finding) => WaitingOn {
            more: (errors.len() - 1) as u32,
            ..WaitingOn::person(
                "cluster.preflight",
                cluster.name.as_str(),
                format!("waits for preflight: {} {}: {}", finding.code, finding.subject, finding.text),
                attach.preflight_at.unwrap_or(since),
                ("operator", finding.remedy.clone()),
            )
        },
    }
}

/// What a cluster waits for; none if it serves and nothing is under way.
pub fn of_cluster(state: &SiteState, board: &Board, cluster: &Cluster, now: Millis) -> Option<WaitingOn> {
    cause_of_cluster(state, board, cluster, now).map(fit)
}

/// What a cluster waits for that has nodes and no control plane that could take them in.
fn without_control_plane(state: &SiteState, cluster: &Cluster) -> Option<WaitingOn> {
    let name = cluster.name.as_str();
    let stay = state.members(&cluster.name).filter(|n| matches!(n.phase, NodePhase::Attached { .. })).count();
    let lost = stay > 0 && cluster.first.is_none();
    lost.then(|| {
        let text = format!("has no control plane that serves: 0 of {stay} nodes");
        let command = format!("qb cluster delete {name}");
        WaitingOn::person("cluster.control_plane", name, text, cluster.since, ("owner", command))
    })
}

/// Why a cluster's store is not restored yet; none if no restore goes on.
fn restoring(state: &SiteState, board: &Board, cluster: &Cluster, now: Millis) -> Option<WaitingOn> {
    let restore = cluster.restore.as_ref().filter(|r| r.goes_on())?;
    let name = cluster.name.as_str();
    if state.held(&restore.cites) {
        return Some(held(name, &restore.cites.digest, restore.since));
    }
    if let Some(silent) = silence(board, state.node(&restore.node)?, now) {
        return Some(WaitingOn { subject: name.to_owned(), text: on_node(&silent), ..silent });
    }
    let cause = match restore.phase {
        RestorePhase::Restoring => upgrading::at_work(board, state.node(&restore.node)?),
        _ => {
            let text = "waits for the leader to order the restore";
            WaitingOn::itself("restore.order", name, text, restore.since)
        }
    };
    Some(WaitingOn { subject: name.to_owned(), ..cause })
}

fn cause_of_cluster(state: &SiteState, board: &Board, cluster: &Cluster, now: Millis) -> Option<WaitingOn> {
    let name = cluster.name.as_str();
    if let Some(attach) = &cluster.attach {
        return Some(of_attach(state, board, cluster, attach, now));
    }
    let leaving = state
        .members(&cluster.name)
        .filter(|n| matches!(n.phase, NodePhase::Detaching { .. }))
        .filter_map(|n| of_node(state, board, n, now));
    let revoked = cluster.releases.iter().filter(|(_, release)| release.revoked);
    let revoked = revoked.filter_map(|(node, _)| leaving::of(state, board, cluster, node, now));
    let mut waits: Vec<WaitingOn> = leaving.chain(revoked).collect();
    // What a person must do is said before what goes on.
    waits.sort_by_key(|w| w.clears != Clears::Person);
    if let Some(first) = waits.first().cloned() {
        let text = on_node(&first);
        let more = (waits.len() - 1) as u32;
        waits.clear();
        return Some(WaitingOn { subject: name.to_owned(), text, more, ..first });
    }
    if let Some(lost) = without_control_plane(state, cluster) {
        return Some(lost);
    }
    if let Some(cause) = restoring(state, board, cluster, now) {
        return Some(cause);
    }
    if let Some(cause) = upgrading::of(state, board, cluster, now) {
        return Some(cause);
    }
    match cluster.phase {
        ClusterPhase::Empty => {
            let free = state.nodes().values().filter(|n| n.phase == NodePhase::Pool).count();
            let text = format!("waits for nodes: it has none, the pool has {free}");
            let command = if free == 0 {
                "qb node authorize --waiting".to_owned()
            } else {
                format!("qb cluster attach {name} -n {}", if free >= 3 { 3 } else { 1 })
            };
            Some(WaitingOn::person("cluster.empty", name, text, cluster.since, ("operator", command)))
        }
        ClusterPhase::Ready => {
            let degraded = |w: WaitingOn| WaitingOn {
                subject: name.to_owned(),
                text: format!("is degraded: {} {}", w.subject, w.text),
                ..w
            };
            let unwell = state.members(&cluster.name).find_map(|n| unwell(state, board, n, now));
            unwell.map(degraded).or_else(|| keeping::of(state, board, cluster))
        }
        _ => None,
    }
}

/// What is wrong with a member of a cluster that serves.
pub fn unwell(state: &SiteState, board: &Board, node: &NodeRecord, now: Millis) -> Option<WaitingOn> {
    let cluster = state.cluster(node.phase.cluster()?)?;
    if let Some(silent) = silence(board, node, now) {
        return Some(silent);
    }
    let report = &board.get(&node.node)?.report;
    let unit = report.units.iter().find(|u| u.cluster == cluster.name && !u.well)?;
    Some(WaitingOn::itself(
        "unit.unwell",
        node.host.as_str(),
        format!("has {} {}", unit.name, unit.state),
        report_time(board, &node.node),
    ))
}

fn report_time(board: &Board, node: &NodeId) -> Millis {
    board.get(node).map(|h| h.at).unwrap_or_default()
}

fn of_attach(state: &SiteState, board: &Board, cluster: &Cluster, attach: &Attach, now: Millis) -> WaitingOn {
    let name = cluster.name.as_str();
    if state.held(&attach.cites) {
        return held(name, &attach.cites.digest, cluster.since);
    }
    if !attach.placed {
        return unplaced(state, board, cluster, attach);
    }
    if let Some(lost) = without_control_plane(state, cluster) {
        return lost;
    }
    let absent = attach.nodes.iter().filter_map(|n| state.node(n)).find(|n| !n.present());
    if let Some(cause) = absent.and_then(|n| cause_of_node(state, board, n, now)) {
        return WaitingOn { subject: name.to_owned(), text: on_node(&cause), ..cause };
    }
    if attach.checked.is_none() {
        return preflight(cluster, attach, cluster.since);
    }
    let mut waits = attach
        .nodes
        .iter()
        .filter_map(|n| state.node(n))
        .filter_map(|n| of_node(state, board, n, now))
        .collect::<Vec<_>>();
    // Failures first, then the one that the others wait for.
    waits.sort_by_key(|w| (w.code != "step.failed", w.code == "node.turn"));
    let more = waits.len().saturating_sub(1) as u32;
    match waits.into_iter().next() {
        Some(first) => WaitingOn { subject: name.to_owned(), text: on_node(&first), more, ..first },
        None => WaitingOn::itself("attach.settle", name, "waits for its last node", cluster.since),
    }
}

/// What keeps the leader from placing an attach.
fn unplaced(state: &SiteState, board: &Board, cluster: &Cluster, attach: &Attach) -> WaitingOn {
    let name = cluster.name.as_str();
    let person = |text: String, command: String| {
        WaitingOn::person("attach.nodes", name, text, cluster.since, ("operator", command))
    };
    match place::choose(state, board, &cluster.name, &attach.placement) {
        Ok(_) => WaitingOn::itself("attach.place", name, "waits for the leader to place it", cluster.since),
        Err(Reason::NotEnoughNodes { want, have }) => person(
            format!("waits for free nodes: {have} in the pool, {want} wanted"),
            "qb node authorize --waiting".into(),
        ),
        Err(Reason::NodeNotInPool { node, status }) => {
            let host = state.node(&node).map(|n| n.host.to_string()).unwrap_or_default();
            person(
                format!("waits for {host}: it is {status}, not in the pool"),
                format!("qb node show {host}"),
            )
        }
        Err(Reason::NodeRevoked { node } | Reason::UnknownNode { node }) => {
            let host = state.tombstones().get(&node).map(|t| t.host.to_string()).unwrap_or_default();
            let text = format!("waits for {host}, which was revoked and does not come back");
            let command = format!("qb cluster delete {name}");
            WaitingOn::person("attach.nodes", name, text, cluster.since, ("owner", command))
        }
        Err(reason) => {
            let command = reason.remedy().unwrap_or_else(|| format!("qb cluster show {name}"));
            person(format!("waits: {reason}"), command)
        }
    }
}

/// What a node's cause is for its cluster.
fn on_node(cause: &WaitingOn) -> String {
    format!("waits for {}: it {}", cause.subject, cause.text)
}

/// What an accepted intent that is not finished waits for: what its cluster waits for.
pub fn of_intent(state: &SiteState, board: &Board, digest: &Digest, now: Millis) -> Option<WaitingOn> {
    let live = state.intents().get(digest)?;
    if live.finished.is_some() {
        return None;
    }
    if let Some(upgrade) = state.agent_upgrade().filter(|u| u.cites.digest == *digest) {
        if live.held {
            return Some(held("upgrade", digest, upgrade.since));
        }
        let (all, left) = (state.nodes().len(), state.nodes().keys().filter(|n| !upgrade.is_done(n)).count());
        let text = format!("waits for {left} of {all} nodes to run {}", upgrade.version);
        return Some(WaitingOn::itself("agent.rolling", "upgrade", text, upgrade.since));
    }
    let cluster: Option<&Name> = state
        .clusters()
        .values()
        .find(|c| {
            c.attach.as_ref().is_some_and(|a| a.cites.digest == *digest)
                || c.deleting.is_some_and(|d| d.digest == *digest)
                || c.upgrade.as_ref().is_some_and(|u| u.cites.digest == *digest)
                || c.releases.values().any(|r| r.cites.digest == *digest)
        })
        .map(|c| &c.name)
        .or_else(|| {
            state
                .nodes()
                .values()
                .find(|n| n.phase.cites().is_some_and(|c| c.digest == *digest))
                .and_then(|n| n.phase.cluster())
        });
    of_cluster(state, board, state.cluster(cluster?)?, now)
}
