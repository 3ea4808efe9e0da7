//! Where clusters have their things on a host, and how those are called. Pure.

use std::path::Path;

use crate::host::network::plan::{BRIDGE, DEVICE};

/// systemd's configuration that is made on a host.
pub(crate) const UNITS: &str = "etc/systemd/system";
/// Named network namespaces; those of pods begin so.
pub(crate) const NETNS: &str = "run/netns";
const POD_NETNS: &str = "cni-";
/// The slice of all pods.
pub(crate) const SLICE: &str = "kubepods.slice";

/// Folders whose content is a cluster's, whatever it is called.
pub(crate) const WHOLE: [&str; 10] = [
    "etc/kubernetes",
    "var/lib/kubelet",
    "var/lib/etcd",
    "var/lib/cni",
    "var/lib/qb/containerd",
    "run/qb/containerd",
    "var/log/pods",
    "var/log/containers",
    "var/run/kubernetes",
    "run/kubernetes",
];

/// Folders that clusters make where they are absent, and that others use too: they go if they are empty.
/// The deeper first.
pub(crate) const EMPTY: [&str; 17] = [
    "run/containerd/runc/k8s.io",
    "run/containerd/runc",
    "run/containerd/s",
    "run/containerd",
    "usr/libexec/kubernetes/kubelet-plugins/volume/exec",
    "usr/libexec/kubernetes/kubelet-plugins/volume",
    "usr/libexec/kubernetes/kubelet-plugins",
    "usr/libexec/kubernetes",
    "usr/lib/modules",
    "usr/local/share/ca-certificates",
    "etc/ca-certificates",
    "etc/cni/net.d",
    "etc/cni",
    "opt/cni/bin",
    "opt/cni",
    "etc/modules-load.d",
    "run/netns",
];

/// Files by which the network's settings come back at boot.
const FILES: [&str; 2] = ["etc/sysctl.d/90-qb-kubernetes.conf", "etc/modules-load.d/qb-kubernetes.conf"];

/// All places that are recorded.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    WHOLE.into_iter().chain(EMPTY).chain(FILES)
}

/// Whether the names in it are recorded too. Those that others fill are not.
pub(crate) fn is_listed(place: &str) -> bool {
    WHOLE.contains(&place) || matches!(place, "etc/cni/net.d" | "opt/cni/bin")
}

/// Kernel settings that kubelet, kube-proxy and qb change, in the order in which they are set back: the
/// first, changed, gives others their default again.
pub(crate) const SYSCTLS: [&str; 19] = [
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "net.ipv4.conf.all.accept_redirects",
    "net.ipv4.conf.default.accept_redirects",
    "net.ipv4.conf.all.route_localnet",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.conf.default.rp_filter",
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
    "net.netfilter.nf_conntrack_tcp_be_liberal",
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "kernel.panic",
    "kernel.panic_on_oops",
    "kernel.keys.root_maxkeys",
    "kernel.keys.root_maxbytes",
];

/// The kernel's own values of those that come with a module: nothing was there to record.
pub(crate) const DEFAULTS: [(&str, &str); 2] = [
    ("net.netfilter.nf_conntrack_tcp_timeout_established", "432000"),
    ("net.netfilter.nf_conntrack_tcp_timeout_close_wait", "60"),
];

/// Whether a link comes with a cluster; `value` as recorded: its kind and what it is a port of.
pub(crate) fn is_our_link(name: &str, value: &str) -> bool {
    [BRIDGE, DEVICE, "kube-ipvs0"].contains(&name) || value.ends_with(&format!(" of {BRIDGE}"))
}

/// Whether a table of nftables does.
pub(crate) fn is_our_table(name: &str) -> bool {
    matches!(name, "ip kube-proxy" | "ip6 kube-proxy")
}

/// Whether a file of systemd's configuration does.
pub(crate) fn is_our_unit(name: &str) -> bool {
    name.split('/').any(|part| {
        matches!(part, "kubelet.service" | "kubelet.service.d")
            || part == "qb-containerd.service"
            || part == "qb-containerd.service.d"
    })
}

/// Whether a mount does.
pub(crate) fn is_our_mount(point: &Path) -> bool {
    let Ok(below) = point.strip_prefix("/") else { return false };
    WHOLE.iter().any(|place| below.starts_with(place)) || is_pod_netns(below)
}

/// Whether a path below the root is a pod's network namespace.
pub(crate) fn is_pod_netns(below: &Path) -> bool {
    let name = below.strip_prefix(NETNS).ok().and_then(Path::to_str);
    name.is_some_and(|name| name.starts_with(POD_NETNS) && !name.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_clusters() {
        for (point, ours) in [
            ("/var/lib/kubelet", true),
            ("/var/lib/kubelet/pods/1/volumes/x", true),
            ("/var/lib/kubelet2", false),
            ("/run/netns/cni-1", true),
            ("/run/netns/other", false),
            ("/run/netns", false),
            ("/", false),
            ("/mnt/var/lib/kubelet", false),
        ] {
            assert_eq!(is_our_mount(Path::new(point)), ours, "{point}");
        }
        for (unit, ours) in [
            ("kubelet.service", true),
            ("multi-user.target.wants/kubelet.service", true),
            ("kubelet.service.d/10-qb.conf", true),
            ("qb-containerd.service", true),
            ("containerd.service", false),
            ("my-kubelet.service", false),
        ] {
            assert_eq!(is_our_unit(unit), ours, "{unit}");
        }
    }

    #[test]
    fn deeper_places_come_first() {
        for (at, place) in EMPTY.iter().enumerate() {
            let above =
                EMPTY.iter().position(|other| *place != *other && Path::new(place).starts_with(other));
            assert!(above.is_none_or(|above| above > at), "{place}");
        }
    }
}
