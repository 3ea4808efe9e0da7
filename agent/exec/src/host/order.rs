//! What executor and helper hand each other as files: one piece of work, and what became of it. Both are
//! of one version: the program is the same.

use std::collections::BTreeMap;

use qb_drivers::RelPath;
use qb_drivers::addons::Addon;
use qb_drivers::host_step::{HostAction, NetworkMember};
use qb_drivers::marks::NodeMarks;
use qb_model::action::Role;
use qb_model::ids::{Digest, Name};
use serde::{Deserialize, Serialize};

use super::backup::Backup;
use super::leaver::Leaver;

/// Bytes of an order: rendered files and manifests.
pub(crate) const ORDER_BYTES: u64 = 4 << 20;
/// Bytes of a result: an error with what a program said.
pub(crate) const RESULT_BYTES: u64 = 1 << 20;

/// What runs one after the other; different lanes do not wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Steps of this node's orders.
    Order,
    /// Other nodes are taken out: may wait long for a budget.
    Release,
    /// Who the members are.
    Peers,
    /// Role bindings of admins.
    Bindings,
    /// Backups of the store.
    Backup,
    /// Labels, taints and add-ons: applying one may take long.
    Keep,
}

impl Lane {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 6] =
        [Self::Order, Self::Release, Self::Peers, Self::Bindings, Self::Backup, Self::Keep];

    /// Name of its unit.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Order => "qb-host-order.service",
            Self::Release => "qb-host-release.service",
            Self::Peers => "qb-host-peers.service",
            Self::Bindings => "qb-host-bindings.service",
            Self::Backup => "qb-host-backup.service",
            Self::Keep => "qb-host-keep.service",
        }
    }

    /// Name of its order.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Order => "order.json",
            Self::Release => "release.json",
            Self::Peers => "peers.json",
            Self::Bindings => "bindings.json",
            Self::Backup => "backup.json",
            Self::Keep => "keep.json",
        }
    }

    /// Name of its result.
    pub(crate) fn result(self) -> &'static str {
        match self {
            Self::Order => "order.result",
            Self::Release => "release.result",
            Self::Peers => "peers.result",
            Self::Bindings => "bindings.result",
            Self::Backup => "backup.result",
            Self::Keep => "keep.result",
        }
    }

    /// Name of what is told meanwhile.
    pub(crate) fn told(self) -> &'static str {
        match self {
            Self::Order => "order.told",
            Self::Release => "release.told",
            Self::Peers => "peers.told",
            Self::Bindings => "bindings.told",
            Self::Backup => "backup.told",
            Self::Keep => "keep.told",
        }
    }
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostResult {
    /// Of which order: the digest of its file.
    pub(crate) mark: Digest,
    /// How it ended.
    pub(crate) ended: Result<Reported, HostFailure>,
}

/// It is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reported {
    /// It was so before.
    Already,
    /// It was brought about.
    Done,
}

/// It is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostFailure {
    /// What failed; without secrets.
    pub(crate) text: String,
    /// What to do.
    pub(crate) remedy: String,
}

/// One piece of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostOrder {
    /// 1.
    pub(crate) v: u16,
    /// The cluster.
    pub(crate) cluster: Name,
    /// Files in the cluster's directory whose contents nobody may be shown.
    pub(crate) hidden: Vec<RelPath>,
    /// What to do.
    pub(crate) work: Work,
}

impl HostOrder {
    /// Work in which no secret has a part.
    pub(crate) fn new(cluster: Name, work: Work) -> Self {
        Self { v: 1, cluster, hidden: Vec::new(), work }
    }
}

/// The closed set of what a helper does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Work {
    /// One step of an order of this node.
    Step(HostAction),
    /// Brings the pod network about that is kept: after a start of the machine.
    Restore,
    /// Brings it about with other members.
    Peers(Vec<NetworkMember>),
    /// Takes another node out.
    Release(Leaver),
    /// Makes the role bindings that qb keeps those of these admins. Which rights a role has is not said.
    Bindings(BTreeMap<Name, Role>),
    /// Takes a backup of the store.
    Backup(Backup),
    /// Keeps labels, taints and add-ons.
    Keep(Vec<Keep>),
}

/// One thing that is kept inside a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Keep {
    /// Labels and taints of a node.
    Marks(NodeMarks),
    /// An add-on, or that it is gone.
    Addon(Addon),
}
