//! Bundles that this node holds: one file per manifest digest, verified before it is written.

use std::path::PathBuf;

use qb_drivers::bundle;
use qb_model::Digest;

use crate::files::{self, FileError};

/// Most bytes of a bundle here.
pub const MAX_BUNDLE: u64 = bundle::BUNDLE_BYTES as u64;

/// The folder of bundles.
#[derive(Debug, Clone)]
pub struct Blobs {
    dir: PathBuf,
}

impl Blobs {
    /// Opens the folder, making it if it is missing.
    pub fn open(dir: PathBuf) -> Result<Self, FileError> {
        files::make_dir(&dir)?;
        Ok(Self { dir })
    }

    /// Path of a bundle's file.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{digest}.qbb"))
    }

    /// The bytes of a bundle; none if it is not here.
    pub fn read(&self, digest: &Digest) -> Result<Option<Vec<u8>>, FileError> {
        files::read_bounded(&self.path(digest), MAX_BUNDLE)
    }

    /// The beginning of a bundle, as much as a manifest may have, and the size of the whole; none if it
    /// is not here.
    pub fn head(&self, digest: &Digest) -> Result<Option<(Vec<u8>, u64)>, FileError> {
        self.part(digest, 0, bundle::HEAD_BYTES)
    }

    /// At most `length` bytes from `offset` on, and the size of the whole; none if it is not here.
    pub fn part(
        &self,
        digest: &Digest,
        offset: u64,
        length: usize,
    ) -> Result<Option<(Vec<u8>, u64)>, FileError> {
        files::read_part(&self.path(digest), offset, length)
    }

    /// Keeps a bundle whose manifest has this digest; the caller has verified it.
    pub fn write(&self, digest: &Digest, bytes: &[u8]) -> Result<(), FileError> {
        files::write_atomic(&self.path(digest), bytes, 0o600)
    }

    /// Digests of the bundles here.
    pub fn list(&self) -> Vec<Digest> {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return Vec::new() };
        let mut all: Vec<Digest> = entries
            .filter_map(|e| e.ok()?.file_name().to_str()?.strip_suffix(".qbb")?.parse().ok())
            .collect();
        all.sort();
        all
    }
}
