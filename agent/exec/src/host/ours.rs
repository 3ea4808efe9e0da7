//! Files outside of the cluster's directory that are ours: a digest of each is kept in the cluster's
//! directory, noted before the file is written. What is there and is not noted is somebody else's.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use qb_drivers::RelPath;
use qb_model::ids::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::dir::Dir;
use crate::progress::StepError;

/// Where it is kept, in the cluster's directory.
const FILE: &str = "files.json";
/// Bytes of that file: some hundred paths.
const FILE_BYTES: u64 = 1 << 20;
/// Bytes of one of ours: a CNI plugin.
const OURS_BYTES: u64 = 256 << 20;
/// Mode of directories that are made for them: programs of the system pass through.
const DIR_MODE: u32 = 0o755;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Noted {
    v: u16,
    /// By path below the root: the digests that it may have. Two while it is being replaced.
    files: BTreeMap<RelPath, BTreeSet<Digest>>,
}

/// The files of one cluster outside of its directory.
pub(crate) struct Ours<'a> {
    cluster: &'a Dir,
    root: &'a Dir,
    noted: Noted,
}

impl<'a> Ours<'a> {
    /// Reads what is noted.
    pub(crate) fn open(cluster: &'a Dir, root: &'a Dir) -> Result<Self, StepError> {
        let at = at()?;
        let noted = match cluster.read(&at, FILE_BYTES).map_err(|e| StepError::disk(&at, &e))? {
            None => Noted { v: 1, files: BTreeMap::new() },
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| StepError::damaged(&at))?,
        };
        Ok(Self { cluster, root, noted })
    }

    /// Which paths below the root are ours, sorted.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &RelPath> {
        self.noted.files.keys()
    }

    /// Whether the file has this content and mode.
    pub(crate) fn is(&self, path: &RelPath, content: &[u8], mode: u32) -> Result<bool, StepError> {
        let error = |e: io::Error| hostile(path, &e);
        let same = self.root.read(path, OURS_BYTES).map_err(error)?.is_some_and(|found| found == content);
        Ok(same
            && self.root.mode(path).map_err(error)? == Some(mode)
            && self.noted.files.get(path).is_some_and(|known| known.contains(&digest(content))))
    }

    /// Writes a file in one piece and makes the directories above it. One that is not ours is left alone,
    /// unless it is empty: that is what a power cut leaves.
    ///
    /// # Errors
    /// Somebody else's file is there, or the disk.
    pub(crate) fn write(&mut self, path: &RelPath, content: &[u8], mode: u32) -> Result<(), StepError> {
        let error = |e: io::Error| hostile(path, &e);
        let new = digest(content);
        if let Some(found) =
            self.root.read(path, OURS_BYTES).map_err(error)?.filter(|found| !found.is_empty())
        {
            let found = digest(&found);
            let known = self.noted.files.get(path).is_some_and(|known| known.contains(&found));
            if !known && found != new {
                return Err(StepError::new(
                    format!("/{path} is there already and is not qb's"),
                    format!(
                        "look at what put it there; move it away (`mv /{path} /root/`) if it is not needed, then the step runs again"
                    ),
                ));
            }
        }
        self.noted.files.entry(path.clone()).or_default().insert(new);
        self.keep()?;
        if let Some((above, _)) = path.as_str().rsplit_once('/') {
            let above: RelPath = above.parse().map_err(|e: qb_drivers::PathError| StepError::damaged(e))?;
            self.root.make_dirs_for(&above, DIR_MODE).map_err(error)?;
        }
        self.root.write(path, content, mode).map_err(error)?;
        self.noted.files.insert(path.clone(), BTreeSet::from([new]));
        self.keep()
    }

    /// Removes a file, if it is ours: what others changed since stays.
    pub(crate) fn remove(&mut self, path: &RelPath) -> Result<bool, StepError> {
        let error = |e: io::Error| hostile(path, &e);
        let Some(known) = self.noted.files.get(path) else { return Ok(false) };
        let found = self.root.read(path, OURS_BYTES).map_err(error)?;
        let ours = found.as_ref().is_none_or(|found| found.is_empty() || known.contains(&digest(found)));
        if ours {
            self.root.remove(path).map_err(error)?;
        }
        self.noted.files.remove(path);
        self.keep()?;
        Ok(ours)
    }

    fn keep(&self) -> Result<(), StepError> {
        let at = at()?;
        let bytes = serde_json::to_vec(&self.noted).map_err(|_| StepError::damaged(&at))?;
        self.cluster.write(&at, &bytes, 0o600).map_err(|e| StepError::disk(&at, &e))
    }
}

