//! Reads the artifacts of a bundle that lies somewhere: every byte that is handed out belongs to a chunk
//! that was verified in this very pass, and one chunk is held at a time.

use std::io::{self, Read};

use qb_model::ids::PublicKey;
use sha2::{Digest as _, Sha256};

use super::error::BundleError;
use super::head::VerifiedHead;
use super::limits::CHUNK_BYTES;
use super::manifest::Artifact;

/// Fills the whole slice with the bundle's bytes from this place on.
pub type ReadAt<'a> = dyn FnMut(&mut [u8], u64) -> io::Result<()> + Send + 'a;

/// The artifacts of a bundle.
pub struct Contents<'a> {
    head: &'a VerifiedHead,
    read: Box<ReadAt<'a>>,
    chunk: Vec<u8>,
    at: Option<u32>,
}

impl<'a> Contents<'a> {
    /// Of a bundle with this head, read by this function.
    pub fn new(head: &'a VerifiedHead, read: Box<ReadAt<'a>>) -> Self {
        Self { head, read, chunk: Vec::new(), at: None }
    }

    /// An artifact by its number in the manifest; none behind the last.
    pub fn artifact(&mut self, number: usize) -> Option<ArtifactReader<'_, 'a>> {
        let head = self.head;
        let artifact = head.manifest().artifacts.get(number)?;
        let before = head.manifest().artifacts.iter().take(number).map(|a| a.size).sum();
        Some(ArtifactReader { artifact, at: before, left: artifact.size, hash: Sha256::new(), from: self })
    }

    /// Reads everything once.
    ///
    /// # Errors
    /// A chunk or an artifact is not what the manifest says, or cannot be read.
    pub fn verify(&mut self) -> io::Result<()> {
        for number in 0..self.head.manifest().artifacts.len() {
            if let Some(artifact) = self.artifact(number) {
                artifact.finish()?;
            }
        }
        Ok(())
    }

    /// The verified bytes of a chunk.
    fn chunk(&mut self, chunk: u32) -> io::Result<&[u8]> {
        if self.at != Some(chunk) {
            let range = self.head.chunk(chunk).ok_or(io::ErrorKind::UnexpectedEof)?;
            self.at = None;
            let size = usize::try_from(range.end - range.start).unwrap_or(CHUNK_BYTES);
            self.chunk.resize(size, 0);
            (self.read)(&mut self.chunk, range.start)?;
            self.head.check_chunk(chunk, &self.chunk).map_err(invalid)?;
            self.at = Some(chunk);
        }
        Ok(&self.chunk)
    }
}

/// Reads one artifact.
pub struct ArtifactReader<'c, 'a> {
    artifact: &'a Artifact,
    /// Where the next byte lies, from the first artifact's first.
    at: u64,
    left: u64,
    hash: Sha256,
    from: &'c mut Contents<'a>,
}

impl<'a> ArtifactReader<'_, 'a> {
    /// What it is.
    pub fn artifact(&self) -> &'a Artifact {
        self.artifact
    }

    /// Reads what is left, and checks the whole digest.
    ///
    /// # Errors
    /// It is not what the manifest says, or cannot be read.
    pub fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self, &mut io::sink())?;
        if self.hash.finalize().as_slice() == self.artifact.sha256.as_bytes() {
            return Ok(());
        }
        Err(invalid(BundleError::Digest { name: self.artifact.name.to_string() }))
    }
}

impl Read for ArtifactReader<'_, '_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || to.is_empty() {
            return Ok(0);
        }
        let size = CHUNK_BYTES as u64;
        let inside = usize::try_from(self.at % size).unwrap_or_default();
        let number = u32::try_from(self.at / size).map_err(io::Error::other)?;
        let bytes = self.from.chunk(number)?.get(inside..).ok_or(io::ErrorKind::UnexpectedEof)?;
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let count = bytes.len().min(to.len()).min(most);
        let bytes = &bytes[..count];
        to[..count].copy_from_slice(bytes);
        self.hash.update(bytes);
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Verifies a whole bundle that lies in memory.
///
/// # Errors
/// A [`BundleError`] naming the first thing that is wrong.
pub fn verify_bundle(bytes: &[u8], publishers: &[PublicKey]) -> Result<VerifiedHead, BundleError> {
    let head = VerifiedHead::verify(bytes, publishers)?;
    match head.file_size().cmp(&(bytes.len() as u64)) {
        std::cmp::Ordering::Greater => return Err(BundleError::Damaged("an artifact ends early")),
        std::cmp::Ordering::Less => return Err(BundleError::Damaged("it goes on after its last artifact")),
        std::cmp::Ordering::Equal => {}
    }
    Contents::new(&head, Box::new(from_memory(bytes))).verify().map_err(|e| reason(&e))?;
    Ok(head)
}

/// Reads a bundle that lies in memory.
pub fn from_memory(bytes: &[u8]) -> impl FnMut(&mut [u8], u64) -> io::Result<()> + Send + '_ {
    move |to, at| {
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let from = bytes.get(at..).and_then(|rest| rest.get(..to.len()));
        to.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

fn invalid(error: BundleError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// What an error of reading says of the bundle.
fn reason(error: &io::Error) -> BundleError {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<BundleError>());
    inner.cloned().unwrap_or(BundleError::Damaged("an artifact cannot be read"))
}
