//! Getting a signed thing into the log, from any node: to the leader, wherever it is, again and
//! again until it has an outcome or the deadline. Safe to repeat: intents are told apart by the
//! digest of their signed bytes, node commands by their number.

use std::sync::Arc;
use std::time::Duration;

use qb_consensus::ProposeError;
use qb_model::NodeId;
use qb_model::action::Action;
use qb_model::command::{Command, Entry};
use qb_model::intent::ObjectRef;
use qb_model::judge::Verdict;
use qb_model::outcome::{Outcome, Reason};
use qb_model::plan::release;
use qb_model::state::Applied;
use tokio::time::Instant;

use crate::events;
use crate::node::Node;
use crate::rpc::{Propose, ProposeAnswer, kind};

/// How long one try may take.
const TRY: Duration = Duration::from_secs(4);
/// Pause between tries.
const PAUSE: Duration = Duration::from_millis(40);

/// Puts a command into the log on this node, which leads.
pub async fn here(node: &Node, command: Command, deadline: Duration) -> ProposeAnswer {
    let Some(consensus) = node.consensus.get() else {
        return ProposeAnswer::Unavailable("consensus is not up yet".into());
    };
    let stamp = node.site_now();
    let bytes = match (Entry { stamp, command }).encode() {
        Ok(bytes) => bytes,
        Err(e) => return refused("too_large", e.to_string(), None),
    };
    match consensus.propose(bytes, deadline).await {
        Ok(outcome) => ProposeAnswer::Applied(outcome),
        Err(ProposeError::NotLeader { leader }) => ProposeAnswer::NotLeader(leader),
        Err(ProposeError::Unknown) => ProposeAnswer::Unknown,
        Err(e @ ProposeError::Unavailable) => ProposeAnswer::Unavailable(e.to_string()),
        Err(e @ ProposeError::TooLarge(_)) => refused("too_large", e.to_string(), None),
    }
}

fn refused(code: &str, text: String, remedy: Option<String>) -> ProposeAnswer {
    ProposeAnswer::Refused { code: code.to_owned(), text, remedy }
}

/// The leader's door: judges first, so that nothing unsigned enters the log.
pub async fn at_leader(node: &Node, what: Propose, deadline: Duration) -> ProposeAnswer {
    let raft = node.raft();
    if !raft.is_leader() {
        return ProposeAnswer::NotLeader(raft.leader.filter(|l| *l != node.id()));
    }
    match what {
        Propose::Node(bytes) => here(node, Command::Node(bytes), deadline).await,
        Propose::Token(envelope) => token_at_leader(node, envelope, deadline).await,
        Propose::Intent(envelope) => match node.site().judge_at(&envelope, node.site_now()) {
            Verdict::Refused(refusal) => {
                refused(refusal.code(), refusal.to_string(), remedy_of_refusal(refusal.code()))
            }
            Verdict::Hold { reason, .. } => ProposeAnswer::Held(reason.to_string()),
            Verdict::Pending { have, need, .. } => refused(
                "pending",
                format!("{have} of {need} owners signed, and this site keeps no open signatures yet"),
                Some("sign with one owner: policy owners_needed is 1 at this feature level".into()),
            ),
            Verdict::Duplicate { digest, outcome, index } => {
                let outcome = Outcome::Duplicate { first: Box::new(outcome), index };
                let applied = Applied::Intent { digest, outcome, index };
                ProposeAnswer::Applied(postcard::to_stdvec(&applied).unwrap_or_default())
            }
            Verdict::Pass(verified) => match unwise(node, &verified.intent().action) {
                Some(reason) => refused(reason.code(), reason.to_string(), reason.remedy()),
                None => here(node, Command::Intent(envelope), deadline).await,
            },
            Verdict::Rejected { .. } => here(node, Command::Intent(envelope), deadline).await,
        },
    }
}

/// What a leader sees and the log cannot know: who answers. Refused here it leaves no trace, and the same
/// bytes may be sent again.
fn unwise(node: &Node, action: &Action) -> Option<Reason> {
    let Action::ClusterDetach { cluster, nodes } = action else { return None };
    let board = node.board().clone();
    release::detaches(&node.site(), &board, cluster, nodes, node.site_now()).err()
}

