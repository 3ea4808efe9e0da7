//! The rules: what one look at the site says of each thing that is watched.

use std::collections::BTreeMap;

use super::kept::span;
use super::{About, GRACE_MS, Kept, Key, Rule, Scene, Severity, TEXT_CHARS};
use crate::action::NodeRole;
use crate::board::{Heard, NodeReport, RESTARTS_MS, StepState};
use crate::ids::Millis;
use crate::plan::why::{self, SILENT_MS};
use crate::state::{AgentUpgrade, Cluster, ClusterPhase, NodeRecord, UpgradePhase};

/// A report is fresh for this long: half a silence, so that between fresh and silent is room.
const FRESH_MS: u64 = SILENT_MS / 2;
/// Thousandths of a disk in use, from which it is nearly full. At 85 % a kubelet throws images away.
const DISK_WARNING: u64 = 900;
/// From here on it is critical.
const DISK_CRITICAL: u64 = 950;
/// Below this a critical one is only a warning again.
const DISK_CALMER: u64 = 930;
/// Below this it is well again.
const DISK_WELL: u64 = 850;
/// Unasked restarts of an agent within ten minutes, from which it is a crash loop. One may be a kernel
/// that ran out of memory, two an administrator with `kill`.
const RESTARTS_BAD: u32 = 3;
/// What is left of certificates when the site is told, in milliseconds: they are renewed when 90 days are left,
/// so that none has succeeded for two months.
const CERTIFICATES_WELL: u64 = 30 * crate::limits::DAY_MS;
/// The same when it is critical: a week, in which everybody is away who could do something.
const CERTIFICATES_CRITICAL: u64 = 7 * crate::limits::DAY_MS;
/// A time until it is full is told if it is at most this long, in hours: a week.
const FULL_HOURS: u64 = 7 * 24;

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) severity: Severity,
    /// The sentence after the subject.
    pub(super) text: String,
    /// When it began, if that can be told; now otherwise.
    pub(super) since: Millis,
}

/// What one look says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reading {
    /// That is wrong.
    Bad(Trouble),
    /// Nothing is.
    Well,
    /// Between the thresholds, or nobody can tell: what was said before holds.
    Unsure,
}

/// What is said of everything that is watched, with what it is called.
pub(super) fn readings(scene: &Scene<'_>, now: Millis, before: &Kept) -> BTreeMap<Key, (String, Reading)> {
    let look = Look { scene, now, force: scene.has_force(now) };
    let mut all = BTreeMap::new();
    for node in scene.state.nodes().values().filter(|n| n.present()) {
        let mut add = |rule, reading| {
            all.insert((rule, About::Node(node.node)), (node.host.to_string(), reading));
        };
        let key = (Rule::DiskNearlyFull, About::Node(node.node));
        add(Rule::NodeSilent, look.silence(node));
        add(Rule::DiskNearlyFull, look.disk(node, before.severity(&key)));
        add(Rule::StepFailed, look.step(node));
        add(Rule::AgentRestarting, look.restarts(node));
        if node.phase.role() == Some(NodeRole::ControlPlane) {
            add(Rule::CertificatesExpire, look.certificates(node));
        }
    }
    if let Some(upgrade) = scene.state.agent_upgrade() {
        let key = (Rule::AgentUpgradeHalted, About::Site);
        all.insert(key, (scene.state.name().to_string(), look.upgrade(upgrade)));
    }
    for cluster in scene.state.clusters().values().filter(|c| c.phase == ClusterPhase::Ready) {
        let key = (Rule::ClusterDegraded, About::Cluster(cluster.name.clone()));
        all.insert(key, (cluster.name.to_string(), look.cluster(cluster)));
    }
    all
}

impl Scene<'_> {
    /// Whether this leader's word on who is silent counts: it has listened long enough, and hears a
    /// majority of the voters. Who hears nobody is cut off itself.
    fn has_force(&self, now: Millis) -> bool {
        let heard = |h: &Heard| now.since(h.at) < SILENT_MS;
        let hears = self.voters.iter().filter(|v| self.board.get(v).is_some_and(heard)).count();
        now.since(self.watching) >= GRACE_MS && hears * 2 > self.voters.len()
    }
}

struct Look<'a> {
    scene: &'a Scene<'a>,
    now: Millis,
    force: bool,
}

