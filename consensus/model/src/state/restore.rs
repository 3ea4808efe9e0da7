//! A cluster's store goes back to a backup: which nodes are taken away for it, which one restores, and how
//! the others come in again.
//!
//! ```text
//! cluster.restore ─> Emptying ── the others are reset ──> (order) Restoring ── done ──> Restored
//!                                                             the others, all reset, are attached again
//! ```
//!
//! A store that is restored has one member. The others' data is of another store from then on, so they leave
//! without being taken out: nobody may be there who could do it. Whoever is away leaves when it is back.

use serde::{Deserialize, Serialize};

use super::SiteState;
use super::cluster::{Cluster, ClusterPhase};
use super::nodes::{NodePhase, NodeRecord};
use crate::action::{Action, NodeRole, PlacedNode, Placement};
use crate::assignment::{Assignment, Citation, KUBEADM, Stage};
use crate::ids::{Digest, Generation, Millis, Name, NodeId};
use crate::intent::ObjectRef;
use crate::outcome::Reason;
use crate::statement::NodeCommand;

/// Where a restore is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestorePhase {
    /// The others are on their way out, or away.
    Emptying,
    /// The node has its order to restore.
    Restoring,
    /// The store is restored.
    Restored,
}

/// A backup that an admin asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupAsked {
    /// The intent.
    pub cites: Citation,
    /// When it was accepted, by log time.
    pub at: Millis,
}

/// The last restore of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// The intent.
    pub cites: Citation,
    /// The member that holds the backup.
    pub node: NodeId,
    /// SHA-256 of the snapshot.
    pub backup: Digest,
    /// The other control plane members of that time, sorted.
    pub others: Vec<NodeId>,
    /// Where it is.
    pub phase: RestorePhase,
    /// Since when, by log time.
    pub since: Millis,
    /// Whether the others were attached again: that happens once.
    pub rejoined: bool,
}

impl Restore {
    /// Whether the store is not restored yet.
    pub fn goes_on(&self) -> bool {
        self.phase != RestorePhase::Restored
    }

    /// Whether the intent still waits for something.
    pub fn is_open(&self) -> bool {
        self.goes_on() || !self.rejoined
    }
}

impl SiteState {
    pub(super) fn ask_backup(&mut self, name: &Name, cites: Citation) -> Result<Generation, Reason> {
        let at = self.log_time;
        let cluster =
            self.clusters.get_mut(name).ok_or_else(|| Reason::UnknownCluster { cluster: name.clone() })?;
        is_real(cluster)?;
        if cluster.phase != ClusterPhase::Ready {
            let doing = format!("{}, so there is nothing to back up", cluster.phase.word());
            return Err(Reason::ClusterBusy { cluster: name.clone(), doing });
        }
        cluster.backup = Some(BackupAsked { cites, at });
        Ok(self.bump(ObjectRef::Cluster(name.clone())))
    }

    pub(super) fn begin_restore(
        &mut self,
        name: &Name,
        node: NodeId,
        backup: Digest,
        others: &[NodeId],
        cites: Citation,
    ) -> Result<Generation, Reason> {
        is_real(self.idle_cluster(name)?)?;
        let rules = |n: &NodeRecord| n.phase.role() == Some(NodeRole::ControlPlane);
        if !self.staying(name).any(|n| n.node == node && rules(n) && n.phase.serves()) {
            return Err(Reason::NodeNotInCluster { node, cluster: name.clone() });
        }
        let staying: Vec<NodeId> =
            self.staying(name).filter(|n| rules(n) && n.node != node).map(|n| n.node).collect();
        if staying != others {
            return Err(Reason::Precondition {
                code: "restore_others".into(),
                text: format!("the restore does not name exactly the other control plane nodes of {name}"),
                remedy: Some(format!("give it again: qb cluster restore {name} BACKUP")),
            });
        }
        let now = self.log_time;
        if let Some(cluster) = self.clusters.get_mut(name) {
            cluster.stages.clear();
            cluster.stage_begins("restore", now);
            cluster.first = Some(node);
            // Nobody is taken out of a store that is replaced.
            cluster.releases.retain(|_, release| release.member.role != NodeRole::ControlPlane);
            cluster.restore = Some(Restore {
                cites,
                node,
                backup,
                others: others.to_vec(),
                phase: RestorePhase::Emptying,
                since: now,
                rejoined: others.is_empty(),
            });
        }
        for other in others {
            self.begin_leave(other, cites);
        }
        Ok(self.bump(ObjectRef::Cluster(name.clone())))
    }

    /// The order to restore that the state implies for a node. Whether those that are away are waited for is
    /// the planner's part.
    pub(super) fn implied_restore(&self, node: &NodeId) -> Option<Assignment> {
        let record = self.nodes.get(node).filter(|n| n.phase.serves())?;
        let name = record.phase.cluster()?;
        let cluster = self.clusters.get(name)?;
        let restore = cluster.restore.as_ref()?;
        if restore.node != *node || restore.phase != RestorePhase::Emptying || self.held(&restore.cites) {
            return None;
        }
        let (version, bundle, created_by) = self.software(cluster, node);
        Some(Assignment {
            site: self.site,
            node: *node,
            generation: record.assignments.next(),
            cluster: name.clone(),
            driver: cluster.driver.clone(),
            version: version.clone(),
            bundle,
            settings: cluster.settings.clone(),
            role: NodeRole::ControlPlane,
            stage: Stage::Restore,
            members: self.cluster_members(name),
            first: cluster.first.unwrap_or(*node),
            cites: restore.cites,
            created_by,
        })
    }

