//! The leader's side: has the state signed when it changed and every 30 s, and each new set of voters.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use qb_model::NodeId;
use qb_model::attest::{Ballot, CitedEnvelope, KeySignature, SignedBody, VoterSet};
use qb_model::dsse::Purpose;
use qb_model::state::SiteState;
use qb_model::statement::Statement as _;
use tokio::time::Instant;

use super::sign::{ASK, checkpoint, learn, members, signature};
use crate::events;
use crate::node::Node;
use crate::rpc::{AttestAnswer, AttestRequest, LinkAnswer, LinkRequest, VoterChain, kind};

/// Shortest time between two checkpoints.
const SHORTEST: Duration = Duration::from_secs(1);
/// Longest time between two checkpoints of a site where nothing happens.
const IDLE: Duration = Duration::from_secs(30);
/// Pause after a round that failed, and between looks.
const AGAIN: Duration = Duration::from_millis(500);
/// Deadline of a voter's answer: it may wait for entries.
const DEADLINE: Duration = Duration::from_secs(3);
/// An odd set of voters is signed once it has been so for this long, an even one for longer: it is one
/// on its way, and each link more is one more that must not be lost.
const SETTLED: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(60));
/// Entries ahead of its own state for which the leader asks, one try after the other: under writes the
/// voters have passed the leader's newest state before they hear of it.
const AHEAD: [u64; 3] = [0, 64, 512];
/// How long the leader waits for its own state to come that far; then writes have ended.
const COMES: Duration = Duration::from_millis(300);

/// What the leader remembers between rounds.
#[derive(Default)]
struct Lead {
    /// In which term this node learned the chains of the others.
    learned: Option<u64>,
    /// The last checkpoint: index, number of the set, when.
    last: Option<(u64, u64, Instant)>,
    /// Members that are not those of the last set, and since when.
    seen: Option<(BTreeSet<NodeId>, Instant)>,
}

/// Has the state signed for as long as the agent runs; does nothing while another node leads.
pub async fn run(node: Arc<Node>) {
    let Some(consensus) = node.consensus.get() else { return };
    let mut raft = consensus.metrics();
    let mut state = node.state.clone();
    let mut lead = Lead::default();
    loop {
        let round = async {
            if node.raft().is_leader() && node.site().founded() {
                turn(&node, &mut lead).await;
            } else {
                lead = Lead::default();
            }
        };
        tokio::select! {
            () = round => {}
            () = node.cancel.cancelled() => return,
        }
        let pause = async {
            // Bursts are one change: a look at most twice a second.
            tokio::time::sleep(AGAIN).await;
            tokio::select! {
                changed = state.changed() => changed.is_ok(),
                changed = raft.changed() => changed.is_ok(),
                () = tokio::time::sleep(AGAIN) => true,
            }
        };
        tokio::select! {
            goes_on = pause => if !goes_on { return },
            () = node.cancel.cancelled() => return,
        }
    }
}

async fn turn(node: &Arc<Node>, lead: &mut Lead) {
    let raft = node.raft();
    if lead.learned != Some(raft.term) {
        let others = raft.voters.values().copied().filter(|v| *v != node.id());
        futures::future::join_all(others.map(|v| learn(node, v, false))).await;
        lead.learned = Some(raft.term);
    }
    if node.attest.set().is_none()
        && let Err(why) = begin(node)
    {
        return node.attest.note(Some(why));
    }
    let linked = follow_members(node, lead).await;
    let Some(set) = node.attest.set() else { return };
    let applied = node.site().applied();
    let due = match lead.last {
        None => true,
        Some((index, seq, at)) => {
            let shortest = at.elapsed() >= SHORTEST;
            seq != set.seq || (index != applied && shortest) || at.elapsed() >= IDLE
        }
    };
    if !due {
        return;
    }
    let mut why = String::new();
    for ahead in AHEAD {
        match announce(node, &set, ahead).await {
            Ok(index) => {
                lead.last = Some((index, set.seq, Instant::now()));
                return node.attest.note(linked.err());
            }
            Err(Missed::Past) => "voters apply faster than they can be asked".clone_into(&mut why),
            Err(Missed::Longer(who)) => {
                // Taken now, used in the next round.
                let taken = learn(node, who, true).await;
                return node.attest.note(taken.err());
            }
            Err(Missed::Few(text)) => {
                why = text;
                break;
            }
        }
    }
    node.attest.note(Some(linked.err().map_or(why.clone(), |link| format!("{link}; {why}"))));
}

