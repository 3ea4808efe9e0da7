//! Control groups of pods. systemd removes those that it made with their slice; kubelet makes some of its own, in
//! hierarchies of version 1 that systemd does not use, and nobody takes them away.

use std::fs;
use std::path::Path;

use crate::host::record::take::entries;
use crate::progress::StepError;

/// Where hierarchies are mounted: version 2 itself, or one folder for each of version 1.
const MOUNT: &str = "sys/fs/cgroup";
/// Of pods, by the names that kubelet gives with either of its drivers.
const PODS: [&str; 2] = ["kubepods.slice", "kubepods"];

/// Removes the groups of pods, which are without processes by now. One that is not stays: who is in it may live on.
///
/// # Errors
/// The hierarchies cannot be read.
pub(super) fn remove_all(root: &Path) -> Result<(), StepError> {
    let mount = root.join(MOUNT);
    let hierarchies = entries(&mount)?;
    for top in hierarchies.iter().map(std::path::PathBuf::as_path).chain([mount.as_path()]) {
        for name in PODS {
            remove(&top.join(name));
        }
    }
    Ok(())
}

/// A group goes after those in it. What looks like files there are its settings, and go with it.
fn remove(group: &Path) {
    // A hierarchy may be a link to another: what is not a folder itself is no group.
    if !group.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        return;
    }
    for inner in entries(group).unwrap_or_default() {
        remove(&inner);
    }
    if let Err(error) = fs::remove_dir(group) {
        tracing::debug!(group = %group.display(), %error, "a control group stays");
    }
}
