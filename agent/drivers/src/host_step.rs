//! Steps on the host itself, outside of the cluster's directory: what a driver of real Kubernetes needs.
//! The executor hands each to a helper of its own, which knows this closed set and nothing else.
//!
//! A place is a variant and a clean relative path: no text from outside names a file of the host. Each
//! action says what its check looks at; apply brings that about, and may be killed anywhere.

use qb_model::ids::{Digest, Generation, HostName, Version};
use qb_model::settings::Subnet;
use serde::{Deserialize, Serialize};

use crate::path::RelPath;

/// Where a file of the host lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "in", content = "path", rename_all = "kebab-case", deny_unknown_fields)]
pub enum HostPlace {
    /// In the cluster's own directory.
    Cluster(RelPath),
    /// Below `/etc/kubernetes`.
    Kubernetes(RelPath),
    /// Below `/var/lib/kubelet`.
    Kubelet(RelPath),
    /// Below `/etc/systemd/system`: a unit or a drop-in.
    SystemdUnit(RelPath),
    /// In `/etc/cni/net.d`.
    CniConf(RelPath),
    /// In `/etc/sysctl.d`.
    Sysctl(RelPath),
    /// In `/etc/modules-load.d`.
    Modules(RelPath),
}

impl HostPlace {
    /// The absolute path of the place, or one relative to the cluster's directory.
    pub fn path(&self) -> String {
        let (folder, path) = match self {
            Self::Cluster(path) => return path.to_string(),
            Self::Kubernetes(path) => ("/etc/kubernetes", path),
            Self::Kubelet(path) => ("/var/lib/kubelet", path),
            Self::SystemdUnit(path) => ("/etc/systemd/system", path),
            Self::CniConf(path) => ("/etc/cni/net.d", path),
            Self::Sysctl(path) => ("/etc/sysctl.d", path),
            Self::Modules(path) => ("/etc/modules-load.d", path),
        };
        format!("{folder}/{path}")
    }
}

/// A file of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostFile {
    /// Where.
    pub place: HostPlace,
    /// The whole content; never a secret.
    pub content: String,
    /// Permission bits.
    pub mode: u32,
}

/// A unit that the driver keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostUnit {
    /// qb's own container runtime.
    Containerd,
    /// The kubelet.
    Kubelet,
}

impl HostUnit {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Containerd => "qb-containerd.service",
            Self::Kubelet => "kubelet.service",
        }
    }
}

/// A kernel setting below `/proc/sys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sysctl {
    /// Dotted, as `sysctl` takes it.
    pub key: String,
    /// The value.
    pub value: String,
}

/// A member in the pod network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkMember {
    /// Its host name, for messages.
    pub host: HostName,
    /// Its IP address.
    pub address: String,
    /// Its place: pods have the /24 of this number in the pods' network.
    pub slot: u16,
}

/// The pod network as it is to be on this host. What other members have changes later: the executor is
/// told of it, and keeps this form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodNetwork {
    /// This node.
    pub own: NetworkMember,
    /// All others, sorted by slot.
    pub peers: Vec<NetworkMember>,
    /// All pods of the cluster.
    pub pods: Subnet,
    /// The hosts' own addresses between each other's pods.
    pub overlay: Subnet,
}

/// What kubeadm is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KubeadmVerb {
    /// `init`. Done: `admin.conf`, the manifests and a serving API server are there.
    Init,
    /// `join` of a control plane node. Done: its manifests are there and the kubelet has its own
    /// certificate.
    JoinControlPlane,
    /// `join` of a worker. Done: the kubelet has its own certificate.
    JoinWorker,
    /// `upgrade apply`: the first control plane node. Done: the manifests name the version.
    UpgradeApply,
    /// `upgrade node`: everybody else. Done: the same; of a worker, that it was run for the version.
    UpgradeNode,
    /// `reset`. Done: no kubelet certificate, no manifest and no etcd data are left.
    Reset,
    /// `certs renew all`. Done: no certificate of the control plane ends soon.
    RenewCertificates,
}

/// A part of a control plane node: one of its static pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The store.
    Etcd,
    /// The API server.
    ApiServer,
    /// The controller manager.
    ControllerManager,
    /// The scheduler.
    Scheduler,
}

