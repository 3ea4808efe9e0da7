//! What an admin may want: the one action of an intent.
//!
//! External tagging: the JSON is an object with exactly one member, whose name is the action.
//! Rules for changing this file: these types are signed bytes and consensus-critical. A new action
//! or member needs a new feature level; nothing here is renamed, reordered or
//! given another meaning. No maps, `flatten`, `untagged` or `default`. A member that may be absent is refused
//! where it holds what its absence means. Lists that are sets are sorted and unique.

use serde::{Deserialize, Serialize};

use crate::ids::{Cidr, Digest, HostGlob, HostName, Millis, Name, NodeId, PublicKey, Version};
use crate::settings::ChosenSettings;
use crate::strict::required_nullable;

/// The role of an admin. Each includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Changes pool and clusters; root-equivalent on the site's nodes.
    Operator,
    /// Changes trust: admins, policy, publishers, relays.
    Owner,
}

/// Where a key lives, as declared by who added it. The class caps what the key may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyClass {
    /// In a browser's storage: the portal set only.
    Browser,
    /// Made on the portal of an agent.
    AgentOrigin,
    /// A key file or an ssh-agent key used by `qb`.
    Cli,
    /// A FIDO2 key.
    Hardware,
}

/// A node named by an authorization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorizedNode {
    /// The node's key.
    pub node: NodeId,
    /// The host name shown to the admin.
    pub host: HostName,
    /// Digest of the signed knock that the admin looked at.
    pub knock: Digest,
}

/// What a node does in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeRole {
    /// Runs the API server and its store.
    ControlPlane,
    /// Runs workloads.
    Worker,
}

/// A node placed by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacedNode {
    /// The node.
    pub node: NodeId,
    /// Its role.
    pub role: NodeRole,
}

/// Which nodes an attach takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Placement {
    /// The leader chooses `count` pool nodes and their roles; `control_plane` is how many control
    /// plane nodes the cluster has afterwards: 0 means that qb chooses 1, 3 or 5.
    Auto {
        /// Nodes to take, 1 to 400.
        count: u16,
        /// Control plane nodes wanted in all: 0 (automatic), 1, 3 or 5.
        control_plane: u8,
    },
    /// Exactly these nodes in exactly these roles, sorted by node.
    Explicit {
        /// The nodes, 1 to 400.
        nodes: Vec<PlacedNode>,
    },
    /// Exactly these nodes (sorted); qb chooses the roles.
    Named {
        /// The nodes, 1 to 400.
        nodes: Vec<NodeId>,
        /// Control plane nodes wanted in all: 0 (automatic), 1, 3 or 5.
        control_plane: u8,
    },
}

/// What a revoked node does when it learns of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevokeMode {
    /// Keeps its workloads and takes no more orders.
    Isolate,
    /// Tears its cluster role down and deletes keys and state.
    Wipe,
}

/// Why a key or an admin is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevokeReason {
    /// No longer used. What it ordered goes on.
    Retired,
    /// In wrong hands. What it ordered and is not finished is held.
    Compromised,
}

/// A key as it is added to an admin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// The ed25519 key.
    pub key: PublicKey,
    /// Where it lives.
    pub class: KeyClass,
    /// When it ends by itself; null for never.
    #[serde(deserialize_with = "required_nullable")]
    pub expires_ms: Option<Millis>,
}

/// A label, as in Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// The key: optional DNS prefix and `/`, then a name of at most 63 characters.
    pub key: String,
    /// The value: at most 63 characters of letters, digits, `-`, `_` and `.`.
    pub value: String,
}

/// What a taint does to pods that do not tolerate it. The words are Kubernetes' own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TaintEffect {
    /// Those that run are evicted.
    NoExecute,
    /// None is scheduled.
    NoSchedule,
    /// None is scheduled while another node has room.
    PreferNoSchedule,
}

impl TaintEffect {
    /// The word in Kubernetes.
    pub fn word(self) -> &'static str {
        match self {
            Self::NoExecute => "NoExecute",
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
        }
    }
}

/// A taint of a Kubernetes node. Key and effect name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taint {
    /// The key, as a label's.
    pub key: String,
    /// What it does.
    pub effect: TaintEffect,
    /// The value, as a label's.
    pub value: String,
}

