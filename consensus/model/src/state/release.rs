//! Who has to be taken out of a cluster before it leaves, and who said that it is out.

use super::SiteState;
use super::nodes::NodeRecord;
use crate::action::NodeRole;
use crate::assignment::{Assignment, Citation, KUBEADM, Member, Stage};
use crate::ids::{Generation, Name, NodeId};
use crate::intent::ObjectRef;
use crate::release::Release;

impl SiteState {
    /// The order that a leaving node will have, or would have had if it had not been revoked: what the
    /// control plane member `by` is shown. None while the intent is held, or `by` cannot do it.
    pub fn release_order(&self, name: &Name, node: &NodeId, by: &NodeId) -> Option<Assignment> {
        let cluster = self.clusters.get(name)?;
        let release = cluster.releases.get(node)?;
        if self.held(&release.cites) || !self.may_release(name, by) {
            return None;
        }
        let mut members = self.cluster_members(name);
        if release.revoked {
            members.push(release.member.clone());
            members.sort_by_key(|m| m.node);
        }
        let (version, bundle, created_by) = self.software(cluster, node);
        Some(Assignment {
            site: self.site,
            node: *node,
            generation: release.generation,
            cluster: name.clone(),
            driver: cluster.driver.clone(),
            version: version.clone(),
            bundle,
            settings: cluster.settings.clone(),
            role: release.member.role,
            stage: Stage::Leave,
            members,
            first: cluster.first.unwrap_or(*by),
            cites: release.cites,
            created_by,
        })
    }

    /// Whether a node rules in a cluster and stays: it can take others out.
    pub fn may_release(&self, name: &Name, by: &NodeId) -> bool {
        self.nodes.get(by).is_some_and(|n| n.phase.cluster() == Some(name) && rules(n))
    }

    /// Notes that a member leaves, where somebody stays who has to take it out. Called once the member is
    /// on its way: nobody releases itself.
    pub(super) fn begin_release(
        &mut self,
        name: &Name,
        leaving: &NodeRecord,
        cites: Citation,
        revoked: bool,
    ) {
        let Some(cluster) = self.clusters.get(name) else { return };
        let member = as_member(leaving).filter(|_| leaving.assignment.is_some());
        let (Some(member), KUBEADM) = (member, cluster.driver.as_str()) else { return };
        if cluster.deleting.is_some() || !self.staying(name).any(|n| n.node != leaving.node && rules(n)) {
            return;
        }
        let (generation, since) = (leaving.assignments.next(), self.log_time);
        let release = Release { member, cites, generation, since, revoked };
        if let Some(cluster) = self.clusters.get_mut(name) {
            cluster.releases.entry(leaving.node).or_insert(release);
        }
    }

    /// A member on its way out was revoked: it is taken out all the same, if it has not been.
    pub(super) fn release_revoked(&mut self, name: &Name, node: &NodeId, cites: Citation) {
        let release = self.clusters.get_mut(name).and_then(|c| c.releases.get_mut(node));
        if let Some(release) = release {
            (release.revoked, release.cites) = (true, cites);
        }
    }

    /// Where nobody rules any more, nobody is left to take others out, and nothing to be taken out of.
    pub(super) fn forget_releases(&mut self, name: &Name) {
        let nobody = !self.staying(name).any(rules);
        if let Some(cluster) = self.clusters.get_mut(name).filter(|c| nobody || c.deleting.is_some()) {
            cluster.releases.clear();
        }
    }

    /// A control plane member says that a node is out.
    pub(super) fn released(
        &mut self,
        by: &NodeId,
        node: &NodeId,
        generation: Generation,
    ) -> Result<String, String> {
        let record = self.nodes.get(by).ok_or("not on the roster")?;
        let name = record.phase.cluster().cloned().filter(|_| rules(record));
        let name = name.ok_or("only control plane nodes that serve take others out")?;
        let cluster = self.clusters.get_mut(&name).ok_or("no such cluster")?;
        match cluster.releases.get(node) {
            Some(release) if release.generation == generation => {}
            Some(_) => return Err("answers an earlier way out of that node".into()),
            None => return Err("that node is not to be taken out".into()),
        }
        let release = cluster.releases.remove(node).ok_or("that node is not to be taken out")?;
        self.bump(ObjectRef::Node(*node));
        self.finish_detach(&name);
        Ok(format!("{} is out of {name}", release.member.host))
    }
}

/// A node as its cluster knows it; none of one that has no address, since no order to it ever held.
fn as_member(node: &NodeRecord) -> Option<Member> {
    Some(Member {
        node: node.node,
        host: node.host.clone(),
        address: node.address.clone()?,
        role: node.phase.role()?,
        slot: node.slot?,
    })
}

/// Whether a node is a control plane member that is through and stays.
pub(crate) fn rules(node: &NodeRecord) -> bool {
    node.phase.serves() && node.phase.role() == Some(NodeRole::ControlPlane)
}
