//! The store of a cluster goes back to a backup that this node keeps, as a store of one member.
//!
//! ```text
//!   manifests ──> parked/        every part has ended
//!   snapshot ──etcdctl──> /var/lib/etcd/restoring ──> member     (the old one: before-<order>)
//!   parked/ ──> manifests        the kubelet starts them
//! ```
//! Killed anywhere it goes on. The data of before is moved once, under the order's number, so that a second try
//! does not take half a restore for it.

use std::io;
use std::time::Duration;

use qb_drivers::RelPath;
use qb_drivers::kubeadm::upkeep::backup_name;
use qb_model::ids::{Digest, Generation, HostName, Version};
use tokio::time::{Instant, sleep};

use super::api::{has, kubectl, minor};
use super::backup::{self, FOLDER, SNAPSHOT};
use super::kubeadm::{MANIFESTS, PARTS};
use super::place::clean;
use super::run::Call;
use super::{Host, etcd, leaver, renewal};
use crate::progress::StepError;

/// Where manifests lie that the kubelet is not to see, in the cluster's directory.
const PARKED: &str = "parked";
/// Which order restored the store last, in the cluster's directory.
const RESTORED: &str = "restored";
/// Bytes of a manifest or a number.
const FILE_BYTES: u64 = 256 * 1024;
/// The store's folder, its data, and where a snapshot is unpacked.
const STORE: &str = "var/lib/etcd";
const DATA: &str = "var/lib/etcd/member";
const RESTORING: &str = "var/lib/etcd/restoring";
/// What data of before is called, with the order's number.
const BEFORE: &str = "before-";
/// How long unpacking may take: 8 GiB at 16 MiB/s.
const UNPACK: Duration = Duration::from_secs(500);
const AGAIN: Duration = Duration::from_millis(500);
/// What kubeadm marks control plane nodes with, since 1.20.
const RULES: &str = "node-role.kubernetes.io/control-plane";
const REMEDY: &str = "`journalctl -u kubelet` on this machine shows more; it is tried again";

/// The only member of a restored store.
pub(super) struct Single<'a> {
    pub(super) name: &'a HostName,
    /// Its IP address.
    pub(super) address: &'a str,
}

/// The snapshot's file.
fn snapshot(host: &Host, digest: &Digest) -> Result<RelPath, StepError> {
    let found = backup::records(&host.dir)?.into_iter().find(|r| r.digest == *digest);
    let record = found.ok_or_else(|| {
        StepError::new(
            format!("this machine keeps no backup {digest}"),
            format!(
                "`qb cluster show {} -o json` lists the backups of every control plane node",
                host.cluster
            ),
        )
    })?;
    clean(&format!("{FOLDER}/{}/{SNAPSHOT}", backup_name(record.taken)))
}

/// Reads the whole snapshot: it is what the intent names, and a store can be made of it.
pub(super) async fn look_at(host: &Host, digest: &Digest) -> Result<(), StepError> {
    let at = snapshot(host, digest)?;
    let error = |e: io::Error| StepError::disk(&at, &e);
    let file = host.dir.file(&at).map_err(error)?.ok_or_else(|| StepError::damaged(&at))?;
    host.tell.tell("reading the backup");
    if backup::digest(file).map_err(error)? != *digest {
        return Err(StepError::new(
            format!("{at} is not what it was when it was taken"),
            "restore another backup: `qb cluster show` lists them",
        ));
    }
    backup::status(host, &host.dir.path().join(at.as_str()).display().to_string()).await.map(drop)
}

pub(super) fn is_restored(host: &Host, order: Generation) -> Result<bool, StepError> {
    let at = clean(RESTORED)?;
    let found = host.dir.read(&at, FILE_BYTES).map_err(|e| StepError::disk(&at, &e))?;
    Ok(found.is_some_and(|found| found == order.to_string().as_bytes()))
}

async fn anything_runs(host: &Host) -> Result<Option<&'static str>, StepError> {
    for part in PARTS {
        if !renewal::running(host, part).await?.is_empty() {
            return Ok(Some(part));
        }
    }
    Ok(None)
}

pub(super) async fn is_parked(host: &Host, order: Generation) -> Result<bool, StepError> {
    if is_restored(host, order)? {
        return Ok(true);
    }
    for part in PARTS {
        let at = clean(&format!("{MANIFESTS}/{part}.yaml"))?;
        if host.root.mode(&at).map_err(|e| StepError::disk(&at, &e))?.is_some() {
            return Ok(false);
        }
    }
    Ok(anything_runs(host).await?.is_none())
}

/// Takes the manifests away, and waits until nothing of them runs.
pub(super) async fn park(host: &Host, limit_s: u16) -> Result<(), StepError> {
    let folder = clean(PARKED)?;
    host.dir.make_dirs(&folder).map_err(|e| StepError::disk(&folder, &e))?;
    for part in PARTS {
        if !has(host, &format!("{MANIFESTS}/{part}.yaml"))? {
            continue;
        }
        let (from, to) =
            (clean(&format!("{MANIFESTS}/{part}.yaml"))?, folder.join(part).map_err(StepError::damaged)?);
        let error = |e: io::Error| StepError::disk(&from, &e);
        let content = host.root.read(&from, FILE_BYTES).map_err(error)?.unwrap_or_default();
        host.dir.write(&to, &content, 0o600).map_err(error)?;
        host.root.remove(&from).map_err(error)?;
    }
    let until = Instant::now() + Duration::from_secs(limit_s.into());
    while let Some(part) = anything_runs(host).await? {
        if Instant::now() > until {
            return Err(StepError::new(format!("{part} still runs after {limit_s} s"), REMEDY));
        }
        host.tell.tell(&format!("waiting for {part} to end"));
        sleep(AGAIN).await;
    }
    Ok(())
}

