//! What is wrong at a site, told once: alerts that fire, go on and resolve, as a pure function of what
//! the leader sees and of what it said before.
//!
//! ```text
//!  Scene (state, board, history) ─ rules ─> Reading per rule and subject ─┐
//!  Kept (fires, brews, resolved lately) ──────────────────────────────────┴─> Verdict ─> Kept
//! ```
//! A reading is bad, well, or neither: between two thresholds, or without force. Only bad readings
//! fire, only well ones that last resolve, so that nothing flaps at a threshold.

mod kept;
mod rules;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::history::History;
use crate::ids::{Millis, Name, NodeId};
use crate::state::SiteState;

pub use kept::{Kept, Mark, News};

/// A leader that has just begun, or was stopped for a while, has heard nobody yet: for so many
/// milliseconds it calls nobody silent. As long as the silence itself, so that everybody could speak.
pub const GRACE_MS: u64 = crate::plan::why::SILENT_MS;
/// How long resolved alerts are listed, in milliseconds.
pub const RESOLVED_MS: u64 = crate::limits::DAY_MS;
/// Resolved alerts that are listed at most: the latest.
pub const MAX_RESOLVED: usize = 256;
/// Alerts that fire at most. At 300 bytes each they and the resolved ones fit an answer of 1 MiB.
pub const MAX_FIRING: usize = 2_000;
/// Characters of an alert's sentence.
pub const TEXT_CHARS: usize = 160;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// Something will fail, or what failed has others beside it.
    Warning,
    /// Something that the site needs has failed, or will within hours.
    Critical,
}

impl Severity {
    /// The word shown to people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Which layer an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Layer {
    /// The machine.
    Host,
    /// What Kubernetes is made of.
    Kubernetes,
    /// What runs on Kubernetes and belongs to it. No rule watches it yet.
    AddOn,
    /// qb itself.
    Qb,
}

impl Layer {
    /// The word in views.
    pub fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Kubernetes => "kubernetes",
            Self::AddOn => "add-on",
            Self::Qb => "qb",
        }
    }
}

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rule {
    /// A node that came in sends no reports.
    NodeSilent,
    /// The file system of an agent's state is nearly full.
    DiskNearlyFull,
    /// A member of a cluster that serves is silent, or a unit of it is not well.
    ClusterDegraded,
    /// A step of a node's order fails and is tried again.
    StepFailed,
    /// The site has no leader. Never judged: a door that finds none says so itself.
    SiteLeader,
    /// An agent ends and is started again, and again. Last, as lists go from node to node by number.
    AgentRestarting,
    /// An upgrade of agents ended at a node that failed.
    AgentUpgradeHalted,
    /// Certificates of a control plane node end within weeks: no renewal has succeeded for long.
    CertificatesExpire,
}

impl Rule {
    /// All rules.
    pub const ALL: [Self; 8] = [
        Self::NodeSilent,
        Self::DiskNearlyFull,
        Self::ClusterDegraded,
        Self::StepFailed,
        Self::SiteLeader,
        Self::AgentRestarting,
        Self::AgentUpgradeHalted,
        Self::CertificatesExpire,
    ];

