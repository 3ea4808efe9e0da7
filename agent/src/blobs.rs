//! Bundles that this node holds: one file per manifest digest. One on its way is a file beside it with a
//! bitmap of what was verified; a kill loses at most the chunks in the air.
//!
//! ```text
//! DIGEST.qbb        complete, verified as a whole
//! DIGEST.part       its head, and the chunks that are there
//! DIGEST.map        which these are: a hint, each is verified again after a start
//! uses.json         what clusters install from, and installed from before
//! ```
//!
//! | file | what |
//! |---|---|
//! | `held.rs` | one bundle, whole or on its way |
//! | `bitmap.rs` | which chunks are there |
//! | `choose.rs` | whom to ask for which chunk: decided |
//! | `kept.rs` | which bundles are kept: decided |

pub mod bitmap;
pub mod choose;
mod held;
pub mod kept;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use qb_drivers::bundle::{BundleError, HEAD_BYTES, VerifiedHead};
use qb_model::{Digest, PublicKey};

use crate::files::{self, FileError};
pub use held::{Held, Partial};
use kept::Uses;

/// Bytes of the file of uses: 1,000 clusters fit.
const USES_BYTES: u64 = 256 * 1024;

/// Why a bundle is not kept.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not what it should be.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// It would not fit.
    #[error(
        "the bundle needs {need} MiB more on the disk of {path}, {free} MiB are free: make room, `df -h {path}` shows where"
    )]
    Room {
        /// MiB that it needs, with some to spare.
        need: u64,
        /// MiB that are free.
        free: u64,
        /// The folder.
        path: String,
    },
}

/// The folder of bundles. Clones share it.
#[derive(Debug, Clone)]
pub struct Blobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    /// What was asked for since the start: open files, whole or on their way.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    whole: BTreeMap<Digest, Arc<Held>>,
    partial: BTreeMap<Digest, Arc<Partial>>,
}

impl Blobs {
    /// Opens the folder, making it if it is missing.
    pub fn open(dir: PathBuf) -> Result<Self, FileError> {
        files::make_dir(&dir)?;
        Ok(Self(Arc::new(Inner { dir, open: Mutex::default() })))
    }

