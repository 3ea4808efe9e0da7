//! Leaving: detach, delete, and what they leave behind.

use super::SiteState;
use super::cluster::ClusterPhase;
use super::nodes::NodePhase;
use crate::action::NodeRole;
use crate::assignment::Citation;
use crate::ids::{Generation, Name, NodeId};
use crate::intent::ObjectRef;
use crate::outcome::Reason;

impl SiteState {
    pub(super) fn detach(
        &mut self,
        name: &Name,
        nodes: &[NodeId],
        cites: Citation,
    ) -> Result<Generation, Reason> {
        let cluster =
            self.clusters.get(name).ok_or_else(|| Reason::UnknownCluster { cluster: name.clone() })?;
        if cluster.phase == ClusterPhase::Deleting {
            return Err(Reason::ClusterBusy { cluster: name.clone(), doing: "being deleted".into() });
        }
        for node in nodes {
            let here = self
                .nodes
                .get(node)
                .is_some_and(|n| matches!(&n.phase, NodePhase::Attached { cluster: c, .. } if c == name));
            if !here {
                return Err(Reason::NodeNotInCluster { node: *node, cluster: name.clone() });
            }
        }
        self.keeps_control_plane(name, nodes)?;
        self.keeps_registry(name, nodes)?;
        for node in nodes {
            self.begin_leave(node, cites);
        }
        // Once all are on their way: none of them takes another one out.
        for leaving in nodes.iter().filter_map(|n| self.nodes.get(n).cloned()).collect::<Vec<_>>() {
            self.begin_release(name, &leaving, cites, false);
        }
        self.forget_attached(name);
        self.settle_attach(name);
        Ok(self.bump(ObjectRef::Cluster(name.clone())))
    }

