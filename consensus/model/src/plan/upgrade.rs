//! The planner of agent upgrades: who is next, who failed, and why nobody is ordered. Pure, like
//! [`super::next`]; apply checks what it can of every order again.
//!
//! ```text
//! on their way? ── late ──> halt          else wait
//! done since the last order, not proved? ── late ──> halt          else wait
//! else the next batch: first wave, then the rest; nodes without a vote, then voters one at a time,
//! the leader last and only after it handed the lead over
//! ```

use std::collections::BTreeSet;

use super::why::{SILENT_MS, fit, held};
use crate::board::{Board, Heard, StepState};
use crate::command::{AgentHalt, AgentOrdered, Command};
use crate::ids::{Millis, NodeId};
use crate::limits::{AGENT_BACK_MS, AGENT_WELL_MS, AGENT_WHY_BYTES};
use crate::state::{AgentUpgrade, NodeRecord, NodeUpgrade, SiteState, UpgradePhase};
use crate::waiting::{Clears, WaitingOn};

/// What the leader sees.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// The state.
    pub state: &'a SiteState,
    /// The board.
    pub board: &'a Board,
    /// Who leads, if that is known.
    pub leader: Option<NodeId>,
    /// Who votes.
    pub voters: &'a BTreeSet<NodeId>,
    /// Whether a change of voters is under way.
    pub changing: bool,
    /// Since when this leader has listened: nobody was late before that.
    pub watching: Millis,
    /// Now.
    pub now: Millis,
}

/// What the leader should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// Put this command into the log.
    Propose(Command),
    /// Hand the lead to this voter: the leader's own agent is next.
    HandOver {
        /// The voter.
        to: NodeId,
    },
}

/// Why nobody is ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wait {
    /// A node has its order.
    Back(NodeId),
    /// A node is done and has not proved itself.
    Well(NodeId),
    /// These are silent, not admitted yet, or at work for their cluster.
    Away(Vec<NodeId>),
    /// Without this voter too few would answer.
    Quorum(NodeId),
    /// A change of voters goes on.
    Voters,
}

enum Next {
    Moves(Vec<Move>),
    Waits(Wait),
    Nothing,
}

/// What to do next; nothing while it waits, and once the upgrade is halted or done.
pub fn next(scene: &Scene<'_>) -> Vec<Move> {
    match scene.decide() {
        Next::Moves(moves) => moves,
        Next::Waits(_) | Next::Nothing => Vec::new(),
    }
}

/// Nodes that would be upgraded together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wave {
    /// The nodes, by host name.
    pub nodes: Vec<NodeId>,
    /// Whether it is a voter, which goes alone.
    pub votes: bool,
    /// Whether it leads now, and hands over first.
    pub leads: bool,
}

/// The waves of an upgrade as they would be if everybody stayed as they are: for `--plan`.
pub fn waves(scene: &Scene<'_>, first: &[NodeId], batch: u16) -> Vec<Wave> {
    let mut waves = Vec::new();
    let (front, rest): (Vec<_>, Vec<_>) = scene.state.nodes().values().partition(|n| first.contains(&n.node));
    for mut part in [front, rest] {
        by_host(&mut part);
        let (mut voters, others): (Vec<_>, Vec<_>) = part.into_iter().partition(|n| scene.votes(n));
        // A batch is never 0: bounds of the signed form.
        for batch in others.chunks(usize::from(batch.max(1))) {
            let nodes = batch.iter().map(|n| n.node).collect();
            waves.push(Wave { nodes, votes: false, leads: false });
        }
        voters.sort_by_key(|n| Some(n.node) == scene.leader);
        waves.extend(voters.iter().map(|n| Wave {
            nodes: vec![n.node],
            votes: true,
            leads: Some(n.node) == scene.leader && scene.voters.len() > 1,
        }));
    }
    waves
}

fn by_host(nodes: &mut [&NodeRecord]) {
    nodes.sort_by(|a, b| (&a.host, a.node).cmp(&(&b.host, b.node)));
}

impl<'a> Scene<'a> {
    fn decide(&self) -> Next {
        let Some(upgrade) = self.state.agent_upgrade().filter(|u| u.rolling()) else { return Next::Nothing };
        if self.state.held(&upgrade.cites) {
            return Next::Nothing;
        }
        let mut waits = None;
        for (node, is) in &upgrade.nodes {
            let wait = match is {
                NodeUpgrade::Ordered { at, .. } => self.late(*at).then(|| self.why_away(upgrade, node)),
                NodeUpgrade::Done { at, .. } if *at >= upgrade.ordered_at => {
                    let Some(unproved) = self.unproved(upgrade, node, is) else { continue };
                    self.late(*at).then_some(unproved)
                }
                // Whoever was done before the last order had proved itself before that order.
                NodeUpgrade::Done { .. } | NodeUpgrade::Returned { .. } => continue,
            };
            if let Some(why) = wait {
                return Next::Moves(vec![halt(upgrade, node, why)]);
            }
            let on_its_way = matches!(is, NodeUpgrade::Ordered { .. });
            waits.get_or_insert(if on_its_way { Wait::Back(*node) } else { Wait::Well(*node) });
        }
        match waits {
            Some(wait) => Next::Waits(wait),
            None => self.next_batch(upgrade),
        }
    }

