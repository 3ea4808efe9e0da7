//! A cluster, and what attach, detach and delete make of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::SiteState;
use super::cluster_upgrade::ClusterUpgrade;
use super::kept::{Addon, NodeMarks};
use super::nodes::NodePhase;
use super::pool::MAX_NODES;
use super::restore::{BackupAsked, Restore};
use crate::action::{NodeRole, Placement};
use crate::assignment::{Citation, KUBEADM};
use crate::ids::{Digest, Generation, Millis, Name, NodeId, Version};
use crate::intent::ObjectRef;
use crate::outcome::Reason;
use crate::preflight::Finding;
use crate::release::Release;
use crate::settings::Settings;

/// Most clusters of a site.
pub(super) const MAX_CLUSTERS: usize = 1_000;
/// Most findings that the log keeps of a preflight.
pub(super) const MAX_FINDINGS: usize = 64;

/// Where a cluster is. `degraded` is not here: it is seen, not agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterPhase {
    /// Has no node.
    Empty,
    /// Its first nodes are placed and checked.
    Preflight,
    /// Its first nodes prepare, initialize and join.
    Initializing,
    /// Serves.
    Ready,
    /// Is taken away.
    Deleting,
}

impl ClusterPhase {
    /// The word shown to people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Preflight => "preflight",
            Self::Initializing => "initializing",
            Self::Ready => "ready",
            Self::Deleting => "deleting",
        }
    }
}

/// An attach that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// The intent.
    pub cites: Citation,
    /// What it asked for.
    pub placement: Placement,
    /// Whether it was placed: a placement happens once, also if its nodes are all gone again.
    pub placed: bool,
    /// The nodes, once placed, sorted.
    pub nodes: Vec<NodeId>,
    /// When preflight found no error, by log time.
    pub checked: Option<Millis>,
    /// When preflight last ended, by log time.
    pub preflight_at: Option<Millis>,
    /// What it found.
    pub findings: Vec<Finding>,
}

/// A secret that waits for a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretOffer {
    /// Who holds the ciphertext.
    pub from: NodeId,
    /// SHA-256 of the ciphertext.
    pub ciphertext: Digest,
    /// When it ends.
    pub expires: Millis,
}

/// When a stage of the running or last change began and ended, by log time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTimes {
    /// `preflight`, `prepare`, `initialize`, `join`, `ready`, `leave`.
    pub word: String,
    /// Began.
    pub began: Millis,
    /// Ended.
    pub ended: Option<Millis>,
}

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its name.
    pub name: Name,
    /// Its driver.
    pub driver: Name,
    /// Version of the driver's software.
    pub version: Version,
    /// The bundle's manifest.
    pub bundle: Digest,
    /// Its networks and endpoints, for its life.
    pub settings: Settings,
    /// The intent that made it.
    pub created: Citation,
    /// The intent that brought it to its version: the same, or the last upgrade that was done.
    pub installed: Citation,
    /// The last upgrade, whatever became of it.
    pub upgrade: Option<ClusterUpgrade>,
    /// The last backup that was asked for.
    pub backup: Option<BackupAsked>,
    /// The last restore of its store.
    pub restore: Option<Restore>,
    /// Where it is.
    pub phase: ClusterPhase,
    /// Since when, by log time.
    pub since: Millis,
    /// The attach under way.
    pub attach: Option<Attach>,
    /// The delete intent.
    pub deleting: Option<Citation>,
    /// The member that initializes, or did.
    pub first: Option<NodeId>,
    /// What initializing made public: the CA certificate (PEM).
    pub public: Vec<u8>,
    /// Secrets that wait, by recipient.
    pub offers: BTreeMap<NodeId, SecretOffer>,
    /// Nodes that leave and that a control plane member has to take out first.
    pub releases: BTreeMap<NodeId, Release>,
    /// Labels and taints that qb keeps on nodes of members that stay.
    pub marks: BTreeMap<NodeId, NodeMarks>,
    /// Its add-ons, and those that were removed.
    pub addons: BTreeMap<Name, Addon>,
    /// Times of the running or last change.
    pub stages: Vec<StageTimes>,
    /// A revoked host held its CA key.
    pub ca_exposed: bool,
}

impl Cluster {
    /// Enters a phase.
    pub(super) fn enter(&mut self, phase: ClusterPhase, now: Millis) {
        if self.phase != phase {
            self.phase = phase;
            self.since = now;
        }
    }

    /// Members that its networks have room for.
    pub fn slots(&self) -> u16 {
        if self.driver.as_str() == KUBEADM { self.settings.slots() } else { MAX_NODES as u16 }
    }

    /// Whether its store is being restored.
    pub fn restores(&self) -> bool {
        self.restore.as_ref().is_some_and(Restore::goes_on)
    }

    /// Whether an upgrade of it goes on.
    pub fn upgrades(&self) -> bool {
        self.upgrade.as_ref().is_some_and(ClusterUpgrade::rolling)
    }

    /// Notes that a stage began (if it has not).
    pub(super) fn stage_begins(&mut self, word: &str, now: Millis) {
        if !self.stages.iter().any(|s| s.word == word) {
            self.stages.push(StageTimes { word: word.to_owned(), began: now, ended: None });
        }
    }

    /// Notes that a stage ended.
    pub(super) fn stage_ends(&mut self, word: &str, now: Millis) {
        self.stage_begins(word, now);
        for stage in &mut self.stages {
            if stage.word == word && stage.ended.is_none() {
                stage.ended = Some(now);
            }
        }
    }
}

impl SiteState {
    /// Members of a cluster, those that leave included, sorted by node.
    pub fn members(&self, cluster: &Name) -> impl Iterator<Item = &super::NodeRecord> {
        let cluster = cluster.clone();
        self.nodes.values().filter(move |n| n.phase.cluster() == Some(&cluster))
    }

    /// Control plane members that stay.
    pub fn control_plane(&self, cluster: &Name) -> usize {
        self.members(cluster)
            .filter(|n| matches!(n.phase, NodePhase::Attached { role: NodeRole::ControlPlane, .. }))
            .count()
    }

    pub(super) fn create(&mut self, new: Cluster) -> Result<Generation, Reason> {
        let name = new.name.clone();
        if self.clusters.contains_key(&name) {
            return Err(Reason::ClusterExists { cluster: name });
        }
        if self.clusters.len() >= MAX_CLUSTERS {
            return Err(Reason::Cap { what: "clusters".into(), max: MAX_CLUSTERS as u64 });
        }
        self.clusters.insert(name.clone(), new);
        Ok(self.bump(ObjectRef::Cluster(name)))
    }
}
