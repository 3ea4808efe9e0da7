//! A node and what it is doing.

use qb_model::action::NodeRole;
use qb_model::facts::Facts;
use qb_model::waiting::WaitingOn;
use qb_model::{Digest, Generation, HostName, Millis, Name, NodeId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::mirror;

/// State of a node, in the words of the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Knocked, not authorized.
    Waiting,
    /// Authorized, in no cluster.
    Pool,
    /// In a cluster.
    Attached,
    /// Leaving a cluster.
    Detaching,
    /// Out for good.
    Revoked,
}

/// What a node is doing for its cluster right now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkView {
    /// Stage word: prepare, initialize, join, leave.
    pub stage: String,
    /// Number of the running step, from 1.
    pub step: u16,
    /// Steps in all.
    pub steps: u16,
    /// The step's title.
    pub title: String,
    /// `checking`, `applying`, `verifying`, `done`, `failed`.
    pub state: String,
    /// Since when.
    #[schema(value_type = u64)]
    pub since: Millis,
    /// Failure: what, why, remedy.
    pub error: Option<String>,
}

/// How far a node is in an upgrade of agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeUpgradeState {
    /// It has no order yet.
    Waits,
    /// It has its order.
    Ordered,
    /// It runs the version.
    Done,
    /// It runs the version before again, or never left it.
    Returned,
    /// The site gave it up and halted the upgrade.
    Failed,
}

/// A node in the last upgrade of agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeUpgradeView {
    /// How far it is.
    pub state: NodeUpgradeState,
    /// Since when; none while it waits.
    #[schema(value_type = Option<u64>)]
    pub since: Option<Millis>,
    /// Why it returned or was given up.
    pub why: Option<String>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Version of this document: 1.
    pub v: u8,
    /// Its key.
    #[schema(value_type = String)]
    pub id: NodeId,
    /// Its host name.
    #[schema(value_type = String)]
    pub name: HostName,
    /// Six words of its key, to compare.
    pub words: String,
    /// Its fingerprint, to compare.
    pub fingerprint: String,
    /// Its state.
    pub state: NodeState,
    /// Since when.
    #[schema(value_type = u64)]
    pub since: Millis,
    /// Its generation, for `expect` (0 while waiting).
    #[schema(value_type = u64)]
    pub generation: Generation,
    /// Digest of its knock (while waiting): goes into the authorization.
    #[schema(value_type = Option<String>)]
    pub knock: Option<Digest>,
    /// Its cluster.
    #[schema(value_type = Option<String>)]
    pub cluster: Option<Name>,
    /// Its role there.
    #[schema(value_type = Option<mirror::NodeRole>)]
    pub role: Option<NodeRole>,
    /// True for the cluster's driver being a rehearsal.
    pub rehearsal: bool,
    /// `voter`, `leader`.
    pub roles: Vec<String>,
    /// Let in by a join token or a browser's key: no vote, no control plane, until an admin authorizes it
    /// with another key (`qb node authorize NAME`).
    #[serde(default)]
    pub probation: bool,
    /// Labels as `key=value`.
    pub labels: Vec<String>,
    /// What it says of itself; none if it never reported to the answering door.
    #[schema(value_type = Option<mirror::Facts>)]
    pub facts: Option<Facts>,
    /// Milliseconds since its last report; none if none was heard.
    pub report_age_ms: Option<u64>,
    /// Load average over one minute, in thousandths.
    pub load_milli: Option<u32>,
    /// Used memory in bytes.
    pub memory_used_bytes: Option<u64>,
    /// Size in bytes of the file system of its agent's state.
    pub disk_bytes: Option<u64>,
    /// Free bytes on it.
    pub disk_free_bytes: Option<u64>,
    /// Seconds since the host was booted, as of its last report.
    pub uptime_s: Option<u64>,
    /// What it is doing.
    pub work: Option<WorkView>,
    /// How far it is in the last upgrade of agents, if there was one. Doors that are older than this field
    /// leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_upgrade: Option<NodeUpgradeView>,
    /// Why nothing happens.
    #[schema(value_type = Option<mirror::WaitingOn>)]
    pub waiting_on: Option<WaitingOn>,
}
