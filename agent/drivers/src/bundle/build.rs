//! Makes a manifest and its table from artifacts that are read once, whatever their size.

use std::io::{self, Read};

use qb_model::dsse::{Purpose, Signer};
use qb_model::envelope::Envelope;
use qb_model::ids::{Digest, Millis, Name, Version};
use sha2::{Digest as _, Sha256};

use super::error::BundleError;
use super::limits::CHUNK_BYTES;
use super::manifest::{Artifact, ArtifactKind, Chunks, FORMAT, Manifest};

/// What a new bundle says of itself.
#[derive(Debug, Clone)]
pub struct Label {
    /// The bundle's name.
    pub name: Name,
    /// The driver that installs it.
    pub driver: Name,
    /// The version that it installs.
    pub version: Version,
    /// `stable`, for instance.
    pub channel: Name,
    /// `x86_64`, `aarch64` or [`ANY_ARCH`](super::ANY_ARCH).
    pub arch: String,
    /// When it was made.
    pub created_ms: Millis,
    /// The oldest agent that can install it.
    pub min_agent: Version,
}

/// Sums artifacts up.
#[derive(Debug, Default)]
pub struct Tally {
    artifacts: Vec<Artifact>,
    table: Vec<u8>,
    chunk: Sha256,
    in_chunk: usize,
}

/// What a publisher signs, and the table that follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsigned {
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// The table's bytes.
    pub table: Vec<u8>,
}

impl Tally {
    /// Reads an artifact to its end. `unpacked` is the size of its files; none if it is as large itself.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn add(
        &mut self,
        name: Name,
        kind: ArtifactKind,
        unpacked: Option<u64>,
        from: &mut dyn Read,
    ) -> io::Result<()> {
        let (mut hash, mut size) = (Sha256::new(), 0u64);
        let mut part = vec![0; 64 * 1024];
        loop {
            let read = match from.read(&mut part) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if read == 0 {
                break;
            }
            hash.update(&part[..read]);
            self.chunks(&part[..read]);
            size += read as u64;
        }
        let sha256 = Digest(hash.finalize().into());
        self.artifacts.push(Artifact { name, kind, sha256, size, unpacked: unpacked.unwrap_or(size) });
        Ok(())
    }

    fn chunks(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.in_chunk));
            self.chunk.update(now);
            self.in_chunk += now.len();
            if self.in_chunk == CHUNK_BYTES {
                self.end_chunk();
            }
            bytes = later;
        }
    }

    fn end_chunk(&mut self) {
        self.table.extend_from_slice(&self.chunk.finalize_reset());
        self.in_chunk = 0;
    }

    /// The manifest of what was added.
    ///
    /// # Errors
    /// [`BundleError`] if it would break a rule.
    pub fn finish(mut self, label: Label) -> Result<Unsigned, BundleError> {
        if self.in_chunk > 0 {
            self.end_chunk();
        }
        let table = self.table;
        let chunks = Chunks { size: table.len() as u64, sha256: Digest(Sha256::digest(&table).into()) };
        let Label { name, driver, version, channel, arch, created_ms, min_agent } = label;
        let artifacts = self.artifacts;
        let manifest = Manifest {
            v: FORMAT,
            name,
            driver,
            version,
            channel,
            arch,
            created_ms,
            min_agent,
            chunks,
            artifacts,
        };
        manifest.check()?;
        let manifest = serde_json::to_vec(&manifest)
            .map_err(|_| BundleError::Rule("its manifest cannot be serialized"))?;
        if manifest.len() > super::limits::MANIFEST_BYTES {
            return Err(BundleError::Rule("it is larger than 64 KiB"));
        }
        Ok(Unsigned { manifest, table })
    }
}

impl Unsigned {
    /// The beginning of the bundle's file, signed: the artifacts follow.
    pub fn sign(&self, signers: &[&dyn Signer]) -> Vec<u8> {
        self.head(&Envelope::sign(Purpose::Bundle, self.manifest.clone(), signers))
    }

    /// The same with an envelope that is there.
    pub fn head(&self, envelope: &Envelope) -> Vec<u8> {
        let head = envelope.to_bytes();
        let mut out = Vec::with_capacity(4 + head.len() + self.table.len());
        // An envelope is far below 4 GiB; a wrong length would be refused by every reader.
        out.extend_from_slice(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(&self.table);
        out
    }
}