    /// Notes that the node has its order to restore.
    pub(super) fn restore_ordered(&mut self, order: &Assignment) {
        self.restore_enters(&order.cluster, RestorePhase::Restoring);
    }

    fn restore_enters(&mut self, name: &Name, phase: RestorePhase) {
        let now = self.log_time;
        if let Some(restore) = self.clusters.get_mut(name).and_then(|c| c.restore.as_mut()) {
            (restore.phase, restore.since) = (phase, now);
        }
    }

    /// Whether a node has an order to restore that it has not answered.
    pub fn restore_open(&self, order: &Assignment) -> bool {
        let restore = self.clusters.get(&order.cluster).and_then(|c| c.restore.as_ref());
        order.stage == Stage::Restore
            && restore.is_some_and(|r| {
                r.cites == order.cites && r.node == order.node && r.phase == RestorePhase::Restoring
            })
    }

    pub(super) fn restore_done(&mut self, command: &NodeCommand) -> Result<String, String> {
        let record = self.nodes.get(&command.node).ok_or("not on the roster")?;
        let order = record.assignment.as_ref().ok_or("has no order")?;
        if order.digest() != command.assignment || !self.restore_open(order) {
            return Err("said before, or answers an order that is not the current one".into());
        }
        let (name, host) = (order.cluster.clone(), record.host.to_string());
        let now = self.log_time;
        self.restore_enters(&name, RestorePhase::Restored);
        if let Some(cluster) = self.clusters.get_mut(&name) {
            cluster.stage_ends("restore", now);
        }
        self.settle_restore(&name);
        self.finish_detach(&name);
        Ok(format!("{host} restored the store of {name}"))
    }

    /// After a member left, or the store is restored: attaches the others again once all of them are in the
    /// pool. Where that cannot be, an admin attaches what there is.
    pub(super) fn settle_restore(&mut self, name: &Name) {
        let Some(cluster) = self.clusters.get(name) else { return };
        let Some(restore) = cluster.restore.clone().filter(|r| !r.rejoined) else { return };
        let gone = self.staying(name).all(|n| n.node != restore.node);
        let lost =
            |n: &NodeId| self.nodes.get(n).is_none_or(|r| r.phase.cluster().is_some_and(|c| c != name));
        let (pool, back) = (
            restore
                .others
                .iter()
                .all(|n| matches!(self.nodes.get(n).map(|r| &r.phase), Some(NodePhase::Pool))),
            restore.others.iter().any(lost),
        );
        let end = gone || back || cluster.deleting.is_some();
        if !end && (!pool || restore.goes_on()) {
            return;
        }
        let nodes: Vec<PlacedNode> =
            restore.others.iter().map(|n| PlacedNode { node: *n, role: NodeRole::ControlPlane }).collect();
        if let Some(restore) = self.clusters.get_mut(name).and_then(|c| c.restore.as_mut()) {
            restore.rejoined = true;
        }
        // Refused where something else goes on meanwhile: then that is what an admin wants.
        let again = !end && self.attach(name, &Placement::Explicit { nodes }, restore.cites).is_ok();
        if !again && !restore.goes_on() {
            self.finish(&restore.cites.digest);
        }
    }

    /// Ends a restore whose node is not in the cluster any more.
    pub(super) fn forget_restore(&mut self, name: &Name) {
        let here = |r: &Restore| self.staying(name).any(|n| n.node == r.node);
        let lost =
            self.clusters.get(name).and_then(|c| c.restore.as_ref()).filter(|r| r.goes_on() && !here(r));
        let Some(digest) = lost.map(|r| r.cites.digest) else { return };
        if let Some(cluster) = self.clusters.get_mut(name) {
            cluster.restore = None;
        }
        self.finish(&digest);
    }
}

fn is_real(cluster: &Cluster) -> Result<(), Reason> {
    if cluster.driver.as_str() == KUBEADM {
        return Ok(());
    }
    let name = &cluster.name;
    Err(Reason::Precondition {
        code: "driver".into(),
        text: format!(
            "{name} is of driver {}; only clusters of driver {KUBEADM} have a store",
            cluster.driver
        ),
        remedy: Some(format!("qb cluster show {name}")),
    })
}

/// Whether an intent orders this restore: for snapshots.
pub(super) fn orders(action: &Action, name: &Name, restore: &Restore) -> bool {
    matches!(action, Action::ClusterRestore { cluster, node, backup, others }
        if cluster == name && *node == restore.node && *backup == restore.backup && *others == restore.others)
}

/// Whether an intent has a node leave or come in again for a restore: for orders and snapshots.
pub(crate) fn names_other(action: &Action, name: &Name, node: &NodeId) -> bool {
    matches!(action, Action::ClusterRestore { cluster, others, .. }
        if cluster == name && others.contains(node))
}