impl Part {
    /// All of them, each after those that it talks to.
    pub const ALL: [Self; 4] = [Self::Etcd, Self::ApiServer, Self::ControllerManager, Self::Scheduler];

    /// Its name: of its container and its manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
        }
    }
}

/// A run of kubeadm. Arguments are made of this alone; its output is redacted before it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kubeadm {
    /// What.
    pub verb: KubeadmVerb,
    /// The version of Kubernetes.
    pub version: Version,
    /// The tree whose kubeadm runs; none where it is the selected one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<RelPath>,
    /// Its configuration in the cluster's directory; none where it takes none.
    pub config: Option<RelPath>,
    /// Names of preflight findings that are passed over: never `all`.
    pub ignore: Vec<String>,
    /// Names of phases that are left out.
    pub skip_phases: Vec<String>,
    /// Longest run in seconds.
    pub limit_s: u16,
}

/// One action on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum HostAction {
    /// Refuses a host that others use: programs of the system that are needed, foreign units, an
    /// `/etc/kubernetes` or a running kubelet that this cluster did not make. Check: none is found.
    Fit,
    /// Writes down how the host is before anything of the cluster is on it, once. Check: it is written.
    Record,
    /// Points `current` at the unpacked bundle. Check: it does.
    Select {
        /// The tree, in the cluster's directory.
        tree: RelPath,
    },
    /// Writes files, each in one piece. Check: content and mode are these.
    Files {
        /// Which.
        files: Vec<HostFile>,
    },
    /// Deletes files. Check: none is there.
    Remove {
        /// Which.
        places: Vec<HostPlace>,
    },
    /// Loads modules and sets kernel settings. Check: the values are these.
    Settings {
        /// Modules, where the kernel has them as such.
        modules: Vec<String>,
        /// Settings.
        sysctls: Vec<Sysctl>,
    },
    /// Copies the CNI plugins of the selected tree to `/opt/cni/bin`. Check: digests are the tree's.
    Plugins,
    /// Has a unit started at boot, and lets whoever configures it start it. Check: it is enabled, and systemd
    /// knows its file as it is.
    Enable {
        /// Which.
        unit: HostUnit,
    },
    /// Enables a unit and runs it, anew if its files changed. Check: enabled, active, and of these files.
    Start {
        /// Which.
        unit: HostUnit,
    },
    /// Stops a unit and disables it. Check: neither active nor enabled.
    Stop {
        /// Which.
        unit: HostUnit,
    },
    /// Imports images of a tree into qb's container runtime. Check: it has them.
    Images {
        /// The tree; none where it is the selected one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tree: Option<RelPath>,
        /// Files below `images/` of the tree that are left out.
        without: Vec<String>,
        /// The pause image that must be there afterwards.
        pause: String,
    },
    /// Brings the pod network into this form and keeps it over restarts. Check: links, addresses, routes
    /// and rules are these.
    Network(PodNetwork),
    /// Puts the opened join secret where kubeadm looks for it. Check: the files are there.
    PlaceSecret {
        /// The opened secret, in the cluster's directory.
        secret: RelPath,
        /// Where the discovery file goes.
        discovery: RelPath,
    },
    /// Deletes what a join needed once. Check: neither is there.
    DropSecret {
        /// Which files in the cluster's directory.
        paths: Vec<RelPath>,
    },
    /// Runs kubeadm; see [`KubeadmVerb`] for its checks.
    Kubeadm(Kubeadm),
    /// Keeps how the node is before an upgrade: the selected tree and the files that an upgrade changes.
    /// Check: it is kept for this tree.
    Keep {
        /// The tree that the upgrade brings.
        tree: RelPath,
    },
    /// Brings the node back to what was kept, if it was kept for this tree: files, selected tree, both units;
    /// then waits until the versions found are those. Check: nothing is kept for it.
    GoBack {
        /// The tree that the upgrade brought.
        tree: RelPath,
        /// The node's name in Kubernetes.
        name: HostName,
        /// IP address and port of its own API server, if it has one.
        server: Option<String>,
        /// Longest wait in seconds, for each of the two.
        limit_s: u16,
    },
    /// Refuses while another control plane node is not well: a member of the store that does not answer or has
    /// not started, an API server that is not ready. Check: all are.
    OthersWell,
    /// Ends a part of this node, so that the kubelet starts it with what a renewal wrote; before that the same
    /// as [`HostAction::OthersWell`]. Check: it was, since the last renewal.
    RestartPart {
        /// Which.
        part: Part,
        /// Longest wait in seconds until it runs again.
        limit_s: u16,
    },
    /// Looks whether a backup of that snapshot is on this node, and reads it as a whole. Check: it was, in this
    /// run.
    CheckBackup {
        /// SHA-256 of the snapshot.
        backup: Digest,
    },
    /// Takes the control plane's manifests from the kubelet, keeps them, and waits until its parts have ended.
    /// Check: so it is, or this very order has restored the store.
    Park {
        /// Generation of the order.
        order: Generation,
        /// Longest wait in seconds.
        limit_s: u16,
    },
    /// Restores a snapshot as a store of one member, and sets the data of before aside. Check: this very order
    /// did so.
    RestoreStore {
        /// SHA-256 of the snapshot.
        backup: Digest,
        /// Generation of the order.
        order: Generation,
        /// The member's name: the node's.
        name: HostName,
        /// Its IP address.
        address: String,
    },
    /// Gives the kubelet back what [`HostAction::Park`] took. Check: nothing of it is left.
    Unpark,
    /// Deletes the node objects of all other control plane nodes: those of a restored store are not there any
    /// more. Check: there is no other.
    OnlyControlPlane {
        /// This node's name in Kubernetes.
        name: HostName,
        /// The version of Kubernetes.
        version: Version,
    },
    /// Waits until this node's own API server says that it is ready. Check: it says so.
    AwaitApi {
        /// IP address and port.
        server: String,
        /// The version that it must be of; none where any will do.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<Version>,
        /// Longest wait in seconds.
        limit_s: u16,
    },
    /// Waits until the node is ready in Kubernetes. Check: it is.
    AwaitNode {
        /// Its name there.
        name: HostName,
        /// The kubelet's version that it must have.
        version: Version,
        /// Longest wait in seconds.
        limit_s: u16,
    },
    /// Applies the manifests of the selected tree through the API. Check: nothing would change.
    Manifests,
    /// Puts everything written on the disk. Check: it was done in this run.
    Sync,
    /// Hands the cluster's certificate authority to the other members, as the stage's result.
    PublishAuthority,
    /// Takes all of the cluster off the host that kubeadm leaves: containers, mounts, links, rules,
    /// slices, files, settings. Check: nothing of it is found.
    Clean,
    /// Compares the host with the record. Check: nothing of the cluster is left.
    Compare,
}