/// Which nodes may hold a vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Eligible {
    /// Every node of the roster that is not on probation.
    All,
    /// These nodes, sorted.
    Nodes {
        /// The nodes, at most 64.
        nodes: Vec<NodeId>,
    },
}

/// The part of trust that owners tune. Set as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Owners who must sign an owner-class action, 1 to 8 (1 until a later feature level).
    pub owners_needed: u8,
    /// Age at which an anchor is too old: 1 h to 7 d.
    pub anchor_max_age_ms: u64,
    /// Who may vote.
    pub voters: Eligible,
    /// Names of the actions that keys of class `browser` may sign, sorted; a subset of
    /// [`PORTAL_SET`] unless owners widen it.
    pub browser_actions: Vec<String>,
}

/// Actions that a `browser` key may sign by default: none makes anybody root or admin.
pub const PORTAL_SET: [&str; 5] =
    ["cluster.attach", "cluster.create", "cluster.detach", "node.authorize", "node.label"];

impl Default for Policy {
    fn default() -> Self {
        Self {
            owners_needed: 1,
            anchor_max_age_ms: 24 * 3_600_000,
            voters: Eligible::All,
            browser_actions: PORTAL_SET.map(str::to_owned).to_vec(),
        }
    }
}

/// What an intent orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Action {
    /// Founds the site's Raft group on exactly the named nodes. Signed by a founder; anchor = SiteId.
    #[serde(rename = "site.found")]
    SiteFound {
        /// The founding nodes, sorted. One is recommended: the group grows by promotion.
        nodes: Vec<AuthorizedNode>,
    },
    /// Lets waiting nodes into the pool (worker-eligible; voters by policy).
    #[serde(rename = "node.authorize")]
    NodeAuthorize {
        /// The nodes, 1 to 400, sorted by node.
        nodes: Vec<AuthorizedNode>,
    },
    /// Ends a node's membership for good.
    #[serde(rename = "node.revoke")]
    NodeRevoke {
        /// The node.
        node: NodeId,
        /// What it does when it hears of it.
        then: RevokeMode,
    },
    /// Replaces the labels of a node.
    #[serde(rename = "node.label")]
    NodeLabel {
        /// The node.
        node: NodeId,
        /// All its labels, at most 32, sorted by key, keys unique.
        labels: Vec<Label>,
    },
    /// Creates an empty cluster.
    #[serde(rename = "cluster.create")]
    ClusterCreate {
        /// Its name.
        cluster: Name,
        /// The driver: `rehearsal` or `kubeadm`.
        driver: Name,
        /// The version of the driver's software.
        version: Version,
        /// Digest of the signed manifest of the bundle to install from.
        bundle: Digest,
        /// Networks and endpoints that differ from the defaults; driver `kubeadm` only. Absent for none.
        #[serde(skip_serializing_if = "Option::is_none")]
        settings: Option<ChosenSettings>,
    },
    /// Attaches pool nodes to a cluster.
    #[serde(rename = "cluster.attach")]
    ClusterAttach {
        /// The cluster.
        cluster: Name,
        /// Which nodes.
        placement: Placement,
    },
    /// Takes nodes out of a cluster, back to the pool.
    #[serde(rename = "cluster.detach")]
    ClusterDetach {
        /// The cluster.
        cluster: Name,
        /// The nodes, 1 to 400, sorted.
        nodes: Vec<NodeId>,
    },
    /// Deletes a cluster; its nodes return to the pool. Owner class.
    #[serde(rename = "cluster.delete")]
    ClusterDelete {
        /// The cluster.
        cluster: Name,
    },
    /// Adds an admin.
    #[serde(rename = "admin.add")]
    AdminAdd {
        /// The admin's id.
        admin: Name,
        /// The person's name, 1 to 128 bytes of text.
        name: String,
        /// The role.
        role: Role,
        /// 1 to 16 keys, sorted by key.
        keys: Vec<NewKey>,
    },
    /// Removes an admin and all their keys.
    #[serde(rename = "admin.remove")]
    AdminRemove {
        /// The admin.
        admin: Name,
        /// Why.
        reason: RevokeReason,
    },
    /// Changes an admin's role.
    #[serde(rename = "admin.role")]
    AdminRole {
        /// The admin.
        admin: Name,
        /// The new role.
        role: Role,
    },
    /// Adds a key to an admin.
    #[serde(rename = "key.add")]
    KeyAdd {
        /// The admin.
        admin: Name,
        /// The key.
        key: NewKey,
    },
    /// Removes a key of an admin.
    #[serde(rename = "key.revoke")]
    KeyRevoke {
        /// The admin.
        admin: Name,
        /// The key.
        key: PublicKey,
        /// Why.
        reason: RevokeReason,
    },
    /// Replaces the policy.
    #[serde(rename = "policy.set")]
    PolicySet {
        /// The new policy.
        policy: Policy,
    },
    /// Accepts bundles signed by a publisher.
    #[serde(rename = "publisher.add")]
    PublisherAdd {
        /// The publisher's name.
        publisher: Name,
        /// The publisher's key.
        key: PublicKey,
    },
    /// Stops accepting a publisher's bundles.
    #[serde(rename = "publisher.remove")]
    PublisherRemove {
        /// The publisher's key.
        key: PublicKey,
    },
    /// Trusts a relay's key.
    #[serde(rename = "relay.add")]
    RelayAdd {
        /// `https://` (or `http://localhost`) address of the relay, at most 256 bytes.
        url: String,
        /// The relay's ed25519 key.
        key: PublicKey,
    },
    /// Stops trusting a relay's key.
    #[serde(rename = "relay.remove")]
    RelayRemove {
        /// The relay's key.
        key: PublicKey,
    },
    /// Ties the site to an org of a relay.
    #[serde(rename = "relay.register")]
    RelayRegister {
        /// The org.
        org: Name,
        /// The relay's key.
        key: PublicKey,
    },
    /// Brings a new agent to every node. Owner class; one at a time.
    #[serde(rename = "agent.upgrade")]
    AgentUpgrade {
        /// Digest of the signed manifest of the agent's bundle.
        bundle: Digest,
        /// The version that the bundle brings.
        version: Version,
        /// The first wave, 1 to 400 nodes, sorted: nobody else is touched before these are well.
        first: Vec<NodeId>,
        /// Nodes that are upgraded at the same time, 1 to 64; of voters always one.
        batch: u16,
    },
    /// Halts the upgrade that an intent ordered: no node begins it any more. Owner class.
    #[serde(rename = "agent.upgrade.stop")]
    AgentUpgradeStop {
        /// Digest of the `agent.upgrade` intent.
        upgrade: Digest,
    },
    /// Lets machines in that hold a secret, each on probation: the token's private key.
    #[serde(rename = "token.mint")]
    TokenMint {
        /// The token's public key.
        token: PublicKey,
        /// Machines that it lets in, 1 to 1,000.
        uses: u16,
        /// When it ends, by log time: at most 7 days ahead.
        expires_ms: Millis,
        /// Host names that it is for; null for all.
        #[serde(deserialize_with = "required_nullable")]
        host: Option<HostGlob>,
        /// Where its machines knock from, at most 16 blocks, sorted by text; none for everywhere.
        addresses: Vec<Cidr>,
        /// Labels of the machines that it lets in, at most 32, sorted by key, keys unique.
        labels: Vec<Label>,
    },
    /// Ends a join token before its time. Who came in by it stays.
    #[serde(rename = "token.revoke")]
    TokenRevoke {
        /// The token's public key.
        token: PublicKey,
    },
    /// Lets an intent go on that is held since its signer was revoked as compromised. Owner class.
    #[serde(rename = "intent.release")]
    IntentRelease {
        /// The intent's digest.
        intent: Digest,
    },
    /// Cancels an intent, also before it arrives. By its signer or an owner.
    #[serde(rename = "intent.cancel")]
    IntentCancel {
        /// The intent's digest.
        intent: Digest,
    },
    /// Brings a cluster to another version of its software.
    #[serde(rename = "cluster.upgrade")]
    ClusterUpgrade {
        /// The cluster.
        cluster: Name,
        /// Its driver.
        driver: Name,
        /// The version: newer, and no minor version is left out.
        version: Version,
        /// Digest of the signed manifest of the bundle that brings it.
        bundle: Digest,
        /// Workers that are upgraded at the same time, 1 to 64; of control plane nodes always one.
        batch: u16,
        /// The settings that it was created with: nodes that join it later rest on this intent. Absent for
        /// none.
        #[serde(skip_serializing_if = "Option::is_none")]
        settings: Option<ChosenSettings>,
    },
    /// Halts the upgrade of a cluster: no node begins it any more.
    #[serde(rename = "cluster.upgrade.stop")]
    ClusterUpgradeStop {
        /// The cluster.
        cluster: Name,
        /// Digest of the `cluster.upgrade` intent.
        upgrade: Digest,
    },
    /// Asks every control plane node of a cluster for a backup of its store now.
    #[serde(rename = "cluster.backup")]
    ClusterBackup {
        /// The cluster.
        cluster: Name,
    },
    /// Brings a cluster's store back to a backup: what was changed since is lost. Owner class.
    #[serde(rename = "cluster.restore")]
    ClusterRestore {
        /// The cluster.
        cluster: Name,
        /// The control plane member that holds the backup and restores it.
        node: NodeId,
        /// SHA-256 of the snapshot.
        backup: Digest,
        /// All other control plane members, sorted: they are reset, and join again.
        others: Vec<NodeId>,
    },
    /// Replaces the labels and taints that qb keeps on a member's node in Kubernetes. Others stay.
    #[serde(rename = "cluster.label")]
    ClusterLabel {
        /// The cluster.
        cluster: Name,
        /// The member.
        node: NodeId,
        /// Its host name, which is the node's name in Kubernetes.
        host: HostName,
        /// All labels that qb keeps there, at most 32, sorted by key, keys unique.
        labels: Vec<Label>,
        /// All taints that qb keeps there, at most 16, sorted by key and effect, each pair once.
        taints: Vec<Taint>,
    },
    /// Sets an add-on of a cluster: a manifest that is applied and kept.
    #[serde(rename = "cluster.addon.set")]
    ClusterAddonSet {
        /// The cluster.
        cluster: Name,
        /// The add-on's name.
        addon: Name,
        /// The manifest's lines, without their ends: at most 2,000, 28 KiB in all. No secret: all of it
        /// stands in the log.
        manifest: Vec<String>,
    },
    /// Removes an add-on with everything that its manifest made.
    #[serde(rename = "cluster.addon.remove")]
    ClusterAddonRemove {
        /// The cluster.
        cluster: Name,
        /// The add-on's name.
        addon: Name,
    },
}