/// A use of a join token: what lets nobody in, or one who is in, enters no log.
async fn token_at_leader(node: &Node, envelope: Vec<u8>, deadline: Duration) -> ProposeAnswer {
    let state = node.site();
    let entry = match qb_model::token::Entry::open(&envelope) {
        Ok(entry) => entry,
        Err(why) => return refused("token_invalid", why.to_string(), Some("qb token mint".into())),
    };
    let applied = match state.judge_token(&entry, node.site_now()) {
        Ok(Some(_)) => return here(node, Command::TokenUse(envelope), deadline).await,
        Ok(None) => {
            let index = state.node(&entry.node()).map_or(0, |n| n.authorized.index);
            let first =
                Box::new(Outcome::Accepted { generation: state.generation(&ObjectRef::Node(entry.node())) });
            Applied::Token { outcome: Outcome::Duplicate { first, index }, index }
        }
        Err(reason) => Applied::Token { outcome: Outcome::Rejected(reason), index: 0 },
    };
    ProposeAnswer::Applied(postcard::to_stdvec(&applied).unwrap_or_default())
}

fn remedy_of_refusal(code: &str) -> Option<String> {
    let text = match code {
        "unsigned" | "not_by_author" => "sign with a key of a current admin: qb admin list",
        "envelope" | "malformed" | "payload_type" => "send what `qb` signs, unchanged",
        _ => return None,
    };
    Some(text.to_owned())
}

/// Finds the leader and proposes there, until there is an outcome or `deadline` has passed.
pub async fn anywhere(node: &Arc<Node>, what: &Propose, deadline: Duration) -> ProposeAnswer {
    let until = Instant::now() + deadline;
    let mut hint: Option<NodeId> = None;
    let mut unknown = false;
    let mut last = ProposeAnswer::Unavailable("the site has no leader".into());
    while Instant::now() < until {
        let left = until.saturating_duration_since(Instant::now()).min(TRY);
        let answer = match target(node, hint.take()) {
            None => ProposeAnswer::Unavailable("the site has no leader".into()),
            Some(to) if to == node.id() => at_leader(node, what.clone(), left).await,
            Some(to) => match node.ask(to, kind::PROPOSE, what, left).await {
                Ok(answer) => answer,
                Err(e) => ProposeAnswer::Unavailable(e.to_string()),
            },
        };
        match answer {
            ProposeAnswer::NotLeader(leader) => hint = leader,
            ProposeAnswer::Unknown => unknown = true,
            ProposeAnswer::Unavailable(_) => last = answer,
            ProposeAnswer::Held(_) => return answer,
            settled => return first_time(settled, unknown),
        }
        tokio::time::sleep(PAUSE).await;
    }
    if unknown { ProposeAnswer::Unknown } else { last }
}

/// After a try of unknown outcome, a duplicate is that very try: its outcome is the first one.
fn first_time(answer: ProposeAnswer, unknown: bool) -> ProposeAnswer {
    let ProposeAnswer::Applied(bytes) = &answer else { return answer };
    if !unknown {
        return answer;
    }
    match postcard::from_bytes(bytes) {
        Ok(Applied::Intent { digest, outcome: Outcome::Duplicate { first, index }, .. }) => {
            let applied = Applied::Intent { digest, outcome: *first, index };
            ProposeAnswer::Applied(postcard::to_stdvec(&applied).unwrap_or_default())
        }
        _ => answer,
    }
}

/// Who to ask for the leader's word: the leader, or a voter that may know it.
pub(crate) fn target(node: &Node, hint: Option<NodeId>) -> Option<NodeId> {
    let raft = node.raft();
    if raft.is_leader() {
        return Some(node.id());
    }
    let me = node.id();
    hint.or(raft.leader)
        .or_else(|| {
            // No leader known: any voter may know more; another one each time.
            let voters: Vec<NodeId> = node.voters().into_iter().filter(|v| *v != me).collect();
            let at = events::now().0 as usize / 50;
            voters.get(at % voters.len().max(1)).copied()
        })
        .filter(|to| *to != me)
}