impl HostAction {
    /// One word for the list of steps.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Fit | Self::Compare | Self::OthersWell => "check",
            Self::Record | Self::Keep { .. } => "record",
            Self::Select { .. } | Self::Plugins => "bundle",
            Self::Files { .. } => "files",
            Self::Settings { .. } => "kernel",
            Self::Enable { .. } | Self::Start { .. } => "unit",
            Self::Stop { .. } => "stop",
            Self::Images { .. } => "images",
            Self::Network(_) => "network",
            Self::PlaceSecret { .. } | Self::DropSecret { .. } => "secret",
            Self::Kubeadm(_) => "kubeadm",
            Self::AwaitApi { .. } | Self::AwaitNode { .. } => "wait",
            Self::Manifests => "apply",
            Self::Sync => "sync",
            Self::PublishAuthority => "publish",
            Self::CheckBackup { .. } => "check",
            Self::Park { .. } => "stop",
            Self::RestoreStore { .. } => "restore",
            Self::Unpark => "start",
            Self::OnlyControlPlane { .. } => "remove",
            Self::Clean => "clean",
            Self::Remove { .. } => "remove",
            Self::GoBack { .. } => "return",
            Self::RestartPart { .. } => "restart",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_below_its_folder() {
        let at = |text: &str| text.parse::<RelPath>().map(HostPlace::SystemdUnit);
        assert_eq!(at("kubelet.service").map(|p| p.path()), Ok("/etc/systemd/system/kubelet.service".into()));
        for text in ["../passwd", "/etc/passwd", "a//b", "a/./b", "a b", ""] {
            assert!(at(text).is_err(), "{text}");
        }
    }
}
