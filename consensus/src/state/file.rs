//! A snapshot on disk: one file, complete and checksummed, replaced as a whole.
//!
//! ```text
//! magic 8 | format u32 | header len u32 | header: covers, length, sha256 | crc of all before u32 | body
//! ```

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::limits::MAX_SNAPSHOT;
use crate::log::disk::{install_file, sync_dir};
use crate::wire::{WireSnapshotMeta, decode, encode};

const MAGIC: [u8; 8] = *b"qb-snap\0";
const FORMAT: u32 = 1;
const PREFIX: &str = "snapshot-";

/// Why a snapshot cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk failed.
    #[error("cannot {what} a snapshot: {source}; check the disk")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("snapshot {0} is damaged; move it aside, a follower fetches another one")]
    Damaged(PathBuf),
    /// The machine does not take it.
    #[error("snapshot refused by the state machine: {0}")]
    Refused(String),
    /// Greater than any state can be.
    #[error("snapshot of {0} bytes is greater than {MAX_SNAPSHOT}")]
    TooLarge(u64),
    /// The writing task ended early.
    #[error("snapshot task failed: {0}")]
    Task(String),
}

fn io(what: &'static str) -> impl FnOnce(io::Error) -> SnapshotError {
    move |source| SnapshotError::Io { what, source }
}

/// A snapshot file and what it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotInfo {
    pub(crate) meta: WireSnapshotMeta,
    pub(crate) length: u64,
    pub(crate) sha256: [u8; 32],
    pub(crate) path: PathBuf,
    /// Where the body begins in the file.
    pub(crate) body_at: u64,
}

impl SnapshotInfo {
    /// A piece of the body. The reader checks the whole against `sha256`.
    pub(crate) fn read_piece(&self, offset: u64, most: usize) -> io::Result<Bytes> {
        let rest = self.length.saturating_sub(offset).min(most as u64);
        let mut piece = vec![0; rest as usize];
        fs::File::open(&self.path)?.read_exact_at(&mut piece, self.body_at + offset)?;
        Ok(piece.into())
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    meta: WireSnapshotMeta,
    length: u64,
    sha256: [u8; 32],
}

/// Writes a snapshot durably, then removes older ones.
pub(super) fn write(dir: &Path, meta: WireSnapshotMeta, body: &[u8]) -> Result<SnapshotInfo, SnapshotError> {
    if body.len() as u64 > MAX_SNAPSHOT {
        return Err(SnapshotError::TooLarge(body.len() as u64));
    }
    let sha256 = Sha256::digest(body).into();
    let length = body.len() as u64;
    let header = encode(&Header { meta: meta.clone(), length, sha256 });
    let mut head = MAGIC.to_vec();
    head.extend(FORMAT.to_le_bytes());
    head.extend((header.len() as u32).to_le_bytes());
    head.extend(header);
    head.extend(crc32c::crc32c(&head).to_le_bytes());
    let name = format!("{PREFIX}{:020}", meta.last.map_or(0, |at| at.index));
    install_file(dir, &name, |mut file| {
        file.write_all(&head)?;
        file.write_all(body)
    })
    .map_err(io("write"))?;
    for path in paths(dir)?.into_iter().filter(|p| *p < dir.join(&name)) {
        fs::remove_file(path).map_err(io("remove"))?;
    }
    sync_dir(dir).map_err(io("write"))?;
    Ok(SnapshotInfo { meta, length, sha256, path: dir.join(name), body_at: head.len() as u64 })
}

/// Reads and checks a snapshot file.
pub(super) fn read(path: &Path) -> Result<(SnapshotInfo, Bytes), SnapshotError> {
    let bytes = Bytes::from(fs::read(path).map_err(io("read"))?);
    parse(path, &bytes).ok_or_else(|| SnapshotError::Damaged(path.to_owned()))
}

fn parse(path: &Path, bytes: &Bytes) -> Option<(SnapshotInfo, Bytes)> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let end = 16usize.checked_add(word(12)? as usize)?;
    let sound =
        bytes.get(..8)? == MAGIC && word(8)? == FORMAT && word(end)? == crc32c::crc32c(bytes.get(..end)?);
    sound.then_some(())?;
    let Header { meta, length, sha256 } = decode(&bytes[16..end]).ok()?;
    let body = bytes.slice(end + 4..);
    let whole = body.len() as u64 == length && <[u8; 32]>::from(Sha256::digest(&body)) == sha256;
    let (path, body_at) = (path.to_owned(), end as u64 + 4);
    whole.then_some((SnapshotInfo { meta, length, sha256, path, body_at }, body))
}

/// The youngest snapshot in `dir`. An older one is only there if a removal was interrupted.
pub(super) fn load(dir: &Path) -> Result<Option<(SnapshotInfo, Bytes)>, SnapshotError> {
    fs::create_dir_all(dir).map_err(io("read"))?;
    paths(dir)?.pop().map(|path| read(&path)).transpose()
}

/// Snapshot files, oldest first.
fn paths(dir: &Path) -> Result<Vec<PathBuf>, SnapshotError> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).map_err(io("read"))? {
        let entry = entry.map_err(io("read"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.strip_prefix(PREFIX).is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit())) {
            out.push(entry.path());
        }
    }
    out.sort();
    Ok(out)
}
