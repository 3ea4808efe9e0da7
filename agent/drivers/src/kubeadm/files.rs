//! The files that the driver renders for one order.

use std::collections::BTreeMap;

use serde::Serialize;

use super::config::{
    ApiServer, Args, BootstrapToken, ClusterConfiguration, Component, Conntrack, Discovery, Endpoint, Etcd,
    FileDiscovery, InitConfiguration, JoinConfiguration, JoinControlPlane, KubeProxyConfiguration,
    KubeletConfiguration, LocalEtcd, Networking, NodeRegistration,
};
use super::{API_SERVER_PORT, BALANCER, Compiler, DISCOVERY};
use crate::DriverError;
use crate::host_step::{HostFile, HostPlace};
use qb_model::action::NodeRole;

/// Where the private container runtime keeps its images and containers.
pub const CONTAINERD_ROOT: &str = "/var/lib/qb/containerd";
/// Where it keeps what ends with the machine.
pub const CONTAINERD_STATE: &str = "/run/qb/containerd";
/// Its socket.
pub const CONTAINERD_SOCKET: &str = "/run/qb/containerd/containerd.sock";
/// Where CNI plugins lie: add-ons expect this place.
const CNI_PLUGINS: &str = "/opt/cni/bin";
/// Where CNI configuration lies: likewise.
const CNI_CONF: &str = "/etc/cni/net.d";
/// A member of the store that died or fell silent is noticed within a second. With etcd's own timing (100
/// and 1000 ms) every measured loss of its leader kept new writes waiting for more than that.
const ETCD_TIMING: [(&str, &str); 2] = [("election-timeout", "500"), ("heartbeat-interval", "50")];
/// What every host of a cluster needs of its kernel.
pub(super) const MODULES: [&str; 3] = ["br_netfilter", "overlay", "vxlan"];
/// Likewise, as settings.
pub(super) const SYSCTLS: [(&str, &str); 3] = [
    ("net.bridge.bridge-nf-call-ip6tables", "1"),
    ("net.bridge.bridge-nf-call-iptables", "1"),
    ("net.ipv4.ip_forward", "1"),
];

/// Percent of the disk at which the kubelet deletes images, and down to which. Images come from the bundle
/// and cannot be pulled again: a full disk must not cost a node its own, so it never does.
const IMAGES_DELETED: (u8, u8) = (100, 99);
/// What must be left, or pods are evicted. Kubernetes' own are shares of the disk: on a large one that holds
/// other things as well, pods would go while there is plenty of room.
const MUST_BE_LEFT: [(&str, &str); 4] = [
    ("imagefs.available", "1Gi"),
    ("memory.available", "100Mi"),
    ("nodefs.available", "1Gi"),
    ("nodefs.inodesFree", "5%"),
];

#[derive(Serialize)]
struct Containerd {
    version: u32,
    root: &'static str,
    state: &'static str,
    grpc: BTreeMap<&'static str, &'static str>,
    plugins: BTreeMap<&'static str, toml::Value>,
}