impl Action {
    /// The name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SiteFound { .. } => "site.found",
            Self::NodeAuthorize { .. } => "node.authorize",
            Self::NodeRevoke { .. } => "node.revoke",
            Self::NodeLabel { .. } => "node.label",
            Self::ClusterCreate { .. } => "cluster.create",
            Self::ClusterAttach { .. } => "cluster.attach",
            Self::ClusterDetach { .. } => "cluster.detach",
            Self::ClusterDelete { .. } => "cluster.delete",
            Self::AdminAdd { .. } => "admin.add",
            Self::AdminRemove { .. } => "admin.remove",
            Self::AdminRole { .. } => "admin.role",
            Self::KeyAdd { .. } => "key.add",
            Self::KeyRevoke { .. } => "key.revoke",
            Self::PolicySet { .. } => "policy.set",
            Self::PublisherAdd { .. } => "publisher.add",
            Self::PublisherRemove { .. } => "publisher.remove",
            Self::RelayAdd { .. } => "relay.add",
            Self::RelayRemove { .. } => "relay.remove",
            Self::RelayRegister { .. } => "relay.register",
            Self::IntentRelease { .. } => "intent.release",
            Self::AgentUpgrade { .. } => "agent.upgrade",
            Self::AgentUpgradeStop { .. } => "agent.upgrade.stop",
            Self::IntentCancel { .. } => "intent.cancel",
            Self::TokenMint { .. } => "token.mint",
            Self::TokenRevoke { .. } => "token.revoke",
            Self::ClusterUpgrade { .. } => "cluster.upgrade",
            Self::ClusterUpgradeStop { .. } => "cluster.upgrade.stop",
            Self::ClusterBackup { .. } => "cluster.backup",
            Self::ClusterRestore { .. } => "cluster.restore",
            Self::ClusterLabel { .. } => "cluster.label",
            Self::ClusterAddonSet { .. } => "cluster.addon.set",
            Self::ClusterAddonRemove { .. } => "cluster.addon.remove",
        }
    }
}
