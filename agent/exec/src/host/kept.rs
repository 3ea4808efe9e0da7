//! How a node was before an upgrade, and the way back to it: the files that an upgrade changes, the tree
//! that was selected, both units. kubeadm keeps copies of its own, but not of all, and not for long.
//!
//! ```text
//!   keep ── before.json: target, selected tree, files ──> upgrade ──> done: kept until the next one
//!                                                            └─ failed ──> go back ── nothing kept
//! ```
//!
//! One file, written in one piece: it is kept as a whole or not at all. What is gone back to is what was
//! kept for this very target, or nothing is done: an earlier upgrade that went well stays.

use std::io;
use std::time::Duration;

use qb_drivers::RelPath;
use qb_drivers::host_step::HostUnit;
use qb_model::ids::{HostName, Version};
use serde::{Deserialize, Serialize};

use super::kubeadm::{MANIFESTS, PARTS, UPGRADED};
use super::ours::Ours;
use super::place::{self, CURRENT, clean};
use super::run::Call;
use super::{Host, api, kubeadm, unit};
use crate::progress::StepError;

/// Where it is kept, in the cluster's directory.
const BEFORE: &str = "before.json";
/// Bytes of one file: a manifest or a configuration.
const FILE_BYTES: u64 = 256 * 1024;
/// Bytes of all.
const KEPT_BYTES: u64 = 4 << 20;
/// What kubeadm changes besides manifests.
const KUBELET_FILES: [&str; 3] = [
    "var/lib/kubelet/config.yaml",
    "var/lib/kubelet/instance-config.yaml",
    "var/lib/kubelet/kubeadm-flags.env",
];
/// What the driver changes below the root.
const UNIT_FILES: [&str; 2] =
    ["etc/systemd/system/kubelet.service", "etc/systemd/system/qb-containerd.service"];
/// What changes in the cluster's own directory.
const CLUSTER_FILES: [&str; 2] = ["config/containerd.toml", UPGRADED];

/// Whose a file is: how it is written back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Whose {
    /// In the cluster's directory.
    Cluster,
    /// qb's, below the root.
    Ours,
    /// kubeadm's, below the root.
    Kubeadm,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Copied {
    whose: Whose,
    path: RelPath,
    /// Content and mode; none where the file was not there.
    was: Option<(String, u32)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    v: u16,
    /// The tree that the upgrade brings.
    target: RelPath,
    /// The tree that was selected.
    tree: RelPath,
    files: Vec<Copied>,
}

fn kept(host: &Host, target: &RelPath) -> Result<Option<Kept>, StepError> {
    let at = clean(BEFORE)?;
    let bytes = host.dir.read(&at, KEPT_BYTES).map_err(|e| StepError::disk(&at, &e))?;
    let Some(bytes) = bytes else { return Ok(None) };
    let kept: Kept = serde_json::from_slice(&bytes).map_err(|_| StepError::damaged(&at))?;
    Ok((kept.target == *target).then_some(kept))
}

/// Whether it is kept how the node was before this very upgrade.
pub(super) fn is_kept(host: &Host, target: &RelPath) -> Result<bool, StepError> {
    Ok(kept(host, target)?.is_some())
}

/// Keeps how the node is. Called while nothing of the upgrade has been changed.
pub(super) fn keep(host: &Host, target: &RelPath) -> Result<(), StepError> {
    let current = clean(CURRENT)?;
    let tree = host.dir.link(&current).map_err(|e| StepError::disk(&current, &e))?;
    let tree = clean(&tree.ok_or_else(|| StepError::damaged(&current))?)?;
    let manifests = PARTS.map(|part| format!("{MANIFESTS}/{part}.yaml"));
    let all = manifests.iter().map(|path| (Whose::Kubeadm, path.as_str()));
    let all = all.chain(KUBELET_FILES.map(|path| (Whose::Kubeadm, path)));
    let all = all.chain(UNIT_FILES.map(|path| (Whose::Ours, path)));
    let all = all.chain(CLUSTER_FILES.map(|path| (Whose::Cluster, path)));
    let files = all.map(|(whose, path)| copied(host, whose, path)).collect::<Result<_, _>>()?;
    let kept = Kept { v: 1, target: target.clone(), tree, files };
    let bytes = serde_json::to_vec(&kept).map_err(|_| StepError::damaged(BEFORE))?;
    host.dir.write(&clean(BEFORE)?, &bytes, 0o600).map_err(|e| StepError::disk(BEFORE, &e))
}

