//! The folder that a bundle of Kubernetes is made from: `qb bundle build --driver kubeadm --from`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::debian::{Debian, fresh};
use super::images::{self, Parts};
use super::{Version, dir, source};
use crate::lab::{Kind, Lab, system};

/// Debian's packages, and what of them goes where.
const PACKAGES: [&str; 6] =
    ["busybox", "containerd", "containernetworking-plugins", "etcd-client", "etcd-server", "runc"];
const BIN: [&str; 5] = [
    "usr/bin/containerd",
    "usr/bin/containerd-shim-runc-v2",
    "usr/bin/ctr",
    "usr/sbin/runc",
    "usr/bin/etcdctl",
];
const BUILT: [&str; 3] = ["kubeadm", "kubelet", "kubectl"];
const PLUGINS: &str = "usr/lib/cni";
const CNI: [&str; 4] = ["bridge", "host-local", "loopback", "portmap"];

const CRICTL: &str = include_str!("../../lab/crictl.sh");

/// The folder of a version, made if it is not there: from nothing about ten minutes, of which nine compile.
///
/// # Errors
/// Something cannot be downloaded, built or written; says what.
pub fn ensure_folder(lab: &Lab, version: Version) -> Result<PathBuf> {
    let place = lab.place();
    let dir = dir(place);
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let _alone = system::lock(&dir.join("lock"))?;
    let to = dir.join(version.to_string());
    if to.is_dir() {
        return Ok(to);
    }
    let tree = lab.prepare([&Kind::kubernetes()])?.remove(0);
    let packages = dir.join("packages");
    if !packages.is_dir() {
        Debian::open(dir.join("apt"))?.unpack(&PACKAGES, &packages)?;
    }
    let programs = source::ensure_programs(&dir, version)?;
    let new = fresh(&to)?;
    for path in BIN {
        copy(&packages.join(path), &new.join("bin"))?;
    }
    for name in BUILT {
        copy(&programs.join(name), &new.join("bin"))?;
    }
    for name in CNI {
        copy(&packages.join(PLUGINS).join(name), &new.join("cni"))?;
    }
    fs::write(new.join("bin/crictl"), CRICTL)?;
    fs::set_permissions(new.join("bin/crictl"), fs::Permissions::from_mode(0o755))?;
    let parts = Parts { tree: &tree, packages: &packages, programs: &programs };
    images::write(&parts, version, &new.join("images"))?;
    fs::create_dir_all(new.join("manifests"))?;
    fs::write(new.join("manifests/10-about.yaml"), about(version))?;
    fs::rename(&new, &to).with_context(|| format!("cannot make {}", to.display()))?;
    Ok(to)
}

/// A manifest that tests find again in the cluster: DNS has no image here.
fn about(version: Version) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: qb-about\n  namespace: kube-system\ndata:\n  version: {version}\n"
    )
}

/// A link where that goes: programs are large, and nobody changes them in place.
fn copy(from: &Path, into: &Path) -> Result<()> {
    fs::create_dir_all(into)?;
    let to = into.join(from.file_name().unwrap_or_default());
    let from = from.canonicalize().with_context(|| format!("{} is missing", from.display()))?;
    fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop))?;
    Ok(())
}