/// The chain's beginning, from the founding intent in the state.
fn begin(node: &Node) -> Result<(), String> {
    let state = node.site();
    let first = state.audit().first().filter(|r| r.index == 1).map(|r| r.body.clone());
    let live = || state.intents().values().find(|i| i.cites.index == 1).map(|i| i.envelope.clone());
    let founding = first.or_else(live).ok_or("the founding intent is not in the state any more")?;
    let chain = VoterChain { v: 1, founding, links: Vec::new(), roster: Vec::new() };
    node.attest.adopt(chain, false).map(drop).map_err(|e| e.to_string())
}

/// The intents that let nodes in, from the state, else as they were kept.
pub(super) fn roster(state: &SiteState, nodes: &[NodeId], kept: &[CitedEnvelope]) -> Vec<CitedEnvelope> {
    let mut all: Vec<CitedEnvelope> = Vec::new();
    let mut add = |cited: CitedEnvelope| {
        if cited.index != 1 && all.iter().all(|c| c.index != cited.index) {
            all.push(cited);
        }
    };
    let mut missing = false;
    for node in nodes {
        let cites = state.node(node).map(|n| n.authorized.digest);
        match cites.and_then(|digest| state.intents().get(&digest)) {
            Some(live) => add(CitedEnvelope {
                index: live.cites.index,
                log_time: live.at,
                envelope: live.envelope.clone(),
            }),
            None => missing = true,
        }
    }
    if missing {
        kept.iter().cloned().for_each(&mut add);
    }
    all.truncate(qb_model::limits::ATTESTED_INTENTS);
    all
}

/// Has a new set of voters signed by the one before.
async fn follow_members(node: &Arc<Node>, lead: &mut Lead) -> Result<(), String> {
    let (Some(reached), Some(seen)) = (node.attest.reached(), members(&node.raft())) else { return Ok(()) };
    let set = &reached.set;
    if seen.iter().eq(&set.nodes) {
        lead.seen = None;
        return Ok(());
    }
    let since = match &lead.seen {
        Some((before, since)) if *before == seen => *since,
        _ => lead.seen.insert((seen.clone(), Instant::now())).1,
    };
    let settled = if seen.len() % 2 == 1 { SETTLED.0 } else { SETTLED.1 };
    if since.elapsed() < settled {
        return Ok(());
    }
    let body = set.link_to(&seen).to_body();
    let mut signatures = Vec::new();
    let mut refusals = Vec::new();
    if set.nodes.contains(&node.id()) {
        signatures.push(signature(node, Purpose::Voters, &body));
    }
    let others = set.nodes.iter().copied().filter(|v| *v != node.id());
    let asks = others.map(|to| {
        let request = LinkRequest { body: body.clone() };
        async move { (to, node.ask::<_, LinkAnswer>(to, kind::LINK, &request, DEADLINE).await) }
    });
    for (who, answer) in futures::future::join_all(asks).await {
        match answer {
            Ok(LinkAnswer::Signed(sig)) => signatures.push(sig),
            Ok(LinkAnswer::Longer) => learn(node, who, true).await?,
            Ok(LinkAnswer::Refused(why)) => refusals.push(format!("{}: {why}", host(node, &who))),
            Err(_) => refusals.push(format!("{} does not answer", host(node, &who))),
        }
    }
    let link = SignedBody { body, signatures };
    let state = node.site();
    let nodes: Vec<NodeId> = seen.iter().copied().collect();
    let roster = roster(&state, &nodes, &reached.chain.roster);
    node.attest.append(link, roster).map(drop).map_err(|e| {
        format!("the voters changed and the set before has not signed it: {e} ({})", refusals.join(", "))
    })
}