fn copied(host: &Host, whose: Whose, path: &str) -> Result<Copied, StepError> {
    let path = clean(path)?;
    let dir = if whose == Whose::Cluster { &host.dir } else { &host.root };
    let error = |e: io::Error| StepError::disk(&path, &e);
    let content = dir.read(&path, FILE_BYTES).map_err(error)?;
    let mode = dir.mode(&path).map_err(error)?;
    let was = match content.zip(mode) {
        // What is no text is none of these files.
        Some((bytes, mode)) => Some((String::from_utf8(bytes).map_err(|_| StepError::damaged(&path))?, mode)),
        None => None,
    };
    Ok(Copied { whose, path, was })
}

/// Whether nothing is kept for this target any more: the node went back, or nothing was changed.
pub(super) fn is_back(host: &Host, target: &RelPath) -> Result<bool, StepError> {
    Ok(kept(host, target)?.is_none())
}

/// Goes back to what was kept, and waits until the versions found are those.
pub(super) async fn go_back(
    host: &Host,
    target: &RelPath,
    name: &HostName,
    server: Option<&str>,
    limit_s: u16,
) -> Result<(), StepError> {
    let Some(kept) = kept(host, target)? else { return Ok(()) };
    host.tell.tell("putting back what was before");
    for file in &kept.files {
        put_back(host, file)?;
    }
    place::select(host, &kept.tree)?;
    place::place_plugins(host)?;
    kubeadm::sync(host)?;
    if !unit::runs(host, HostUnit::Containerd).await? {
        unit::start(host, HostUnit::Containerd).await?;
    }
    // It reads files at start that are not among its inputs: always anew.
    unit::start(host, HostUnit::Kubelet).await?;
    let version = installed(host).await?;
    if let Some(server) = server {
        api::await_ready(host, server, Some(&version), limit_s).await?;
    }
    api::await_node(host, name, &version, limit_s).await?;
    let at = clean(BEFORE)?;
    host.dir.remove(&at).map_err(|e| StepError::disk(&at, &e))
}

fn put_back(host: &Host, file: &Copied) -> Result<(), StepError> {
    let error = |e: io::Error| StepError::disk(&file.path, &e);
    match (&file.was, file.whose) {
        (Some((content, mode)), Whose::Ours) => {
            Ours::open(&host.dir, &host.root)?.write(&file.path, content.as_bytes(), *mode)
        }
        (Some((content, mode)), whose) => {
            let dir = if whose == Whose::Cluster { &host.dir } else { &host.root };
            let same = dir.read(&file.path, FILE_BYTES).map_err(error)?;
            // A manifest that is as it was is not touched: its pod would be looked at anew.
            if same.is_some_and(|found| found == content.as_bytes()) {
                return Ok(());
            }
            dir.write(&file.path, content.as_bytes(), *mode).map_err(error)
        }
        (None, Whose::Cluster) => host.dir.remove(&file.path).map_err(error),
        (None, Whose::Kubeadm) => host.root.remove(&file.path).map_err(error),
        (None, Whose::Ours) => Ours::open(&host.dir, &host.root)?.remove(&file.path).map(drop),
    }
}

/// The version of the selected tree, by its own kubelet.
async fn installed(host: &Host) -> Result<Version, StepError> {
    let call = Call::tree("kubelet", ["--version"]).limit(Duration::from_secs(30));
    let said =
        host.programs.run(call).await?.done("kubelet --version", "detach this node and attach it again")?;
    let text = String::from_utf8_lossy(&said);
    let version = text.trim().strip_prefix("Kubernetes v").and_then(|version| version.parse().ok());
    version.ok_or_else(|| StepError::damaged("the version of the kubelet"))
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