impl Compiler<'_> {
    /// Files of `prepare`: what does not depend on the cluster's authority.
    pub(super) fn prepare_files(&self) -> Result<Vec<HostFile>, DriverError> {
        let modules = MODULES.map(|m| format!("{m}\n")).concat();
        let sysctls = SYSCTLS.map(|(key, value)| format!("{key} = {value}\n")).concat();
        Ok(vec![
            self.cluster_file("config/containerd.toml", self.containerd()?)?,
            HostFile {
                place: HostPlace::SystemdUnit("qb-containerd.service".parse()?),
                content: self.containerd_unit(),
                mode: 0o644,
            },
            HostFile {
                place: HostPlace::SystemdUnit("kubelet.service".parse()?),
                content: self.kubelet_unit(),
                mode: 0o644,
            },
            HostFile {
                place: HostPlace::Modules("qb-kubernetes.conf".parse()?),
                content: modules,
                mode: 0o644,
            },
            HostFile {
                place: HostPlace::Sysctl("90-qb-kubernetes.conf".parse()?),
                content: sysctls,
                mode: 0o644,
            },
        ])
    }

    /// The configuration of `kubeadm init`.
    pub(super) fn init_file(&self) -> Result<HostFile, DriverError> {
        let api_version = self.release.api();
        let init = InitConfiguration {
            api_version,
            kind: "InitConfiguration",
            bootstrap_tokens: vec![BootstrapToken::that_opens_nothing()],
            local_api_endpoint: self.endpoint(),
            node_registration: self.registration(),
        };
        let mut text = self.documents("kubeadm.yaml", &[yaml(&init), yaml(&self.cluster_configuration())])?;
        text.push_str(&self.documents("kubeadm.yaml", &[yaml(&self.kubelet()), yaml(&self.proxy())])?);
        self.cluster_file(super::CONFIG, text)
    }

    /// The configuration of `kubeadm join`.
    pub(super) fn join_file(&self) -> Result<HostFile, DriverError> {
        let join = JoinConfiguration {
            api_version: self.release.api(),
            kind: "JoinConfiguration",
            discovery: Discovery {
                file: FileDiscovery { kube_config_path: format!("{}/{DISCOVERY}", self.home) },
            },
            node_registration: self.registration(),
            control_plane: (self.order.role == NodeRole::ControlPlane)
                .then(|| JoinControlPlane { local_api_endpoint: self.endpoint() }),
        };
        self.cluster_file(super::CONFIG, self.documents("kubeadm.yaml", &[yaml(&join)])?)
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint { advertise_address: self.me.address.clone(), bind_port: API_SERVER_PORT }
    }

    fn registration(&self) -> NodeRegistration {
        // A cluster of control plane nodes alone must run its workloads somewhere.
        let alone = self.order.members.iter().all(|m| m.role == NodeRole::ControlPlane);
        NodeRegistration {
            name: self.me.host.to_string(),
            cri_socket: self.release.socket(CONTAINERD_SOCKET),
            kubelet_extra_args: Args::of(self.release, &[("node-ip", &self.me.address)]),
            // Images come from the bundle, and one that is not in it from nowhere else.
            image_pull_policy: self.release.may_be_told_to_pull_nothing().then_some("Never"),
            taints: (self.order.role == NodeRole::Worker || alone).then_some([]),
        }
    }

    fn cluster_configuration(&self) -> ClusterConfiguration {
        let mut cert_sans = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        for member in self.order.members.iter().filter(|m| m.role == NodeRole::ControlPlane) {
            cert_sans.extend([member.address.clone(), member.host.to_string()]);
        }
        let settings = &self.order.settings;
        // kubeadm keeps the list in the cluster: joins, upgrades and renewals take it from there.
        cert_sans.extend(settings.endpoints.iter().map(ToString::to_string));
        // Pods have their networks by slot: no controller gives them out.
        let given = [("allocate-node-cidrs", "false")];
        ClusterConfiguration {
            api_version: self.release.api(),
            kind: "ClusterConfiguration",
            kubernetes_version: format!("v{}", self.order.version),
            cluster_name: self.order.cluster.to_string(),
            control_plane_endpoint: BALANCER.to_owned(),
            networking: Networking {
                pod_subnet: settings.pods.to_string(),
                service_subnet: settings.services.to_string(),
                dns_domain: "cluster.local".to_owned(),
            },
            api_server: ApiServer { cert_sans },
            controller_manager: Component { extra_args: Args::of(self.release, &given) },
            etcd: Etcd {
                local: LocalEtcd {
                    data_dir: "/var/lib/etcd",
                    extra_args: Args::of(self.release, &ETCD_TIMING),
                },
            },
        }
    }

    /// Of the whole cluster: members that come later have it too, whatever this host is like.
    fn kubelet(&self) -> KubeletConfiguration {
        let (high, low) = IMAGES_DELETED;
        KubeletConfiguration {
            api_version: "kubelet.config.k8s.io/v1beta1",
            kind: "KubeletConfiguration",
            cgroup_driver: "systemd",
            rotate_certificates: true,
            fail_swap_on: false,
            fail_cgroup_v1: self.release.refuses_cgroup_v1().then_some(false),
            image_gc_high_threshold_percent: high,
            image_gc_low_threshold_percent: low,
            eviction_hard: BTreeMap::from(MUST_BE_LEFT),
        }
    }

    fn proxy(&self) -> KubeProxyConfiguration {
        KubeProxyConfiguration {
            api_version: "kubeproxy.config.k8s.io/v1alpha1",
            kind: "KubeProxyConfiguration",
            mode: "iptables",
            // A container cannot raise what the machine's kernel tracks.
            conntrack: self.observed.nested.then_some(Conntrack { max_per_core: 0 }),
        }
    }

    fn containerd(&self) -> Result<String, DriverError> {
        let bin = format!("{}/current/bin", self.home);
        let text = |value: &str| toml::Value::String(value.to_owned());
        let table = |pairs: Vec<(&str, toml::Value)>| {
            toml::Value::Table(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
        };
        let options = table(vec![
            ("BinaryName", text(&format!("{bin}/runc"))),
            ("SystemdCgroup", toml::Value::Boolean(true)),
        ]);
        let runc = table(vec![("runtime_type", text("io.containerd.runc.v2")), ("options", options)]);
        let cni = table(vec![("bin_dir", text(CNI_PLUGINS)), ("conf_dir", text(CNI_CONF))]);
        let cri = table(vec![
            ("sandbox_image", text(&self.release.pause())),
            // In a container nobody may take a score back that was given away.
            ("restrict_oom_score_adj", toml::Value::Boolean(self.observed.nested)),
            ("cni", cni),
            ("containerd", table(vec![("runtimes", table(vec![("runc", runc)]))])),
        ]);
        let opt = table(vec![("path", text(&format!("{CONTAINERD_ROOT}/opt")))]);
        // From containerd 2 on it listens unless told: at one place for the whole host, which another
        // container runtime may have.
        let nri = table(vec![("disable", toml::Value::Boolean(true))]);
        let config = Containerd {
            version: 2,
            root: CONTAINERD_ROOT,
            state: CONTAINERD_STATE,
            grpc: BTreeMap::from([("address", CONTAINERD_SOCKET)]),
            plugins: BTreeMap::from([
                ("io.containerd.grpc.v1.cri", cri),
                ("io.containerd.internal.v1.opt", opt),
                ("io.containerd.nri.v1.nri", nri),
            ]),
        };
        toml::to_string(&config).map_err(|e| render("containerd.toml", &e.to_string()))
    }

    /// The names in it are of types that hold no character with a meaning to systemd.
    fn containerd_unit(&self) -> String {
        let (home, cluster) = (&self.home, &self.order.cluster);
        [
            "[Unit]",
            &format!("Description=Container runtime of the Kubernetes cluster {cluster} (qb)"),
            "After=network.target local-fs.target",
            "",
            "[Service]",
            "Type=notify",
            &format!("Environment=PATH={}", self.search_path()),
            &format!("ExecStart={home}/current/bin/containerd --config {home}/config/containerd.toml"),
            "# Containers live on when the runtime is started anew.",
            "KillMode=process",
            "Delegate=yes",
            "Restart=always",
            "RestartSec=1",
            "LimitNPROC=infinity",
            "LimitCORE=0",
            "LimitNOFILE=1048576",
            "TasksMax=infinity",
            "OOMScoreAdjust=-999",
            "",
            "[Install]",
            "WantedBy=multi-user.target",
            "",
        ]
        .join("\n")
    }

    fn kubelet_unit(&self) -> String {
        let (home, cluster) = (&self.home, &self.order.cluster);
        // A cluster that was made before kubelets knew it has no such setting, and upgrades add none.
        let by_default = self.release.refuses_cgroup_v1_by_default();
        let cgroup_v1 = if by_default { " --fail-cgroupv1=false" } else { "" };
        [
            "[Unit]",
            &format!("Description=kubelet of the Kubernetes cluster {cluster} (qb)"),
            "Wants=qb-containerd.service",
            "After=qb-containerd.service network.target",
            "# Before kubeadm has written it there is nothing to start.",
            "ConditionPathExists=/var/lib/kubelet/config.yaml",
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            &format!("Environment=PATH={}", self.search_path()),
            "# kubeadm writes what differs between nodes here.",
            "EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env",
            &format!(
                "ExecStart={home}/current/bin/kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml{cgroup_v1} $KUBELET_KUBEADM_ARGS"
            ),
            "Restart=always",
            "RestartSec=1",
            "",
            "[Install]",
            "WantedBy=multi-user.target",
            "",
        ]
        .join("\n")
    }

    fn search_path(&self) -> String {
        format!("{}/current/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", self.home)
    }

    fn cluster_file(&self, path: &str, content: String) -> Result<HostFile, DriverError> {
        Ok(HostFile { place: HostPlace::Cluster(path.parse()?), content, mode: 0o600 })
    }

    fn documents(&self, file: &str, all: &[Result<String, String>]) -> Result<String, DriverError> {
        let mut out = String::new();
        for document in all {
            out.push_str("---\n");
            out.push_str(document.as_ref().map_err(|e| render(file, e))?);
        }
        Ok(out)
    }
}

fn yaml(value: &impl Serialize) -> Result<String, String> {
    serde_yaml_ng::to_string(value).map_err(|e| e.to_string())
}

fn render(file: &str, reason: &str) -> DriverError {
    DriverError::Render { file: file.to_owned(), reason: reason.to_owned() }
}
