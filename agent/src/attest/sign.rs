//! A voter's side: signs its own state at the index that the leader names, and the members that it sees
//! itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use qb_consensus::RaftView;
use qb_model::NodeId;
use qb_model::attest::KeySignature;
use qb_model::dsse::{Purpose, Signer};
use qb_model::key::Signature;
use qb_model::limits::ATTEST_CLOCK_MS;
use qb_model::state::SiteState;
use qb_model::statement::{Checkpoint, Statement as _};

use crate::events;
use crate::node::Node;
use crate::rpc::{AttestAnswer, AttestRequest, LinkAnswer, LinkRequest, ProofAnswer, ProofRequest, kind};

/// How long a voter that is behind waits until it has applied what it is asked to sign.
const CATCH_UP: Duration = Duration::from_millis(1_500);
/// Deadline of a question for a chain.
pub(super) const ASK: Duration = Duration::from_secs(2);
/// Pause between looks whether this node sees the members that it is asked to sign.
const LOOK: Duration = Duration::from_millis(50);

/// The members that vote, if no change is under way.
pub(super) fn members(raft: &RaftView) -> Option<BTreeSet<NodeId>> {
    (!raft.joint && !raft.voters.is_empty()).then(|| raft.voters.values().copied().collect())
}

pub(super) fn signature(node: &Node, purpose: Purpose, body: &[u8]) -> KeySignature {
    let key = &node.identity.key;
    KeySignature { key: key.public_key(), sig: Signature(key.sign(purpose, body)) }
}

/// The checkpoint of a state as it is asked for. The hash is made on a thread for blocking work: it is
/// milliseconds in a site of a thousand nodes.
pub(super) async fn checkpoint(state: Arc<SiteState>, asked: &AttestRequest) -> Option<Checkpoint> {
    let asked = asked.clone();
    let make = move || Checkpoint {
        v: 1,
        site: state.site(),
        epoch: state.epoch(),
        index: state.applied(),
        term: asked.term,
        log_time: state.log_time().max(asked.at),
        chain_head: state.chain_head().1,
        trust_head: state.trust().head(),
        state_hash: state.digest(),
        voters_seq: asked.seq,
    };
    tokio::task::spawn_blocking(make).await.ok()
}

/// Takes the chain of another member, if it is longer. `preferred`: see [`super::Attest::adopt`].
pub(super) async fn learn(node: &Node, from: NodeId, preferred: bool) -> Result<(), String> {
    let voters = node.attest.set().map(|s| s.digest);
    let answer: ProofAnswer =
        node.ask(from, kind::PROOF, &ProofRequest { voters }, ASK).await.map_err(|e| e.to_string())?;
    if let Some(chain) = answer.chain {
        node.attest.adopt(chain, preferred).map_err(|e| e.to_string())?;
    }
    if let Some(checkpoint) = answer.checkpoint {
        node.attest.keep(checkpoint);
    }
    Ok(())
}

/// Answers the leader that asks for a signature over the state at an index.
pub async fn sign_state(node: &Arc<Node>, from: NodeId, asked: AttestRequest) -> AttestAnswer {
    match try_sign(node, from, asked).await {
        Ok(answer) => answer,
        Err(why) => AttestAnswer::Refused(why),
    }
}

async fn try_sign(node: &Arc<Node>, from: NodeId, asked: AttestRequest) -> Result<AttestAnswer, String> {
    let raft = node.raft();
    if raft.leader != Some(from) || raft.term != asked.term {
        return Err("another node leads here".into());
    }
    let apart = events::now().0.abs_diff(asked.at.0);
    if apart > ATTEST_CLOCK_MS {
        return Err(format!("its clock and the leader's are {} s apart", apart / 1_000));
    }
    if node.attest.set().is_some_and(|s| s.seq > asked.seq) {
        return Ok(AttestAnswer::Longer);
    }
    if node.attest.set().is_none_or(|s| s.digest != asked.voters) {
        learn(node, from, true).await?;
    }
    let set = node.attest.set().filter(|s| s.digest == asked.voters);
    let set = set.ok_or("the leader's chain of voters does not lead to the set that it names")?;
    if !set.nodes.contains(&node.id()) {
        return Err("it is not in the set of voters".into());
    }
    if let Some(last) = asked.last.clone() {
        node.attest.keep(last);
    }
    let state = match node.attest.captures.at(asked.index, || node.site(), CATCH_UP).await {
        Ok(state) => state,
        Err(applied) if applied > asked.index => return Ok(AttestAnswer::Past(applied)),
        Err(applied) => return Err(format!("it has applied {applied} of {}", asked.index)),
    };
    let mine = checkpoint(state, &asked).await.ok_or("hashing the state was cut short")?;
    node.attest.note(None);
    let sig = signature(node, Purpose::Checkpoint, &mine.to_body());
    Ok(AttestAnswer::Signed { state_hash: mine.state_hash, sig })
}

/// Answers the leader that asks for a signature over the next set of voters.
pub async fn sign_link(node: &Arc<Node>, from: NodeId, asked: LinkRequest) -> LinkAnswer {
    match try_link(node, from, &asked.body).await {
        Ok(answer) => answer,
        Err(why) => LinkAnswer::Refused(why),
    }
}

async fn try_link(node: &Arc<Node>, from: NodeId, body: &[u8]) -> Result<LinkAnswer, String> {
    if node.raft().leader != Some(from) {
        return Err("another node leads here".into());
    }
    let follows =
        |node: &Node| node.attest.set().and_then(|set| set.follow(body).ok().map(|next| (set, next)));
    if follows(node).is_none() {
        learn(node, from, true).await?;
    }
    let Some((set, next)) = follows(node) else { return Ok(LinkAnswer::Longer) };
    if !set.nodes.contains(&node.id()) {
        return Err("it is not in the set of voters".into());
    }
    // The members that this node sees itself, once it has heard of the change.
    let until = tokio::time::Instant::now() + CATCH_UP;
    loop {
        match members(&node.raft()) {
            Some(seen) if seen.iter().eq(&next.nodes) => break,
            _ if tokio::time::Instant::now() > until => return Err("it sees other members".into()),
            _ => tokio::time::sleep(LOOK).await,
        }
    }
    // Its own words: the same bytes, or they would not follow and would not re-encode.
    let own = set.link_to(&next.nodes.iter().copied().collect()).to_body();
    Ok(LinkAnswer::Signed(signature(node, Purpose::Voters, &own)))
}
