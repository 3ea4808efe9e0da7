//! What happened: events, audit, alerts.

use qb_model::{Digest, Millis, SiteId};
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
    /// What it is about.
    pub subject: String,
    /// The sentence with its number.
    pub text: String,
    /// Since when.
    #[schema(value_type = u64)]
    pub since: Millis,
    /// When it was over; none while it fires.
    #[schema(value_type = Option<u64>)]
    pub resolved: Option<Millis>,
}