    /// The first wave while somebody of it is left, else everybody who is left.
    fn next_batch(&self, upgrade: &'a AgentUpgrade) -> Next {
        let left = |n: &&NodeRecord| !upgrade.nodes.contains_key(&n.node);
        let all: Vec<&NodeRecord> = self.state.nodes().values().filter(left).collect();
        let first: Vec<&NodeRecord> =
            all.iter().copied().filter(|n| upgrade.first.contains(&n.node)).collect();
        let mut wave = if first.is_empty() { all } else { first };
        by_host(&mut wave);
        let (ready, away): (Vec<_>, Vec<_>) = wave.into_iter().partition(|n| self.ready(n));
        let (voters, others): (Vec<_>, Vec<_>) = ready.into_iter().partition(|n| self.votes(n));
        if !others.is_empty() {
            let batch = others.into_iter().take(usize::from(upgrade.batch));
            return Next::Moves(batch.map(|n| self.order(upgrade, n)).collect());
        }
        if voters.is_empty() {
            let away: Vec<NodeId> = away.iter().map(|n| n.node).collect();
            return if away.is_empty() { Next::Nothing } else { Next::Waits(Wait::Away(away)) };
        }
        if self.changing {
            return Next::Waits(Wait::Voters);
        }
        let Some(voter) = voters.iter().find(|n| Some(n.node) != self.leader) else {
            return self.leader_itself(upgrade, voters[0]);
        };
        if self.spares(&voter.node) {
            Next::Moves(vec![self.order(upgrade, voter)])
        } else {
            Next::Waits(Wait::Quorum(voter.node))
        }
    }

    /// The leader's own agent: another voter leads meanwhile, one that runs the version if there is one.
    fn leader_itself(&self, upgrade: &AgentUpgrade, me: &NodeRecord) -> Next {
        if !self.spares(&me.node) {
            return Next::Waits(Wait::Quorum(me.node));
        }
        let others = self.voters.iter().filter(|v| Some(**v) != self.leader && self.hears(v));
        match others.min_by_key(|v| (!upgrade.is_done(v), **v)) {
            Some(to) => Next::Moves(vec![Move::HandOver { to: *to }]),
            // The only voter: while it starts again nothing can be changed, and nothing is lost.
            None => Next::Moves(vec![self.order(upgrade, me)]),
        }
    }

    fn order(&self, upgrade: &AgentUpgrade, node: &NodeRecord) -> Move {
        Move::Propose(Command::AgentOrder(AgentOrdered {
            upgrade: upgrade.cites.digest,
            node: node.node,
            generation: node.agent_orders.next(),
        }))
    }

    fn heard(&self, node: &NodeId) -> Option<&'a Heard> {
        self.board.get(node).filter(|h| self.now.since(h.at) < SILENT_MS)
    }

    fn hears(&self, node: &NodeId) -> bool {
        Some(*node) == self.leader || self.heard(node).is_some()
    }

    fn votes(&self, node: &NodeRecord) -> bool {
        node.seat.is_some() || self.voters.contains(&node.node)
    }

    /// Whether a node could take its order now: it is there, and its cluster does not wait for it.
    fn ready(&self, node: &NodeRecord) -> bool {
        let works = |h: &Heard| {
            let order = node.assignment.as_ref().map(|a| a.generation);
            h.report.work.as_ref().is_some_and(|w| Some(w.generation) == order && w.state != StepState::Done)
        };
        node.present() && self.heard(&node.node).is_some_and(|h| !works(h))
    }

    /// Whether a majority of the voters answers without this one. Up to two voters cannot spare one:
    /// then it is enough that all are there, since it comes back.
    fn spares(&self, voter: &NodeId) -> bool {
        let alive = self.voters.iter().filter(|v| self.hears(v)).count();
        let without = self.voters.iter().filter(|v| *v != voter && self.hears(v)).count();
        if self.voters.len() <= 2 { alive == self.voters.len() } else { without * 2 > self.voters.len() }
    }

    fn late(&self, since: Millis) -> bool {
        self.now.since(since.max(self.watching)) >= AGENT_BACK_MS
    }

    /// What an upgraded node lacks: a report of the start that said it is done, with the version, by an
    /// agent that follows the log, heard long enough after. None if it proved itself.
    fn unproved(&self, upgrade: &AgentUpgrade, node: &NodeId, is: &NodeUpgrade) -> Option<String> {
        let NodeUpgrade::Done { at, index, incarnation, .. } = is else { return None };
        let version = &upgrade.version;
        let Some(heard) = self.board.get(node).filter(|h| h.at >= *at) else {
            return Some(format!("has been silent since it said that it runs {version}"));
        };
        let report = &heard.report;
        if report.facts.agent != version.as_str() {
            return Some(format!("runs {} again", plain(&report.facts.agent)));
        }
        if report.incarnation > *incarnation {
            return Some(format!("was started again after it said that it runs {version}"));
        }
        if report.applied < *index {
            return Some(format!("runs {version} and does not follow the site's log"));
        }
        let well = heard.at >= at.plus(AGENT_WELL_MS);
        (!well).then(|| format!("has not run {version} for {} s", AGENT_WELL_MS / 1_000))
    }

    /// Why a node that has its order did not answer, as far as its reports tell.
    fn why_away(&self, upgrade: &AgentUpgrade, node: &NodeId) -> String {
        let within = AGENT_BACK_MS / 1_000;
        match self.heard(node).map(|h| plain(&h.report.facts.agent)) {
            None => format!("has not come back within {within} s"),
            Some(runs) if runs == upgrade.version.as_str() => {
                format!("runs {runs} and has not said within {within} s that it is ready")
            }
            Some(runs) => format!("still runs {runs} after {within} s"),
        }
    }

    fn host(&self, node: &NodeId) -> String {
        self.state.node(node).map_or_else(|| crate::words::fingerprint(&node.0), |n| n.host.to_string())
    }
}

