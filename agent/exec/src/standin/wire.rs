//! What the stand-ins say to one another. Every answer says that it is a rehearsal.

use qb_model::action::NodeRole;
use qb_model::ids::{Digest, Millis, Name, NodeId};
use serde::{Deserialize, Serialize};

/// A node asks to join, with a credential that works once.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JoinRequest {
    pub(crate) node: NodeId,
    pub(crate) host: String,
    pub(crate) role: NodeRole,
    /// The bootstrap credential.
    pub(crate) bootstrap: String,
    /// The node's own credential, from now on. It makes it itself and keeps it before it asks, so
    /// that an answer that is lost does not cost the way in.
    pub(crate) credential: String,
}

/// A node that joined says something: heartbeat or leave.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeRequest {
    pub(crate) node: NodeId,
    pub(crate) credential: String,
}

/// The answer to everything but the list of nodes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// Always true.
    pub(crate) rehearsal: bool,
    pub(crate) cluster: Name,
    pub(crate) ok: bool,
    /// Why not; empty if `ok`.
    pub(crate) error: String,
}

/// Who joined.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NodeList {
    /// Always true.
    pub(crate) rehearsal: bool,
    pub(crate) cluster: Name,
    /// Sorted by node.
    pub(crate) nodes: Vec<NodeLine>,
}

/// A node that joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeLine {
    pub(crate) node: NodeId,
    pub(crate) host: String,
    pub(crate) role: NodeRole,
    /// Whether a heartbeat came lately.
    pub(crate) ready: bool,
    pub(crate) joined_ms: Millis,
}

/// A bootstrap credential that waits for its node, as a file of the API server's: one per node.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Offer {
    pub(crate) v: u16,
    pub(crate) node: NodeId,
    /// SHA-256 of the credential.
    pub(crate) credential: Digest,
    pub(crate) expires_ms: Millis,
}

/// The bootstrap credential at the joining node, as a file of mode 0600.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bootstrap {
    pub(crate) v: u16,
    pub(crate) credential: String,
}
