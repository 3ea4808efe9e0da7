//! Mounts and folders of a cluster: unmounted first, deleted then, and nothing below a mount ever.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use super::places::{self, EMPTY, NETNS, WHOLE};
use crate::host::Host;
use crate::host::record::mounts::Mount;
use crate::host::record::take::{entries, mounted};
use crate::host::record::{Kind, Record};
use crate::progress::StepError;

/// Rounds in which mounts are tried: one below another goes first, and one may hold another.
const ROUNDS: usize = 3;

/// Mounts of the cluster, the last one first.
pub(super) fn mounts(mounts: Vec<Mount>, root: &Path, before: &Record) -> Vec<PathBuf> {
    let ours = |mount: &Mount| {
        let Some(below) = mount.below(root) else { return false };
        let recorded = before.get(Kind::Mount, &below.display().to_string()).is_some();
        !recorded && places::is_our_mount(&below)
    };
    mounts.into_iter().filter(ours).map(|mount| mount.point).rev().collect()
}

/// Unmounts what the cluster mounted. What stays busy is cut off as the last resort: whoever uses it
/// keeps it until it ends, and no path leads there any more.
pub(super) fn unmount_all(host: &Host, before: &Record) -> Result<(), StepError> {
    let root = host.root.path();
    for round in 0..=ROUNDS {
        let left = mounts(mounted(root)?, root, before);
        if left.is_empty() {
            return Ok(());
        }
        let flags = if round < ROUNDS { UnmountFlags::empty() } else { UnmountFlags::DETACH };
        for point in left {
            match unmount(&point, flags | UnmountFlags::NOFOLLOW) {
                // Busy ones are tried again; one that went with another is gone.
                Ok(()) | Err(Errno::BUSY | Errno::INVAL | Errno::NOENT) => {}
                Err(errno) => return Err(StepError::disk(point.display(), &errno.into())),
            }
        }
    }
    match mounts(mounted(root)?, root, before).first() {
        None => Ok(()),
        Some(point) => Err(StepError::new(
            format!("{} is still mounted", point.display()),
            format!("`fuser -vm '{0}'` says who uses it, then `umount '{0}'`", point.display()),
        )),
    }
}

/// Deletes what the folders of clusters did not hold before, and the folders that were absent.
pub(super) fn remove_all(host: &Host, before: &Record) -> Result<(), StepError> {
    let root = host.root.path();
    for below in namespaces(root)? {
        if before.get(Kind::Mount, &format!("/{}", below.display())).is_none() {
            remove(host, &root.join(below))?;
        }
    }
    for place in WHOLE {
        if before.get(Kind::Path, place).is_none() {
            remove(host, &root.join(place))?;
            continue;
        }
        for path in entries(&root.join(place))? {
            let below = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            if before.get(Kind::Path, &below).is_none() {
                remove(host, &path)?;
            }
        }
    }
    for place in EMPTY.iter().filter(|place| before.get(Kind::Path, place).is_none()) {
        match fs::remove_dir(root.join(place)) {
            Ok(()) => {}
            // Others put something in, or it is not there.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {}
            // It is a link or a mount of others by now.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::ResourceBusy) => {}
            Err(error) => return Err(StepError::disk(place, &error)),
        }
    }
    Ok(())
}

/// Files of pods' network namespaces, below the root.
fn namespaces(root: &Path) -> Result<Vec<PathBuf>, StepError> {
    let all = entries(&root.join(NETNS))?.into_iter();
    let below = all.filter_map(|path| path.strip_prefix(root).ok().map(Path::to_owned));
    Ok(below.filter(|below| places::is_pod_netns(below)).collect())
}

/// Deletes one thing with all that is in it, if nothing is mounted there: what lies behind a mount is
/// not the cluster's. Links are deleted, not followed.
fn remove(host: &Host, path: &Path) -> Result<(), StepError> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
    let real =
        fs::canonicalize(path.parent().unwrap_or(path)).map_err(|e| StepError::disk(path.display(), &e))?;
    let real = path.file_name().map_or(real.clone(), |name| real.join(name));
    if let Some(mount) = mounted(host.root.path())?.iter().find(|mount| mount.point.starts_with(&real)) {
        let point = mount.point.display();
        return Err(StepError::new(
            format!("{} is not deleted: {point} is mounted there", path.display()),
            format!("`umount '{point}'` on this host, then the step runs again"),
        ));
    }
    let removed = if meta.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StepError::disk(path.display(), &error)),
        _ => Ok(()),
    }
}
