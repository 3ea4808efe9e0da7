//! Runs kubeadm. Everything goes in by its configuration file; nothing secret is ever an argument. What
//! is done is seen from what is there, not from markers: kubeadm may be killed at any line.

use std::io;
use std::time::Duration;

use qb_drivers::RelPath;
use qb_drivers::host_step::{Kubeadm, KubeadmVerb};

use super::Host;
use super::api::{ADMIN, has, minor};
use super::images::SOCKET;
use super::place::{CURRENT, clean};
use super::run::Call;
use crate::dir::Dir;
use crate::progress::StepError;

/// Where the kubelet's certificates lie, and the link to its own: with it, it was let in.
const KUBELET_PKI: &str = "var/lib/kubelet/pki";
const LET_IN: &str = "kubelet-client-current.pem";
const KUBELET: &str = "etc/kubernetes/kubelet.conf";
pub(super) const MANIFESTS: &str = "etc/kubernetes/manifests";
/// The static pods of a control plane node.
pub(super) const PARTS: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
/// The static pods whose image names the version of Kubernetes.
const VERSIONED: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
/// Where etcd keeps its data.
const ETCD: &str = "var/lib/etcd/member";
/// Where it is kept for which version kubeadm said last that it brought the node up to date.
pub(super) const UPGRADED: &str = "upgraded";
/// Bytes of a manifest or a version.
const FILE_BYTES: u64 = 256 * 1024;
/// Which files kubeadm must find whole, or not at all.
const WHOLE: [&str; 5] =
    ["etc/kubernetes", "etc/kubernetes/pki", "etc/kubernetes/pki/etcd", MANIFESTS, KUBELET_PKI];
const WHOLE_FILES: [&str; 2] = ["var/lib/kubelet/config.yaml", "var/lib/kubelet/kubeadm-flags.env"];

pub(super) fn is_done(host: &Host, run: &Kubeadm) -> Result<bool, StepError> {
    match run.verb {
        KubeadmVerb::Init => Ok(has(host, ADMIN)? && has_parts(host)? && finished(host, run.verb)?),
        KubeadmVerb::JoinControlPlane => {
            Ok(has_joined(host)? && has_parts(host)? && finished(host, run.verb)?)
        }
        KubeadmVerb::JoinWorker => has_joined(host),
        KubeadmVerb::UpgradeApply | KubeadmVerb::UpgradeNode => is_upgraded(host, run),
        KubeadmVerb::Reset => is_reset(host),
        KubeadmVerb::RenewCertificates => super::renewal::is_renewed(host),
    }
}

/// Whether this node was let in: then no secret is needed any more. The kubelet's certificate is a link to
/// the newest one beside it.
pub(super) fn has_joined(host: &Host) -> Result<bool, StepError> {
    let error = |e: io::Error| StepError::disk(format!("/{KUBELET_PKI}/{LET_IN}"), &e);
    let at = clean(&format!("{KUBELET_PKI}/{LET_IN}"))?;
    let is_link = host.root.mode(&at).map_err(error)?.is_some() && host.root.file(&at).is_err();
    let name = match is_link {
        true => host.root.link(&at).map_err(error)?.unwrap_or_default(),
        false => LET_IN.to_owned(),
    };
    let name = name.rsplit('/').next().unwrap_or_default();
    Ok(has(host, KUBELET)? && has(host, &format!("{KUBELET_PKI}/{name}"))?)
}

/// Whether an init or a join came to its end: its last phases (roles, taints) leave nothing on the disk.
fn finished(host: &Host, verb: KubeadmVerb) -> Result<bool, StepError> {
    let at = clean(ended(verb))?;
    Ok(host.dir.mode(&at).map_err(|e| StepError::disk(&at, &e))?.is_some())
}

/// What is in the cluster's directory once an init, or a join, came to its end.
pub(crate) const ENDED: [&str; 2] = ["kubeadm-init-ended", "kubeadm-join-ended"];

fn ended(verb: KubeadmVerb) -> &'static str {
    let [init, join] = ENDED;
    if verb == KubeadmVerb::Init { init } else { join }
}

/// Whether a machine is a control plane node of the cluster whose directory this is: it came to its end, and
/// nothing of it was reset.
pub(crate) fn is_control_plane(root: &Dir, dir: &Dir) -> bool {
    let there = |dir: &Dir, path: &str| clean(path).is_ok_and(|at| matches!(dir.mode(&at), Ok(Some(_))));
    ENDED.iter().any(|name| there(dir, name))
        && there(root, ADMIN)
        && there(root, &format!("{MANIFESTS}/etcd.yaml"))
}

