//! The beginning of a bundle: its signed manifest and the table of chunks that hangs on it.

use std::ops::Range;

use qb_model::ids::{Digest, PublicKey};
use sha2::{Digest as _, Sha256};

use super::error::BundleError;
use super::limits::{CHUNK_BYTES, LINE_BYTES};
use super::manifest::{Manifest, parse_manifest, signer, split};

/// A manifest that an allowed publisher signed, with its table of chunks. Made by [`VerifiedHead::verify`]
/// only. Whatever it says of the artifacts can be believed; of their bytes nothing is here.
#[derive(Debug, Clone)]
pub struct VerifiedHead {
    manifest: Manifest,
    digest: Digest,
    publisher: PublicKey,
    table: Vec<u8>,
    /// Bytes before the first artifact.
    start: u64,
}

impl VerifiedHead {
    /// Verifies the beginning of a bundle, in this order: its bounds, the publisher's signature, the
    /// manifest, the table. What follows the table is not looked at.
    ///
    /// # Errors
    /// A [`BundleError`] naming the first thing that is wrong.
    pub fn verify(beginning: &[u8], publishers: &[PublicKey]) -> Result<Self, BundleError> {
        let (envelope, rest) = split(beginning)?;
        let publisher = signer(&envelope, publishers)?;
        let manifest = parse_manifest(envelope.payload())?;
        // At most 64 KiB, by the rules of the manifest.
        let size = usize::try_from(manifest.chunks.size).unwrap_or(usize::MAX);
        let table = rest.get(..size).ok_or(BundleError::Damaged("its table of chunks ends early"))?;
        if Sha256::digest(table).as_slice() != manifest.chunks.sha256.as_bytes() {
            return Err(BundleError::Damaged("its table of chunks is not the one of its manifest"));
        }
        let start = (beginning.len() - rest.len() + size) as u64;
        Ok(Self { digest: envelope.digest(), manifest, publisher, table: table.to_vec(), start })
    }

    /// What it is and holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The digest by which intents name it.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whose signature was found.
    pub fn publisher(&self) -> PublicKey {
        self.publisher
    }

    /// Bytes before the first artifact.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Bytes of the whole bundle.
    pub fn file_size(&self) -> u64 {
        self.start + self.manifest.size()
    }

    /// How many chunks there are.
    pub fn chunks(&self) -> u32 {
        // At most 2,048.
        u32::try_from(self.table.len() / LINE_BYTES).unwrap_or(u32::MAX)
    }

    /// Where a chunk lies in the bundle's file; none behind the last.
    pub fn chunk(&self, chunk: u32) -> Option<Range<u64>> {
        let from = self.start + u64::from(chunk) * CHUNK_BYTES as u64;
        let to = (from + CHUNK_BYTES as u64).min(self.file_size());
        (from < to).then_some(from..to)
    }

    /// Checks the bytes of a chunk against the table.
    ///
    /// # Errors
    /// [`BundleError::Chunk`] if they are another's, too many or too few.
    pub fn check_chunk(&self, chunk: u32, bytes: &[u8]) -> Result<(), BundleError> {
        let wrong = BundleError::Chunk { chunk };
        let range = self.chunk(chunk).ok_or_else(|| wrong.clone())?;
        let at = chunk as usize * LINE_BYTES;
        let line = self.table.get(at..at + LINE_BYTES).ok_or_else(|| wrong.clone())?;
        if bytes.len() as u64 == range.end - range.start && Sha256::digest(bytes).as_slice() == line {
            return Ok(());
        }
        Err(wrong)
    }

    /// Checks that this is the ordered bundle.
    ///
    /// # Errors
    /// [`BundleError::OtherBundle`].
    pub fn is(&self, ordered: &Digest) -> Result<(), BundleError> {
        if self.digest == *ordered {
            return Ok(());
        }
        Err(BundleError::OtherBundle { have: self.digest, want: *ordered })
    }
}

/// Whose signature a bundle's manifest has, by its beginning: for lists of bundles that were verified when
/// they were taken.
///
/// # Errors
/// A [`BundleError`] if no publisher signed it.
pub fn signed_by(beginning: &[u8], publishers: &[PublicKey]) -> Result<PublicKey, BundleError> {
    let (envelope, _) = split(beginning)?;
    signer(&envelope, publishers)
}

/// The keys by which a bundle says that it was signed. They are hints: for showing who did, by somebody who
/// then compares, and for nothing else.
///
/// # Errors
/// A [`BundleError`] if it has no readable manifest.
pub fn named_keys(beginning: &[u8]) -> Result<Vec<PublicKey>, BundleError> {
    let (envelope, _) = split(beginning)?;
    let key = |id: &str| id.rsplit(':').next().and_then(|key| key.parse().ok());
    Ok(envelope.signatures().iter().filter_map(|line| key(&line.keyid)).collect())
}

/// Reads what a bundle says of itself without believing it: for lists and messages only. Its first
/// [`HEAD_BYTES`](super::HEAD_BYTES) are enough.
///
/// # Errors
/// A [`BundleError`] if it has no readable manifest.
pub fn peek(beginning: &[u8]) -> Result<(Digest, Manifest), BundleError> {
    let (envelope, _) = split(beginning)?;
    Ok((envelope.digest(), parse_manifest(envelope.payload())?))
}
