//! Intents at the door: taking them, and saying what became of them.

use std::sync::Arc;
use std::time::Duration;

use qb_model::board::Board;
use qb_model::chain::{AuditKind, AuditRecord};
use qb_model::envelope::Envelope;
use qb_model::intent::Intent;
use qb_model::outcome::Outcome;
use qb_model::plan::why;
use qb_model::sentence;
use qb_model::state::{Applied, SiteState};
use qb_model::{Digest, Millis};
use qb_portal::view::{IntentState, IntentView, Problem, Says};
use tokio::time::Instant;

use crate::found::{self, FoundError};
use crate::node::Node;
use crate::propose;
use crate::rpc::{Propose, ProposeAnswer};

/// How long this door waits until its own copy has what the leader applied.
const CATCH_UP: Duration = Duration::from_secs(5);
/// Pause before a held intent is tried again.
const HELD_AGAIN: Duration = Duration::from_millis(300);
/// Shortest time in which an outcome is waited for.
const LEAST_WAIT: Duration = Duration::from_secs(5);

/// A refusal of the site as the API says it.
fn refused(code: String, detail: String, remedy: Option<String>) -> Problem {
    Problem { code, status: 403, title: "Refused by the site".into(), detail, remedy }
}

/// Takes an intent's envelope and waits for its outcome.
pub async fn submit(node: &Arc<Node>, bytes: Vec<u8>, wait: Duration) -> Result<IntentView, Problem> {
    let parsed = Envelope::parse(&bytes).map_err(|e| {
        let remedy = Some("send what `qb` signs, unchanged".to_owned());
        Problem { status: 400, ..refused("envelope".into(), e.to_string(), remedy) }
    })?;
    let digest = parsed.digest();
    if !node.site().founded() && !*node.admitted.borrow() {
        found::obey(node, &bytes).await.map_err(of_founding)?;
        return of_digest(node, &node.site(), &node.board().clone(), &digest)
            .ok_or_else(|| Problem::internal("the founding intent has no record"));
    }
    let until = Instant::now() + wait.max(LEAST_WAIT);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let what = Propose::Intent(bytes.clone());
        match propose::anywhere(node, &what, left.max(Duration::from_millis(200))).await {
            ProposeAnswer::Applied(answer) => return applied(node, &digest, &answer).await,
            ProposeAnswer::Held(why) if Instant::now() + HELD_AGAIN >= until => {
                return Ok(open(&parsed, digest, IntentState::Held, Some(why)));
            }
            ProposeAnswer::Held(_) => tokio::time::sleep(HELD_AGAIN).await,
            ProposeAnswer::Refused { code, text, remedy } => return Err(refused(code, text, remedy)),
            ProposeAnswer::Unknown => return Ok(open(&parsed, digest, IntentState::Unknown, None)),
            ProposeAnswer::Unavailable(why) => return Err(no_leader(&why)),
            ProposeAnswer::NotLeader(_) => return Err(no_leader("no node leads")),
        }
    }
}

fn no_leader(why: &str) -> Problem {
    Problem::unavailable(
        "the site",
        why,
        "send the same intent again when a majority of voters answers: qb site status",
    )
}

fn of_founding(error: FoundError) -> Problem {
    match error {
        FoundError::Refused { code, text, remedy } => refused(code, text, remedy),
        FoundError::Failed(why) => Problem::unavailable("founding", why, "run the same command again"),
    }
}

async fn applied(node: &Arc<Node>, digest: &Digest, answer: &[u8]) -> Result<IntentView, Problem> {
    let applied: Applied =
        postcard::from_bytes(answer).map_err(|e| Problem::internal(&format!("outcome: {e}")))?;
    match applied {
        Applied::Intent { outcome, index, .. } => {
            node.wait_state(CATCH_UP, |s| s.chain_head().0 >= index).await;
            let state = node.site();
            let board = node.board().clone();
            let mut view = of_digest(node, &state, &board, digest)
                .ok_or_else(|| no_leader("this node has not caught up with the leader"))?;
            view.duplicate = matches!(outcome, Outcome::Duplicate { .. });
            Ok(view)
        }
        Applied::Unsigned(why) => Err(refused("unsigned".into(), why, Some("qb admin list".into()))),
        Applied::Ignored(why) => Err(Problem::unavailable("the site", why, "send the same intent again")),
        Applied::Done | Applied::Token { .. } => {
            Err(Problem::internal("an intent was applied as another command"))
        }
    }
}

