//! Unpacks a verified bundle: regular files and directories with clean relative names, nothing
//! twice, bounded in number and size, into a new directory that gets its name last.

use std::collections::BTreeSet;
use std::io::{self, Read as _};

use qb_drivers::RelPath;
use qb_drivers::bundle::{ArtifactKind, VerifiedBundle, directory_name};

use crate::dir::Dir;

/// Files and directories of one artifact.
const ENTRIES: usize = 10_000;
/// Bytes of all files of one artifact, whatever its manifest declares.
const UNPACKED: u64 = 64 << 20;

/// Why a bundle was not unpacked. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// An entry breaks a rule.
    #[error("artifact {artifact} holds {entry:?}, which {rule}: build the bundle again without it")]
    Entry {
        /// The artifact.
        artifact: String,
        /// The entry, cut to 80 characters.
        entry: String,
        /// The rule.
        rule: &'static str,
    },
    /// The archive cannot be read, or the disk written.
    #[error("artifact {artifact} cannot be unpacked: {source}; check the disk, then push the bundle again")]
    Io {
        /// The artifact.
        artifact: String,
        /// Why.
        source: io::Error,
    },
}

/// Unpacks into `into`/`sha256-<hex>` below `dir`, which is there completely or not at all.
pub(crate) fn unpack(dir: &Dir, into: &RelPath, bundle: &VerifiedBundle<'_>) -> Result<(), UnpackError> {
    let io = |source: io::Error| UnpackError::Io { artifact: "all".to_owned(), source };
    let clean = |text: &str| text.parse::<RelPath>().map_err(|e| io(io::Error::other(e)));
    let name = directory_name(&bundle.digest());
    let (last, temporary) = (clean(&format!("{into}/{name}"))?, clean(&format!("{into}/.new-{name}"))?);
    dir.remove_tree(&temporary).map_err(io)?;
    dir.make_dirs(&temporary).map_err(io)?;
    let target = dir.sub(&temporary).map_err(io)?;
    for (artifact, bytes) in bundle.artifacts() {
        match artifact.kind {
            ArtifactKind::Tar => {
                let result = archive(&target, artifact.name.as_str(), artifact.unpacked.min(UNPACKED), bytes);
                if let Err(error) = result {
                    dir.remove_tree(&temporary).map_err(io)?;
                    return Err(error);
                }
            }
            ArtifactKind::Program => {
                dir.remove_tree(&temporary).map_err(io)?;
                return Err(UnpackError::Entry {
                    artifact: artifact.name.to_string(),
                    entry: artifact.name.to_string(),
                    rule: "is a program of the agent, which no cluster installs",
                });
            }
        }
    }
    dir.remove_tree(&last).map_err(io)?;
    dir.rename(&temporary, &last).map_err(io)
}

fn archive(target: &Dir, artifact: &str, most: u64, bytes: &[u8]) -> Result<(), UnpackError> {
    let io = |source: io::Error| UnpackError::Io { artifact: artifact.to_owned(), source };
    let mut seen = BTreeSet::new();
    let mut left = most;
    // Raw: extensions that rename or grow the next entry are entries of a refused type themselves.
    for (count, entry) in tar::Archive::new(bytes).entries().map_err(io)?.raw(true).enumerate() {
        let mut entry = entry.map_err(io)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let refuse = |rule| UnpackError::Entry {
            artifact: artifact.to_owned(),
            entry: path.chars().take(80).collect(),
            rule,
        };
        if count >= ENTRIES {
            return Err(refuse("is one entry too many"));
        }
        let is_dir = match entry.header().entry_type() {
            tar::EntryType::Regular => false,
            tar::EntryType::Directory => true,
            _ => return Err(refuse("is neither a regular file nor a directory")),
        };
        let text = if is_dir { path.strip_suffix('/').unwrap_or(&path) } else { &path };
        let clean: RelPath = text.parse().map_err(|_| refuse("is not a clean relative path"))?;
        if !seen.insert(text.to_ascii_lowercase()) {
            return Err(refuse("is there twice"));
        }
        let mode = entry.header().mode().map_err(io)?;
        if mode & 0o7000 != 0 {
            return Err(refuse("has setuid, setgid or sticky set"));
        }
        if is_dir {
            target.make_dirs(&clean).map_err(io)?;
            continue;
        }
        left = left.checked_sub(entry.size()).ok_or_else(|| refuse("is larger than declared"))?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(io)?;
        let mode = if mode & 0o100 == 0 { 0o644 } else { 0o755 };
        write(target, &clean, &content, mode).map_err(io)?;
    }
    Ok(())
}

/// Writes one file and makes the directories above it.
fn write(target: &Dir, at: &RelPath, content: &[u8], mode: u32) -> io::Result<()> {
    if let Some((above, _)) = at.as_str().rsplit_once('/') {
        target.make_dirs(&above.parse().map_err(io::Error::other)?)?;
    }
    target.write_new(at, content, mode)
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
