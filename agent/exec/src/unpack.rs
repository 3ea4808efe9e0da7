//! Unpacks a verified bundle from its file: regular files and directories with clean relative names,
//! nothing twice, bounded in number and size, into a new directory that gets its name last. One chunk of
//! the bundle is in memory at a time.

use std::collections::BTreeMap;
use std::io::{self, Read};

use qb_drivers::RelPath;
use qb_drivers::bundle::limits::ENTRIES;
use qb_drivers::bundle::{ArtifactKind, ArtifactReader, HEAD_BYTES, Manifest, VerifiedHead, directory_name};
use qb_model::assignment::Assignment;
use qb_model::ids::{Digest, PublicKey};

use crate::bundle::{Bundle, SYNC_EVERY, TakeError};
use crate::dir::Dir;
use crate::exec::cluster_dir;

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

/// Where the head of a bundle lies, beside its tree.
fn head_name(digest: &Digest) -> String {
    format!("{}.head", directory_name(digest))
}

/// The manifest of an order's bundle that was unpacked before, if a publisher that is trusted now signed it;
/// none if no tree of it is here.
pub(crate) fn head_of(
    root: &Dir,
    order: &Assignment,
    publishers: &[PublicKey],
) -> Result<Option<Manifest>, TakeError> {
    let path = |name: &str| -> Result<RelPath, TakeError> {
        let at = cluster_dir(&order.cluster).and_then(|at| at.join("bundle")?.join(name));
        at.map_err(|e| io::Error::other(e).into())
    };
    if !root.has_dir(&path(&directory_name(&order.bundle))?) {
        return Ok(None);
    }
    let Some(bytes) = root.read(&path(&head_name(&order.bundle))?, HEAD_BYTES as u64)? else {
        return Ok(None);
    };
    let head = VerifiedHead::verify(&bytes, publishers)?;
    head.is(&order.bundle)?;
    Ok(Some(head.manifest().clone()))
}

/// Unpacks into `into`/`sha256-<hex>` below `dir`, which is there completely or not at all.
pub(crate) fn unpack(dir: &Dir, into: &RelPath, bundle: &Bundle) -> Result<(), UnpackError> {
    let io = |source: io::Error| UnpackError::Io { artifact: "all".to_owned(), source };
    let clean = |text: &str| text.parse::<RelPath>().map_err(|e| io(io::Error::other(e)));
    let name = directory_name(&bundle.head().digest());
    let (last, temporary) = (clean(&format!("{into}/{name}"))?, clean(&format!("{into}/.new-{name}"))?);
    dir.remove_tree(&temporary).map_err(io)?;
    dir.make_dirs(&temporary).map_err(io)?;
    let target = dir.sub(&temporary).map_err(io)?;
    target.open_to_all().map_err(io)?;
    let unpacked = Tree { target: &target, seen: BTreeMap::new() }.fill(bundle);
    // The tree is durable before it has its name.
    if let Err(error) = unpacked.and_then(|()| target.sync_all().map_err(io)) {
        dir.remove_tree(&temporary).map_err(io)?;
        return Err(error);
    }
    dir.remove_tree(&last).map_err(io)?;
    // The tree comes last: whoever finds it finds its head, too.
    let head = clean(&format!("{into}/{}", head_name(&bundle.head().digest())))?;
    dir.write(&head, &bundle.head_bytes().map_err(io)?, 0o600).map_err(io)?;
    dir.rename(&temporary, &last).map_err(io)
}

/// What is there so far.
struct Tree<'a> {
    target: &'a Dir,
    /// By name in lower case: the name, and whether it is a directory.
    seen: BTreeMap<String, (String, bool)>,
}