    /// The stable name.
    pub fn word(self) -> &'static str {
        match self {
            Self::NodeSilent => "node-silent",
            Self::DiskNearlyFull => "disk-nearly-full",
            Self::ClusterDegraded => "cluster-degraded",
            Self::StepFailed => "step-failed",
            Self::SiteLeader => "site-leader",
            Self::AgentRestarting => "agent-restarting",
            Self::AgentUpgradeHalted => "agent-upgrade-halted",
            Self::CertificatesExpire => "certificates-expire",
        }
    }

    /// Its layer.
    pub fn layer(self) -> Layer {
        match self {
            Self::NodeSilent | Self::DiskNearlyFull => Layer::Host,
            Self::ClusterDegraded | Self::CertificatesExpire => Layer::Kubernetes,
            Self::StepFailed | Self::SiteLeader | Self::AgentRestarting | Self::AgentUpgradeHalted => {
                Layer::Qb
            }
        }
    }

    /// What to type about `subject`, with the machine in front where it matters.
    pub fn remedy(self, subject: &str) -> String {
        match self {
            Self::NodeSilent => format!("on {subject}: systemctl status qb-agent"),
            Self::DiskNearlyFull => format!("on {subject}: du -xhd2 / | sort -h | tail"),
            Self::ClusterDegraded => format!("qb cluster show {subject}"),
            Self::StepFailed => format!("qb node show {subject}"),
            Self::SiteLeader => "qb site status".to_owned(),
            // Why it ended stands in the journal; what it is to do, in the site's state.
            Self::AgentRestarting => {
                format!("on {subject}: journalctl -u qb-agent -p warning; qb node show {subject}")
            }
            Self::AgentUpgradeHalted => "qb agent list".to_owned(),
            // Why no renewal succeeded stands there.
            Self::CertificatesExpire => {
                format!("on {subject}: journalctl -u qb-exec -p warning; qb node show {subject}")
            }
        }
    }

    /// How long readings must have been bad before it fires, in milliseconds. A unit that is started
    /// again at once is no alert; one that falls again and again is.
    fn hold_ms(self) -> u64 {
        match self {
            Self::ClusterDegraded => 2_000,
            _ => 0,
        }
    }

    /// How long readings must have been well before it resolves, in milliseconds: longer than one
    /// report counts as fresh, so that a single one resolves nothing.
    fn clear_ms(self) -> u64 {
        match self {
            Self::DiskNearlyFull | Self::AgentUpgradeHalted => 0,
            Self::ClusterDegraded => 5_000,
            _ => 3_000,
        }
    }
}

/// What an alert is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum About {
    /// A node.
    Node(NodeId),
    /// A cluster.
    Cluster(Name),
    /// The site.
    Site,
}

/// Tells alerts apart: one rule fires once about one thing.
pub type Key = (Rule, About);

/// An alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// What is watched.
    pub rule: Rule,
    /// What it is about.
    pub about: About,
    /// What that is called.
    pub subject: String,
    /// How bad it is.
    pub severity: Severity,
    /// The sentence after the subject, with its number.
    pub text: String,
    /// When the trouble began, by the clock of the leader that saw it.
    pub since: Millis,
    /// When it was over; none while it fires.
    pub resolved: Option<Millis>,
}

impl Alert {
    /// What tells it apart.
    pub fn key(&self) -> Key {
        (self.rule, self.about.clone())
    }

    /// What a door says that finds no leader to ask.
    pub fn without_leader(site: &Name, (answer, voters): (usize, usize), since: Millis) -> Self {
        let must = voters / 2 + 1;
        Self {
            rule: Rule::SiteLeader,
            about: About::Site,
            subject: site.to_string(),
            severity: Severity::Critical,
            text: format!(
                "has no leader that this door can ask: {answer} of {voters} voters answer, {must} must"
            ),
            since,
            resolved: None,
        }
    }
}

/// What the leader sees.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// The state.
    pub state: &'a SiteState,
    /// The board.
    pub board: &'a Board,
    /// The last hour, for trends.
    pub history: &'a History,
    /// Who votes.
    pub voters: &'a BTreeSet<NodeId>,
    /// Since when this leader has listened without a break: see [`GRACE_MS`].
    pub watching: Millis,
}

/// What a judgement came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Began to fire now.
    pub fired: Vec<Alert>,
    /// Fired before and became critical now.
    pub worsened: Vec<Alert>,
    /// Fired before and go on, the worsened ones too.
    pub ongoing: Vec<Alert>,
    /// Resolved now.
    pub resolved: Vec<Alert>,
    /// What the next judgement needs.
    pub kept: Kept,
}

impl Verdict {
    /// What is worth an event: nothing that only goes on.
    pub fn news(&self) -> Vec<News> {
        let with = |all: &[Alert], make: fn(Alert) -> News| all.iter().cloned().map(make).collect::<Vec<_>>();
        let mut news = with(&self.resolved, News::Resolved);
        news.extend(with(&self.fired, News::Fired));
        news.extend(with(&self.worsened, News::Worsened));
        news
    }
}

/// Judges what is seen `now`, after what was said before. The same sight twice changes nothing.
pub fn judge(scene: &Scene<'_>, now: Millis, before: &Kept) -> Verdict {
    before.next(rules::readings(scene, now, before), now)
}