/// An intent without outcome.
fn open(envelope: &Envelope, digest: Digest, state: IntentState, detail: Option<String>) -> IntentView {
    let parsed = Intent::parse(envelope.payload()).ok();
    let blank = |text: &str| text.to_owned();
    IntentView {
        v: 1,
        digest,
        id: match &parsed {
            Some(intent) => intent.id.clone(),
            None => "00000000000000000000000000".parse().expect("26 zeros are an intent id"),
        },
        by: match &parsed {
            Some(intent) => intent.by.clone(),
            None => "unknown".parse().expect("it is a name"),
        },
        action: parsed.as_ref().map_or_else(|| blank(""), |i| blank(i.action.name())),
        sentence: String::new(),
        state,
        index: None,
        generation: None,
        reason: None,
        remedy: Some(format!("qb intent show {digest}")),
        detail,
        duplicate: false,
        at: None,
        waiting_on: None,
        says: Some(Says::Site),
        receipt: None,
    }
}

/// What became of an intent, as this node's copy says.
pub fn of_digest(node: &Node, state: &SiteState, board: &Board, digest: &Digest) -> Option<IntentView> {
    let index = state.replay().get(digest).map(|e| e.index);
    let record = match index {
        Some(index) => by_index(state, index),
        None => state.audit().iter().rev().find(|r| r.digest == *digest).map(AsRef::as_ref),
    }?;
    of_record(state, board, record, node.site_now())
}

/// A record of the audit chain by its number: they have no gaps.
pub fn by_index(state: &SiteState, index: u64) -> Option<&AuditRecord> {
    let first = state.audit().first()?.index;
    let at = usize::try_from(index.checked_sub(first)?).ok()?;
    state.audit().get(at).map(AsRef::as_ref)
}

/// The intent that a record holds.
pub fn intent_of(record: &AuditRecord) -> Option<Intent> {
    let envelope = Envelope::parse(&record.body).ok()?;
    Intent::parse(envelope.payload()).ok()
}

/// An intent's record as the API shows it.
pub fn of_record(state: &SiteState, board: &Board, record: &AuditRecord, now: Millis) -> Option<IntentView> {
    if record.kind != AuditKind::Intent {
        return None;
    }
    let intent = intent_of(record)?;
    let live = state.intents().get(&record.digest);
    let (place, reason) = match record.outcome.as_ref()? {
        Outcome::Rejected(reason) => (IntentState::Rejected, Some(reason)),
        Outcome::Pending { .. } => (IntentState::Pending, None),
        _ if live.is_some_and(|l| l.finished.is_none()) => (IntentState::Doing, None),
        _ => (IntentState::Done, None),
    };
    Some(IntentView {
        v: 1,
        digest: record.digest,
        id: intent.id.clone(),
        by: intent.by.clone(),
        action: intent.action.name().to_owned(),
        sentence: sentence::of(&intent.action, state),
        state: place,
        index: Some(record.index),
        generation: match &record.outcome {
            Some(Outcome::Accepted { generation }) => Some(*generation),
            _ => None,
        },
        reason: reason.map(|r| r.code().to_owned()),
        detail: reason.map(ToString::to_string),
        remedy: reason.and_then(qb_model::outcome::Reason::remedy),
        duplicate: false,
        at: Some(record.log_time),
        waiting_on: why::of_intent(state, board, &record.digest, now),
        says: Some(Says::Site),
        receipt: None,
    })
}
