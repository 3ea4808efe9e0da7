//! Backups of the cluster's store, kept on this control plane node: a snapshot, what a restore needs of the
//! cluster's identity, and a record of both.
//!
//! ```text
//!   backups/taking/ snapshot.db, identity.json, record.json ──on the disk──> backups/<milliseconds>/
//! ```
//! A snapshot holds every secret of the cluster, and the identity its keys: folders are 0700, files 0600, and
//! none of it is told to anybody.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use qb_drivers::RelPath;
use qb_drivers::kubeadm::upkeep::{BackupRecord, Mark, backup_name, surplus};
use qb_model::ids::{Digest, Millis, Version};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::place::{clean, tree};
use super::run::Call;
use super::{Host, etcd};
use crate::dir::Dir;
use crate::join::kube;
use crate::progress::StepError;

/// Their folder, in the cluster's directory.
pub(crate) const FOLDER: &str = "backups";
/// One that is not whole yet.
const TAKING: &str = "taking";
/// The store's snapshot in it.
pub(crate) const SNAPSHOT: &str = "snapshot.db";
/// The cluster's identity in it.
const IDENTITY: &str = "identity.json";
/// What is known of it.
pub(crate) const RECORD: &str = "record.json";
/// Bytes of a record.
const RECORD_BYTES: u64 = 16 * 1024;
/// Bytes of one file of the identity.
const PEM_BYTES: u64 = 16 * 1024;
/// Backups that are looked at: more are never kept.
const MOST: usize = 64;
/// The store's file, whose size a snapshot has.
const STORE: &str = "var/lib/etcd/member/snap/db";
/// Bytes that must be left on the disk beside a snapshot: a store that finds none stops.
const SPARE: u64 = 256 << 20;
/// How long a snapshot may take: 8 GiB, which is the most a store has, at 16 MiB/s.
const SAVE: Duration = Duration::from_secs(500);
/// How long looking at one may take.
const LOOK: Duration = Duration::from_secs(120);
/// The program that looks at snapshots since etcd 3.6; up to 3.5 `etcdctl` does.
const UTILITY: &str = "bin/etcdutl";
/// The API server's manifest: its image names the version of Kubernetes.
const SERVER: &str = "etc/kubernetes/manifests/kube-apiserver.yaml";
const MANIFEST_BYTES: u64 = 256 * 1024;
const REMEDY: &str = "it is tried again; `qb cluster show` tells the newest backup";

/// A backup to take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Backup {
    /// When it was decided on: its name.
    pub(crate) taken: Millis,
    /// The intent that asks for it.
    pub(crate) asked: Option<Digest>,
}

/// The files of the cluster's identity, by their path below `/etc/kubernetes/pki`.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct Identity {
    v: u16,
    #[zeroize(skip)]
    files: BTreeMap<String, Secret>,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Secret(String);

/// What `snapshot status` says.
#[derive(Deserialize)]
pub(super) struct Status {
    revision: u64,
    #[serde(rename = "totalKey")]
    keys: u64,
}

/// The backups in a cluster's directory, newest first. One whose record cannot be read is not one.
pub(crate) fn records(cluster: &Dir) -> Result<Vec<BackupRecord>, StepError> {
    let error = |e: io::Error| StepError::disk(FOLDER, &e);
    let folder = match cluster.sub(&clean(FOLDER)?) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        folder => folder.map_err(error)?,
    };
    let mut all = Vec::new();
    for name in folder.names().map_err(error)?.iter().rev().take(MOST) {
        let at = name.join(RECORD).map_err(StepError::damaged)?;
        let Ok(Some(bytes)) = folder.read(&at, RECORD_BYTES) else { continue };
        let record = serde_json::from_slice::<BackupRecord>(&bytes).ok();
        all.extend(record.filter(|r| r.v == 1 && backup_name(r.taken) == name.as_str()));
    }
    all.sort_by_key(|record| std::cmp::Reverse(record.taken));
    Ok(all)
}

pub(super) fn is_taken(host: &Host, backup: &Backup) -> Result<bool, StepError> {
    Ok(records(&host.dir)?.iter().any(|r| r.taken == backup.taken && r.asked == backup.asked))
}

