//! What happened: events, audit, alerts.

use qb_model::{Digest, HostName, Millis, SiteId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An event, as SSE and as a line of `qb events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Rises with every event of the answering door; SSE `id`.
    pub seq: u64,
    /// When.
    #[schema(value_type = u64)]
    pub at: Millis,
    /// `intent`, `node`, `cluster`, `raft`, `mesh`, `alert`, `step`.
    pub kind: String,
    /// What it is about: a node's, cluster's or intent's name.
    pub subject: String,
    /// The sentence.
    pub text: String,
}

/// An audit record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    /// Number in the chain, from 1.
    pub number: u64,
    /// Log index.
    pub index: u64,
    /// Log time.
    #[schema(value_type = u64)]
    pub at: Millis,
    /// Who: an admin's id or a node's name.
    pub by: String,
    /// A sentence.
    pub sentence: String,
    /// `accepted`, `rejected: CODE`, `pending`.
    pub outcome: String,
    /// Digest of the signed thing.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// The head after it.
    #[schema(value_type = String)]
    pub head: Digest,
    /// The whole record, for verification: base64 of its postcard form.
    pub record: String,
}

/// The audit log, whole or from a number on, with what is needed to verify it offline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditExport {
    /// Version of this document: 1.
    pub v: u8,
    /// The site.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The charter's envelope (JSON text).
    pub charter: String,
    /// The records.
    pub records: Vec<AuditView>,
    /// The head as the answering node has it.
    #[schema(value_type = String)]
    pub head: Digest,
}

/// An alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlertView {
    /// Stable rule name, e.g. `node-silent`.
    pub rule: String,
    /// `critical` or `warning`.
    pub severity: String,
    /// What it is about: `host`, `kubernetes`, `add-on`, `qb`, or `relay` for what the relay raises.
    pub layer: String,
    /// What it is about.
    pub subject: String,
    /// The sentence with its number, after the subject.
    pub text: String,
    /// Since when.
    #[schema(value_type = u64)]
    pub since: Millis,
    /// When it was over; none while it fires.
    #[schema(value_type = Option<u64>)]
    pub resolved: Option<Millis>,
    /// The command to begin with, `on HOST: ` in front where it matters.
    pub remedy: Option<String>,
}

/// What was heard in one step: of a node, or summed over the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SampleView {
    /// When the step began.
    #[schema(value_type = u64)]
    pub at: Millis,
    /// Nodes that were heard in it: 1 for a node; the sums of a site dip where this does.
    pub nodes: u32,
    /// Load average over one minute, in thousandths.
    pub load_milli: u64,
    /// Used memory in bytes.
    pub memory_used_bytes: u64,
    /// Used bytes on the file system of the agent's state.
    pub disk_used_bytes: u64,
}

/// The last hour of a node, or the sums over all nodes of a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HistoryView {
    /// Version of this document: 1.
    pub v: u8,
    /// The node's name; none for the site.
    #[schema(value_type = Option<String>)]
    pub node: Option<HostName>,
    /// Milliseconds between two samples.
    pub step_ms: u64,
    /// What was heard, oldest first; a step in which nothing was heard is left out.
    pub samples: Vec<SampleView>,
}
