//! A node is brought to another version: one after the other, the first control plane node first.
//!
//! The order of the steps: everything that the version needs is here before anything changes, and how the
//! node was is kept; the new kubeadm changes the control plane's parts while everything still runs from the
//! tree of before, so that no kubelet is ever newer than its API server; runtime and kubelet come last. Whether it worked is seen from the versions
//! that run, never from what kubeadm says: after an `apply` that failed, `upgrade node` changes nothing and
//! says that all is well. A node that does not come through goes back to what was kept.

use super::{Action, Compiler, DNS_PHASE, READY_LIMIT_S, Run, UPGRADE_LIMIT_S, host};
use crate::DriverError;
use crate::host_step::{HostAction, HostUnit, KubeadmVerb};

impl Compiler<'_> {
    pub(super) fn upgrade(&self) -> Result<Vec<Action>, DriverError> {
        let mut actions = Vec::new();
        if self.is_control_plane() {
            // A gate: whoever has no healthy API server here is not upgraded, but looked at.
            actions.push(self.api_is_ready("look whether the API server here is ready", None));
        }
        actions.push(self.unpack()?);
        let tree = self.tree()?;
        actions.push(host("keep how the node is", HostAction::Keep { tree: tree.clone() }));
        actions.push(self.images(Some(tree)));
        actions.push(host(self.upgrade_title(), HostAction::Kubeadm(self.upgrade_run()?)));
        if self.applies() && self.release.upgrade_writes_super_admin() {
            actions.push(Self::drop_super_admin()?);
        }
        actions.extend(self.switch()?);
        actions
            .push(host("start the kubelet of that version", HostAction::Start { unit: HostUnit::Kubelet }));
        actions.extend(self.comes_up(Some(&self.order.version)));
        actions.push(host("put everything on the disk", HostAction::Sync));
        Ok(actions)
    }

    /// What brings the node back to how it was before this very order.
    pub(super) fn way_back(&self) -> Result<HostAction, DriverError> {
        let server = self.is_control_plane().then(|| self.server());
        Ok(HostAction::GoBack {
            tree: self.tree()?,
            name: self.me.host.clone(),
            server,
            limit_s: READY_LIMIT_S,
        })
    }

    /// Whether this node is the one that changes what all share.
    fn applies(&self) -> bool {
        self.is_control_plane() && self.order.first == self.order.node
    }

    fn upgrade_title(&self) -> String {
        let (cluster, version) = (&self.order.cluster, &self.order.version);
        if self.applies() {
            format!("bring {cluster} to {version}, and its parts on this node")
        } else if self.is_control_plane() {
            format!("bring the control plane's parts on this node to {version}")
        } else {
            format!("bring the kubelet's configuration to {version}")
        }
    }

    /// `kubeadm upgrade` takes what the cluster has of its configuration, and no file. Its time is several
    /// times the longest that it took: half a minute for each part of the control plane.
    fn upgrade_run(&self) -> Result<Run, DriverError> {
        // As at init: a DNS whose image the bundle does not hold would wait for it forever, in the place of
        // one that came by manifest.
        let leaves_dns = self.is_control_plane() && self.release.upgrade_brings_dns() && !self.has_dns();
        Ok(Run {
            verb: if self.applies() { KubeadmVerb::UpgradeApply } else { KubeadmVerb::UpgradeNode },
            version: self.order.version.clone(),
            tree: Some(self.tree()?),
            config: None,
            ignore: self.passed_over(),
            skip_phases: leaves_dns.then(|| DNS_PHASE.to_owned()).into_iter().collect(),
            limit_s: UPGRADE_LIMIT_S,
        })
    }

    /// Images come from the bundle, and so may a DNS that kubeadm does not know. The pod that a newer kubeadm
    /// tries may be put on a node that has no new pause image yet, and where nothing can be pulled: it is given
    /// a minute, and the cluster's health is judged by the gates.
    fn passed_over(&self) -> Vec<String> {
        let mut all = vec!["CoreDNSMigration", "CoreDNSUnsupportedPlugins"];
        if self.applies() && self.release.tries_a_pod() {
            all.push("CreateJob");
        }
        all.push("ImagePull");
        if self.observed.cgroup == Some(1) && self.release.refuses_cgroup_v1() {
            all.push("SystemVerification");
        }
        all.into_iter().map(str::to_owned).collect()
    }
}
