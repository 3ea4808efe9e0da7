//! What doors answer, as far as it is looked at here. Other members may be there.

use serde::Deserialize;

/// Where a site stands.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Head {
    /// Records in the audit chain.
    pub index: u64,
    /// The chain's head.
    pub hash: String,
    /// The trust log's head.
    pub trust: String,
}

/// A voter.
#[derive(Debug, Clone, Deserialize)]
pub struct Voter {
    /// Its host.
    pub host: String,
    /// Whether it leads.
    pub leader: bool,
    /// Whether the door is connected to it.
    pub connected: bool,
    /// The number of its seat.
    pub raft_id: u64,
}

/// A site.
#[derive(Debug, Clone, Deserialize)]
pub struct Site {
    /// Its id.
    pub id: String,
    /// Whether it was founded.
    pub founded: bool,
    /// Where it stands.
    pub head: Head,
    /// Its voters.
    pub voters: Vec<Voter>,
}

/// Why nothing happens.
#[derive(Debug, Clone, Deserialize)]
pub struct WaitingOn {
    /// The stable code.
    pub code: String,
    /// The sentence.
    pub text: String,
}

/// An alert.
#[derive(Debug, Clone, Deserialize)]
pub struct Alert {
    /// The rule's stable name.
    pub rule: String,
    /// `critical` or `warning`.
    pub severity: String,
    /// What it is about.
    pub subject: String,
    /// The sentence after the subject.
    pub text: String,
    /// When the trouble began.
    pub since: u64,
    /// When it was over.
    pub resolved: Option<u64>,
}

/// One step of a history.
#[derive(Debug, Clone, Deserialize)]
pub struct Sample {
    /// When it began.
    pub at: u64,
    /// Nodes that were heard in it.
    pub nodes: u32,
    /// Used memory.
    pub memory_used_bytes: u64,
    /// Used disk.
    pub disk_used_bytes: u64,
}

/// The last hour of a node or of the site.
#[derive(Debug, Clone, Deserialize)]
pub struct History {
    /// The node's name.
    pub node: Option<String>,
    /// Milliseconds between two samples.
    pub step_ms: u64,
    /// What was heard.
    pub samples: Vec<Sample>,
}

/// What a machine says of itself.
#[derive(Debug, Clone, Deserialize)]
pub struct Facts {
    /// Logical processors.
    pub cores: u32,
    /// Memory.
    pub memory_bytes: u64,
    /// Failure domain.
    pub zone: String,
}

/// A node.
#[derive(Debug, Clone, Deserialize)]
pub struct Node {
    /// Its key.
    pub id: String,
    /// Its host name.
    pub name: String,
    /// Its words.
    pub words: String,
    /// `waiting`, `pool`, `attached`, `detaching`, `revoked`.
    pub state: String,
    /// Its generation.
    pub generation: u64,
    /// Digest of its knock, while it waits.
    pub knock: Option<String>,
    /// Its cluster.
    pub cluster: Option<String>,
    /// Its role there.
    pub role: Option<String>,
    /// `voter`, `leader`.
    pub roles: Vec<String>,
    /// Let in by a token or a browser's key.
    #[serde(default)]
    pub probation: bool,
    /// Labels as `key=value`.
    pub labels: Vec<String>,
    /// What it says of itself.
    pub facts: Option<Facts>,
    /// Age of its last report.
    pub report_age_ms: Option<u64>,
    /// Why nothing happens.
    pub waiting_on: Option<WaitingOn>,
}

/// A running step.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
pub struct Work {
    /// The stage.
    pub stage: String,
    /// Number of the step.
    pub step: u16,
    /// Its title.
    pub title: String,
    /// `checking`, `applying`, `verifying`, `done`, `failed`.
    pub state: String,
}

/// A member of a cluster.
#[derive(Debug, Clone, Deserialize)]
pub struct Member {
    /// Its host.
    pub host: String,
    /// Its role.
    pub role: String,
    /// The last stage that is done.
    pub done: String,
    /// Units that are not well.
    pub unwell: Vec<String>,
    /// What it is doing.
    pub work: Option<Work>,
}

/// A stage of a change.
#[derive(Debug, Clone, Deserialize)]
pub struct Stage {
    /// Its word.
    pub word: String,
    /// When it began.
    pub began: Option<u64>,
    /// When it ended.
    pub ended: Option<u64>,
}

/// A cluster.
#[derive(Debug, Clone, Deserialize)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: String,
    /// Its generation.
    pub generation: u64,
    /// Its version.
    pub version: String,
    /// Its bundle.
    pub bundle: String,
    /// Its members.
    pub members: Vec<Member>,
    /// Stages of its last change.
    pub stages: Vec<Stage>,
    /// Why nothing happens.
    pub waiting_on: Option<WaitingOn>,
}