    /// As long as nodes stay, a control plane node stays; one that serves, if the cluster does.
    fn keeps_control_plane(&self, name: &Name, leaving: &[NodeId]) -> Result<(), Reason> {
        let serves = self.serves(name);
        let rules = |n: &super::NodeRecord| n.phase.role() == Some(NodeRole::ControlPlane);
        let staying: Vec<_> = self.staying(name).filter(|n| !leaving.contains(&n.node)).collect();
        let last = self.staying(name).find(|n| rules(n) && leaving.contains(&n.node));
        let kept = staying.iter().any(|n| rules(n) && (!serves || n.phase.serves()));
        match last {
            Some(last) if !kept && !staying.is_empty() => {
                Err(Reason::LastControlPlane { node: last.node, cluster: name.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Members that are not on their way out.
    pub(super) fn staying(&self, name: &Name) -> impl Iterator<Item = &super::NodeRecord> {
        self.members(name).filter(|n| matches!(n.phase, NodePhase::Attached { .. }))
    }

    /// Whether a member that stays has initialized the cluster or joined it.
    fn serves(&self, name: &Name) -> bool {
        self.staying(name).any(|n| n.phase.serves())
    }

    /// The rehearsal's stand-in API server keeps its registry on the first node alone, so that node
    /// leaves last. A real control plane has no such node.
    fn keeps_registry(&self, name: &Name, leaving: &[NodeId]) -> Result<(), Reason> {
        let Some(cluster) = self.clusters.get(name) else { return Ok(()) };
        let Some(first) = cluster.first.filter(|f| leaving.contains(f)) else { return Ok(()) };
        let others_stay = self
            .members(name)
            .any(|n| matches!(n.phase, NodePhase::Attached { .. }) && !leaving.contains(&n.node));
        if cluster.driver.as_str() != "rehearsal" || cluster.public.is_empty() || !others_stay {
            return Ok(());
        }
        let host = self.nodes.get(&first).map(|n| n.host.to_string()).unwrap_or_default();
        Err(Reason::Precondition {
            code: "rehearsal_first".into(),
            text: format!("{host} holds the registry of the rehearsal {name}, so it leaves last"),
            remedy: Some(format!("detach the other nodes first, or qb cluster delete {name}")),
        })
    }

    /// Starts a node's way out. A node on which nothing was done yet is in the pool at once.
    pub(super) fn begin_leave(&mut self, node: &NodeId, cites: Citation) {
        let now = self.log_time;
        let Some(record) = self.nodes.get_mut(node) else { return };
        let NodePhase::Attached { cluster, role, .. } = record.phase.clone() else { return };
        let untouched = record.assignment.is_none();
        record.phase = if untouched {
            NodePhase::Pool
        } else {
            NodePhase::Detaching { cluster: cluster.clone(), role, cites }
        };
        if untouched {
            record.slot = None;
        }
        record.since = now;
        self.bump(ObjectRef::Node(*node));
        if let Some(cluster) = self.clusters.get_mut(&cluster) {
            cluster.offers.remove(node);
            if let Some(attach) = &mut cluster.attach {
                attach.nodes.retain(|n| n != node);
            }
            if !untouched {
                if cluster.attach.is_none() {
                    // The last change is over: its times make room for this one's.
                    cluster.stages.retain(|s| s.word == "leave" && s.ended.is_none());
                }
                cluster.stage_begins("leave", now);
            }
        }
    }

    /// After members left: ends an attach whose nodes are all gone, empties a cluster without
    /// members, removes one that is being deleted.
    pub(super) fn forget_attached(&mut self, name: &Name) {
        let now = self.log_time;
        self.forget_releases(name);
        let left = self.members(name).count();
        let serves = self.serves(name);
        let staying: Vec<NodeId> = self.staying(name).map(|n| n.node).collect();
        let Some(cluster) = self.clusters.get_mut(name) else { return };
        cluster.marks.retain(|node, _| staying.contains(node));
        let mut finished = Vec::new();
        if cluster.attach.as_ref().is_some_and(|a| a.placed && a.nodes.is_empty()) {
            finished.extend(cluster.attach.take().map(|a| a.cites.digest));
        }
        if !serves {
            // Nobody is left who has what initializing made: the next one makes it anew.
            cluster.public.clear();
            cluster.offers.clear();
            if let (ClusterPhase::Ready, Some(attach)) = (cluster.phase, &cluster.attach) {
                let checked = attach.checked.is_some();
                cluster
                    .enter(if checked { ClusterPhase::Initializing } else { ClusterPhase::Preflight }, now);
            }
        }
        if cluster.first.is_some_and(|f| !staying.contains(&f)) {
            cluster.first = None;
        }
        if left == 0 {
            cluster.stage_ends("leave", now);
            if let Some(delete) = cluster.deleting {
                finished.push(delete.digest);
                self.clusters.remove(name);
                self.bump(ObjectRef::Cluster(name.clone()));
            } else if cluster.attach.is_none() {
                cluster.enter(ClusterPhase::Empty, now);
            }
        }
        self.choose_first(name);
        self.settle_cluster_upgrade(name);
        self.forget_restore(name);
        self.settle_restore(name);
        for digest in finished {
            self.finish(&digest);
        }
    }

    /// Names who initializes, where nobody is named and there are control plane members: the first by
    /// host name, which is what people expect of a row of machines. In a cluster that serves it is one
    /// that serves, or nobody: initializing again would make a second cluster beside the first.
    pub(super) fn choose_first(&mut self, name: &Name) {
        let serves = self.serves(name);
        let first = self
            .staying(name)
            .filter(|n| n.phase.role() == Some(NodeRole::ControlPlane) && (!serves || n.phase.serves()))
            .min_by(|a, b| (&a.host, a.node).cmp(&(&b.host, b.node)))
            .map(|n| n.node);
        if let Some(cluster) = self.clusters.get_mut(name)
            && cluster.first.is_none()
        {
            cluster.first = first;
        }
    }

    pub(super) fn delete(&mut self, name: &Name, cites: Citation) -> Result<Generation, Reason> {
        let now = self.log_time;
        let cluster =
            self.clusters.get_mut(name).ok_or_else(|| Reason::UnknownCluster { cluster: name.clone() })?;
        if cluster.deleting.is_some() {
            return Err(Reason::ClusterBusy { cluster: name.clone(), doing: "being deleted".into() });
        }
        cluster.deleting = Some(cites);
        let attach = cluster.attach.take();
        cluster.stages.clear();
        cluster.stage_begins("leave", now);
        cluster.enter(ClusterPhase::Deleting, now);
        let generation = self.bump(ObjectRef::Cluster(name.clone()));
        if let Some(attach) = attach {
            self.finish(&attach.cites.digest);
        }
        let members: Vec<NodeId> = self.members(name).map(|n| n.node).collect();
        for node in members {
            self.begin_leave(&node, cites);
        }
        self.forget_attached(name);
        Ok(generation)
    }
}