/// A link or another thing where a file or a directory should be is refused by the system.
fn hostile(path: &RelPath, error: &io::Error) -> StepError {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::LOOP | Errno::NOTDIR) => StepError::new(
            format!("/{path} goes through a link or is no file"),
            "links are not followed there: put a directory in its place, or mount one (`mount --bind`), then the step runs again",
        ),
        _ => StepError::disk(format!("/{path}"), error),
    }
}

fn digest(content: &[u8]) -> Digest {
    Digest(Sha256::digest(content).into())
}

fn at() -> Result<RelPath, StepError> {
    FILE.parse().map_err(|e: qb_drivers::PathError| StepError::damaged(e))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn dirs() -> (tempfile::TempDir, Dir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        let cluster = Dir::create(&temp.path().join("cluster")).unwrap();
        let root = Dir::create(&temp.path().join("root")).unwrap();
        (temp, cluster, root)
    }

    fn path(text: &str) -> RelPath {
        text.parse().unwrap()
    }

    #[test]
    fn ours_is_written_replaced_and_removed() {
        let (_temp, cluster, root) = dirs();
        let at = path("etc/systemd/system/kubelet.service.d/10-qb.conf");
        let mut ours = Ours::open(&cluster, &root).unwrap();
        assert!(!ours.is(&at, b"one", 0o644).unwrap());
        ours.write(&at, b"one", 0o644).unwrap();
        assert!(ours.is(&at, b"one", 0o644).unwrap() && !ours.is(&at, b"one", 0o600).unwrap());
        ours.write(&at, b"two", 0o644).unwrap();
        // As another life of the helper sees it.
        let mut ours = Ours::open(&cluster, &root).unwrap();
        assert_eq!(ours.paths().collect::<Vec<_>>(), [&at]);
        assert!(ours.remove(&at).unwrap() && !ours.remove(&at).unwrap());
        assert_eq!(root.mode(&at).unwrap(), None);
    }

    #[test]
    fn what_is_not_ours_stays_unless_it_is_empty() {
        let (temp, cluster, root) = dirs();
        let at = path("etc/kubernetes/x.conf");
        let file = temp.path().join("root/etc/kubernetes/x.conf");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "theirs").unwrap();
        let mut ours = Ours::open(&cluster, &root).unwrap();
        let error = ours.write(&at, b"mine", 0o644).unwrap_err();
        assert!(
            error.text.contains("not qb's") && error.remedy.contains("mv /etc/kubernetes/x.conf"),
            "{error:?}"
        );
        assert!(!ours.remove(&at).unwrap());
        assert_eq!(std::fs::read(&file).unwrap(), b"theirs");
        // Equal by chance, or a crash before it was noted as the only one.
        ours.write(&at, b"theirs", 0o644).unwrap();
        ours.write(&at, b"mine", 0o644).unwrap();
        // Changed by an admin since.
        std::fs::write(&file, "changed").unwrap();
        assert!(ours.write(&at, b"mine", 0o644).is_err());
        // Cut by a power failure.
        std::fs::write(&file, "").unwrap();
        ours.write(&at, b"mine", 0o644).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"mine");
        // Changed, then removed: it stays.
        std::fs::write(&file, "changed").unwrap();
        assert!(!ours.remove(&at).unwrap() && file.exists());
    }

    #[test]
    fn a_crash_between_note_and_file_is_taken_up() {
        let (temp, cluster, root) = dirs();
        let at = path("opt/cni/bin/bridge");
        let mut ours = Ours::open(&cluster, &root).unwrap();
        ours.write(&at, b"one", 0o755).unwrap();
        ours.noted.files.get_mut(&at).unwrap().insert(digest(b"two"));
        ours.keep().unwrap();
        for found in ["one", "two"] {
            std::fs::write(temp.path().join("root/opt/cni/bin/bridge"), found).unwrap();
            Ours::open(&cluster, &root).unwrap().write(&at, b"two", 0o755).unwrap();
        }
    }

    #[test]
    fn links_in_the_way_are_refused_and_not_followed() {
        let (temp, cluster, root) = dirs();
        let elsewhere = temp.path().join("elsewhere");
        std::fs::create_dir_all(&elsewhere).unwrap();
        std::fs::create_dir_all(temp.path().join("root/etc/cni")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, temp.path().join("root/etc/kubernetes")).unwrap();
        std::fs::write(elsewhere.join("file"), "theirs").unwrap();
        std::os::unix::fs::symlink(elsewhere.join("file"), temp.path().join("root/etc/cni/x")).unwrap();
        let mut ours = Ours::open(&cluster, &root).unwrap();
        for at in ["etc/kubernetes/admin.conf", "etc/cni/x"] {
            let error = ours.write(&path(at), b"mine", 0o600).unwrap_err();
            assert!(error.text.contains("goes through a link"), "{error:?}");
        }
        assert_eq!(std::fs::read(elsewhere.join("file")).unwrap(), b"theirs");
        assert!(!elsewhere.join("admin.conf").exists());
    }
}
