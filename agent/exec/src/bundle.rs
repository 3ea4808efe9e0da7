//! A bundle on its way through the executor: taken from the agent chunk by chunk, each verified before it
//! is written, into a file without a name; read from there, each chunk verified once more.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use qb_drivers::bundle::{BundleError, Came, Contents, HEAD_BYTES, Intake, VerifiedHead};
use qb_model::ids::{Digest, PublicKey};

use crate::dir::Dir;

/// Room on the disk that is left alone: what the rest of the machine lives on meanwhile.
const SPARE_BYTES: u64 = 512 << 20;

/// Bytes after which a file that grows is brought to the disk: others on this machine wait for the disk, the
/// site's log among them, and would wait behind hundreds of MiB that the kernel has put off.
pub(crate) const SYNC_EVERY: u64 = 16 << 20;

/// Why a bundle is not taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// It is not one that may be installed, or not the ordered one.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The disk.
    #[error(
        "the bundle cannot be kept on this machine's disk: {0}; `df -h /var/lib/qb` shows how full it is"
    )]
    Disk(#[from] io::Error),
    /// It would not fit.
    #[error(
        "the bundle needs {need} MiB on this machine's disk, {free} MiB are free: make room, `df -h /var/lib/qb` shows where"
    )]
    Room {
        /// MiB for the file, its files and some spare room.
        need: u64,
        /// MiB that are free.
        free: u64,
    },
}

/// A bundle whose head is verified and whose bytes lie in a file. Nothing of the file is believed.
#[derive(Debug, Clone)]
pub struct Bundle {
    head: Arc<VerifiedHead>,
    file: Arc<File>,
}

impl Bundle {
    /// The bundle in a file, if a publisher signed it and it is the ordered one.
    ///
    /// # Errors
    /// It is not that, or cannot be read.
    pub fn open(file: Arc<File>, publishers: &[PublicKey], ordered: &Digest) -> Result<Self, TakeError> {
        let mut beginning = Vec::new();
        let (mut at, mut part) = (0u64, vec![0; 64 * 1024]);
        while beginning.len() < HEAD_BYTES {
            let most = part.len().min(HEAD_BYTES - beginning.len());
            match file.read_at(&mut part[..most], at)? {
                0 => break,
                read => beginning.extend_from_slice(&part[..read]),
            }
            at = beginning.len() as u64;
        }
        let head = VerifiedHead::verify(&beginning, publishers)?;
        head.is(ordered)?;
        if file.metadata()?.len() != head.file_size() {
            return Err(BundleError::Damaged("its file is longer or shorter than its manifest says").into());
        }
        Ok(Self { head: Arc::new(head), file })
    }

    /// Its manifest and table.
    pub fn head(&self) -> &VerifiedHead {
        &self.head
    }

    /// Its file.
    pub(crate) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// The bytes of its head.
    pub(crate) fn head_bytes(&self) -> io::Result<Vec<u8>> {
        // At most 160 KiB: it was read before.
        let mut bytes = vec![0; usize::try_from(self.head.start()).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Its artifacts, read from the file in verified chunks.
    pub fn contents(&self) -> Contents<'_> {
        let file = Arc::clone(&self.file);
        Contents::new(&self.head, Box::new(move |to, at| file.read_exact_at(to, at)))
    }
}

/// Takes a bundle as it comes.
pub(crate) struct Spool {
    intake: Intake,
    ordered: Digest,
    size: u64,
    at: u64,
    file: File,
    /// Bytes that are free on the disk, above what is left alone.
    free: u64,
}

impl Spool {
    /// Into a file in this directory that has no name: it is gone with the executor.
    pub(crate) fn new(
        dir: &Dir,
        publishers: Vec<PublicKey>,
        ordered: Digest,
        size: u64,
    ) -> Result<Self, TakeError> {
        let (file, free) = (dir.nameless()?, dir.free_bytes()?);
        Ok(Self { intake: Intake::new(publishers), ordered, size, at: 0, file, free })
    }

    /// The next bytes. What a refused bundle wrote is gone with this.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> Result<(), TakeError> {
        while let Some(came) = self.intake.take(&mut bytes)? {
            let written = match came {
                Came::Head(head, bytes) => {
                    head.is(&self.ordered)?;
                    if head.file_size() != self.size {
                        return Err(BundleError::Damaged(
                            "its file is longer or shorter than its manifest says",
                        )
                        .into());
                    }
                    let unpacked: u64 = head.manifest().artifacts.iter().map(|a| a.unpacked).sum();
                    let need = self.size.saturating_add(unpacked).saturating_add(SPARE_BYTES);
                    if need > self.free {
                        return Err(TakeError::Room { need: need >> 20, free: self.free >> 20 });
                    }
                    bytes
                }
                Came::Chunk(_, bytes) => bytes,
            };
            self.file.write_all_at(written, self.at)?;
            let before = self.at / SYNC_EVERY;
            self.at += written.len() as u64;
            if self.at / SYNC_EVERY > before {
                self.file.sync_data()?;
            }
        }
        Ok(())
    }

    /// The bundle, once it is whole.
    pub(crate) fn finish(self) -> Result<Bundle, TakeError> {
        let head = self.intake.finish()?;
        Ok(Bundle { head, file: Arc::new(self.file) })
    }
}

/// A file with these bytes, for callers that have a small bundle in memory.
///
/// # Errors
/// The system's directory for such files cannot be written.
pub fn file_of(bytes: &[u8]) -> io::Result<Arc<File>> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let file = File::from(rustix::fs::memfd_create("bundle", flags)?);
    file.write_all_at(bytes, 0)?;
    Ok(Arc::new(file))
}

/// Reads a file from its beginning, at most this much at a time.
pub(crate) fn parts(file: &Arc<File>, size: usize) -> impl FnMut() -> io::Result<Vec<u8>> + use<> {
    let (file, mut at) = (Arc::clone(file), 0u64);
    move || {
        let mut part = vec![0; size];
        let mut filled = 0;
        while filled < size {
            match file.read_at(&mut part[filled..], at)? {
                0 => break,
                read => {
                    filled += read;
                    at += read as u64;
                }
            }
        }
        part.truncate(filled);
        Ok(part)
    }
}
