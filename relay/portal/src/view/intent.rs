//! What became of an intent, and what one would do: plan and preflight.

use qb_model::action::NodeRole;
use qb_model::outcome::Outcome;
use qb_model::preflight::Finding;
use qb_model::waiting::WaitingOn;
use qb_model::{Digest, Generation, HostName, IntentId, Millis, Name, NodeId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::mirror;
use crate::view::Head;
use crate::view::Problem;

/// What became of an intent, as a site-side door knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum IntentState {
    /// Held: waits for its time or for an earlier intent.
    Held,
    /// Waits for signatures.
    Pending,
    /// In force, what it ordered is not finished.
    Doing,
    /// In force and finished.
    Done,
    /// Rejected, for good.
    Rejected,
    /// Sent, outcome unknown: ask again by its digest.
    Unknown,
}

/// Whose word a view of an intent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Says {
    /// The site's: a node of it answers, or `receipt` is there to be verified.
    Site,
    /// The relay's: nothing that the site signed bears it out.
    Relay,
}

/// An intent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IntentView {
    /// Version of this document: 1.
    pub v: u8,
    /// SHA-256 of its signed bytes: its identity.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Its label.
    #[schema(value_type = String)]
    pub id: IntentId,
    /// Who signed it.
    #[schema(value_type = String)]
    pub by: Name,
    /// The action's name.
    pub action: String,
    /// A sentence: "attach 3 nodes to clus100".
    pub sentence: String,
    /// Where it is.
    pub state: IntentState,
    /// Log index of its outcome.
    pub index: Option<u64>,
    /// Generation that its object has by it.
    #[schema(value_type = Option<u64>)]
    pub generation: Option<Generation>,
    /// Rejected: stable code.
    pub reason: Option<String>,
    /// Rejected: the sentence.
    pub detail: Option<String>,
    /// What to do.
    pub remedy: Option<String>,
    /// True if this very intent had been sent before; the outcome is the first one.
    pub duplicate: bool,
    /// When it was applied, by log time.
    #[schema(value_type = Option<u64>)]
    pub at: Option<Millis>,
    /// Why nothing happens.
    #[schema(value_type = Option<mirror::WaitingOn>)]
    pub waiting_on: Option<WaitingOn>,
    /// Whose word this is. Doors that are older than this field leave it out: then it is the word of
    /// whoever answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<Says>,
    /// Relay: the receipt that a node of the site signed, base64 of its signed bytes. A reader
    /// verifies it against the roster before it believes `state`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
}

/// A question to the planner: what would this intent do? Unsigned; changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// The intent's payload, as it would be signed (JSON text).
    pub payload: String,
}

/// A node in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedNode {
    /// The node.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// Its name.
    #[schema(value_type = String)]
    pub host: HostName,
    /// Its role.
    #[schema(value_type = Option<mirror::NodeRole>)]
    pub role: Option<NodeRole>,
    /// Whether it initializes the cluster.
    pub first: bool,
    /// Its zone.
    pub zone: String,
    /// Stages with their steps' titles.
    pub stages: Vec<PlannedStage>,
}

/// A stage in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedStage {
    /// prepare, initialize, join, leave.
    pub word: String,
    /// Steps in order.
    pub steps: Vec<String>,
}

/// What an intent would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanView {
    /// Version of this document: 1.
    pub v: u8,
    /// A sentence: "attach 3 nodes to clus100".
    pub sentence: String,
    /// What changes: `~ cluster clus100  empty > ready`, one a line.
    pub changes: Vec<String>,
    /// Nodes and their steps.
    pub nodes: Vec<PlannedNode>,
    /// True if a rehearsal driver would run it.
    pub rehearsal: bool,
    /// Preflight findings known now.
    #[schema(value_type = Vec<mirror::Finding>)]
    pub findings: Vec<Finding>,
    /// Why it would be rejected; none if it would be accepted.
    pub rejected: Option<Problem>,
    /// What the plan rests on, as a digest: same digest, same plan.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Where the site stood.
    pub head: Head,
}

/// A preflight on demand: checks and changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PreflightRequest {
    /// The nodes, as if all were attached; empty: the pool.
    #[schema(value_type = Vec<String>)]
    pub nodes: Vec<NodeId>,
    /// The driver whose requirements count.
    #[schema(value_type = String)]
    pub driver: Name,
}

/// What a preflight found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PreflightView {
    /// Findings, errors first.
    #[schema(value_type = Vec<mirror::Finding>)]
    pub findings: Vec<Finding>,
    /// Hosts.
    pub hosts: u32,
    /// Ordered pairs.
    pub pairs: u32,
    /// Probes.
    pub probes: u32,
    /// How long it took.
    pub ms: u64,
}

impl IntentView {
    /// Shows an outcome that the site signed. `finished`: whether what it ordered is done, as far as
    /// anybody knows; that is progress, which nobody signs.
    pub fn settle(&mut self, outcome: &Outcome, finished: bool) {
        match outcome {
            Outcome::Accepted { generation } => {
                self.generation = Some(*generation);
                self.state = if finished { IntentState::Done } else { IntentState::Doing };
            }
            Outcome::Pending { have, need } => {
                self.state = IntentState::Pending;
                self.detail = Some(format!("{have} of {need} owners signed"));
            }
            Outcome::Rejected(reason) => {
                self.state = IntentState::Rejected;
                self.reason = Some(reason.code().to_owned());
                self.detail = Some(reason.to_string());
                self.remedy = reason.remedy();
            }
            // A receipt of a repeat names the first outcome, which is no repeat.
            Outcome::Duplicate { .. } => self.state = IntentState::Unknown,
        }
    }
}
