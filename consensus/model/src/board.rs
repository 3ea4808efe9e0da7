//! The board: the latest report of every node. Never in the Raft log, may be stale, decides nothing
//! that is final. Latest wins by (incarnation, sequence), so late and repeated reports do no harm.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::assignment::Stage;
use crate::facts::Facts;
use crate::ids::{Digest, Generation, Millis, Name, NodeId, PublicKey, RaftId};

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// Looks whether anything is to do.
    Checking,
    /// Does it.
    Applying,
    /// Looks whether it took.
    Verifying,
    /// Done.
    Done,
    /// Failed; will be tried again.
    Failed,
}

impl StepState {
    /// The word shown to people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Checking => "checking",
            Self::Applying => "applying",
            Self::Verifying => "verifying",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// What a node is doing for its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The assignment's generation.
    pub generation: Generation,
    /// The stage.
    pub stage: Stage,
    /// Running step, from 1.
    pub step: u16,
    /// Steps in all.
    pub steps: u16,
    /// The step's title.
    pub title: String,
    /// Where it stands.
    pub state: StepState,
    /// Since when, by the node's clock.
    pub since: Millis,
    /// How often the stage was tried.
    pub tries: u32,
    /// What failed and the remedy.
    pub error: Option<(String, String)>,
}

/// What a control plane node is doing to take another one out of its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Releasing {
    /// The node that leaves.
    pub node: NodeId,
    /// Since when, by the clock of who says this.
    pub since: Millis,
    /// The step at work.
    pub title: String,
    /// What it waits for, or what failed; empty while it goes on.
    pub text: String,
    /// What helps; empty while nothing failed.
    pub remedy: String,
}

/// What a control plane node keeps inside its cluster, and how that went last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keeping {
    /// The add-on; none for labels and taints of nodes.
    pub addon: Option<Name>,
    /// The intent that says what is kept.
    pub cites: Digest,
    /// Since when it is so, by the clock of who says this.
    pub since: Millis,
    /// What failed; empty where it is as it should be.
    pub text: String,
    /// What helps; empty where nothing failed.
    pub remedy: String,
}

/// A supervised unit on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// The cluster it serves.
    pub cluster: Name,
    /// Its name.
    pub name: String,
    /// `running`, `restarting`, `stopped`.
    pub state: String,
    /// Whether that is as it should be.
    pub well: bool,
}

/// A backup of a cluster's store that a control plane node keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// When it was taken, by the node's clock.
    pub taken: Millis,
    /// SHA-256 of the snapshot.
    pub digest: Digest,
    /// Bytes of the snapshot.
    pub bytes: u64,
    /// The store's revision in it.
    pub revision: u64,
    /// The intent that asked for it; none if the schedule did.
    pub asked: Option<Digest>,
}

/// What a control plane node does for itself again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upkeep {
    /// Its cluster.
    pub cluster: Name,
    /// The certificate that ends first, by its file below `/etc/kubernetes`; empty if they cannot be read.
    pub certificate: String,
    /// When that is; 0 if they cannot be read.
    pub ends: Millis,
    /// The backups that it keeps, newest first.
    pub backups: Vec<Backup>,
    /// What did not succeed, and what to do; both empty while all goes well.
    pub trouble: (String, String),
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Version of this form: 1.
    pub v: u8,
    /// The node.
    pub node: NodeId,
    /// Rises with every start of the agent.
    pub incarnation: u64,
    /// Rises with every report.
    pub sequence: u64,
    /// What the host is.
    pub facts: Facts,
    /// Addresses of its mesh listener, text.
    pub mesh: Vec<String>,
    /// Load average over one minute, in thousandths.
    pub load_milli: u32,
    /// Used memory in bytes; all of it is in the facts, as are the sizes of the disk.
    pub memory_used_bytes: u64,
    /// Seconds since the host was booted.
    pub uptime_s: u64,
    /// When the agent started, by the node's clock.
    pub started: Millis,
    /// What it is doing.
    pub work: Option<Work>,
    /// Nodes that it takes out of its cluster.
    pub releasing: Vec<Releasing>,
    /// What it keeps inside its cluster.
    pub keeping: Vec<Keeping>,
    /// Its units.
    pub units: Vec<Unit>,
    /// Last log index that it has applied.
    pub applied: u64,
    /// Relays that it holds a link to.
    pub uplinks: Vec<PublicKey>,
    /// How often the agent started in the last [`RESTARTS_MS`] after it had ended without being asked
    /// to, by the node's clock.
    pub restarts: u32,
    /// What it does for its cluster's control plane by itself; none where it has no part of one.
    pub upkeep: Option<Upkeep>,
    /// The seat that the state gives it and that it does not take, since it held it before and lost its log.
    pub lost_seat: Option<RaftId>,
}

/// How far back unasked restarts of an agent are counted, in milliseconds.
pub const RESTARTS_MS: u64 = 600_000;
/// Most units in a report: a node serves one cluster, which has a handful.
pub const MAX_UNITS: usize = 64;
/// Most nodes that one takes out at a time.
pub const MAX_RELEASING: usize = 16;
/// Most things that are kept in a cluster and told: its add-ons, removed ones, and labels.
pub const MAX_KEEPING: usize = 40;
/// Most bytes of each text about one that is taken out, about upkeep, or about a thing that is kept.
pub const RELEASING_BYTES: usize = 512;
/// Most backups in a report: a node keeps ten.
pub const MAX_BACKUPS: usize = 16;
/// Most bytes of a memory or a disk, and most seconds since a boot, that are believed: 8 PiB,
/// which every JSON implementation reads exactly, and sums over a site fit a `u64`.
const MOST: u64 = 1 << 53;

