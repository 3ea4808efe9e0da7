//! A node of the roster.

use serde::{Deserialize, Serialize};

use crate::action::{Label, NodeRole, RevokeMode};
use crate::assignment::{Assignment, Citation, Stage};
use crate::ids::{Generation, HostName, Millis, Name, NodeId, RaftId, SealKey};

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodePhase {
    /// In no cluster.
    Pool,
    /// In a cluster.
    Attached {
        /// The cluster.
        cluster: Name,
        /// Its role.
        role: NodeRole,
        /// The last stage that is done.
        done: Option<Stage>,
        /// The attach intent.
        cites: Citation,
    },
    /// Leaving a cluster.
    Detaching {
        /// The cluster.
        cluster: Name,
        /// The role that it had.
        role: NodeRole,
        /// The detach or delete intent.
        cites: Citation,
    },
}

impl NodePhase {
    /// The word shown to people.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Attached { .. } => "attached",
            Self::Detaching { .. } => "detaching",
        }
    }
    /// The cluster that it is in or leaves.
    pub fn cluster(&self) -> Option<&Name> {
        match self {
            Self::Pool => None,
            Self::Attached { cluster, .. } | Self::Detaching { cluster, .. } => Some(cluster),
        }
    }
    /// Its role there.
    pub fn role(&self) -> Option<NodeRole> {
        match self {
            Self::Pool => None,
            Self::Attached { role, .. } | Self::Detaching { role, .. } => Some(*role),
        }
    }
    /// Whether it is through: it has initialized the cluster, or joined it, and stays.
    pub fn serves(&self) -> bool {
        matches!(self, Self::Attached { done: Some(done), .. } if *done >= Stage::Initialize)
    }
    /// The intent that put it there.
    pub fn cites(&self) -> Option<Citation> {
        match self {
            Self::Pool => None,
            Self::Attached { cites, .. } | Self::Detaching { cites, .. } => Some(*cites),
        }
    }
}

/// A node as the site has authorized it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its key.
    pub node: NodeId,
    /// The host name that the admin saw.
    pub host: HostName,
    /// The intent that let it in.
    pub authorized: Citation,
    /// When it came to its phase, by log time.
    pub since: Millis,
    /// Where it is.
    pub phase: NodePhase,
    /// Its place in the networks of the cluster that it is in; none in the pool.
    pub slot: Option<u16>,
    /// Labels.
    pub labels: Vec<Label>,
    /// Let in by a token or a `browser` key: no vote, no control plane.
    pub probation: bool,
    /// Where secrets for it are sealed to, and the record's sequence; none until its first command.
    pub seal: Option<(SealKey, u64)>,
    /// The IP address that it serves on; none until its first command.
    pub address: Option<String>,
    /// Incarnation and sequence of its last command.
    pub said: (u64, u64),
    /// The current assignment.
    pub assignment: Option<Assignment>,
    /// When it was given, by log time.
    pub assigned_at: Millis,
    /// Generation of the last assignment, also of those that are gone.
    pub assignments: Generation,
    /// Generation of the last agent order.
    pub agent_orders: Generation,
    /// Its Raft id.
    pub seat: Option<RaftId>,
}

impl NodeRecord {
    /// A node that was just let in.
    pub fn new(node: NodeId, host: HostName, authorized: Citation, since: Millis) -> Self {
        Self {
            node,
            host,
            authorized,
            since,
            phase: NodePhase::Pool,
            slot: None,
            labels: Vec::new(),
            probation: false,
            seal: None,
            address: None,
            said: (0, 0),
            assignment: None,
            assigned_at: Millis(0),
            assignments: Generation(0),
            agent_orders: Generation(0),
            seat: None,
        }
    }

    /// Whether it has said where it is and where secrets are sealed to.
    pub fn present(&self) -> bool {
        self.seal.is_some() && self.address.is_some()
    }
}

/// A node that was revoked: its key never comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Its host name.
    pub host: HostName,
    /// The revoking intent.
    pub cites: Citation,
    /// When, by log time.
    pub at: Millis,
    /// What it is to do.
    pub mode: RevokeMode,
}