fn has_parts(host: &Host) -> Result<bool, StepError> {
    for part in PARTS {
        if !has(host, &format!("{MANIFESTS}/{part}.yaml"))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Without a selected tree no kubeadm of this cluster ever ran here: what looks like its work is somebody
/// else's, perhaps the very reason why preparing failed, and there is no program to reset it with.
fn is_reset(host: &Host) -> Result<bool, StepError> {
    let current = clean(CURRENT)?;
    if host.dir.link(&current).map_err(|e| StepError::disk(&current, &e))?.is_none() {
        return Ok(true);
    }
    let gone = |path: &str| -> Result<bool, StepError> {
        let at = clean(path)?;
        Ok(host.root.mode(&at).map_err(|e| StepError::disk(format!("/{path}"), &e))?.is_none())
    };
    let mut all = gone(KUBELET)? && gone(&format!("{KUBELET_PKI}/{LET_IN}"))? && gone(ETCD)? && gone(ADMIN)?;
    for part in PARTS {
        all = all && gone(&format!("{MANIFESTS}/{part}.yaml"))?;
    }
    Ok(all)
}

/// Seen from what is there, since `upgrade node` says that all is well when it did nothing.
fn is_upgraded(host: &Host, run: &Kubeadm) -> Result<bool, StepError> {
    let read = |dir: &Dir, path: &str| -> Result<String, StepError> {
        let bytes = dir.read(&clean(path)?, FILE_BYTES).map_err(|e| StepError::disk(path, &e))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default())
    };
    let version = format!("v{}", run.version);
    // What it does last leaves nothing on the disk.
    if read(&host.dir, UPGRADED)? != version {
        return Ok(false);
    }
    if !has_parts(host)? {
        return Ok(true);
    }
    for part in VERSIONED {
        let text = read(&host.root, &format!("{MANIFESTS}/{part}.yaml"))?;
        let image = text.lines().find_map(|line| line.trim().strip_prefix("image:"));
        if image.and_then(|image| image.rsplit_once(':')).map(|(_, tag)| tag.trim()) != Some(version.as_str())
        {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) async fn run(host: &Host, run: &Kubeadm) -> Result<(), StepError> {
    let starts =
        matches!(run.verb, KubeadmVerb::Init | KubeadmVerb::JoinControlPlane | KubeadmVerb::JoinWorker);
    if starts {
        whole(host)?;
        if run.verb == KubeadmVerb::JoinControlPlane
            && let Err(error) = half_joined(host).await
        {
            // Without a majority nobody can be taken out: the join brings the member up instead.
            tracing::warn!("an etcd member of an earlier try: {}", error.text);
        }
    }
    if run.verb == KubeadmVerb::RenewCertificates {
        super::renewal::before(host)?;
    }
    let call = Call::tree("kubeadm", arguments(host, run)?).of_tree(run.tree.as_ref());
    let call = call.limit(Duration::from_secs(run.limit_s.into())).most(1 << 20).told();
    let output = host.programs.run(call).await?;
    let word = run_word(run.verb);
    output.done(
        &format!("kubeadm {word}"),
        "it is tried again and goes on from there; `journalctl -u kubelet` on this machine shows more",
    )?;
    // On the disk before it is said to be done: kubeadm does not see to that.
    sync(host)?;
    let noted = match run.verb {
        KubeadmVerb::Init | KubeadmVerb::JoinControlPlane | KubeadmVerb::JoinWorker => {
            Some((ended(run.verb), String::new()))
        }
        KubeadmVerb::UpgradeApply | KubeadmVerb::UpgradeNode => Some((UPGRADED, format!("v{}", run.version))),
        KubeadmVerb::Reset => {
            forget(host)?;
            None
        }
        KubeadmVerb::RenewCertificates => None,
    };
    if let Some((name, content)) = noted {
        host.dir.write(&clean(name)?, content.as_bytes(), 0o600).map_err(|e| StepError::disk(name, &e))?;
    }
    Ok(())
}

/// What kubeadm leaves of a reset though it is the cluster's, and what was noted here.
fn forget(host: &Host) -> Result<(), StepError> {
    for name in [ended(KubeadmVerb::Init), ended(KubeadmVerb::JoinWorker), UPGRADED] {
        host.dir.remove(&clean(name)?).map_err(|e| StepError::disk(name, &e))?;
    }
    Ok(())
}

fn run_word(verb: KubeadmVerb) -> &'static str {
    match verb {
        KubeadmVerb::Init => "init",
        KubeadmVerb::JoinControlPlane | KubeadmVerb::JoinWorker => "join",
        KubeadmVerb::UpgradeApply => "upgrade apply",
        KubeadmVerb::UpgradeNode => "upgrade node",
        KubeadmVerb::Reset => "reset",
        KubeadmVerb::RenewCertificates => "certs renew all",
    }
}

fn arguments(host: &Host, run: &Kubeadm) -> Result<Vec<String>, StepError> {
    let mut all: Vec<String> = run_word(run.verb).split(' ').map(str::to_owned).collect();
    match run.verb {
        KubeadmVerb::Reset => {
            all.push("--force".to_owned());
            all.push(format!("--cri-socket={}", endpoint(run)));
            // From 1.26 on old manifests stay in /etc/kubernetes/tmp otherwise.
            if minor(&run.version) >= 26 {
                all.push("--cleanup-tmp-dir".to_owned());
            }
        }
        KubeadmVerb::UpgradeApply => {
            all.extend([format!("v{}", run.version), "--yes".to_owned(), "--etcd-upgrade=false".to_owned()]);
        }
        KubeadmVerb::UpgradeNode => all.push("--etcd-upgrade=false".to_owned()),
        _ => {}
    }
    let mut skip = run.skip_phases.clone();
    if run.verb == KubeadmVerb::JoinControlPlane && has_joined(host)? {
        // An earlier try came so far: the kubelet is a node already, and kubeadm refuses to make it one
        // twice. What comes after that is done again.
        skip.push("kubelet-start".to_owned());
    }
    if let Some(config) = &run.config {
        all.push(format!("--config={}", host.dir.path().join(config.as_str()).display()));
    }
    for (flag, values) in [("--ignore-preflight-errors", &run.ignore), ("--skip-phases", &skip)] {
        if !values.is_empty() {
            all.push(format!("{flag}={}", values.join(",")));
        }
    }
    Ok(all)
}

/// The runtime's endpoint as this kubeadm takes it: with a scheme since 1.24.
fn endpoint(run: &Kubeadm) -> String {
    if minor(&run.version) >= 24 { format!("unix://{SOCKET}") } else { SOCKET.to_owned() }
}

/// Removes empty files: a power cut left them, and kubeadm takes them for whole ones.
fn whole(host: &Host) -> Result<(), StepError> {
    let error = |path: &str, e: io::Error| StepError::disk(format!("/{path}"), &e);
    let mut all: Vec<RelPath> = Vec::new();
    for folder in WHOLE {
        let names = match host.root.sub(&clean(folder)?) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            dir => dir.and_then(|dir| dir.names()).map_err(|e| error(folder, e))?,
        };
        for name in names {
            all.push(clean(&format!("{folder}/{name}"))?);
        }
    }
    for path in WHOLE_FILES {
        all.push(clean(path)?);
    }
    for path in all {
        // Directories and links are no files: they stay.
        let Ok(Some(file)) = host.root.file(&path) else { continue };
        if file.metadata().is_ok_and(|meta| meta.len() == 0) {
            tracing::warn!("/{path} is empty, as after a power cut: removed");
            host.root.remove(&path).map_err(|e| error(path.as_str(), e))?;
        }
    }
    Ok(())
}

/// A control plane join that was cut off after it announced its etcd member, and whose manifest is not
/// there: the member never starts, and counts in the quorum. It is taken out before anything else.
async fn half_joined(host: &Host) -> Result<(), StepError> {
    if has(host, &format!("{MANIFESTS}/etcd.yaml"))? {
        return Ok(());
    }
    super::etcd::forget_own(host).await
}

/// Everything that kubeadm writes, on the disk.
pub(super) fn sync(host: &Host) -> Result<(), StepError> {
    host.dir.sync_all().map_err(|e| StepError::disk("the executor's directory", &e))?;
    for folder in ["etc", "var/lib"] {
        let dir = host.root.sub(&clean(folder)?);
        match dir.and_then(|dir| dir.sync_all()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(StepError::disk(format!("/{folder}"), &e));
            }
            _ => {}
        }
    }
    for folder in ["etc/kubernetes", "var/lib/kubelet", "var/lib/etcd"] {
        // They may be on disks of their own.
        if let Ok(dir) = host.root.sub(&clean(folder)?) {
            dir.sync_all().map_err(|e| StepError::disk(format!("/{folder}"), &e))?;
        }
    }
    Ok(())
}
