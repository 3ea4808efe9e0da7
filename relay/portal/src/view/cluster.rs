//! A cluster and its members.

use qb_model::action::NodeRole;
use qb_model::preflight::Finding;
use qb_model::settings::Settings;
use qb_model::waiting::WaitingOn;
use qb_model::{Digest, Generation, HostName, Millis, Name, NodeId, Version};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::mirror;
use crate::view::WorkView;

/// State of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClusterState {
    /// Has no node.
    Empty,
    /// Nodes are checked.
    Preflight,
    /// The control plane is made, nodes join.
    Initializing,
    /// Serves.
    Ready,
    /// Serves, but a member is not well.
    Degraded,
    /// Its nodes are brought to another version.
    Upgrading,
    /// Is taken away.
    Deleting,
}

/// A member of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemberView {
    /// The node.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// Its name.
    #[schema(value_type = String)]
    pub host: HostName,
    /// Its role.
    #[schema(value_type = mirror::NodeRole)]
    pub role: NodeRole,
    /// Last stage that is done: `none`, `prepare`, `initialize`, `join`.
    pub done: String,
    /// What it is doing.
    pub work: Option<WorkView>,
    /// Health of its units as `name: state`; empty when well.
    pub unwell: Vec<String>,
    /// Labels that qb keeps on its node in Kubernetes, as `key=value`.
    pub labels: Vec<String>,
    /// Taints that qb keeps there, as `key=value:Effect` or `key:Effect`.
    pub taints: Vec<String>,
    /// Why nothing happens.
    #[schema(value_type = Option<mirror::WaitingOn>)]
    pub waiting_on: Option<WaitingOn>,
    /// What a control plane node does for itself; none for others.
    #[serde(default)]
    pub upkeep: Option<UpkeepView>,
}

/// What a control plane node does for itself again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpkeepView {
    /// The certificate of Kubernetes that ends first; empty if they cannot be read.
    pub certificate: String,
    /// When that is; 0 if they cannot be read.
    #[schema(value_type = u64)]
    pub ends: Millis,
    /// The backups of the cluster's store that the node keeps, newest first.
    pub backups: Vec<BackupView>,
    /// What did not succeed last; empty while all goes well.
    pub trouble: String,
    /// What to do about it.
    pub remedy: String,
}

/// A backup of a cluster's store. The snapshot itself holds every secret of the cluster and stays on its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupView {
    /// When it was taken, by the node's clock.
    #[schema(value_type = u64)]
    pub taken: Millis,
    /// SHA-256 of the snapshot.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Bytes of the snapshot.
    pub bytes: u64,
    /// The store's revision in it.
    pub revision: u64,
    /// The intent that asked for it; none if the schedule did.
    #[schema(value_type = Option<String>)]
    pub asked: Option<Digest>,
}

/// Where an upgrade of a cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClusterUpgradeState {
    /// Nodes are upgraded: control plane nodes one by one, then workers.
    Rolling,
    /// A node returned to the version before, or an admin stopped it: nobody else is upgraded.
    Halted,
    /// Every member runs the version.
    Done,
}

/// The last upgrade of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterUpgradeView {
    /// The intent that ordered it.
    #[schema(value_type = String)]
    pub intent: Digest,
    /// The version that it brings.
    #[schema(value_type = String)]
    pub version: Version,
    /// The manifest of the bundle that brings it.
    #[schema(value_type = String)]
    pub bundle: Digest,
    /// Workers at the same time.
    pub batch: u16,
    /// Where it is.
    pub state: ClusterUpgradeState,
    /// Since when.
    #[schema(value_type = u64)]
    pub since: Millis,
    /// Members that run the version.
    pub done: u32,
}

/// Where an add-on is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AddonState {
    /// No control plane node said anything of it yet.
    Waits,
    /// It is applied, and applied again every ten minutes.
    Applied,
    /// It could not be applied, or removed; it is tried again.
    Failed,
}

/// An add-on of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddonView {
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
    /// The intent that set it, or removed it.
    #[schema(value_type = String)]
    pub intent: Digest,
    /// Lines of its manifest.
    pub lines: u16,
    /// Whether it is being removed.
    pub removed: bool,
    /// Where it is.
    pub state: AddonState,
    /// Since when.
    #[schema(value_type = u64)]
    pub since: Millis,
    /// What failed; empty if nothing did.
    pub text: String,
    /// What helps; empty if nothing failed.
    pub remedy: String,
}

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterView {
    /// Version of this document: 1.
    pub v: u8,
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
    /// Its state.
    pub state: ClusterState,
    /// Since when.
    #[schema(value_type = u64)]
    pub since: Millis,
    /// Its generation, for `expect`.
    #[schema(value_type = u64)]
    pub generation: Generation,
    /// Its driver.
    #[schema(value_type = String)]
    pub driver: Name,
    /// True if this is a rehearsal: stand-in processes, not Kubernetes.
    pub rehearsal: bool,
    /// Version of the driver's software.
    #[schema(value_type = String)]
    pub version: Version,
    /// The bundle's manifest.
    #[schema(value_type = String)]
    pub bundle: Digest,
    /// Members, control plane first.
    pub members: Vec<MemberView>,
    /// Address of the API server, once it serves.
    pub endpoint: Option<String>,
    /// Its networks, and where a customer's own balancer serves its API; none of a driver without any.
    #[schema(value_type = Option<mirror::Settings>)]
    pub settings: Option<Settings>,
    /// Findings of the last preflight.
    #[schema(value_type = Vec<mirror::Finding>)]
    pub findings: Vec<Finding>,
    /// Its last upgrade; none if there was none.
    pub upgrade: Option<ClusterUpgradeView>,
    /// Its add-ons, and those that are being removed.
    pub addons: Vec<AddonView>,
    /// Stages of the running change with their times, for the timeline: word, started, ended.
    pub stages: Vec<StageView>,
    /// Why nothing happens.
    #[schema(value_type = Option<mirror::WaitingOn>)]
    pub waiting_on: Option<WaitingOn>,
}

/// A stage of a change of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StageView {
    /// preflight, prepare, initialize, join, ready; leave; upgrade.
    pub word: String,
    /// Nodes that are through.
    pub done: u32,
    /// Nodes in all.
    pub of: u32,
    /// When it began; none if it has not.
    #[schema(value_type = Option<u64>)]
    pub began: Option<Millis>,
    /// When it ended; none if it has not.
    #[schema(value_type = Option<u64>)]
    pub ended: Option<Millis>,
}
