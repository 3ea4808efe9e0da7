//! A site and what belongs to it as a whole: head, voters, admins, bundles.

use qb_model::action::{KeyClass, Role};
use qb_model::waiting::WaitingOn;
use qb_model::{Digest, Generation, HostName, Millis, Name, NodeId, PublicKey, SiteId, Version};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::mirror;

/// The chain head that an intent is anchored to and where the site stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Head {
    /// Index of the last chained entry (0 before founding).
    pub index: u64,
    /// The chain's head there (before founding: the SiteId).
    #[schema(value_type = String)]
    pub hash: Digest,
    /// The trust log's head.
    #[schema(value_type = String)]
    pub trust: Digest,
    /// The state machine's clock.
    #[schema(value_type = u64)]
    pub log_time: Millis,
}

/// A voter as the site shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VoterView {
    /// The node.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// Its name.
    #[schema(value_type = String)]
    pub host: HostName,
    /// Its Raft id.
    pub raft_id: u64,
    /// Whether it leads.
    pub leader: bool,
    /// Whether it is connected to the node that answers.
    pub connected: bool,
}

/// A relay that the site trusts, and who holds a link to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RelayView {
    /// Its address.
    pub url: String,
    /// Its key.
    #[schema(value_type = String)]
    pub key: PublicKey,
    /// Members that hold a link, as they report; at the relay's own door the gateway comes first, the
    /// standby after it.
    pub links: Vec<LinkView>,
}

/// A member that holds a link to a relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinkView {
    /// The node.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// Its name.
    #[schema(value_type = String)]
    pub host: HostName,
}

/// A site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SiteView {
    /// Version of this document: 1.
    pub v: u8,
    /// Its id.
    #[schema(value_type = String)]
    pub id: SiteId,
    /// Its words, to compare.
    pub words: String,
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
    /// False until the first authorize founds the Raft group.
    pub founded: bool,
    /// `provisional` until there are two owner keys of different classes or a recovery key, then `settled`.
    pub trust: String,
    /// The node that answers.
    pub door: DoorView,
    /// Where the site stands, as the answering node has it.
    pub head: Head,
    /// Voters.
    pub voters: Vec<VoterView>,
    /// The leader, if one is known.
    #[schema(value_type = Option<String>)]
    pub leader: Option<NodeId>,
    /// The Raft term.
    pub term: u64,
    /// How many voters may fail now.
    pub may_fail: u32,
    /// Relays that the site trusts, by key.
    pub relays: Vec<RelayView>,
    /// Nodes by state.
    pub counts: Counts,
    /// Clusters in all.
    pub clusters: u32,
    /// The last upgrade of agents, if there was one. Doors that are older than this field leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_upgrade: Option<AgentUpgradeView>,
    /// Why nothing happens.
    #[schema(value_type = Vec<mirror::WaitingOn>)]
    pub waiting_on: Vec<WaitingOn>,
}

/// Where an upgrade of agents is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AgentUpgradeState {
    /// Nodes are upgraded, one wave after the other.
    Rolling,
    /// Nobody else is upgraded.
    Halted,
    /// Every node runs the version.
    Done,
}

/// An upgrade of all agents. How far each node is, its own view says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentUpgradeView {
    /// The intent that ordered it.
    #[schema(value_type = String)]
    pub intent: Digest,
    /// Digest of the bundle.
    #[schema(value_type = String)]
    pub bundle: Digest,
    /// The version that it brings.
    #[schema(value_type = String)]
    pub version: Version,
    /// Names of the first wave.
    #[schema(value_type = Vec<String>)]
    pub first: Vec<HostName>,
    /// Nodes at the same time.
    pub batch: u16,
    /// Where it is.
    pub state: AgentUpgradeState,
    /// Since when.
    #[schema(value_type = u64)]
    pub since: Millis,
    /// Nodes that run the version.
    pub done: u32,
    /// Nodes of the site.
    pub nodes: u32,
    /// What it waits for, or why it is halted and what begins it again.
    #[schema(value_type = Option<mirror::WaitingOn>)]
    pub waiting_on: Option<WaitingOn>,
}

/// The node that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DoorView {
    /// The node.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// Its name.
    #[schema(value_type = String)]
    pub host: HostName,
    /// Version of its agent.
    pub agent: String,
}

/// How many nodes are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// Knocking.
    pub waiting: u32,
    /// In the pool.
    pub pool: u32,
    /// Attached.
    pub attached: u32,
    /// Detaching.
    pub detaching: u32,
}

/// An admin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdminView {
    /// Id.
    #[schema(value_type = String)]
    pub admin: Name,
    /// The person's name.
    pub name: String,
    /// Role.
    #[schema(value_type = mirror::Role)]
    pub role: Role,
    /// Generation, for `expect`.
    #[schema(value_type = u64)]
    pub generation: Generation,
    /// Keys.
    pub keys: Vec<AdminKeyView>,
}

/// A key of an admin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdminKeyView {
    /// The key.
    #[schema(value_type = String)]
    pub key: PublicKey,
    /// Its fingerprint.
    pub fingerprint: String,
    /// Its class.
    #[schema(value_type = mirror::KeyClass)]
    pub class: KeyClass,
    /// When it ends.
    #[schema(value_type = Option<u64>)]
    pub expires: Option<Millis>,
}

/// A bundle that the site holds or knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BundleView {
    /// Digest of its manifest.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Name: the driver it is for.
    #[schema(value_type = String)]
    pub name: Name,
    /// Version.
    #[schema(value_type = String)]
    pub version: Version,
    /// Size in bytes.
    pub size: u64,
    /// The publisher's name, if the site accepts it.
    #[schema(value_type = Option<String>)]
    pub publisher: Option<Name>,
}
