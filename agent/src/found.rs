//! Founding: a node that holds no state and is named by a founder's intent becomes the site's first
//! voter. One founding intent per node, for ever; a founding that was cut short goes on.

use std::sync::Arc;
use std::time::Duration;

use qb_model::RaftId;
use qb_model::action::Action;
use qb_model::command::{Command, Found};
use qb_model::judge::Verdict;
use qb_model::state::FOUNDER_SEAT;
use tokio::time::Instant;

use crate::node::Node;
use crate::propose;
use crate::rpc::ProposeAnswer;

/// How long the first election and entry may take.
const DEADLINE: Duration = Duration::from_secs(15);
/// Pause between looks whether this node leads.
const PAUSE: Duration = Duration::from_millis(20);

/// Why a founding intent was not obeyed.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// It does not pass.
    #[error("{text}")]
    Refused {
        /// Stable code.
        code: String,
        /// The sentence.
        text: String,
        /// What to do.
        remedy: Option<String>,
    },
    /// The group could not be made.
    #[error("the site was not founded: {0}; sending the same intent again goes on")]
    Failed(String),
}

fn refused(code: &str, text: impl Into<String>, remedy: &str) -> FoundError {
    FoundError::Refused { code: code.into(), text: text.into(), remedy: Some(remedy.into()) }
}

/// Obeys a founding intent.
pub async fn obey(node: &Arc<Node>, envelope: &[u8]) -> Result<(), FoundError> {
    check(node, envelope)?;
    // On disk before anything else: after this no other founding intent is obeyed here.
    node.keep(|held| held.founding = Some(envelope.to_vec()))
        .map_err(|e| FoundError::Failed(e.to_string()))?;
    go_on(node).await
}

fn check(node: &Node, envelope: &[u8]) -> Result<(), FoundError> {
    let held = node.membership();
    if held.admit.is_some() {
        return Err(refused(
            "already_member",
            "this node was let into the founded site already",
            "qb site status",
        ));
    }
    if let Some(at) = node.founded_elsewhere() {
        let text =
            format!("the site is founded already: a member answers at {at}, and this node is not let in yet");
        return Err(refused(
            "not_a_member",
            text,
            "use the door of a member: qb --door https://ADDRESS:8443",
        ));
    }
    if held.founding.as_deref().is_some_and(|f| f != envelope) {
        return Err(refused(
            "already_founded",
            "this node obeys another founding intent already",
            "qb site status; a site is founded once",
        ));
    }
    match node.site().judge(envelope) {
        Verdict::Pass(verified) => match &verified.intent().action {
            Action::SiteFound { nodes } if nodes.len() != 1 => Err(refused(
                "one_founder",
                format!("{} founding nodes are named, this agent founds with one", nodes.len()),
                "name one node; the group grows by itself as nodes are authorized",
            )),
            Action::SiteFound { nodes } if nodes[0].node == node.id() => Ok(()),
            Action::SiteFound { nodes } => Err(refused(
                "other_node",
                format!("the founding intent names {}, this is {}", nodes[0].host, node.facts().host),
                "send it to the door of the node that it names: qb --door",
            )),
            other => Err(refused(
                "not_founded",
                format!("the site is not founded yet, so {} cannot be ordered", other.name()),
                "qb node authorize --waiting founds it",
            )),
        },
        Verdict::Refused(refusal) => Err(FoundError::Refused {
            code: refusal.code().to_owned(),
            text: refusal.to_string(),
            remedy: Some("sign with a founder's key of the charter".into()),
        }),
        Verdict::Rejected { reason, .. } | Verdict::Hold { reason, .. } => Err(FoundError::Refused {
            code: reason.code().to_owned(),
            text: reason.to_string(),
            remedy: reason.remedy(),
        }),
        other => Err(FoundError::Failed(format!("{other:?}"))),
    }
}

/// Makes the group of one and puts charter and founding intent into its log.
pub async fn go_on(node: &Arc<Node>) -> Result<(), FoundError> {
    let Some(envelope) = node.membership().founding else { return Ok(()) };
    let failed = |e: String| FoundError::Failed(e);
    let consensus = node.consensus.get().ok_or_else(|| failed("consensus is not up yet".into()))?;
    if !node.site().founded() {
        consensus.found(RaftId(FOUNDER_SEAT)).await.map_err(|e| failed(e.to_string()))?;
    }
    let found = Found { charter: node.enrolment.charter.clone(), envelope };
    let until = Instant::now() + DEADLINE;
    while !node.site().founded() {
        if Instant::now() > until {
            return Err(failed("no entry could be written within 15 s".into()));
        }
        if node.raft().is_leader() {
            let answer = propose::here(node, Command::Found(found.clone()), DEADLINE).await;
            if let ProposeAnswer::Refused { text, .. } = answer {
                return Err(failed(text));
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    node.admitted.send_replace(true);
    Ok(())
}
