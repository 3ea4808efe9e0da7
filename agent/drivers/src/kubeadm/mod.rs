//! The driver `kubeadm`: real Kubernetes from a bundle that holds all of it. Container runtime and kubelet
//! are units of the host, the store is stacked on the control plane nodes, and every node reaches API
//! servers through its own balancer on 127.0.0.1.
//!
//! ```text
//!  prepare      fit, record, unpack, kernel, files, runtime, images, pod network
//!  initialize   kubeadm init, own API ready, manifests, authority published     the first
//!  join         open the secret, kubeadm join, node ready, secret dropped       everybody else
//!  upgrade      the new bundle aside, kubeadm upgrade, switched, node ready     one after the other
//!  restore      the control plane stopped, the store from a backup, started    who holds it
//!  leave        kubeadm reset, stop, clean, compare, remove                     after its release
//! ```
//!
//! Invariants: nothing is pulled; no secret is in a plan, an argument or a unit; every stage ends with its
//! files on the disk; kubeadm's findings are passed over by name, and only those that an earlier run of
//! the same stage explains. The sequences are those that were tried; see the limits in ARCHITECTURE.

mod config;
mod files;
mod release;
mod restore;
mod upgrade;
pub mod upkeep;

use std::net::IpAddr;

use qb_model::action::NodeRole;
use qb_model::assignment::{Assignment, Member, Stage};
use qb_model::ids::Version;
use qb_model::preflight::{Port, Proto, Requirements};

use crate::bundle::{self, ArtifactKind};
use crate::host_step::{
    HostAction, HostPlace, HostUnit, Kubeadm as Run, KubeadmVerb, NetworkMember, PodNetwork, Sysctl,
};
use crate::path::RelPath;
use crate::step::{Step, StepAction};
use crate::{Driver, DriverError, Observed, Served};
pub use files::{CONTAINERD_ROOT, CONTAINERD_SOCKET, CONTAINERD_STATE};
use release::Release;

/// TCP port of an API server.
pub const API_SERVER_PORT: u16 = 6443;
/// Where each node finds an API server: its agent's balancer.
pub const BALANCER: &str = "127.0.0.1:6444";
/// Where executors keep clusters on a host that a package installed.
pub const CLUSTERS: &str = "/var/lib/qb/exec/clusters";

const NAME: &str = "kubeadm";
const TAKES: &str = "versions 1.20 to 1.36";
/// kubeadm's configuration in the cluster's directory.
const CONFIG: &str = "config/kubeadm.yaml";
/// The opened join secret there.
const SECRET: &str = "secret/join.secret";
/// The file by which a joiner finds the cluster.
const DISCOVERY: &str = "secret/discovery.conf";
/// The program by which kubeadm up to 1.30 talks to the runtime.
const CRICTL: &str = "bin/crictl";
/// kubeadm's phase that installs its DNS, of `init` and of `upgrade`.
const DNS_PHASE: &str = "addon/coredns";
const GIB: u64 = 1 << 30;
/// Longest runs in seconds: several times what they took on two slow cores.
const INIT_LIMIT_S: u16 = 300;
const JOIN_LIMIT_S: u16 = 300;
/// kubeadm itself waits up to two minutes for a store that does not answer.
const RESET_LIMIT_S: u16 = 240;
const UPGRADE_LIMIT_S: u16 = 600;
const READY_LIMIT_S: u16 = 180;

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kubeadm;

impl Driver for Kubeadm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn label(&self) -> Option<&'static str> {
        None
    }

    fn served(&self, port: &Port) -> Served {
        match port.proto {
            Proto::Tcp => Served::Accepts,
            Proto::Udp => Served::Nothing,
        }
    }

    fn requirements(&self, role: NodeRole) -> Requirements {
        let control_plane = role == NodeRole::ControlPlane;
        let port = |proto, port, service: &str| Port { proto, port, service: service.to_owned() };
        let mut ports = vec![port(Proto::Tcp, 10250, "kubelet"), port(Proto::Udp, 8472, "pod network")];
        if control_plane {
            ports.extend([
                port(Proto::Tcp, API_SERVER_PORT, "API server"),
                port(Proto::Tcp, 2379, "etcd"),
                port(Proto::Tcp, 2380, "etcd peers"),
            ]);
        }
        Requirements {
            cores: if control_plane { 2 } else { 1 },
            memory_bytes: if control_plane { 2 * GIB } else { GIB },
            // Twice a bundle, its images unpacked, and room for what runs.
            disk_free_bytes: 5 * GIB,
            ports,
        }
    }

    fn supports(&self, version: &Version) -> Result<(), DriverError> {
        release(version).map(drop)
    }

    fn way_back(&self, order: &Assignment) -> Result<Option<HostAction>, DriverError> {
        if order.stage != Stage::Upgrade {
            return Ok(None);
        }
        Compiler::new(order, &Observed::default())?.way_back().map(Some)
    }

    fn compile(&self, order: &Assignment, observed: &Observed) -> Result<Vec<Step>, DriverError> {
        if order.driver.as_str() != NAME {
            return Err(DriverError::OtherDriver { driver: NAME, wanted: order.driver.clone() });
        }
        let compiler = Compiler::new(order, observed)?;
        if !matches!(order.stage, Stage::Leave | Stage::Restore) {
            crate::check_bundle(order, observed)?;
            compiler.check_programs()?;
        }
        let actions = match order.stage {
            Stage::Prepare => compiler.prepare()?,
            Stage::Initialize => compiler.initialize()?,
            Stage::Join => compiler.join()?,
            Stage::Upgrade => compiler.upgrade()?,
            Stage::Leave => compiler.leave()?,
            Stage::Restore => compiler.restore()?,
        };
        Ok((1..).zip(actions).map(|(id, (title, action))| Step { id, title, action }).collect())
    }
}