impl Look<'_> {
    /// The report of a node that is not silent.
    fn report(&self, node: &NodeRecord) -> Option<&NodeReport> {
        let heard = self.scene.board.get(&node.node)?;
        (self.now.since(heard.at) < SILENT_MS).then_some(&heard.report)
    }

    fn silence(&self, node: &NodeRecord) -> Reading {
        let heard = self.scene.board.get(&node.node).map(|h| h.at);
        // One that this leader never heard is silent since it listens.
        let last = heard.unwrap_or(self.scene.watching);
        let age = self.now.since(last);
        if heard.is_some() && age < FRESH_MS {
            return Reading::Well;
        }
        if !self.force || age < SILENT_MS {
            return Reading::Unsure;
        }
        Reading::Bad(Trouble {
            severity: self.severity_of(node),
            text: format!("is silent: no report for {}", span(age)),
            since: last,
        })
    }

    /// How bad it is when this node is of no use: others need who votes and who runs a control plane.
    fn severity_of(&self, node: &NodeRecord) -> Severity {
        let control = node.phase.role() == Some(NodeRole::ControlPlane);
        let needed = self.scene.voters.contains(&node.node) || control;
        if needed { Severity::Critical } else { Severity::Warning }
    }

    /// Well only when it has stayed up for as long as restarts are counted: one that falls every few
    /// minutes does not flap.
    fn restarts(&self, node: &NodeRecord) -> Reading {
        let Some(report) = self.report(node) else { return Reading::Unsure };
        match report.restarts {
            0 => Reading::Well,
            count @ RESTARTS_BAD.. => Reading::Bad(Trouble {
                severity: self.severity_of(node),
                text: format!(
                    "has an agent that ended unasked and started again {count} times in {}",
                    span(RESTARTS_MS)
                ),
                since: self.now,
            }),
            _ => Reading::Unsure,
        }
    }

    fn disk(&self, node: &NodeRecord, before: Option<Severity>) -> Reading {
        let Some(report) = self.report(node).filter(|r| r.facts.disk_bytes > 0) else {
            return Reading::Unsure;
        };
        let (size, free) = (report.facts.disk_bytes, report.facts.disk_free_bytes);
        let used = u128::from(report.disk_used_bytes()) * 1_000 / u128::from(size);
        let used = u64::try_from(used).unwrap_or(u64::MAX);
        let severity = match (used, before) {
            (DISK_CRITICAL.., _) | (DISK_CALMER.., Some(Severity::Critical)) => Severity::Critical,
            (DISK_WARNING.., _) => Severity::Warning,
            // Between the thresholds a critical one is a warning that goes on.
            (DISK_WELL.., Some(_)) => Severity::Warning,
            (DISK_WELL.., None) => return Reading::Unsure,
            _ => return Reading::Well,
        };
        let growth = self.scene.history.disk_growth(&node.node, self.now);
        let full = growth.and_then(|bytes| full_in(free, bytes)).unwrap_or_default();
        let text = format!("has a disk that is {} % full: {} free{full}", used / 10, gib(free));
        Reading::Bad(Trouble { severity, text, since: self.now })
    }

    fn step(&self, node: &NodeRecord) -> Reading {
        let Some(report) = self.report(node) else { return Reading::Unsure };
        let order = node.assignment.as_ref().map(|a| a.generation);
        let work = report.work.as_ref().filter(|w| Some(w.generation) == order);
        let failed = work.filter(|w| w.state == StepState::Failed).and_then(|w| Some((w, w.error.as_ref()?)));
        match (failed, work) {
            (Some((work, (error, _))), _) => Reading::Bad(Trouble {
                severity: Severity::Warning,
                text: cut(format!("cannot {}, tried {} times: {error}", work.stage.word(), work.tries)),
                since: work.since.min(self.now),
            }),
            // The next try of a step that failed: only its end tells.
            (None, Some(work)) if work.error.is_some() && work.state != StepState::Done => Reading::Unsure,
            (None, _) => Reading::Well,
        }
    }

    /// By the node's own clock in the end: its certificates are judged by that one.
    fn certificates(&self, node: &NodeRecord) -> Reading {
        let of =
            |r: &&NodeReport| r.upkeep.as_ref().is_some_and(|u| Some(&u.cluster) == node.phase.cluster());
        let Some(upkeep) = self.report(node).filter(of).and_then(|r| r.upkeep.as_ref()) else {
            return Reading::Unsure;
        };
        let left = upkeep.ends.since(self.now);
        let (severity, mut text) = match left {
            // They cannot be read: which is told where the node's work is.
            _ if upkeep.certificate.is_empty() => return Reading::Unsure,
            0 => (Severity::Critical, format!("has certificates that have ended ({})", upkeep.certificate)),
            CERTIFICATES_WELL.. => return Reading::Well,
            left => {
                let critical = left < CERTIFICATES_CRITICAL;
                let severity = if critical { Severity::Critical } else { Severity::Warning };
                (severity, format!("has certificates that end in {} ({})", span(left), upkeep.certificate))
            }
        };
        if !upkeep.trouble.0.is_empty() {
            text = format!("{text}: {}", upkeep.trouble.0);
        }
        Reading::Bad(Trouble { severity, text: cut(text), since: self.now })
    }

    /// An upgrade that an owner stopped is what somebody wanted.
    fn upgrade(&self, upgrade: &AgentUpgrade) -> Reading {
        let UpgradePhase::Halted { node: Some(node), why } = &upgrade.phase else { return Reading::Well };
        let host = self.scene.state.node(node).map(|n| n.host.to_string()).unwrap_or_default();
        let text = cut(format!("has a halted upgrade to agent {}: {host} {why}", upgrade.version));
        Reading::Bad(Trouble { severity: Severity::Warning, text, since: upgrade.since })
    }

    fn cluster(&self, cluster: &Cluster) -> Reading {
        let state = self.scene.state;
        let members: Vec<&NodeRecord> = state.members(&cluster.name).filter(|n| n.phase.serves()).collect();
        let read: Vec<(&NodeRecord, Reading)> =
            members.into_iter().map(|n| (n, self.member(cluster, n))).collect();
        let bad: Vec<(&NodeRecord, &Trouble)> = read
            .iter()
            .filter_map(|(n, r)| if let Reading::Bad(trouble) = r { Some((*n, trouble)) } else { None })
            .collect();
        let control = |n: &NodeRecord| n.phase.role() == Some(NodeRole::ControlPlane);
        // Worst first: a cause in the control plane before one in a worker.
        if let Some((node, cause)) = bad.iter().max_by_key(|(n, _)| control(n)) {
            let planes = read.iter().filter(|(n, _)| control(n)).count();
            let lost = bad.iter().filter(|(n, _)| control(n)).count();
            let severity = if lost * 2 >= planes { Severity::Critical } else { Severity::Warning };
            let more = match bad.len() - 1 {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            let text = cut(format!("is degraded: {} {}{more}", node.host, cause.text));
            let since = bad.iter().map(|(_, t)| t.since).min().unwrap_or(self.now);
            return Reading::Bad(Trouble { severity, text, since });
        }
        let lost = why::of_cluster(state, self.scene.board, cluster, self.now);
        if let Some(lost) = lost.filter(|w| w.code == "cluster.control_plane") {
            return Reading::Bad(Trouble {
                severity: Severity::Critical,
                text: lost.text,
                since: lost.since,
            });
        }
        if read.iter().all(|(_, r)| *r == Reading::Well) { Reading::Well } else { Reading::Unsure }
    }

    /// How a member of a cluster is: heard of, and its units well.
    fn member(&self, cluster: &Cluster, node: &NodeRecord) -> Reading {
        let silence = self.silence(node);
        let Some(report) = self.report(node) else { return silence };
        match report.units.iter().find(|u| u.cluster == cluster.name && !u.well) {
            Some(unit) => Reading::Bad(Trouble {
                severity: Severity::Warning,
                text: format!("has {} {}", unit.name, unit.state),
                since: self.now,
            }),
            None => silence,
        }
    }
}

/// `, full in about 9 h`, if it grows by so many bytes an hour and that is soon.
fn full_in(free: u64, growth: u64) -> Option<String> {
    let minutes = u64::try_from(u128::from(free) * 60 / u128::from(growth.max(1))).ok()?;
    (minutes < FULL_HOURS * 60).then(|| format!(", full in about {}", span(minutes.max(1) * 60_000)))
}

/// Bytes as people say them.
fn gib(bytes: u64) -> String {
    const GIB: u64 = 1 << 30;
    if bytes < GIB {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{}.{} GiB", bytes / GIB, bytes % GIB * 10 / GIB)
    }
}

/// A sentence of a bounded length.
fn cut(mut text: String) -> String {
    if text.chars().count() > TEXT_CHARS {
        text = text.chars().take(TEXT_CHARS - 1).chain(['…']).collect();
    }
    text
}