/// Takes a backup, looks whether it can be read, and only then lets older ones go.
pub(super) async fn take(host: &Host, backup: &Backup) -> Result<(), StepError> {
    let error = |e: io::Error| StepError::disk(FOLDER, &e);
    let taking = clean(&format!("{FOLDER}/{TAKING}"))?;
    host.dir.remove_tree(&taking).map_err(error)?;
    host.dir.make_dirs(&taking).map_err(error)?;
    has_room(host)?;
    let folder = host.dir.sub(&taking).map_err(error)?;
    host.tell.tell("taking a snapshot of the store");
    let file = folder.path().join(SNAPSHOT).display().to_string();
    etcd::save(host, &file, SAVE).await?;
    // Whatever the program gave it.
    use std::os::unix::fs::PermissionsExt as _;
    let snapshot = folder.file(&clean(SNAPSHOT)?).map_err(error)?;
    let snapshot = snapshot.ok_or_else(|| StepError::new("etcdctl snapshot save left no file", REMEDY))?;
    snapshot.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(error)?;
    host.tell.tell("looking whether the snapshot can be read");
    let status = status(host, &file).await?;
    let bytes = snapshot.metadata().map_err(error)?.len();
    let record = BackupRecord {
        v: 1,
        cluster: host.cluster.clone(),
        taken: backup.taken,
        asked: backup.asked,
        version: version(&host.root)?,
        digest: digest(snapshot).map_err(error)?,
        bytes,
        revision: status.revision,
        keys: status.keys,
    };
    let identity = serde_json::to_vec(&identity(&host.root)?).map(Zeroizing::new);
    let identity = identity.map_err(|_| StepError::damaged(IDENTITY))?;
    folder.write(&clean(IDENTITY)?, &identity, 0o600).map_err(error)?;
    let text = serde_json::to_vec(&record).map_err(|_| StepError::damaged(RECORD))?;
    folder.write(&clean(RECORD)?, &text, 0o600).map_err(error)?;
    host.dir.sync_all().map_err(error)?;
    let name = clean(&format!("{FOLDER}/{}", backup_name(backup.taken)))?;
    // One of that very moment was not whole, or it would have been found.
    host.dir.remove_tree(&name).map_err(error)?;
    host.dir.rename(&taking, &name).map_err(error)?;
    forget(host)
}

/// Lets those go that are too many.
fn forget(host: &Host) -> Result<(), StepError> {
    let mark = |record: BackupRecord| Mark {
        taken: record.taken,
        asked: record.asked.is_some(),
        name: backup_name(record.taken),
    };
    let all: Vec<Mark> = records(&host.dir)?.into_iter().map(mark).collect();
    for name in surplus(&all) {
        let at: RelPath = clean(&format!("{FOLDER}/{name}"))?;
        host.dir.remove_tree(&at).map_err(|e| StepError::disk(&at, &e))?;
    }
    Ok(())
}

fn has_room(host: &Host) -> Result<(), StepError> {
    let error = |e: io::Error| StepError::disk(FOLDER, &e);
    let store = host.root.file(&clean(STORE)?).map_err(error)?;
    let store =
        store.ok_or_else(|| StepError::damaged(format!("/{STORE}")))?.metadata().map_err(error)?.len();
    let free = host.dir.free_bytes().map_err(error)?;
    if free >= store.saturating_add(SPARE) {
        return Ok(());
    }
    Err(StepError::new(
        format!("a backup needs {} MiB, and {} MiB are free", (store + SPARE) >> 20, free >> 20),
        "make room on the disk of this machine (`df -h`); it is tried again",
    ))
}

/// Reads a snapshot as a whole.
pub(super) async fn status(host: &Host, file: &str) -> Result<Status, StepError> {
    let args = ["snapshot", "status", file, "--write-out=json"];
    let call = Call::tree(reader(host)?, args).limit(LOOK);
    let said = host.programs.run(call).await?.done("etcdctl snapshot status", REMEDY)?;
    serde_json::from_slice(&said)
        .map_err(|_| StepError::new("etcdctl snapshot status says nothing of the snapshot", REMEDY))
}

/// The program of the tree that reads snapshots.
pub(super) fn reader(host: &Host) -> Result<&'static str, StepError> {
    let there = tree(host)?.file(&clean(UTILITY)?).map_err(|e| StepError::disk(UTILITY, &e))?;
    Ok(if there.is_some() { "etcdutl" } else { "etcdctl" })
}

/// The version of Kubernetes that a control plane node runs.
pub(crate) fn version(root: &Dir) -> Result<Version, StepError> {
    let at = clean(SERVER)?;
    let text = root.read(&at, MANIFEST_BYTES).map_err(|e| StepError::disk(&at, &e))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let image = text.lines().find_map(|line| line.trim().trim_start_matches("- ").strip_prefix("image:"));
    let version =
        image.and_then(|image| image.rsplit_once(":v")).and_then(|(_, tag)| tag.trim().parse().ok());
    version.ok_or_else(|| StepError::damaged(format!("/{SERVER}")))
}

fn identity(root: &Dir) -> Result<Identity, StepError> {
    let mut files = BTreeMap::new();
    for file in kube::FILES {
        let at = clean(&format!("{}/{}", kube::PKI.trim_start_matches('/'), file.path))?;
        let bytes = root.read(&at, PEM_BYTES).map_err(|e| StepError::disk(&at, &e))?.map(Zeroizing::new);
        let text = bytes.and_then(|bytes| std::str::from_utf8(&bytes).ok().map(str::to_owned));
        let text =
            text.filter(|text| !text.is_empty()).ok_or_else(|| StepError::damaged(format!("/{at}")))?;
        files.insert(file.path.to_owned(), Secret(text));
    }
    Ok(Identity { v: 1, files })
}

/// SHA-256 of a file, read in pieces.
pub(crate) fn digest(mut file: impl io::Read) -> io::Result<Digest> {
    let (mut hash, mut piece) = (Sha256::new(), vec![0; 64 * 1024]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(Digest(hash.finalize().into())),
            n => hash.update(&piece[..n]),
        }
    }
}

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;