    fn state(&self) -> MutexGuard<'_, Open> {
        // Maps of handles: whole at any moment.
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, digest: &Digest, kind: &str) -> PathBuf {
        self.0.dir.join(format!("{digest}.{kind}"))
    }

    /// Path of a whole bundle's file.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.file(digest, "qbb")
    }

    /// The file of a whole bundle; none if it is not here.
    pub fn open_file(&self, digest: &Digest) -> Result<Option<Arc<File>>, FileError> {
        files::open_read(&self.path(digest)).map(|file| file.map(Arc::new))
    }

    /// The beginning of a whole bundle, as much as a manifest and its table may have, and the size of the
    /// whole; none if it is not here.
    pub fn head(&self, digest: &Digest) -> Result<Option<(Vec<u8>, u64)>, FileError> {
        files::read_part(&self.path(digest), 0, HEAD_BYTES)
    }

    /// A bundle, whole or on its way; none if nothing of it is open or whole here.
    pub fn held(&self, digest: &Digest) -> Option<Arc<Held>> {
        let mut open = self.state();
        if let Some(partial) = open.partial.get(digest) {
            return Some(partial.held());
        }
        if let Some(held) = open.whole.get(digest) {
            return Some(Arc::clone(held));
        }
        let file = files::open_read(&self.path(digest)).ok()??;
        let held = Arc::new(Held::whole(file).ok()?);
        open.whole.insert(*digest, Arc::clone(&held));
        Some(held)
    }

    /// The bundle on its way, if it is.
    pub fn partial(&self, digest: &Digest) -> Option<Arc<Partial>> {
        self.state().partial.get(digest).cloned()
    }

    /// Begins a bundle, or goes on with what is there of it.
    pub fn begin(&self, head: Arc<VerifiedHead>, bytes: &[u8]) -> Result<Arc<Partial>, BlobError> {
        let digest = head.digest();
        if let Some(partial) = self.partial(&digest) {
            return Ok(partial);
        }
        let (part, map) = (self.file(&digest, "part"), self.file(&digest, "map"));
        if part.exists()
            && let Ok(partial) = Partial::resume(Arc::clone(&head), &part, map.clone())
        {
            return Ok(self.keep(digest, partial));
        }
        self.has_room(head.file_size())?;
        let partial = Partial::begin(head, bytes, &part, map)?;
        Ok(self.keep(digest, partial))
    }

    /// Goes on with a bundle that was on its way when this node ended; none if there is no such.
    pub fn resume(&self, digest: &Digest, publishers: &[PublicKey]) -> Option<Arc<Partial>> {
        if let Some(partial) = self.partial(digest) {
            return Some(partial);
        }
        let (part, map) = (self.file(digest, "part"), self.file(digest, "map"));
        let (bytes, _) = files::read_part(&part, 0, HEAD_BYTES).ok()??;
        let head = VerifiedHead::verify(&bytes, publishers).ok().filter(|head| head.digest() == *digest)?;
        let partial = Partial::resume(Arc::new(head), &part, map).ok()?;
        Some(self.keep(*digest, partial))
    }

    fn keep(&self, digest: Digest, partial: Partial) -> Arc<Partial> {
        Arc::clone(self.state().partial.entry(digest).or_insert_with(|| Arc::new(partial)))
    }

    fn has_room(&self, size: u64) -> Result<(), BlobError> {
        let free = files::free_bytes(&self.0.dir)?;
        // The state and its log lie on the same disk: a quarter of a GiB is theirs.
        let need = size.saturating_add(256 << 20);
        if need <= free {
            return Ok(());
        }
        let path = self.0.dir.display().to_string();
        Err(BlobError::Room { need: need >> 20, free: free >> 20, path })
    }

    /// Verifies a complete bundle as a whole and gives it its name. What is wrong in it is fetched again.
    pub fn finish(&self, partial: &Partial) -> Result<(), BlobError> {
        let digest = partial.head().digest();
        if self.path(&digest).exists() {
            self.state().partial.remove(&digest);
            return Ok(());
        }
        partial.verify()?;
        files::rename(&self.file(&digest, "part"), &self.path(&digest))?;
        self.state().partial.remove(&digest);
        files::remove(&self.file(&digest, "map"))?;
        Ok(())
    }

    /// Digests of the whole bundles here.
    pub fn list(&self) -> Vec<Digest> {
        let mut all = self.of_kind(".qbb");
        all.sort();
        all
    }

    fn of_kind(&self, kind: &str) -> Vec<Digest> {
        let names = files::names(&self.0.dir).ok().flatten().unwrap_or_default();
        names.iter().filter_map(|name| name.strip_suffix(kind)?.parse().ok()).collect()
    }

    /// Every bundle here, whole or a part, with its age in milliseconds.
    pub fn ages(&self) -> Vec<(Digest, u64)> {
        let all: BTreeSet<Digest> = self.of_kind(".qbb").into_iter().chain(self.of_kind(".part")).collect();
        all.into_iter().map(|digest| (digest, self.age(&digest))).collect()
    }

    fn age(&self, digest: &Digest) -> u64 {
        let age = |path: &Path| {
            let written = std::fs::metadata(path).and_then(|meta| meta.modified()).ok()?;
            u64::try_from(SystemTime::now().duration_since(written).ok()?.as_millis()).ok()
        };
        // One whose age is not known is young.
        age(&self.path(digest)).or_else(|| age(&self.file(digest, "part"))).unwrap_or_default()
    }

    /// Deletes a bundle.
    pub fn remove(&self, digest: &Digest) -> Result<(), FileError> {
        let mut open = self.state();
        open.whole.remove(digest);
        open.partial.remove(digest);
        for kind in ["qbb", "map", "part"] {
            files::remove(&self.file(digest, kind))?;
        }
        Ok(())
    }

    /// What clusters install from.
    pub fn uses(&self) -> Uses {
        let held = files::read_bounded(&self.0.dir.join("uses.json"), USES_BYTES).ok().flatten();
        held.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Remembers what clusters install from.
    pub fn note_uses(&self, uses: &Uses) -> Result<(), FileError> {
        // Maps of text and digests: they serialize.
        let bytes = serde_json::to_vec(uses).unwrap_or_default();
        files::write_atomic(&self.0.dir.join("uses.json"), &bytes, 0o600)
    }
}

#[cfg(test)]
#[path = "blobs/tests.rs"]
mod tests;