pub(super) fn is_unparked(host: &Host) -> Result<bool, StepError> {
    for part in PARTS {
        let at = clean(&format!("{PARKED}/{part}"))?;
        let left = host.dir.mode(&at).map_err(|e| StepError::disk(&at, &e))?.is_some();
        if left || !has(host, &format!("{MANIFESTS}/{part}.yaml"))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Gives the kubelet its manifests back.
pub(super) fn unpark(host: &Host) -> Result<(), StepError> {
    for part in PARTS {
        let (from, to) = (clean(&format!("{PARKED}/{part}"))?, clean(&format!("{MANIFESTS}/{part}.yaml"))?);
        let error = |e: io::Error| StepError::disk(&from, &e);
        if let Some(content) = host.dir.read(&from, FILE_BYTES).map_err(error)? {
            host.root.write(&to, &content, 0o600).map_err(error)?;
            host.dir.remove(&from).map_err(error)?;
        }
    }
    Ok(())
}

/// Makes a store of the snapshot and puts it in place of the one that is there.
pub(super) async fn restore(
    host: &Host,
    digest: &Digest,
    order: Generation,
    single: &Single<'_>,
) -> Result<(), StepError> {
    if let Some(part) = anything_runs(host).await? {
        return Err(StepError::new(format!("{part} runs"), REMEDY));
    }
    let (restoring, data) = (clean(RESTORING)?, clean(DATA)?);
    let error = |e: io::Error| StepError::disk(format!("/{STORE}"), &e);
    host.root.remove_tree(&restoring).map_err(error)?;
    host.tell.tell("making a store of the backup");
    unpack(host, &host.dir.path().join(snapshot(host, digest)?.as_str()).display().to_string(), single)
        .await?;
    let made = restoring.join("member").map_err(StepError::damaged)?;
    if !host.root.has_dir(&made) {
        return Err(StepError::new("etcdctl snapshot restore left no store", REMEDY));
    }
    let store = host.root.sub(&clean(STORE)?).map_err(error)?;
    store.sync_all().map_err(error)?;
    let aside = clean(&format!("{STORE}/{BEFORE}{order}"))?;
    if !host.root.has_dir(&aside) {
        for name in store.names().map_err(error)?.iter().filter(|name| name.as_str().starts_with(BEFORE)) {
            store.remove_tree(name).map_err(error)?;
        }
        if host.root.has_dir(&data) {
            host.root.rename(&data, &aside).map_err(error)?;
        }
    }
    // What is still there is of an earlier try of this very order.
    host.root.remove_tree(&data).map_err(error)?;
    host.root.rename(&made, &data).map_err(error)?;
    host.root.remove_tree(&restoring).map_err(error)?;
    store.sync_all().map_err(error)?;
    let at = clean(RESTORED)?;
    host.dir.write(&at, order.to_string().as_bytes(), 0o600).map_err(|e| StepError::disk(&at, &e))
}

async fn unpack(host: &Host, file: &str, single: &Single<'_>) -> Result<(), StepError> {
    let (name, url) = (single.name, etcd::peer_url(single.address));
    let folder = host.root.path().join(RESTORING).display().to_string();
    let args = [
        "snapshot".to_owned(),
        "restore".to_owned(),
        file.to_owned(),
        format!("--data-dir={folder}"),
        format!("--name={name}"),
        format!("--initial-cluster={name}={url}"),
        format!("--initial-advertise-peer-urls={url}"),
    ];
    let call = Call::tree(backup::reader(host)?, args).limit(UNPACK);
    host.programs.run(call).await?.done("etcdctl snapshot restore", REMEDY).map(drop)
}

/// Other control plane nodes that the restored store knows.
async fn others(host: &Host, name: &HostName) -> Result<Vec<HostName>, StepError> {
    let call = kubectl(host, ["get", "nodes", "-l", RULES, "-o", "jsonpath={.items[*].metadata.name}"])?;
    let said = host.programs.run(call).await?.done("kubectl get nodes", REMEDY)?;
    let said = String::from_utf8_lossy(&said);
    Ok(said.split_whitespace().filter_map(|n| n.parse().ok()).filter(|n| n != name).collect())
}

pub(super) async fn is_alone(host: &Host, name: &HostName) -> Result<bool, StepError> {
    Ok(others(host, name).await?.is_empty())
}

/// Deletes the node objects of the others: they were reset, and come in again as new ones.
pub(super) async fn be_alone(host: &Host, name: &HostName, version: &Version) -> Result<(), StepError> {
    for other in others(host, name).await? {
        if minor(version) < leaver::WITHOUT_STATUS {
            leaver::forget_endpoint(host, other.as_str()).await?;
        }
        let args = ["delete", "node", other.as_str(), "--ignore-not-found", "--timeout=15s"];
        host.programs.run(kubectl(host, args)?).await?.done("kubectl delete node", REMEDY)?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "restore_tests.rs"]
mod tests;