fn release(version: &Version) -> Result<Release, DriverError> {
    Release::of(version).ok_or_else(|| DriverError::Version {
        driver: NAME,
        version: version.clone(),
        takes: TAKES,
    })
}

type Action = (String, StepAction);

/// An order with what is worked out from it.
struct Compiler<'a> {
    order: &'a Assignment,
    observed: &'a Observed,
    me: &'a Member,
    release: Release,
    /// The cluster's directory.
    home: String,
}

fn host(title: impl Into<String>, host: HostAction) -> Action {
    (title.into(), StepAction::Host { host })
}

impl<'a> Compiler<'a> {
    fn new(order: &'a Assignment, observed: &'a Observed) -> Result<Self, DriverError> {
        let me = order.member().ok_or_else(|| DriverError::NotAMember {
            cluster: order.cluster.clone(),
            who: order.node.to_string(),
        })?;
        // Leaving must work whatever is left of the others.
        for member in order.members.iter().filter(|m| order.stage != Stage::Leave || m.node == order.node) {
            member.address.parse::<IpAddr>().map_err(|_| DriverError::Address {
                host: member.host.to_string(),
                address: member.address.clone(),
            })?;
        }
        let release = release(&order.version)?;
        Ok(Self { order, observed, me, release, home: format!("{CLUSTERS}/{}", order.cluster) })
    }

    fn is_control_plane(&self) -> bool {
        self.order.role == NodeRole::ControlPlane
    }

    fn refuse(&self, why: &'static str) -> DriverError {
        DriverError::Stage {
            host: self.me.host.to_string(),
            stage: self.order.stage.word(),
            why,
            cluster: self.order.cluster.clone(),
        }
    }

    /// Up to 1.30 kubeadm asks the runtime for images by `crictl`, and passing its finding over does not
    /// spare a control plane node from that.
    fn check_programs(&self) -> Result<(), DriverError> {
        if self.release.speaks_cri() || !self.is_control_plane() || !self.lacks(CRICTL) {
            return Ok(());
        }
        let version = self.order.version.clone();
        Err(DriverError::Lacks { driver: NAME, version, program: CRICTL })
    }

    fn prepare(&self) -> Result<Vec<Action>, DriverError> {
        let mut actions = vec![
            host("look whether the host is free for Kubernetes", HostAction::Fit),
            host("write down how the host is", HostAction::Record),
            (
                "make bundle and 2 more".to_owned(),
                StepAction::Directories {
                    paths: ["bundle", "config", "secret"]
                        .map(str::parse)
                        .into_iter()
                        .collect::<Result<_, _>>()?,
                },
            ),
            self.unpack()?,
        ];
        actions.extend(self.software()?);
        actions.extend([
            host("bring up the pod network", HostAction::Network(self.network())),
            host("put everything on the disk", HostAction::Sync),
        ]);
        Ok(actions)
    }

    fn unpack(&self) -> Result<Action, DriverError> {
        let action = StepAction::Unpack { bundle: self.order.bundle, into: "bundle".parse()? };
        Ok((format!("unpack {NAME} {}", self.order.version), action))
    }

    /// Where the bundle is unpacked.
    fn tree(&self) -> Result<RelPath, DriverError> {
        Ok(format!("bundle/{}", bundle::directory_name(&self.order.bundle)).parse()?)
    }

