//! Reports: each node says once a second, and at once when its work changes, how it is. They go to
//! the voters, which hold the board; other nodes ask them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use qb_model::board::{Board, NodeReport, Unit};
use qb_model::{Millis, NodeId};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::events;
use crate::node::Node;
use crate::rpc::{BoardAnswer, ReportAnswer, kind};

/// How often a node reports when nothing changes.
const EVERY: Duration = Duration::from_secs(1);
/// Two reports are at least this far apart.
const APART: Duration = Duration::from_millis(50);
/// Deadline of one report.
const DEADLINE: Duration = Duration::from_secs(2);
/// How often facts that cost something to gather are gathered again: disk and memory among them.
const FACTS_EVERY: Duration = Duration::from_secs(10);

/// How long a report waits for what it asks of others on this machine: then it goes with what was known.
/// An executor or a disk that is busy must not make a node look silent.
const ASK: Duration = Duration::from_millis(250);

/// Members that are told at once by a node that knows of no voter.
const MEMBERS: usize = 3;

/// Reports for as long as the agent runs.
pub async fn run(node: Arc<Node>) {
    let mut sequence = 0u64;
    let mut gathered = Instant::now();
    let busy = Busy::default();
    let mut work = node.work.subscribe();
    let (mut facts, mut units) = (Asked::default(), Asked::default());
    let mut known = Vec::new();
    loop {
        sequence += 1;
        if facts.runs() || gathered.elapsed() >= FACTS_EVERY {
            gathered = Instant::now();
            let at = node.clone();
            let ask = || tokio::task::spawn_blocking(move || crate::host::facts(&at.config));
            if let Some(Ok(facts)) = facts.within(ASK, ask).await {
                node.set_facts(facts);
            }
        }
        let at = node.clone();
        if let Some(units) = units.within(ASK, || tokio::spawn(async move { self::units(&at).await })).await {
            known = units;
        }
        let report = gather(&node, sequence, known.clone());
        node.hear(report.clone());
        send(&node, report, &busy);
        let begun = Instant::now();
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = node.report_now.notified() => {}
            changed = work.changed() => if changed.is_err() { return },
            () = node.cancel.cancelled() => return,
        }
        tokio::time::sleep_until(begun + APART).await;
    }
}

/// A question that is asked again only when it was answered, and that nobody waits for too long.
struct Asked<T>(Option<JoinHandle<T>>);

impl<T> Default for Asked<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Asked<T> {
    fn runs(&self) -> bool {
        self.0.is_some()
    }

    /// The answer, to the question that was asked before or else now, if it comes by then.
    async fn within(&mut self, wait: Duration, ask: impl FnOnce() -> JoinHandle<T>) -> Option<T> {
        let running = self.0.get_or_insert_with(ask);
        let answer = tokio::time::timeout(wait, running).await.ok()?;
        self.0 = None;
        answer.ok()
    }
}

impl<T> Drop for Asked<T> {
    fn drop(&mut self) {
        if let Some(running) = &self.0 {
            running.abort();
        }
    }
}

fn gather(node: &Arc<Node>, sequence: u64, units: Vec<Unit>) -> NodeReport {
    let load = crate::host::load();
    NodeReport {
        v: 1,
        node: node.id(),
        incarnation: node.identity.incarnation,
        sequence,
        facts: node.facts(),
        mesh: vec![node.mesh_address().to_string()],
        load_milli: load.load_milli,
        memory_used_bytes: load.memory_used_bytes,
        uptime_s: load.uptime_s,
        started: node.started,
        work: node.work.borrow().clone(),
        releasing: node.releases.shown(),
        keeping: node.keeps.shown(),
        units,
        applied: node.site().applied(),
        uplinks: node.uplinks.up(),
        restarts: node.starts.unasked(events::now()),
        upkeep: node.upkeep.borrow().clone(),
        lost_seat: node.lost_seat(),
    }
}

