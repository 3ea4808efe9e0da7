//! One bundle on this node's disk: whole, or on its way.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qb_drivers::bundle::{BundleError, CHUNK_BYTES, Contents, HEAD_BYTES, VerifiedHead, peek};

use super::BlobError;
use super::bitmap::Bitmap;
use crate::files::{self, FileError};

/// Chunks between two writes of the bitmap: it is a hint, and what it misses is read again. What came is
/// brought to the disk then, too: it is the disk of the log, whose own writes would wait behind hundreds of
/// MiB that the kernel has put off.
const NOTE_EVERY: u32 = 16;

/// A bundle as others ask for it: its head, and the chunks that are there.
#[derive(Debug)]
pub struct Held {
    file: File,
    /// Bytes before the first chunk.
    start: u64,
    /// Bytes of the whole file.
    size: u64,
    have: Mutex<Bitmap>,
}

impl Held {
    /// A whole one, which was verified when it was taken.
    pub(super) fn whole(file: File) -> io::Result<Self> {
        let mut beginning = vec![0; HEAD_BYTES];
        let mut filled = 0;
        while filled < beginning.len() {
            match file.read_at(&mut beginning[filled..], filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        beginning.truncate(filled);
        let (_, manifest) = peek(&beginning).map_err(io::Error::other)?;
        let length = beginning.first_chunk::<4>().map_or(0, |b| u32::from_be_bytes(*b));
        let start = 4 + u64::from(length) + manifest.chunks.size;
        // At most 2,048: the manifest's rules say so.
        let chunks = u32::try_from(manifest.size().div_ceil(CHUNK_BYTES as u64)).map_err(io::Error::other)?;
        let have = Mutex::new(Bitmap::full(chunks));
        Ok(Self { file, start, size: start + manifest.size(), have })
    }

    fn bits(&self) -> MutexGuard<'_, Bitmap> {
        // A bit is set or not.
        self.have.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is there.
    pub fn have(&self) -> Bitmap {
        self.bits().clone()
    }

    /// The bytes of its head: at most 160 KiB.
    pub fn head_bytes(&self) -> io::Result<Vec<u8>> {
        self.read(0, self.start)
    }

    /// A chunk; none if it is not there.
    pub fn chunk(&self, chunk: u32) -> io::Result<Option<Vec<u8>>> {
        if !self.bits().has(chunk) {
            return Ok(None);
        }
        let from = self.start + u64::from(chunk) * CHUNK_BYTES as u64;
        let to = (from + CHUNK_BYTES as u64).min(self.size);
        if from >= to { Ok(None) } else { self.read(from, to).map(Some) }
    }

    fn read(&self, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(to - from).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, from)?;
        Ok(bytes)
    }
}

/// A bundle on its way: chunks are verified before they are written.
#[derive(Debug)]
pub struct Partial {
    head: Arc<VerifiedHead>,
    held: Arc<Held>,
    path: PathBuf,
    map: PathBuf,
}

impl Partial {
    /// A new file with this head. It takes no room before chunks come.
    pub(super) fn begin(
        head: Arc<VerifiedHead>,
        bytes: &[u8],
        path: &Path,
        map: PathBuf,
    ) -> Result<Self, FileError> {
        files::remove(&map)?;
        let open = || {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
            let beginning = bytes.get(..usize::try_from(head.start()).unwrap_or(usize::MAX));
            file.write_all_at(beginning.ok_or(io::ErrorKind::InvalidInput)?, 0)?;
            file.set_len(head.file_size())?;
            Ok(file)
        };
        let file = open().map_err(files::io("write", path))?;
        let have = Bitmap::empty(head.chunks());
        Ok(Self::of(head, file, have, path, map))
    }

    /// A file that is there. What the bitmap names is verified again: after a power cut it may be wrong.
    pub(super) fn resume(head: Arc<VerifiedHead>, path: &Path, map: PathBuf) -> Result<Self, FileError> {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(files::io("read", path))?;
        file.set_len(head.file_size()).map_err(files::io("write", path))?;
        let hint = files::read_bounded(&map, 1024)?.and_then(Bitmap::from_bytes).unwrap_or_default();
        let partial = Self::of(Arc::clone(&head), file, hint, path, map);
        let mut good = Bitmap::empty(head.chunks());
        for chunk in 0..head.chunks() {
            let read = partial.held.chunk(chunk).map_err(files::io("read", path))?;
            if read.is_some_and(|bytes| head.check_chunk(chunk, &bytes).is_ok()) {
                good.set(chunk);
            }
        }
        *partial.held.bits() = good;
        Ok(partial)
    }

    fn of(head: Arc<VerifiedHead>, file: File, have: Bitmap, path: &Path, map: PathBuf) -> Self {
        let (start, size) = (head.start(), head.file_size());
        let held = Arc::new(Held { file, start, size, have: Mutex::new(have) });
        Self { head, held, path: path.to_owned(), map }
    }

    /// Its manifest and table.
    pub fn head(&self) -> &Arc<VerifiedHead> {
        &self.head
    }

    /// The same as others ask for it.
    pub fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held)
    }

    /// What is there.
    pub fn have(&self) -> Bitmap {
        self.held.have()
    }

    /// Whether every chunk is there.
    pub fn is_complete(&self) -> bool {
        self.held.bits().count() == self.head.chunks()
    }

    /// Writes a chunk, once it is verified.
    ///
    /// # Errors
    /// It is another's, or the disk cannot be written.
    pub fn put(&self, chunk: u32, bytes: &[u8]) -> Result<(), BlobError> {
        self.head.check_chunk(chunk, bytes)?;
        let at = self.head.chunk(chunk).ok_or(BundleError::Chunk { chunk })?.start;
        self.held.file.write_all_at(bytes, at).map_err(files::io("write", &self.path))?;
        let (count, bits) = {
            let mut bits = self.held.bits();
            bits.set(chunk);
            (bits.count(), bits.clone())
        };
        if count % NOTE_EVERY == 0 || count == self.head.chunks() {
            self.held.file.sync_data().map_err(files::io("write", &self.path))?;
            files::write_unsynced(&self.map, bits.bytes())?;
        }
        Ok(())
    }

    /// Reads the whole bundle once more, chunk by chunk and artifact by artifact, and makes it durable. If
    /// something is wrong, nothing of it is believed any more.
    pub(super) fn verify(&self) -> Result<(), BlobError> {
        let read = |to: &mut [u8], at: u64| self.held.file.read_exact_at(to, at);
        let verified = Contents::new(&self.head, Box::new(read)).verify();
        let synced = verified.and_then(|()| self.held.file.sync_all());
        if synced.is_err() {
            *self.held.bits() = Bitmap::empty(self.head.chunks());
        }
        Ok(synced.map_err(files::io("verify", &self.path))?)
    }
}