impl NodeReport {
    /// Brings the figures into what a machine can have: free is at most the whole, and so is used.
    pub fn bound(&mut self) {
        let facts = &mut self.facts;
        facts.memory_bytes = facts.memory_bytes.min(MOST);
        facts.disk_bytes = facts.disk_bytes.min(MOST);
        facts.disk_free_bytes = facts.disk_free_bytes.min(facts.disk_bytes);
        self.memory_used_bytes = self.memory_used_bytes.min(facts.memory_bytes);
        self.uptime_s = self.uptime_s.min(MOST);
        self.units.truncate(MAX_UNITS);
        self.releasing.truncate(MAX_RELEASING);
        for at in &mut self.releasing {
            for text in [&mut at.title, &mut at.text, &mut at.remedy] {
                cut(text);
            }
        }
        if let Some(upkeep) = &mut self.upkeep {
            upkeep.backups.truncate(MAX_BACKUPS);
            for text in [&mut upkeep.certificate, &mut upkeep.trouble.0, &mut upkeep.trouble.1] {
                cut(text);
            }
        }
        self.keeping.truncate(MAX_KEEPING);
        for at in &mut self.keeping {
            for text in [&mut at.text, &mut at.remedy] {
                cut(text);
            }
        }
    }

    /// Used bytes on the file system that holds the agent's state.
    pub fn disk_used_bytes(&self) -> u64 {
        self.facts.disk_bytes.saturating_sub(self.facts.disk_free_bytes)
    }
}

fn cut(text: &mut String) {
    let end = (0..=RELEASING_BYTES).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or_default());
}

/// A report and when it was heard, by the listener's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The report.
    pub report: NodeReport,
    /// When.
    pub at: Millis,
}

/// Most nodes that a board holds.
pub const MAX_NODES: usize = 10_000;

/// The latest report of every node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Board {
    reports: BTreeMap<NodeId, Heard>,
}

impl Board {
    /// Takes a report in; false if it is older than the one held or the board is full.
    pub fn hear(&mut self, report: NodeReport, at: Millis) -> bool {
        let newer = match self.reports.get(&report.node) {
            Some(held) => {
                (report.incarnation, report.sequence) > (held.report.incarnation, held.report.sequence)
            }
            None => self.reports.len() < MAX_NODES,
        };
        if newer {
            self.reports.insert(report.node, Heard { report, at });
        }
        newer
    }

    /// The latest report of a node.
    pub fn get(&self, node: &NodeId) -> Option<&Heard> {
        self.reports.get(node)
    }

    /// All reports.
    pub fn iter(&self) -> impl Iterator<Item = &Heard> {
        self.reports.values()
    }

    /// Drops nodes that `keep` does not name.
    pub fn retain(&mut self, keep: impl Fn(&NodeId) -> bool) {
        self.reports.retain(|node, _| keep(node));
    }

    /// Takes over what another board knows better.
    pub fn merge(&mut self, other: Self, skew: impl Fn(Millis) -> Millis) {
        for heard in other.reports.into_values() {
            let at = skew(heard.at);
            self.hear(heard.report, at);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ids::HostName;

    pub(crate) fn report(node: u8, incarnation: u64, sequence: u64) -> NodeReport {
        NodeReport {
            v: 1,
            node: NodeId([node; 32]),
            incarnation,
            sequence,
            facts: Facts {
                host: format!("n{node}").parse::<HostName>().unwrap(),
                addresses: vec![format!("127.0.0.{node}")],
                cores: 2,
                memory_bytes: 1 << 30,
                disk_bytes: 1 << 40,
                disk_free_bytes: 1 << 39,
                os: String::new(),
                kernel: String::new(),
                arch: "x86_64".into(),
                agent: "0.1.0".into(),
                zone: String::new(),
            },
            mesh: Vec::new(),
            load_milli: 0,
            memory_used_bytes: 0,
            uptime_s: 60,
            started: Millis(5),
            work: None,
            releasing: Vec::new(),
            keeping: Vec::new(),
            units: Vec::new(),
            applied: 0,
            uplinks: Vec::new(),
            restarts: 0,
            upkeep: None,
            lost_seat: None,
        }
    }

    #[test]
    fn latest_wins_whatever_the_order() {
        let mut board = Board::default();
        assert!(board.hear(report(1, 2, 1), Millis(10)));
        assert!(!board.hear(report(1, 1, 99), Millis(11)), "an earlier start");
        assert!(!board.hear(report(1, 2, 1), Millis(12)), "a repetition");
        assert!(board.hear(report(1, 2, 2), Millis(13)));
        assert_eq!(board.get(&NodeId([1; 32])).unwrap().at, Millis(13));
    }

    #[test]
    fn figures_are_what_a_machine_can_have() {
        let mut said = report(1, 1, 1);
        said.facts.disk_free_bytes = u64::MAX;
        said.facts.memory_bytes = u64::MAX;
        (said.memory_used_bytes, said.uptime_s) = (u64::MAX, u64::MAX);
        said.bound();
        assert_eq!((said.facts.disk_free_bytes, said.disk_used_bytes()), (1 << 40, 0));
        assert_eq!((said.memory_used_bytes, said.facts.memory_bytes, said.uptime_s), (MOST, MOST, MOST));
        let before = said.clone();
        said.bound();
        assert_eq!(said, before);
    }
}