fn host(node: &Node, id: &NodeId) -> String {
    let known = node.site().node(id).map(|n| n.host.to_string());
    known.unwrap_or_else(|| qb_model::words::fingerprint(&id.0))
}

/// Why there is no checkpoint.
enum Missed {
    /// Voters were past the index.
    Past,
    /// A voter has a longer chain.
    Longer(NodeId),
    /// Too few signed.
    Few(String),
}

/// Has the set sign the state, `ahead` entries from now. Returns the index that it signed.
async fn announce(node: &Arc<Node>, set: &VoterSet, ahead: u64) -> Result<u64, Missed> {
    let few = |why: &str| Missed::Few(why.to_owned());
    let target = node.site().applied() + ahead;
    let mut request = AttestRequest {
        index: target,
        term: node.raft().term,
        at: events::now(),
        seq: set.seq,
        voters: set.digest,
        last: node.attest.checkpoint(),
    };
    let others: Vec<NodeId> = set.nodes.iter().copied().filter(|v| *v != node.id()).collect();
    let asks: FuturesUnordered<_> =
        if ahead == 0 { FuturesUnordered::new() } else { ask(node, &others, &request) };
    let state = match node.attest.captures.at(target, || node.site(), COMES).await {
        Ok(state) => state,
        Err(_) => node.site(),
    };
    let on_target = state.applied() == target;
    request.index = state.applied();
    let own = checkpoint(state, &request).await.ok_or_else(|| few("hashing the state was cut short"))?;
    // Where the log stopped short of the target, others are asked for the state as it is here.
    let mut asks = if ahead > 0 && on_target { asks } else { ask(node, &others, &request) };
    let body = own.to_body();
    let mut signatures: Vec<KeySignature> = Vec::new();
    if set.nodes.contains(&node.id()) {
        signatures.push(signature(node, Purpose::Checkpoint, &body));
    }
    let mut signed = SignedBody { body, signatures };
    let mut refusals = Vec::new();
    let mut past = false;
    loop {
        let ballot = Ballot::count(Purpose::Checkpoint, &signed, &set.nodes);
        if ballot.is_majority() {
            node.attest.keep(signed);
            return Ok(own.index);
        }
        let Some((who, answer)) = asks.next().await else {
            return Err(if past {
                Missed::Past
            } else {
                Missed::Few(format!("{ballot} ({})", refusals.join(", ")))
            });
        };
        match answer {
            Ok(AttestAnswer::Signed { state_hash, .. }) if state_hash != own.state_hash => {
                let host = host(node, &who);
                tracing::error!(index = own.index, %host, "a voter has another state at the same index");
                refusals.push(format!("{host} has another state"));
            }
            Ok(AttestAnswer::Signed { sig, .. }) => signed.signatures.push(sig),
            Ok(AttestAnswer::Past(_)) => past = true,
            Ok(AttestAnswer::Longer) => return Err(Missed::Longer(who)),
            Ok(AttestAnswer::Refused(why)) => refusals.push(format!("{}: {why}", host(node, &who))),
            Err(_) => refusals.push(format!("{} does not answer", host(node, &who))),
        }
    }
}

type Asked<'a> = futures::future::BoxFuture<'a, (NodeId, Result<AttestAnswer, crate::node::AskError>)>;

fn ask<'a>(node: &'a Arc<Node>, others: &[NodeId], request: &AttestRequest) -> FuturesUnordered<Asked<'a>> {
    let one = |to: &NodeId| -> Asked<'a> {
        let (to, request) = (*to, request.clone());
        Box::pin(async move { (to, node.ask(to, kind::ATTEST, &request, DEADLINE.max(ASK)).await) })
    };
    others.iter().map(one).collect()
}
