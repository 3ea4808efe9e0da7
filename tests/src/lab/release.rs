//! Releases of Debian that hosts run, and what a root tree is made of.

use std::collections::BTreeSet;
use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A release of Debian.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Release {
    /// Debian 11, systemd 247
    Bullseye,
    /// Debian 12, systemd 252
    #[default]
    Bookworm,
    /// Debian 13, systemd 257
    Trixie,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bullseye => "bullseye",
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        })
    }
}

/// What a host has besides the smallest Debian: an init system, what the packages of qb depend on, and
/// what a person reaches for.
const PACKAGES: [&str; 9] = [
    "ca-certificates",
    "curl",
    "dbus",
    "iproute2",
    "iputils-ping",
    "nftables",
    "procps",
    "systemd",
    "systemd-sysv",
];

/// What hosts of Kubernetes have besides: what kubelet, kubeadm, kube-proxy and CNI plugins run, and the one
/// library that Debian's runc needs. No container runtime: that comes with the bundle.
const KUBERNETES: [&str; 8] =
    ["conntrack", "ebtables", "ethtool", "iptables", "kmod", "libseccomp2", "mount", "socat"];

/// What a root tree holds. Equal kinds share one tree.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kind {
    /// The release.
    pub release: Release,
    /// Packages besides the usual ones.
    #[serde(default)]
    pub include: BTreeSet<String>,
    /// Whether the host can be a node of Kubernetes: a disk of its own for containers and etcd, switches that
    /// kubelet sets, no messages of this machine's kernel.
    #[serde(default)]
    pub kubernetes: bool,
}

impl Kind {
    /// A host of this release with the usual packages.
    pub fn of(release: Release) -> Self {
        Self { release, include: BTreeSet::new(), kubernetes: false }
    }

    /// A host of Debian 12 that can be a node of Kubernetes.
    pub fn kubernetes() -> Self {
        Self { kubernetes: true, ..Self::default() }
    }

    /// The same with more packages.
    #[must_use]
    pub fn with<S: Into<String>>(mut self, include: impl IntoIterator<Item = S>) -> Self {
        self.include.extend(include.into_iter().map(Into::into));
        self
    }

    /// All packages that are asked for, in order.
    pub fn packages(&self) -> BTreeSet<&str> {
        let more: &[&str] = if self.kubernetes { &KUBERNETES } else { &[] };
        PACKAGES.iter().chain(more).copied().chain(self.include.iter().map(String::as_str)).collect()
    }

    /// The name of its tree: the release, and a sum of all packages.
    pub fn key(&self) -> String {
        let list = self.packages().into_iter().collect::<Vec<_>>().join(",");
        format!("{}-{:08x}", self.release, crc32c::crc32c(list.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_named_by_what_it_holds() {
        let plain = Kind::of(Release::Bookworm);
        assert_eq!(plain.key(), Kind::default().with(["curl"]).key(), "curl is there anyway");
        let one = Kind::default().with(["jq", "less"]).key();
        assert_eq!(one, Kind::default().with(["less", "jq"]).key());
        assert!(one != plain.key() && one.starts_with("bookworm-"), "{one}");
        assert_ne!(plain.key(), Kind::of(Release::Trixie).key());
    }
}