    /// From the unpacked bundle to a runtime that has its images.
    fn software(&self) -> Result<Vec<Action>, DriverError> {
        let mut actions = self.switch()?;
        actions.push(self.images(None));
        Ok(actions)
    }

    /// From the unpacked bundle to a runtime that is of it.
    fn switch(&self) -> Result<Vec<Action>, DriverError> {
        let tree = self.tree()?;
        let files = self.prepare_files()?;
        let sysctls = files::SYSCTLS
            .map(|(key, value)| Sysctl { key: key.to_owned(), value: value.to_owned() })
            .to_vec();
        let modules = files::MODULES.map(str::to_owned).to_vec();
        Ok(vec![
            host(format!("select {NAME} {}", self.order.version), HostAction::Select { tree }),
            host("set the kernel up", HostAction::Settings { modules, sysctls }),
            host("install the CNI plugins", HostAction::Plugins),
            host(format!("write {} files", files.len()), HostAction::Files { files }),
            host("start the container runtime", HostAction::Start { unit: HostUnit::Containerd }),
        ])
    }

    fn images(&self, tree: Option<RelPath>) -> Action {
        let without = if self.is_control_plane() {
            Vec::new()
        } else {
            // By prefix of the file's name: what only control plane nodes run.
            ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]
                .map(str::to_owned)
                .to_vec()
        };
        host("import images", HostAction::Images { tree, without, pause: self.release.pause() })
    }

    fn network(&self) -> PodNetwork {
        let of =
            |m: &Member| NetworkMember { host: m.host.clone(), address: m.address.clone(), slot: m.slot };
        let others = self.order.members.iter().filter(|m| m.node != self.order.node);
        let mut peers: Vec<_> = others.map(of).collect();
        peers.sort_by_key(|m| m.slot);
        let settings = &self.order.settings;
        PodNetwork { own: of(self.me), peers, pods: settings.pods, overlay: settings.overlay() }
    }

    fn initialize(&self) -> Result<Vec<Action>, DriverError> {
        if !self.is_control_plane() {
            return Err(self.refuse("only a control plane node does"));
        }
        if self.order.first != self.order.node {
            return Err(self.refuse("only the first member does"));
        }
        let mut skip = Vec::new();
        if !self.has_dns() {
            skip.push(DNS_PHASE.to_owned());
        }
        if self.release.shows_join_command() {
            skip.push("show-join-command".to_owned());
        }
        let mut actions = vec![
            host("write kubeadm's configuration", HostAction::Files { files: vec![self.init_file()?] }),
            host("enable the kubelet", HostAction::Enable { unit: HostUnit::Kubelet }),
            host(
                format!("make the cluster {}", self.order.cluster),
                HostAction::Kubeadm(Run {
                    skip_phases: skip,
                    limit_s: INIT_LIMIT_S,
                    ..self.run(KubeadmVerb::Init)?
                }),
            ),
        ];
        actions.extend(self.comes_up(None));
        if self.release.has_super_admin() {
            actions.push(Self::drop_super_admin()?);
        }
        actions.extend([
            host("apply the bundle's manifests", HostAction::Manifests),
            host("publish the cluster's certificate authority", HostAction::PublishAuthority),
            host("put everything on the disk", HostAction::Sync),
        ]);
        Ok(actions)
    }

    fn drop_super_admin() -> Result<Action, DriverError> {
        let places = vec![HostPlace::Kubernetes("super-admin.conf".parse()?)];
        Ok(host("delete the credential that nobody could revoke", HostAction::Remove { places }))
    }

    fn join(&self) -> Result<Vec<Action>, DriverError> {
        if self.order.first == self.order.node {
            return Err(self.refuse("the first member does not: it initializes"));
        }
        let (secret, discovery): (RelPath, RelPath) = (SECRET.parse()?, DISCOVERY.parse()?);
        let verb =
            if self.is_control_plane() { KubeadmVerb::JoinControlPlane } else { KubeadmVerb::JoinWorker };
        let mut actions = vec![
            host("write kubeadm's configuration", HostAction::Files { files: vec![self.join_file()?] }),
            host("enable the kubelet", HostAction::Enable { unit: HostUnit::Kubelet }),
            ("open the join secret".to_owned(), StepAction::OpenKubeSecret { into: secret.clone() }),
            host(
                "put the join secret in its place",
                HostAction::PlaceSecret { secret: secret.clone(), discovery: discovery.clone() },
            ),
            host(
                format!("join {} as {}", self.order.cluster, role_word(self.order.role)),
                HostAction::Kubeadm(Run { limit_s: JOIN_LIMIT_S, ..self.run(verb)? }),
            ),
            host("delete the join secret", HostAction::DropSecret { paths: vec![secret, discovery] }),
        ];
        actions.extend(self.comes_up(None));
        actions.push(host("put everything on the disk", HostAction::Sync));
        Ok(actions)
    }

    /// What every node waits for at the end; where an API server was there before, it must be of the version.
    fn comes_up(&self, version: Option<&Version>) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.is_control_plane() {
            actions.push(self.api_is_ready("wait for the API server here", version));
        }
        let (name, version) = (self.me.host.clone(), self.order.version.clone());
        actions.push(host(
            "wait until the node is ready",
            HostAction::AwaitNode { name, version, limit_s: READY_LIMIT_S },
        ));
        actions
    }

    fn server(&self) -> String {
        format!("{}:{API_SERVER_PORT}", self.me.address)
    }

    fn api_is_ready(&self, title: &str, version: Option<&Version>) -> Action {
        let (server, version) = (self.server(), version.cloned());
        host(title, HostAction::AwaitApi { server, version, limit_s: READY_LIMIT_S })
    }

    fn leave(&self) -> Result<Vec<Action>, DriverError> {
        Ok(vec![
            host(
                "reset what kubeadm made",
                HostAction::Kubeadm(Run {
                    config: None,
                    ignore: Vec::new(),
                    limit_s: RESET_LIMIT_S,
                    ..self.run(KubeadmVerb::Reset)?
                }),
            ),
            host("stop the kubelet", HostAction::Stop { unit: HostUnit::Kubelet }),
            host("take everything of the cluster off the host", HostAction::Clean),
            host("stop the container runtime", HostAction::Stop { unit: HostUnit::Containerd }),
            host("compare the host with how it was", HostAction::Compare),
            (format!("remove everything of {}", self.order.cluster), StepAction::RemoveTree),
        ])
    }

    fn run(&self, verb: KubeadmVerb) -> Result<Run, DriverError> {
        Ok(Run {
            verb,
            version: self.order.version.clone(),
            tree: None,
            config: Some(CONFIG.parse()?),
            ignore: self.ignored(),
            skip_phases: Vec::new(),
            limit_s: JOIN_LIMIT_S,
        })
    }

    /// Findings of kubeadm's preflight that an earlier run of this very stage leaves behind, or that were
    /// judged by qb: images come from the bundle, and swap is passed over as configured.
    fn ignored(&self) -> Vec<String> {
        let mut all: Vec<String> = [
            "DirAvailable--etc-kubernetes-manifests",
            "DirAvailable--var-lib-etcd",
            "FileAvailable--etc-kubernetes-bootstrap-kubelet.conf",
            "FileAvailable--etc-kubernetes-kubelet.conf",
            "FileAvailable--etc-kubernetes-manifests-etcd.yaml",
            "FileAvailable--etc-kubernetes-manifests-kube-apiserver.yaml",
            "FileAvailable--etc-kubernetes-manifests-kube-controller-manager.yaml",
            "FileAvailable--etc-kubernetes-manifests-kube-scheduler.yaml",
            "FileAvailable--etc-kubernetes-pki-ca.crt",
            "ImagePull",
            "Port-10250",
            "Port-10257",
            "Port-10259",
            "Port-2379",
            "Port-2380",
            "Port-6443",
            "Swap",
        ]
        .map(str::to_owned)
        .to_vec();
        if !self.release.speaks_cri() && !self.holds(CRICTL) {
            all.push("FileExisting-crictl".to_owned());
        }
        if self.observed.cgroup == Some(1) && self.release.refuses_cgroup_v1() {
            all.push("SystemVerification".to_owned());
        }
        all.sort();
        all
    }

    fn has_dns(&self) -> bool {
        self.holds("images/coredns")
    }

    /// Whether the bundle at hand is known to have no such file: what an archive holds is not known.
    fn lacks(&self, path: &str) -> bool {
        let told = |b: &bundle::Manifest| b.artifacts.iter().all(|a| matches!(a.kind, ArtifactKind::File(_)));
        self.observed.bundle.as_ref().is_some_and(told) && !self.holds(path)
    }

    /// Whether the bundle at hand has a file whose path begins so.
    fn holds(&self, path: &str) -> bool {
        let of = |kind: &ArtifactKind| match kind {
            ArtifactKind::File(place) => place.path.as_str().starts_with(path),
            ArtifactKind::Tar | ArtifactKind::Program => false,
        };
        self.observed.bundle.as_ref().is_some_and(|b| b.artifacts.iter().any(|a| of(&a.kind)))
    }
}

fn role_word(role: NodeRole) -> &'static str {
    match role {
        NodeRole::ControlPlane => "a control plane node",
        NodeRole::Worker => "a worker",
    }
}
