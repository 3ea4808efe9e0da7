//! kubeadm's configuration as types, for its versions v1beta2 to v1beta4. Serialized, never templated.

use std::collections::BTreeMap;

use serde::Serialize;

use super::release::Release;

/// Extra arguments of a component: a map up to v1beta3, a list from v1beta4 on.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Args {
    Map(BTreeMap<String, String>),
    List(Vec<Arg>),
}

/// One extra argument.
#[derive(Debug, Serialize)]
pub(super) struct Arg {
    name: String,
    value: String,
}

impl Args {
    /// In the form of a release; none if there are none.
    pub(super) fn of(release: Release, args: &[(&str, &str)]) -> Option<Self> {
        let pairs = args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        if args.is_empty() {
            None
        } else if release.args_are_a_list() {
            Some(Self::List(pairs.map(|(name, value)| Arg { name, value }).collect()))
        } else {
            Some(Self::Map(pairs.collect()))
        }
    }
}

/// `InitConfiguration`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InitConfiguration {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) bootstrap_tokens: Vec<BootstrapToken>,
    #[serde(rename = "localAPIEndpoint")]
    pub(super) local_api_endpoint: Endpoint,
    pub(super) node_registration: NodeRegistration,
}

/// A bootstrap token. kubeadm makes one that lives a day if none is named, and needs the phase for the
/// roles that joins rest on. This one opens nothing: no role is bound to its group, and it lives a second.
#[derive(Debug, Serialize)]
pub(super) struct BootstrapToken {
    pub(super) token: &'static str,
    pub(super) ttl: &'static str,
    pub(super) usages: Vec<&'static str>,
    pub(super) groups: Vec<&'static str>,
}

impl BootstrapToken {
    /// See the type.
    pub(super) fn that_opens_nothing() -> Self {
        Self {
            token: "qbnone.0000000000000000",
            ttl: "1s",
            usages: vec!["signing", "authentication"],
            groups: vec!["system:bootstrappers:qb:none"],
        }
    }
}

/// Where an API server listens.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Endpoint {
    pub(super) advertise_address: String,
    pub(super) bind_port: u16,
}

/// How the kubelet of this node registers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeRegistration {
    pub(super) name: String,
    pub(super) cri_socket: String,
    pub(super) kubelet_extra_args: Option<Args>,
    /// What kubeadm itself pulls; since v1beta3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) image_pull_policy: Option<&'static str>,
    /// An empty list; none leaves kubeadm's own: control plane nodes take no workloads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) taints: Option<[&'static str; 0]>,
}

/// `JoinConfiguration`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JoinConfiguration {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) discovery: Discovery,
    pub(super) node_registration: NodeRegistration,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) control_plane: Option<JoinControlPlane>,
}

/// How a joiner finds the cluster: by a file that holds its authority and a certificate of a few minutes.
#[derive(Debug, Serialize)]
pub(super) struct Discovery {
    pub(super) file: FileDiscovery,
}

/// See [`Discovery`].
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FileDiscovery {
    pub(super) kube_config_path: String,
}

/// What a joining control plane node adds.
#[derive(Debug, Serialize)]
pub(super) struct JoinControlPlane {
    #[serde(rename = "localAPIEndpoint")]
    pub(super) local_api_endpoint: Endpoint,
}

/// `ClusterConfiguration`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClusterConfiguration {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) kubernetes_version: String,
    pub(super) cluster_name: String,
    pub(super) control_plane_endpoint: String,
    pub(super) networking: Networking,
    pub(super) api_server: ApiServer,
    pub(super) controller_manager: Component,
    pub(super) etcd: Etcd,
}

/// The cluster's networks.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Networking {
    pub(super) pod_subnet: String,
    pub(super) service_subnet: String,
    pub(super) dns_domain: String,
}

/// The API server.
#[derive(Debug, Serialize)]
pub(super) struct ApiServer {
    #[serde(rename = "certSANs")]
    pub(super) cert_sans: Vec<String>,
}

/// A component with extra arguments.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Component {
    pub(super) extra_args: Option<Args>,
}

/// The store.
#[derive(Debug, Serialize)]
pub(super) struct Etcd {
    pub(super) local: LocalEtcd,
}

/// A store on the control plane nodes themselves.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LocalEtcd {
    pub(super) data_dir: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) extra_args: Option<Args>,
}

/// `KubeletConfiguration`, the part that is not kubeadm's own.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KubeletConfiguration {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) cgroup_driver: &'static str,
    /// The kubelet asks for a new certificate before its own ends.
    pub(super) rotate_certificates: bool,
    pub(super) fail_swap_on: bool,
    #[serde(rename = "failCgroupV1", skip_serializing_if = "Option::is_none")]
    pub(super) fail_cgroup_v1: Option<bool>,
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub(super) image_gc_high_threshold_percent: u8,
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub(super) image_gc_low_threshold_percent: u8,
    pub(super) eviction_hard: BTreeMap<&'static str, &'static str>,
}

/// `KubeProxyConfiguration`, the part that is not kubeadm's own.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KubeProxyConfiguration {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) conntrack: Option<Conntrack>,
}

/// How many connections the kernel tracks; 0 leaves it as it is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Conntrack {
    pub(super) max_per_core: u32,
}
