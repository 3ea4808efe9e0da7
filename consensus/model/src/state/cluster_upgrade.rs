//! Upgrades of a cluster: the first control plane node, the others one at a time, then the workers within
//! the budget that was signed; halted by the first node that returns.
//!
//! ```text
//! cluster.upgrade ─> Rolling ── every member that stays is done ──> Done (what the cluster installs)
//!                      └─ a node returned, or an admin stopped it ─> Halted ── cluster.upgrade ─> Rolling
//! ```

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::SiteState;
use super::cluster::{Cluster, ClusterPhase};
use super::nodes::{NodePhase, NodeRecord};
use super::upgrade::UpgradePhase;
use crate::action::{Action, NodeRole};
use crate::assignment::{Assignment, Citation, KUBEADM, Stage};
use crate::ids::{Digest, Generation, Millis, Name, NodeId, Version};
use crate::intent::ObjectRef;
use crate::limits::UPGRADE_WHY_BYTES;
use crate::outcome::Reason;
use crate::settings::ChosenSettings;
use crate::statement::NodeCommand;
use crate::strict::is_plain_text;

/// How far one member is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberUpgrade {
    /// It has its order.
    Ordered {
        /// The order's generation.
        generation: Generation,
        /// When, by log time.
        at: Millis,
    },
    /// It runs the version.
    Done {
        /// When, by log time.
        at: Millis,
    },
    /// It runs the version before.
    Returned {
        /// When, by log time.
        at: Millis,
        /// Why.
        why: String,
    },
}

/// An upgrade of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterUpgrade {
    /// The intent.
    pub cites: Citation,
    /// The version that it brings.
    pub version: Version,
    /// The manifest of the bundle that brings it.
    pub bundle: Digest,
    /// Workers at the same time.
    pub batch: u16,
    /// Where it is.
    pub phase: UpgradePhase,
    /// Since when, by log time.
    pub since: Millis,
    /// Members that were ordered.
    pub nodes: BTreeMap<NodeId, MemberUpgrade>,
}

impl ClusterUpgrade {
    /// Whether nodes are ordered.
    pub fn rolling(&self) -> bool {
        self.phase == UpgradePhase::Rolling
    }

    /// Whether a node runs the version.
    pub fn is_done(&self, node: &NodeId) -> bool {
        matches!(self.nodes.get(node), Some(MemberUpgrade::Done { .. }))
    }

    /// Whether a node has its order and has not answered.
    pub fn flies(&self, node: &NodeId) -> bool {
        matches!(self.nodes.get(node), Some(MemberUpgrade::Ordered { .. }))
    }
}

