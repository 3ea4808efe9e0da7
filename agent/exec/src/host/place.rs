//! Files of the host, and what is taken from the selected tree: written, compared, pointed at.

use std::io;

use qb_drivers::host_step::{HostFile, HostPlace};
use qb_drivers::{PathError, RelPath};

use super::Host;
use super::ours::Ours;
use crate::dir::Dir;
use crate::progress::StepError;

/// The link to the tree that the cluster runs from.
pub(crate) const CURRENT: &str = "current";
/// Where CNI plugins of the tree lie, and where kubelet's runtime and add-ons look for them.
const PLUGINS: (&str, &str) = ("cni", "opt/cni/bin");
/// Bytes of a rendered file.
const FILE_BYTES: u64 = 1 << 20;
/// Bytes of a CNI plugin.
const PLUGIN_BYTES: u64 = 256 << 20;
const PROGRAM: u32 = 0o755;

/// Where a place is below the root; none if it is in the cluster's directory.
fn below_root(place: &HostPlace) -> Result<Option<RelPath>, StepError> {
    match place {
        HostPlace::Cluster(_) => Ok(None),
        place => clean(place.path().trim_start_matches('/')).map(Some),
    }
}

pub(crate) fn clean(text: &str) -> Result<RelPath, StepError> {
    text.parse().map_err(|e: PathError| StepError::damaged(e))
}

pub(super) fn are_written(host: &Host, files: &[HostFile]) -> Result<bool, StepError> {
    let ours = Ours::open(&host.dir, &host.root)?;
    for file in files {
        let so = match (below_root(&file.place)?, &file.place) {
            (Some(path), _) => ours.is(&path, file.content.as_bytes(), file.mode)?,
            (None, HostPlace::Cluster(path)) => is_in_cluster(&host.dir, path, file)?,
            (None, _) => false,
        };
        if !so {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_in_cluster(dir: &Dir, path: &RelPath, file: &HostFile) -> Result<bool, StepError> {
    let error = |e: io::Error| StepError::disk(path, &e);
    let same =
        dir.read(path, FILE_BYTES).map_err(error)?.is_some_and(|found| found == file.content.as_bytes());
    Ok(same && dir.mode(path).map_err(error)? == Some(file.mode))
}

pub(super) fn write(host: &Host, files: &[HostFile]) -> Result<(), StepError> {
    let mut ours = Ours::open(&host.dir, &host.root)?;
    for file in files {
        match (below_root(&file.place)?, &file.place) {
            (Some(path), _) => ours.write(&path, file.content.as_bytes(), file.mode)?,
            (None, HostPlace::Cluster(path)) => {
                let error = |e: io::Error| StepError::disk(path, &e);
                if let Some((above, _)) = path.as_str().rsplit_once('/') {
                    host.dir.make_dirs(&clean(above)?).map_err(error)?;
                }
                host.dir.write(path, file.content.as_bytes(), file.mode).map_err(error)?;
            }
            (None, _) => return Err(StepError::damaged(file.place.path())),
        }
    }
    Ok(())
}

pub(super) fn are_gone(host: &Host, places: &[HostPlace]) -> Result<bool, StepError> {
    for place in places {
        let found = match (below_root(place)?, place) {
            (Some(path), _) => host.root.mode(&path).map_err(|e| StepError::disk(&path, &e))?,
            (None, HostPlace::Cluster(path)) => host.dir.mode(path).map_err(|e| StepError::disk(path, &e))?,
            (None, _) => None,
        };
        if found.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) fn remove(host: &Host, places: &[HostPlace]) -> Result<(), StepError> {
    for place in places {
        match (below_root(place)?, place) {
            (Some(path), _) => host.root.remove(&path).map_err(|e| StepError::disk(&path, &e))?,
            (None, HostPlace::Cluster(path)) => {
                host.dir.remove(path).map_err(|e| StepError::disk(path, &e))?;
            }
            (None, _) => return Err(StepError::damaged(place.path())),
        }
    }
    Ok(())
}

pub(super) fn is_selected(host: &Host, tree: &RelPath) -> Result<bool, StepError> {
    let at = clean(CURRENT)?;
    let target = host.dir.link(&at).map_err(|e| StepError::disk(&at, &e))?;
    Ok(target.as_deref() == Some(tree.as_str()))
}

pub(super) fn select(host: &Host, tree: &RelPath) -> Result<(), StepError> {
    if !host.dir.has_dir(tree) {
        return Err(StepError::damaged(tree));
    }
    let at = clean(CURRENT)?;
    host.dir.point(&at, tree.as_str()).map_err(|e| StepError::disk(&at, &e))
}

/// The tree that is selected: opened by where the link leads, which is in the cluster's directory.
pub(crate) fn tree(host: &Host) -> Result<Dir, StepError> {
    let at = clean(CURRENT)?;
    let target = host.dir.link(&at).map_err(|e| StepError::disk(&at, &e))?;
    let target = clean(&target.ok_or_else(|| StepError::damaged(&at))?)?;
    host.dir.sub(&target).map_err(|e| StepError::disk(&target, &e))
}

/// Name, place and content of every plugin.
fn plugins(host: &Host) -> Result<Vec<(RelPath, Vec<u8>)>, StepError> {
    let (from, to) = PLUGINS;
    let error = |e: io::Error| StepError::disk("the bundle's CNI plugins", &e);
    let folder = tree(host)?.sub(&clean(from)?).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => StepError::new(
            "the bundle has no CNI plugins in cni/",
            "build the bundle again with them, and `qb bundle push` it",
        ),
        _ => error(e),
    })?;
    let mut all = Vec::new();
    for name in folder.names().map_err(error)? {
        let bytes = folder.read(&name, PLUGIN_BYTES).map_err(error)?.unwrap_or_default();
        all.push((clean(&format!("{to}/{name}"))?, bytes));
    }
    Ok(all)
}

pub(super) fn has_plugins(host: &Host) -> Result<bool, StepError> {
    let ours = Ours::open(&host.dir, &host.root)?;
    for (path, bytes) in plugins(host)? {
        if !ours.is(&path, &bytes, PROGRAM)? {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) fn place_plugins(host: &Host) -> Result<(), StepError> {
    let mut ours = Ours::open(&host.dir, &host.root)?;
    for (path, bytes) in plugins(host)? {
        ours.write(&path, &bytes, PROGRAM)?;
    }
    Ok(())
}
