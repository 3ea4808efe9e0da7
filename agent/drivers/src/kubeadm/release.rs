//! What differs between releases of Kubernetes, by minor version.
//!
//! Sources: kubeadm's API reference (`v1beta2` to `v1beta4`) and the constants of each release; tried
//! with 1.20.2 and 1.36.2, and the texts for v1beta3 with kubeadm 1.22.

use qb_model::ids::Version;

/// The oldest and the newest minor version that the driver renders.
pub(super) const MINORS: (u32, u32) = (20, 36);

/// A release that the driver can install.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Release {
    minor: u32,
    patch: u32,
}

impl Release {
    /// Of a version; none if it is not 1.20 to 1.36.
    pub(super) fn of(version: &Version) -> Option<Self> {
        let mut numbers = version.as_str().split(['.', '-', '+']);
        let (major, minor) = (numbers.next()?, numbers.next()?.parse().ok()?);
        let patch = numbers.next()?.parse().ok()?;
        (major == "1" && (MINORS.0..=MINORS.1).contains(&minor)).then_some(Self { minor, patch })
    }

    /// The version of kubeadm's configuration.
    pub(super) fn api(self) -> &'static str {
        match self.minor {
            ..=21 => "kubeadm.k8s.io/v1beta2",
            22..=30 => "kubeadm.k8s.io/v1beta3",
            _ => "kubeadm.k8s.io/v1beta4",
        }
    }

    /// Whether extra arguments are a list of names and values, not a map: v1beta4.
    pub(super) fn args_are_a_list(self) -> bool {
        self.minor >= 31
    }

    /// The registry in whose name images are known. The newer name came with 1.25, and with one patch
    /// release of each older minor version that was still kept then.
    fn registry(self) -> &'static str {
        let renamed = match self.minor {
            ..=21 => false,
            22 => self.patch >= 17,
            23 => self.patch >= 15,
            24 => self.patch >= 9,
            _ => true,
        };
        if renamed { "registry.k8s.io" } else { "k8s.gcr.io" }
    }

    /// The pause image that kubeadm of this release names.
    pub(super) fn pause(self) -> String {
        let tag = match self.minor {
            ..=20 => "3.2",
            21 => "3.4.1",
            22 => "3.5",
            23 => "3.6",
            24 => "3.7",
            25 => "3.8",
            26..=30 => "3.9",
            31..=33 => "3.10",
            34..=35 => "3.10.1",
            _ => "3.10.2",
        };
        format!("{}/pause:{tag}", self.registry())
    }

    /// How kubeadm is told of a socket.
    pub(super) fn socket(self, path: &str) -> String {
        if self.minor >= 24 { format!("unix://{path}") } else { path.to_owned() }
    }

    /// Whether its configuration says which images kubeadm pulls: v1beta3.
    pub(super) fn may_be_told_to_pull_nothing(self) -> bool {
        self.minor >= 22
    }

    /// Whether the kubelet knows to refuse a host with control groups of the first version: newer ones do,
    /// unless told.
    pub(super) fn refuses_cgroup_v1(self) -> bool {
        self.minor >= 31
    }

    /// Whether the kubelet does so by itself, where its configuration says nothing.
    pub(super) fn refuses_cgroup_v1_by_default(self) -> bool {
        self.minor >= 35
    }

    /// Whether kubeadm asks the runtime itself, instead of through `crictl`.
    pub(super) fn speaks_cri(self) -> bool {
        self.minor >= 31
    }

    /// Whether `init` has a phase that prints the join command, with its secrets.
    pub(super) fn shows_join_command(self) -> bool {
        self.minor >= 26
    }

    /// Whether `init` writes a credential of `system:masters` besides `admin.conf`.
    pub(super) fn has_super_admin(self) -> bool {
        self.minor >= 29
    }

    /// Whether `upgrade apply` writes it, too: to clusters that come from a release before.
    pub(super) fn upgrade_writes_super_admin(self) -> bool {
        self.minor == 29
    }

    /// Whether `upgrade` brings kubeadm's DNS to a cluster that has none, unless told to leave that phase out.
    /// Before, it had no such phase, and left alone what it did not find. Clusters made since 1.31 say so in
    /// their configuration, older ones do not.
    pub(super) fn upgrade_brings_dns(self) -> bool {
        self.minor >= 32
    }

    /// Whether `upgrade apply` refuses to begin until a pod of this release's pause image ran on a node of
    /// the scheduler's choice.
    pub(super) fn tries_a_pod(self) -> bool {
        self.minor >= 30
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_told_apart() {
        let of = |text: &str| text.parse().ok().as_ref().and_then(Release::of);
        for (version, api, pause) in [
            ("1.20.2", "kubeadm.k8s.io/v1beta2", "k8s.gcr.io/pause:3.2"),
            ("1.21.14", "kubeadm.k8s.io/v1beta2", "k8s.gcr.io/pause:3.4.1"),
            ("1.22.0", "kubeadm.k8s.io/v1beta3", "k8s.gcr.io/pause:3.5"),
            ("1.22.17", "kubeadm.k8s.io/v1beta3", "registry.k8s.io/pause:3.5"),
            ("1.23.14", "kubeadm.k8s.io/v1beta3", "k8s.gcr.io/pause:3.6"),
            ("1.23.15", "kubeadm.k8s.io/v1beta3", "registry.k8s.io/pause:3.6"),
            ("1.24.8", "kubeadm.k8s.io/v1beta3", "k8s.gcr.io/pause:3.7"),
            ("1.24.9", "kubeadm.k8s.io/v1beta3", "registry.k8s.io/pause:3.7"),
            ("1.25.0", "kubeadm.k8s.io/v1beta3", "registry.k8s.io/pause:3.8"),
            ("1.30.14", "kubeadm.k8s.io/v1beta3", "registry.k8s.io/pause:3.9"),
            ("1.31.0", "kubeadm.k8s.io/v1beta4", "registry.k8s.io/pause:3.10"),
            ("1.36.2", "kubeadm.k8s.io/v1beta4", "registry.k8s.io/pause:3.10.2"),
        ] {
            let release = of(version);
            assert_eq!(release.map(Release::api), Some(api), "{version}");
            assert_eq!(release.map(Release::pause).as_deref(), Some(pause), "{version}");
        }
        for version in ["1.19.16", "1.37.0", "2.20.0", "0.20.0"] {
            assert_eq!(of(version), None, "{version}");
        }
    }
}