impl Tree<'_> {
    fn fill(&mut self, bundle: &Bundle) -> Result<(), UnpackError> {
        let mut contents = bundle.contents();
        for number in 0..bundle.head().manifest().artifacts.len() {
            let Some(mut reader) = contents.artifact(number) else { continue };
            let artifact = reader.artifact();
            let name = artifact.name.as_str();
            let refuse = |entry: &str, rule| refusal(name, entry, rule);
            let io = |source: io::Error| UnpackError::Io { artifact: name.to_owned(), source };
            match &artifact.kind {
                ArtifactKind::Tar => self.archive(&mut reader)?,
                ArtifactKind::File(place) => {
                    let path = &place.path;
                    self.enter(path, false).map_err(|rule| refuse(path.as_str(), rule))?;
                    self.write(path, &mut reader, artifact.size, place.mode()).map_err(io)?;
                }
                ArtifactKind::Program => {
                    return Err(refuse(name, "is a program of the agent, which no cluster installs"));
                }
            }
            reader.finish().map_err(io)?;
        }
        Ok(())
    }

    fn archive(&mut self, reader: &mut ArtifactReader<'_, '_>) -> Result<(), UnpackError> {
        let artifact = reader.artifact();
        let name = artifact.name.as_str();
        let io = |source: io::Error| UnpackError::Io { artifact: name.to_owned(), source };
        let mut left = artifact.unpacked;
        // Raw: extensions that rename or grow the next entry are entries of a refused type themselves.
        for entry in tar::Archive::new(reader).entries().map_err(io)?.raw(true) {
            let mut entry = entry.map_err(io)?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let refuse = |rule| refusal(name, &path, rule);
            let is_dir = match entry.header().entry_type() {
                tar::EntryType::Regular => false,
                tar::EntryType::Directory => true,
                _ => return Err(refuse("is neither a regular file nor a directory")),
            };
            let text = if is_dir { path.strip_suffix('/').unwrap_or(&path) } else { &path };
            let clean: RelPath = text.parse().map_err(|_| refuse("is not a clean relative path"))?;
            self.enter(&clean, is_dir).map_err(refuse)?;
            let mode = entry.header().mode().map_err(io)?;
            if mode & 0o7000 != 0 {
                return Err(refuse("has setuid, setgid or sticky set"));
            }
            if is_dir {
                self.target.make_open_dirs(&clean).map_err(io)?;
                continue;
            }
            let size = entry.size();
            left = left.checked_sub(size).ok_or_else(|| refuse("is larger than declared"))?;
            let mode = if mode & 0o100 == 0 { 0o644 } else { 0o755 };
            self.write(&clean, &mut entry, size, mode).map_err(io)?;
        }
        Ok(())
    }

    /// Notes a path and the directories above it; a directory may be named again.
    fn enter(&mut self, path: &RelPath, is_dir: bool) -> Result<(), &'static str> {
        let text = path.as_str();
        let above = text.match_indices('/').map(|(at, _)| (&text[..at], true));
        for (part, is_dir) in above.chain([(text, is_dir)]) {
            let now = (part.to_owned(), is_dir);
            match self.seen.get(&part.to_ascii_lowercase()) {
                Some(before) if *before == now && is_dir => {}
                Some(_) => return Err("is there twice"),
                None if self.seen.len() >= ENTRIES => return Err("is one entry too many"),
                None => drop(self.seen.insert(part.to_ascii_lowercase(), now)),
            }
        }
        Ok(())
    }

    /// Writes one file of exactly this size and makes the directories above it.
    fn write(&self, at: &RelPath, from: &mut dyn Read, size: u64, mode: u32) -> io::Result<()> {
        if let Some((above, _)) = at.as_str().rsplit_once('/') {
            self.target.make_open_dirs(&above.parse().map_err(io::Error::other)?)?;
        }
        let mut file = self.target.create_new(at, mode)?;
        let mut left = size;
        while left > 0 {
            let most = left.min(SYNC_EVERY);
            if io::copy(&mut from.take(most), &mut file)? != most {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left -= most;
            if left > 0 {
                file.sync_data()?;
            }
        }
        Ok(())
    }
}

fn refusal(artifact: &str, entry: &str, rule: &'static str) -> UnpackError {
    UnpackError::Entry { artifact: artifact.to_owned(), entry: entry.chars().take(80).collect(), rule }
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