/// What a node said of itself, as text that people may see.
fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic()).take(32).collect()
}

fn halt(upgrade: &AgentUpgrade, node: &NodeId, mut why: String) -> Move {
    // Made of bounded parts above; apply would refuse a longer one.
    why.truncate(AGENT_WHY_BYTES);
    Move::Propose(Command::AgentHalt(AgentHalt { upgrade: upgrade.cites.digest, node: *node, why }))
}

/// What the upgrade of agents waits for; none if there is none, or it is done.
pub fn waiting_on(scene: &Scene<'_>) -> Option<WaitingOn> {
    let upgrade = scene.state.agent_upgrade()?;
    let version = &upgrade.version;
    let subject = "upgrade";
    let since = upgrade.since;
    if let UpgradePhase::Halted { node, why } = &upgrade.phase {
        let text = match node {
            Some(node) => format!("to {version} is halted: {} {why}", scene.host(node)),
            None => format!("to {version} is halted: {why}"),
        };
        return Some(fit(WaitingOn::person(
            "agent.halted",
            subject,
            text,
            since,
            ("owner", again(scene, upgrade)),
        )));
    }
    if upgrade.rolling() && scene.state.held(&upgrade.cites) {
        return Some(held(subject, &upgrade.cites.digest, since));
    }
    let Next::Waits(wait) = scene.decide() else { return None };
    let itself =
        |code: &str, text: String| WaitingOn::itself(code, subject, text, upgrade.ordered_at.max(since));
    let cause = match wait {
        Wait::Back(node) => {
            itself("agent.back", format!("waits for {} to come back with {version}", scene.host(&node)))
        }
        Wait::Well(node) => {
            let text = format!(
                "waits until {} has run {version} for {} s",
                scene.host(&node),
                AGENT_WELL_MS / 1_000
            );
            itself("agent.well", text)
        }
        Wait::Quorum(node) => itself(
            "agent.quorum",
            format!("waits: without {} too few voters would answer", scene.host(&node)),
        ),
        Wait::Voters => itself("agent.voters", "waits for a change of voters to end".to_owned()),
        Wait::Away(nodes) => away(scene, upgrade, &nodes),
    };
    Some(fit(cause))
}

/// Nobody who is left can be ordered. In the first wave that needs a person, since nobody else goes on;
/// later it does not, since whoever comes back is upgraded then.
fn away(scene: &Scene<'_>, upgrade: &AgentUpgrade, nodes: &[NodeId]) -> WaitingOn {
    let since = upgrade.ordered_at.max(upgrade.since);
    let Some(node) = nodes.first() else {
        return WaitingOn::itself("agent.away", "upgrade", "waits for its next node", since);
    };
    let host = scene.host(node);
    let what = if scene.heard(node).is_none() { "is away" } else { "is at work for its cluster" };
    let text = format!("waits for {host}, which {what}");
    let more = u32::try_from(nodes.len() - 1).unwrap_or(u32::MAX);
    let cause = WaitingOn::itself("agent.away", "upgrade", text, since);
    if upgrade.first.contains(node) && scene.heard(node).is_none() {
        let (role, command) = (Some("owner".to_owned()), Some("qb agent stop".to_owned()));
        return WaitingOn { clears: Clears::Person, role, command, more, ..cause };
    }
    WaitingOn { more, ..cause }
}

/// The command that begins a halted upgrade again, the same first node in front.
fn again(scene: &Scene<'_>, upgrade: &AgentUpgrade) -> String {
    let first = upgrade.first.iter().find(|n| scene.state.node(n).is_some());
    let first =
        first.or_else(|| scene.state.nodes().keys().next()).map(|n| scene.host(n)).unwrap_or_default();
    format!("qb agent upgrade {} --first {first}", upgrade.bundle)
}
