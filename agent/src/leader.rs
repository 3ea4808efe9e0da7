//! The leader's loop: asks the planner what comes next and does it. Nothing is decided here, and
//! whatever is proposed is judged again by every replica.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use qb_consensus::Consensus;
use qb_model::action::PlacedNode;
use qb_model::command::{Command, PreflightDone};
use qb_model::plan::upgrade::{self, Move, Scene};
use qb_model::plan::{self, Effect};
use qb_model::state::{AgentUpgrade, Applied, SiteState};
use qb_model::statement::{Clock, Statement as _};
use qb_model::{Digest, Millis, NodeId};
use tokio::task::JoinSet;

use crate::events;
use crate::node::Node;
use crate::propose;
use crate::rpc::{ProposeAnswer, Release, kind};
use crate::{releasing, seats};

/// How often the planner runs when nothing changes: what waits for time to pass.
const IDLE: Duration = Duration::from_millis(500);
/// Deadline of one proposal.
const DEADLINE: Duration = Duration::from_secs(4);
/// Most findings that are proposed: the state keeps no more.
const MAX_FINDINGS: usize = 64;

/// Pause before a control plane node is asked again whether it takes another one out.
const RELEASE_AGAIN: Duration = Duration::from_secs(2);
/// Deadline of that question: the node may have to catch up with the log first.
const RELEASE: Duration = Duration::from_secs(8);

/// What is under way: preflights by attach intent, and nodes that are being taken out.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Job {
    Preflight(Digest),
    Release(NodeId),
}

/// Jobs that are under way.
type Running = Arc<Mutex<BTreeSet<Job>>>;

/// Plans for as long as the agent runs; does nothing while another node leads.
pub async fn run(node: Arc<Node>) {
    let Some(consensus) = node.consensus.get() else { return };
    let mut raft = consensus.metrics();
    let mut state = node.state.clone();
    let running = Running::default();
    let mut jobs = JoinSet::new();
    let mut lead = None;
    loop {
        let view = node.raft();
        // Since when this node leads in this term: what it heard before says nothing of who is late.
        lead = view.is_leader().then(|| match lead {
            Some((term, since)) if term == view.term => (term, since),
            _ => (view.term, events::now()),
        });
        if let Some((_, since)) = lead {
            let mut changed = turn(&node, &running, &mut jobs).await;
            changed |= upgrade_agents(&node, consensus, since).await;
            seats::turn(&node).await;
            if changed {
                // What was proposed is applied by now: look again at once.
                continue;
            }
        }
        while jobs.try_join_next().is_some() {}
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            changed = raft.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(IDLE) => {}
            () = node.cancel.cancelled() => return,
        }
    }
}

/// One round of the planner. True if something was applied.
async fn turn(node: &Arc<Node>, running: &Running, jobs: &mut JoinSet<()>) -> bool {
    let state = node.site();
    let board = node.board().clone();
    let mut changed = false;
    for effect in plan::next(&state, &board, node.site_now()) {
        match effect {
            Effect::Propose(command) => changed |= propose(node, command).await,
            Effect::Preflight { cluster, intent, nodes } => {
                let node = node.clone();
                once(running, jobs, Job::Preflight(intent), async move {
                    check(&node, cluster, intent, nodes).await;
                });
            }
            Effect::Release { cluster, node: leaving, by } => {
                let node = node.clone();
                once(running, jobs, Job::Release(leaving), async move {
                    release(&node, by, Release { cluster, node: leaving }).await;
                });
            }
        }
    }
    changed | tick(node, &state).await
}

/// Does something beside the planner, unless it is being done.
fn once(
    running: &Running,
    jobs: &mut JoinSet<()>,
    job: Job,
    work: impl Future<Output = ()> + Send + 'static,
) {
    if !running.lock().is_ok_and(|mut r| r.insert(job.clone())) {
        return;
    }
    let running = running.clone();
    jobs.spawn(async move {
        work.await;
        if let Ok(mut running) = running.lock() {
            running.remove(&job);
        }
    });
}