/// The units of this node's cluster.
async fn units(node: &Arc<Node>) -> Vec<Unit> {
    let state = node.site();
    let cluster = state.node(&node.id()).and_then(|n| n.phase.cluster().cloned());
    let (Some(exec), Some(cluster)) = (node.exec.get(), cluster) else { return Vec::new() };
    let word = |state| match state {
        qb_exec::UnitState::Running => "running",
        qb_exec::UnitState::Restarting => "restarting",
        qb_exec::UnitState::Stopping => "stopping",
    };
    let all = exec.health(&cluster).await;
    all.into_iter()
        .map(|u| Unit {
            cluster: cluster.clone(),
            name: u.name,
            well: u.state == qb_exec::UnitState::Running,
            state: word(u.state).to_owned(),
        })
        .collect()
}

/// Voters that have not answered the last report yet.
type Busy = Arc<Mutex<BTreeSet<NodeId>>>;

fn lock(busy: &Busy) -> MutexGuard<'_, BTreeSet<NodeId>> {
    busy.lock().expect("no code that holds the lock can panic")
}

/// Who is told: the voters. If this node is connected to none that it knows, for instance since others
/// vote now than when it was last up, some members too: their answers say who votes.
fn listeners(node: &Node, sequence: u64) -> Vec<NodeId> {
    let connected = node.mesh().map(qb_mesh::Mesh::connected).unwrap_or_default();
    let mut all: Vec<NodeId> = node.voters().into_iter().filter(|v| *v != node.id()).take(7).collect();
    if !all.iter().any(|v| connected.contains(v)) {
        all.extend(in_turn(connected.into_iter().filter(|n| *n != node.id()).collect(), sequence));
    }
    all
}

/// Some of the connected members, others with each report: the only voter is among them in the end,
/// wherever its key sorts.
fn in_turn(mut members: Vec<NodeId>, sequence: u64) -> Vec<NodeId> {
    if let Some(places) = u64::try_from(members.len()).ok().filter(|n| *n > 0) {
        members.rotate_left((sequence % places) as usize);
    }
    members.truncate(MEMBERS);
    members
}

/// Sends a report to every voter. Nobody is waited for: one voter that is dead must not make this node
/// look silent to the others. One that still has the last report gets the next one.
fn send(node: &Arc<Node>, report: NodeReport, busy: &Busy) {
    let me = node.id();
    let state = node.site();
    if !state.nodes().contains_key(&me) && state.founded() {
        return;
    }
    let report = Arc::new(report);
    for voter in listeners(node, report.sequence) {
        if !lock(busy).insert(voter) {
            continue;
        }
        let (node, report, busy) = (node.clone(), report.clone(), busy.clone());
        node.clone().tasks.spawn(async move {
            let asked = node.ask::<_, ReportAnswer>(voter, kind::REPORT, &*report, DEADLINE);
            let answer = tokio::select! {
                answer = asked => answer.ok(),
                () = node.cancel.cancelled() => None,
            };
            lock(&busy).remove(&voter);
            if let Some(answer) = answer {
                learn(&node, &answer);
                node.uplinks.heard(voter, answer.uplinks, std::time::Instant::now());
            }
        });
    }
    let now = std::time::Instant::now();
    if votes(node) {
        node.uplinks.heard(me, crate::uplink::holders(node), now);
    }
    node.uplinks.look(&node.mesh().map(qb_mesh::Mesh::connected).unwrap_or_default(), now);
}

/// Whether this node holds the board.
fn votes(node: &Node) -> bool {
    let raft = node.raft();
    raft.raft_id.is_some_and(|id| raft.voters.contains_key(&id))
}

fn learn(node: &Node, answer: &ReportAnswer) {
    node.note_voter_applied(answer.applied);
    if let Some(mark) = answer.alerts {
        node.watch.hear_of(mark);
    }
    // A voter that is further than this node and knows nothing of its seat: the group goes on
    // without it, and a member that was removed is not told by the log.
    if let Some(mine) = node.raft().raft_id {
        let gone = answer.applied > node.site().applied() && answer.seat != Some(mine);
        node.note_seat(!gone);
    }
    if let Some(mesh) = node.mesh() {
        for (peer, addresses) in crate::member::parse_addresses(&answer.addresses) {
            if peer != node.id() {
                mesh.learn_addresses(peer, addresses);
            }
        }
    }
    if !node.raft().voters.contains_key(&node.raft().raft_id.unwrap_or_default()) {
        let kept = node.keep(|held| {
            take_over(&mut held.voters, &answer.voters);
            held.addresses.clone_from(&answer.addresses);
        });
        if let Err(e) = kept {
            tracing::warn!("membership file: {e}");
        }
        if let Some(consensus) = node.consensus.get() {
            // Who follows the log must know of voters that the log, not followed yet, speaks of.
            consensus.set_voter_hints(node.voters().into_iter().filter(|v| *v != node.id()).collect());
        }
    }
}