/// Major and minor number of a version.
fn minor(version: &Version) -> (u32, u32) {
    let mut numbers = version.as_str().split(['.', '-']).map(|part| part.parse().unwrap_or_default());
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

fn refuse<T>(code: &str, text: String, remedy: String) -> Result<T, Reason> {
    Err(Reason::Precondition { code: code.into(), text, remedy: Some(remedy) })
}

/// Whether a cluster at `from` may go to `to`: upwards, and no minor version is left out.
fn follows(name: &Name, from: &Version, to: &Version) -> Result<(), Reason> {
    let ((major, least), (to_major, next)) = (minor(from), minor(to));
    match to.precedence(from) {
        Ordering::Equal => Err(Reason::NoChange { what: format!("{name} at {from}: it") }),
        Ordering::Less => refuse(
            "downgrade",
            format!("{name} is at {from}, and {to} is older: a cluster never goes back"),
            format!("make another cluster: qb cluster create NAME --version {to}"),
        ),
        Ordering::Greater if (to_major, next) == (major, least) || (to_major, next) == (major, least + 1) => {
            Ok(())
        }
        Ordering::Greater => refuse(
            "skips_minor",
            format!("{name} is at {from}: between it and {to} lie versions that cannot be left out"),
            format!("upgrade to a version {major}.{} first: qb bundle list", least + 1),
        ),
    }
}

impl SiteState {
    pub(super) fn begin_cluster_upgrade(
        &mut self,
        name: &Name,
        (driver, settings): (&Name, Option<&ChosenSettings>),
        mut new: ClusterUpgrade,
    ) -> Result<Generation, Reason> {
        let cluster = self.idle_cluster(name)?;
        if cluster.driver != *driver || driver.as_str() != KUBEADM {
            return refuse(
                "driver",
                format!(
                    "{name} is of driver {}; only clusters of driver {KUBEADM} are upgraded",
                    cluster.driver
                ),
                format!("qb cluster show {name}"),
            );
        }
        if cluster.settings.chosen().as_ref() != settings {
            return refuse(
                "settings",
                format!(
                    "the upgrade names other networks or endpoints than those that {name} was created with"
                ),
                format!("qb cluster upgrade {name} --version {}", new.version),
            );
        }
        if cluster.phase != ClusterPhase::Ready {
            let doing = format!("{}, so there is nothing to upgrade", cluster.phase.word());
            return Err(Reason::ClusterBusy { cluster: name.clone(), doing });
        }
        let halted = cluster.upgrade.as_ref().filter(|u| !matches!(u.phase, UpgradePhase::Done));
        // Where nodes run a newer version already, that is what must not be gone back from.
        let reached = halted.filter(|u| self.staying(name).any(|n| u.is_done(&n.node)));
        let same = reached.is_some_and(|u| u.version == new.version && u.bundle == new.bundle);
        follows(name, &cluster.version, &new.version)?;
        if let Some(reached) = reached.filter(|_| !same) {
            follows(name, &reached.version, &new.version)?;
        }
        if let Some(halted) = halted.filter(|u| u.version == new.version && u.bundle == new.bundle) {
            // Whoever is done, or at it, stays so.
            let kept = halted.nodes.iter().filter(|(_, is)| !matches!(is, MemberUpgrade::Returned { .. }));
            new.nodes = kept.map(|(node, is)| (*node, is.clone())).collect();
        }
        let now = self.log_time;
        if let Some(cluster) = self.clusters.get_mut(name) {
            cluster.upgrade = Some(new);
            cluster.stages.clear();
            cluster.stage_begins("upgrade", now);
        }
        self.settle_cluster_upgrade(name);
        Ok(self.bump(ObjectRef::Cluster(name.clone())))
    }

    pub(super) fn stop_cluster_upgrade(
        &mut self,
        name: &Name,
        intent: &Digest,
        by: &Name,
    ) -> Result<Generation, Reason> {
        let cluster =
            self.clusters.get(name).ok_or_else(|| Reason::UnknownCluster { cluster: name.clone() })?;
        match cluster.upgrade.as_ref().filter(|u| u.cites.digest == *intent) {
            Some(upgrade) if upgrade.rolling() => {
                self.halt_cluster(name, None, format!("{by} stopped it"));
                Ok(self.bump(ObjectRef::Cluster(name.clone())))
            }
            Some(_) => Err(Reason::NoChange { what: "the upgrade does not go on any more: it".into() }),
            None => Err(Reason::UnknownIntent { digest: *intent }),
        }
    }

    fn halt_cluster(&mut self, name: &Name, node: Option<NodeId>, why: String) {
        let now = self.log_time;
        let Some(cluster) = self.clusters.get_mut(name) else { return };
        let Some(upgrade) = &mut cluster.upgrade else { return };
        upgrade.phase = UpgradePhase::Halted { node, why };
        upgrade.since = now;
        let digest = upgrade.cites.digest;
        cluster.stage_ends("upgrade", now);
        self.finish(&digest);
    }

    /// What a member installs, and the intent that says so.
    pub(super) fn software<'a>(
        &self,
        cluster: &'a Cluster,
        node: &NodeId,
    ) -> (&'a Version, Digest, Citation) {
        match cluster.upgrade.as_ref().filter(|u| u.is_done(node) && u.phase != UpgradePhase::Done) {
            Some(upgrade) => (&upgrade.version, upgrade.bundle, upgrade.cites),
            None => (&cluster.version, cluster.bundle, cluster.installed),
        }
    }

    /// The order to upgrade that the state implies for a member: budget and turns. What only the moment
    /// knows (who answers) is the planner's part.
    pub(super) fn implied_upgrade(&self, node: &NodeId) -> Option<Assignment> {
        let record = self.nodes.get(node).filter(|n| n.phase.serves())?;
        let name = record.phase.cluster()?;
        let cluster = self.clusters.get(name)?;
        let upgrade = cluster.upgrade.as_ref().filter(|u| u.rolling() && !self.held(&u.cites))?;
        if upgrade.nodes.contains_key(node) || cluster.attach.is_some() {
            return None;
        }
        let rules = |n: &NodeRecord| n.phase.role() == Some(NodeRole::ControlPlane);
        let flying = |of: &dyn Fn(&NodeRecord) -> bool| {
            self.staying(name).filter(|n| of(n) && upgrade.flies(&n.node)).count()
        };
        let open = |n: &&NodeRecord| rules(n) && !upgrade.is_done(&n.node);
        let due = if rules(record) {
            let first = cluster.first.is_none_or(|first| first == *node || upgrade.is_done(&first));
            let leaving = cluster.releases.values().any(|r| r.member.role == NodeRole::ControlPlane);
            first && !leaving && flying(&rules) == 0
        } else {
            self.staying(name).find(open).is_none() && flying(&|n| !rules(n)) < usize::from(upgrade.batch)
        };
        due.then(|| Assignment {
            site: self.site,
            node: *node,
            generation: record.assignments.next(),
            cluster: name.clone(),
            driver: cluster.driver.clone(),
            version: upgrade.version.clone(),
            bundle: upgrade.bundle,
            settings: cluster.settings.clone(),
            role: record.phase.role().unwrap_or(NodeRole::Worker),
            stage: Stage::Upgrade,
            members: self.cluster_members(name),
            first: cluster.first.unwrap_or(*node),
            cites: upgrade.cites,
            created_by: upgrade.cites,
        })
    }

    /// Notes that a member has its order to upgrade.
    pub(super) fn upgrade_ordered(&mut self, order: &Assignment) {
        let at = self.log_time;
        if let Some(upgrade) = self.clusters.get_mut(&order.cluster).and_then(|c| c.upgrade.as_mut()) {
            let generation = order.generation;
            upgrade.nodes.insert(order.node, MemberUpgrade::Ordered { generation, at });
        }
    }

    /// Whether a node has an order to upgrade that it has not answered, also if the upgrade was halted
    /// meanwhile: what was begun is brought to its end.
    pub fn upgrade_open(&self, order: &Assignment) -> bool {
        let upgrade = self.clusters.get(&order.cluster).and_then(|c| c.upgrade.as_ref());
        let is = upgrade.and_then(|u| u.nodes.get(&order.node));
        order.stage == Stage::Upgrade
            && matches!(is, Some(MemberUpgrade::Ordered { generation, .. }) if *generation == order.generation)
    }

    fn answers_upgrade(&self, command: &NodeCommand) -> Result<(Name, String), String> {
        let record = self.nodes.get(&command.node).ok_or("not on the roster")?;
        let order = record.assignment.as_ref().ok_or("has no order")?;
        let stays = matches!(record.phase, NodePhase::Attached { .. });
        if order.digest() != command.assignment || command.stage != Stage::Upgrade as u8 {
            return Err("answers an order that is not the current one".into());
        }
        if !stays || !self.upgrade_open(order) {
            return Err("said before: the order to upgrade has its answer".into());
        }
        Ok((order.cluster.clone(), record.host.to_string()))
    }

    pub(super) fn upgrade_done(&mut self, command: &NodeCommand) -> Result<String, String> {
        let (name, host) = self.answers_upgrade(command)?;
        let at = self.log_time;
        let upgrade = self.clusters.get_mut(&name).and_then(|c| c.upgrade.as_mut()).ok_or("no upgrade")?;
        upgrade.nodes.insert(command.node, MemberUpgrade::Done { at });
        let text = format!("{host} runs {} of {name}", upgrade.version);
        self.settle_cluster_upgrade(&name);
        Ok(text)
    }

    pub(super) fn upgrade_returned(&mut self, command: &NodeCommand, why: String) -> Result<String, String> {
        let (name, host) = self.answers_upgrade(command)?;
        if why.len() > UPGRADE_WHY_BYTES || !is_plain_text(&why) {
            return Err("the reason is no short text".into());
        }
        let at = self.log_time;
        let upgrade = self.clusters.get_mut(&name).and_then(|c| c.upgrade.as_mut()).ok_or("no upgrade")?;
        let (text, rolling) = (format!("{host} returned to the version before: {why}"), upgrade.rolling());
        upgrade.nodes.insert(command.node, MemberUpgrade::Returned { at, why: why.clone() });
        if rolling {
            self.halt_cluster(&name, Some(command.node), why);
        }
        Ok(text)
    }

    /// Ends an upgrade when every member that stays is done; forgets those that are gone.
    pub(super) fn settle_cluster_upgrade(&mut self, name: &Name) {
        let staying: Vec<NodeId> = self.staying(name).map(|n| n.node).collect();
        // What a member runs that leaves is what its order to leave names.
        let members: Vec<NodeId> = self.members(name).map(|n| n.node).collect();
        let now = self.log_time;
        let Some(cluster) = self.clusters.get_mut(name) else { return };
        let deleted = cluster.deleting.is_some();
        let Some(upgrade) = &mut cluster.upgrade else { return };
        upgrade.nodes.retain(|node, _| members.contains(node));
        let digest = upgrade.cites.digest;
        if deleted || staying.is_empty() {
            // Nobody runs anything: the next nodes install what the cluster was last brought to.
            cluster.upgrade = None;
            cluster.stage_ends("upgrade", now);
            self.finish(&digest);
            return;
        }
        // Also one that was halted: those that were not done have left.
        if upgrade.phase == UpgradePhase::Done || !staying.iter().all(|n| upgrade.is_done(n)) {
            return;
        }
        (upgrade.phase, upgrade.since) = (UpgradePhase::Done, now);
        cluster.version = upgrade.version.clone();
        (cluster.bundle, cluster.installed) = (upgrade.bundle, upgrade.cites);
        cluster.stage_ends("upgrade", now);
        self.finish(&digest);
    }
}

/// Whether an intent brings a cluster to this version: for snapshots.
pub(super) fn brings(action: &Action, of: &Cluster, version: &Version, bundle: &Digest) -> bool {
    matches!(action, Action::ClusterUpgrade { cluster, driver, version: v, bundle: b, settings, .. }
        if *cluster == of.name
            && *driver == of.driver
            && v == version
            && b == bundle
            && *settings == of.settings.chosen())
}