/// Asks a control plane node to take another one out of its cluster; what it does then, it says itself.
async fn release(node: &Arc<Node>, by: NodeId, asked: Release) {
    let leaving = asked.node;
    let begun = if by == node.id() {
        releasing::ask(node, asked).await
    } else {
        node.ask::<_, ()>(by, kind::RELEASE, &asked, RELEASE).await.map_err(|e| e.to_string())
    };
    if let Err(why) = begun {
        tracing::debug!(%by, node = %leaving, "taking a node out: {why}");
    }
    tokio::select! {
        () = tokio::time::sleep(RELEASE_AGAIN) => {}
        () = node.cancel.cancelled() => {}
    }
}

/// One round of the upgrade of agents. True if something was applied.
async fn upgrade_agents(node: &Arc<Node>, consensus: &Consensus, watching: Millis) -> bool {
    let (state, raft) = (node.site(), node.raft());
    if !state.agent_upgrade().is_some_and(AgentUpgrade::rolling) {
        return false;
    }
    let board = node.board().clone();
    let voters = raft.voters.values().copied().collect();
    let scene = Scene {
        state: &state,
        board: &board,
        leader: Some(node.id()),
        voters: &voters,
        changing: raft.joint,
        watching,
        now: state.log_time().max(events::now()),
    };
    let mut changed = false;
    for step in upgrade::next(&scene) {
        match step {
            Move::Propose(command) => changed |= propose(node, command).await,
            Move::HandOver { to } => {
                let seat = raft.voters.iter().find(|(_, voter)| **voter == to).map(|(seat, _)| *seat);
                let Some(seat) = seat else { continue };
                if let Err(e) = consensus.transfer_leader(seat).await {
                    tracing::debug!(%to, "handing the lead over before the upgrade of this agent: {e}");
                }
            }
        }
    }
    changed
}

/// Proposes a command as the leader. True if it took effect.
pub async fn propose(node: &Arc<Node>, command: Command) -> bool {
    let shown = format!("{command:?}");
    match propose::here(node, command, DEADLINE).await {
        ProposeAnswer::Applied(bytes) => match postcard::from_bytes::<Applied>(&bytes) {
            Ok(Applied::Done) => true,
            Ok(Applied::Ignored(why)) => {
                tracing::warn!("the state ignored {}: {why}", short(&shown));
                false
            }
            _ => false,
        },
        // Lost the lead, or no quorum: whoever leads next plans again.
        other => {
            tracing::debug!("proposing {}: {other:?}", short(&shown));
            false
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(200).collect()
}

async fn check(node: &Arc<Node>, cluster: qb_model::Name, intent: Digest, nodes: Vec<qb_model::NodeId>) {
    let state = node.site();
    let Some(held) = state.cluster(&cluster) else { return };
    let Some(driver) = qb_drivers::driver(&held.driver) else {
        tracing::error!(driver = %held.driver, "this agent has no such driver");
        return;
    };
    let placed: Vec<PlacedNode> = nodes
        .iter()
        .filter_map(|n| Some(PlacedNode { node: *n, role: state.node(n)?.phase.role()? }))
        .collect();
    let run = crate::preflight::run(node, driver, &placed, Some(&cluster)).await;
    let text = format!(
        "preflight of {} hosts, {} probes in {} ms: {} findings",
        run.hosts,
        run.probes,
        run.took.as_millis(),
        run.findings.len()
    );
    node.events.say(events::now(), "cluster", cluster.as_str(), text);
    let mut findings = run.findings;
    findings.truncate(MAX_FINDINGS);
    propose(node, Command::Preflight(PreflightDone { cluster, intent, findings })).await;
}

/// Gives an idle site a fresh anchor, once an hour.
async fn tick(node: &Arc<Node>, state: &SiteState) -> bool {
    let now = node.site_now();
    let newest = qb_model::chain::Head {
        index: state.chain_head().0,
        hash: state.chain_head().1,
        log_time: state.newest_head_time(),
    };
    if !state.founded() || !newest.is_idle(now) {
        return false;
    }
    let clock = Clock {
        v: 1,
        site: state.site(),
        epoch: state.epoch(),
        node: node.id(),
        ms: now,
        previous_tick: newest.index,
    };
    let stamp = clock.sign(&node.identity.key).to_bytes();
    propose(node, Command::Tick(postcard::to_stdvec(&vec![stamp]).unwrap_or_default())).await
}