/// Takes over who votes, as a member tells it. Who has just started, or follows, may not know yet: nobody
/// is not news.
fn take_over(held: &mut Vec<NodeId>, told: &[NodeId]) {
    if !told.is_empty() {
        *held = told.to_vec();
        held.sort();
    }
}

/// A voter's side: takes a report in and says who is where.
pub fn take(node: &Node, from: NodeId, report: NodeReport) -> Result<ReportAnswer, String> {
    if report.node != from || report.v != 1 {
        return Err("a report speaks for its sender only".into());
    }
    let mut report = crate::text::clean_report(report);
    report.uplinks.truncate(crate::uplink::MAX_RELAYS);
    node.hear(report);
    let state = node.site();
    let mut known = node.mesh().map(qb_mesh::Mesh::addresses).unwrap_or_default();
    known.entry(node.id()).or_default().insert(0, node.mesh_address());
    let addresses = state
        .nodes()
        .keys()
        .filter_map(|n| Some((*n, known.get(n)?.iter().take(2).map(ToString::to_string).collect())))
        .collect();
    let mut voters: Vec<NodeId> = node.raft().voters.values().copied().collect();
    voters.sort();
    let seat = state.node(&from).and_then(|n| n.seat);
    let uplinks = crate::uplink::holders(node);
    let alerts = node.watch.mark();
    Ok(ReportAnswer { addresses, voters, seat, applied: state.applied(), uplinks, alerts })
}

/// The board as this door shows it: its own on a voter, a voter's elsewhere.
pub async fn board(node: &Arc<Node>) -> Board {
    if !votes(node) {
        let leader = node.voters().into_iter().find(|v| *v != node.id());
        if let Some(leader) = leader {
            let asked = Duration::from_secs(2);
            if let Ok(answer) = node.ask::<_, BoardAnswer>(leader, kind::BOARD, &(), asked).await {
                let now = node.site_now();
                let theirs = answer.now;
                node.board().merge(answer.board, |at| Millis(now.0.saturating_sub(theirs.since(at))));
            }
        }
    }
    let state = node.site();
    let mut board = node.board();
    if state.founded() {
        board.retain(|n| state.nodes().contains_key(n) || *n == node.id());
    }
    board.clone()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_an_answer_that_does_not_come_and_it_is_asked_once() {
        let (say, said) = tokio::sync::oneshot::channel::<u8>();
        let mut asked = Asked::default();
        assert_eq!(asked.within(ASK, || tokio::spawn(async { said.await.ok() })).await, None);
        assert!(asked.runs());
        let again = || -> JoinHandle<Option<u8>> { panic!("it was asked already") };
        assert_eq!(asked.within(ASK, again).await, None);
        say.send(7).unwrap();
        assert_eq!(asked.within(ASK, again).await, Some(Some(7)));
        assert!(!asked.runs());
        assert_eq!(asked.within(ASK, || tokio::spawn(async { None })).await, Some(None));
    }

    #[test]
    fn who_knows_no_voter_makes_nobody_forget() {
        let (one, two) = (NodeId([1; 32]), NodeId([2; 32]));
        let mut held = vec![one];
        take_over(&mut held, &[]);
        assert_eq!(held, [one]);
        take_over(&mut held, &[two, one]);
        assert_eq!(held, [one, two]);
    }

    #[test]
    fn whoever_votes_is_told_in_the_end() {
        let members: Vec<NodeId> = (1..=9).map(|n| NodeId([n; 32])).collect();
        let told: BTreeSet<NodeId> = (0..9).flat_map(|sequence| in_turn(members.clone(), sequence)).collect();
        assert_eq!(told.len(), members.len());
        assert!(in_turn(members, 7).len() == MEMBERS && in_turn(Vec::new(), 7).is_empty());
    }
}
