//! What qb keeps inside a cluster: labels and taints of its nodes, and add-ons. The state says what is
//! wanted and which intent says so; executors believe the intent alone.

use serde::{Deserialize, Serialize};

use super::SiteState;
use super::cluster::{Cluster, ClusterPhase};
use super::nodes::NodePhase;
use crate::action::{Action, Label, Taint};
use crate::assignment::{Citation, KUBEADM};
use crate::ids::{Generation, HostName, Millis, Name, NodeId};
use crate::intent::ObjectRef;
use crate::limits::{ADDONS, ADDONS_GONE, ADDONS_SITE};
use crate::outcome::Reason;

/// Labels and taints that qb keeps on a member's node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeMarks {
    /// The intent.
    pub cites: Citation,
    /// The labels, sorted by key.
    pub labels: Vec<Label>,
    /// The taints, sorted by key and effect.
    pub taints: Vec<Taint>,
}

/// An add-on. Its manifest is in the intent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addon {
    /// The intent that set it, or removed it.
    pub cites: Citation,
    /// When, by log time.
    pub at: Millis,
    /// Lines of the manifest; 0 once it is removed.
    pub lines: u16,
    /// Whether it was removed: what it made goes, and it is remembered until others were removed after it.
    pub removed: bool,
}

/// A member's node and what is wanted on it.
pub(super) struct Marking<'a> {
    pub(super) node: NodeId,
    pub(super) host: &'a HostName,
    pub(super) labels: &'a [Label],
    pub(super) taints: &'a [Taint],
}

impl Cluster {
    /// Add-ons that are wanted, by name.
    pub fn wanted_addons(&self) -> impl Iterator<Item = (&Name, &Addon)> {
        self.addons.iter().filter(|(_, addon)| !addon.removed)
    }
}

impl SiteState {
    /// A cluster of real nodes that is not on its way out.
    fn kept_in(&self, name: &Name) -> Result<&Cluster, Reason> {
        let cluster =
            self.clusters.get(name).ok_or_else(|| Reason::UnknownCluster { cluster: name.clone() })?;
        if cluster.driver.as_str() != KUBEADM {
            return Err(Reason::Precondition {
                code: "driver".into(),
                text: format!("{name} is of driver {}, which has no Kubernetes inside", cluster.driver),
                remedy: Some(format!("make another cluster: qb cluster create NAME --driver {KUBEADM}")),
            });
        }
        if cluster.phase == ClusterPhase::Deleting {
            return Err(Reason::ClusterBusy { cluster: name.clone(), doing: "being deleted".into() });
        }
        Ok(cluster)
    }

    pub(super) fn mark(
        &mut self,
        name: &Name,
        new: &Marking<'_>,
        cites: Citation,
    ) -> Result<Generation, Reason> {
        let cluster = self.kept_in(name)?;
        let here = |n: &&super::NodeRecord| matches!(&n.phase, NodePhase::Attached { cluster, .. } if cluster == name);
        let Some(record) = self.nodes.get(&new.node).filter(here) else {
            return Err(Reason::NodeNotInCluster { node: new.node, cluster: name.clone() });
        };
        if record.host != *new.host {
            return Err(Reason::Precondition {
                code: "host".into(),
                text: format!("that node is called {}, not {}", record.host, new.host),
                remedy: Some("sign it again with the name of `qb node list`".into()),
            });
        }
        let (labels, taints) =
            cluster.marks.get(&new.node).map_or((&[][..], &[][..]), |m| (&*m.labels, &*m.taints));
        if (labels, taints) == (new.labels, new.taints) {
            return Err(Reason::NoChange { what: format!("{} in {name}: it", new.host) });
        }
        let marks = NodeMarks { cites, labels: new.labels.to_vec(), taints: new.taints.to_vec() };
        if let Some(cluster) = self.clusters.get_mut(name) {
            cluster.marks.insert(new.node, marks);
        }
        Ok(self.bump(ObjectRef::Cluster(name.clone())))
    }

    pub(super) fn set_addon(
        &mut self,
        name: &Name,
        addon: &Name,
        manifest: &[String],
        cites: Citation,
    ) -> Result<Generation, Reason> {
        let cluster = self.kept_in(name)?;
        if cluster.addons.get(addon).is_none_or(|a| a.removed) {
            let site: usize = self.clusters.values().map(|c| c.wanted_addons().count()).sum();
            let full = |max: usize| Reason::Cap { what: "add-ons".into(), max: max as u64 };
            if cluster.wanted_addons().count() >= ADDONS {
                return Err(full(ADDONS));
            }
            if site >= ADDONS_SITE {
                return Err(full(ADDONS_SITE));
            }
        }
        // Bounded by the intent's form.
        let lines = u16::try_from(manifest.len()).unwrap_or(u16::MAX);
        let new = Addon { cites, at: self.log_time, lines, removed: false };
        self.keep_addon(name, addon, new)
    }

    pub(super) fn remove_addon(
        &mut self,
        name: &Name,
        addon: &Name,
        cites: Citation,
    ) -> Result<Generation, Reason> {
        let cluster = self.kept_in(name)?;
        if cluster.addons.get(addon).is_none_or(|a| a.removed) {
            return Err(Reason::Precondition {
                code: "unknown_addon".into(),
                text: format!("{name} has no add-on {addon}"),
                remedy: Some(format!("qb cluster addon list {name}")),
            });
        }
        let gone = Addon { cites, at: self.log_time, lines: 0, removed: true };
        self.keep_addon(name, addon, gone)
    }

    fn keep_addon(&mut self, name: &Name, addon: &Name, new: Addon) -> Result<Generation, Reason> {
        if let Some(cluster) = self.clusters.get_mut(name) {
            cluster.addons.insert(addon.clone(), new);
            let removed = cluster.addons.iter().filter(|(_, a)| a.removed);
            let oldest = removed.clone().min_by_key(|(_, a)| a.cites.index).map(|(name, _)| name.clone());
            if removed.count() > ADDONS_GONE
                && let Some(oldest) = oldest
            {
                cluster.addons.remove(&oldest);
            }
        }
        Ok(self.bump(ObjectRef::Cluster(name.clone())))
    }
}

/// Whether an intent says what is kept on a node.
pub(super) fn marks(action: &Action, name: &Name, of: &NodeId, kept: &NodeMarks) -> bool {
    matches!(action, Action::ClusterLabel { cluster, node, labels, taints, .. }
        if cluster == name && node == of && *labels == kept.labels && *taints == kept.taints)
}

/// Whether an intent sets or removes an add-on.
pub(super) fn addon(action: &Action, name: &Name, of: &Name, kept: &Addon) -> bool {
    match action {
        Action::ClusterAddonSet { cluster, addon, manifest } => {
            cluster == name && addon == of && !kept.removed && manifest.len() == usize::from(kept.lines)
        }
        Action::ClusterAddonRemove { cluster, addon } => cluster == name && addon == of && kept.removed,
        _ => false,
    }
}
