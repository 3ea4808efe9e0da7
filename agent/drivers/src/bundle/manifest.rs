//! What a publisher signs, its rules, and how it is found at the beginning of a bundle.

use std::collections::BTreeSet;

use qb_model::dsse::{self, Purpose};
use qb_model::envelope::Envelope;
use qb_model::ids::{Digest, Millis, Name, PublicKey, Version};
use qb_model::strict::{self, Rules};
use serde::{Deserialize, Serialize};

use super::error::BundleError;
use super::limits::{
    ARTIFACTS, BUNDLE_BYTES, CHUNK_BYTES, ENVELOPE_BYTES, LINE_BYTES, MANIFEST_BYTES, RATIO, UNPACKED_BYTES,
};
use crate::RelPath;

/// `arch` of a bundle that runs anywhere.
pub const ANY_ARCH: &str = "any";
/// The `v` of a manifest.
pub const FORMAT: u16 = 2;

/// What a bundle is and holds. This is what a publisher signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub v: u16,
    /// The bundle's name.
    pub name: Name,
    /// The driver that installs it.
    pub driver: Name,
    /// The version that it installs.
    pub version: Version,
    /// `stable`, for instance.
    pub channel: Name,
    /// `x86_64`, `aarch64` or [`ANY_ARCH`].
    pub arch: String,
    /// When it was made.
    pub created_ms: Millis,
    /// The oldest agent that can install it.
    pub min_agent: Version,
    /// The table of chunks, which follows the manifest.
    pub chunks: Chunks,
    /// 1 to 256 artifacts, in the order in which they follow.
    pub artifacts: Vec<Artifact>,
}

/// The table of chunks: a SHA-256 for each [`CHUNK_BYTES`] of the artifacts, which follow one another. The
/// last chunk is as long as what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunks {
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
}

/// One artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Its name, unique in the bundle.
    pub name: Name,
    /// What it is.
    pub kind: ArtifactKind,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes of all files when unpacked: more than this is refused.
    pub unpacked: u64,
}

/// What an artifact is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArtifactKind {
    /// A tar archive that is unpacked over the others.
    Tar,
    /// One executable, packed with gzip: of agents' bundles only.
    Program,
    /// One plain file.
    File(Place),
}

/// Where a plain file lies in the tree of its bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Its path.
    pub path: RelPath,
    /// Whether it is a program: mode 0755, else 0644.
    pub executable: bool,
}

impl Place {
    /// The mode of the file.
    pub fn mode(&self) -> u32 {
        if self.executable { 0o755 } else { 0o644 }
    }
}

impl Manifest {
    /// Bytes of all artifacts.
    pub fn size(&self) -> u64 {
        // Bounded where it is parsed; saturation is over every bound.
        self.artifacts.iter().fold(0, |sum, a| sum.saturating_add(a.size))
    }

    /// Checks every rule that its members must keep.
    ///
    /// # Errors
    /// [`BundleError::Rule`] or [`BundleError::TooLarge`] with the first that is broken.
    pub(super) fn check(&self) -> Result<(), BundleError> {
        if self.v != FORMAT {
            return Err(BundleError::Rule("its version is not 2"));
        }
        if !matches!(self.arch.as_str(), ANY_ARCH | "x86_64" | "aarch64") {
            return Err(BundleError::Rule("arch is not any, x86_64 or aarch64"));
        }
        if !(1..=ARTIFACTS).contains(&self.artifacts.len()) {
            return Err(BundleError::Rule("it does not have 1 to 256 artifacts"));
        }
        let names: BTreeSet<&Name> = self.artifacts.iter().map(|a| &a.name).collect();
        if names.len() != self.artifacts.len() {
            return Err(BundleError::Rule("two artifacts have one name"));
        }
        let size = self.size();
        if size > BUNDLE_BYTES {
            return Err(BundleError::TooLarge { have: size, most: BUNDLE_BYTES });
        }
        if self.chunks.size != size.div_ceil(CHUNK_BYTES as u64) * LINE_BYTES as u64 {
            return Err(BundleError::Rule("its table of chunks is not as long as its artifacts need"));
        }
        self.check_unpacked()?;
        self.check_places()
    }

    fn check_unpacked(&self) -> Result<(), BundleError> {
        let mut all = 0u64;
        for artifact in &self.artifacts {
            let plain = matches!(artifact.kind, ArtifactKind::File(_));
            if plain && artifact.unpacked != artifact.size {
                return Err(BundleError::Rule("a plain file has two sizes"));
            }
            if artifact.unpacked > artifact.size.saturating_mul(RATIO) {
                return Err(BundleError::Rule("an artifact unpacks to more than 100 times its size"));
            }
            all = all.saturating_add(artifact.unpacked);
        }
        if all > UNPACKED_BYTES {
            return Err(BundleError::TooLarge { have: all, most: UNPACKED_BYTES });
        }
        Ok(())
    }

    /// No place twice, also on a disk that does not tell cases apart, and none that is the folder of another.
    fn check_places(&self) -> Result<(), BundleError> {
        let places = self.artifacts.iter().filter_map(|a| match &a.kind {
            ArtifactKind::File(place) => Some(place.path.as_str().to_ascii_lowercase()),
            _ => None,
        });
        let mut seen = BTreeSet::new();
        for place in places {
            if !seen.insert(place) {
                return Err(BundleError::Rule("two files have one place"));
            }
        }
        let above = |path: &str| path.match_indices('/').any(|(at, _)| seen.contains(&path[..at]));
        if seen.iter().any(|path| above(path)) {
            return Err(BundleError::Rule("a file is the folder of another"));
        }
        Ok(())
    }
}

/// The digest by which intents name the bundle with this manifest.
pub fn manifest_digest(manifest: &[u8]) -> Digest {
    dsse::digest_of(Purpose::Bundle.media_type(), manifest)
}

/// Length of the envelope, with the four bytes before it; none while they are not there.
pub(super) fn envelope_end(beginning: &[u8]) -> Option<Result<usize, BundleError>> {
    let length = u32::from_be_bytes(*beginning.first_chunk::<4>()?) as usize;
    if length > ENVELOPE_BYTES {
        return Some(Err(BundleError::TooLarge { have: length as u64, most: ENVELOPE_BYTES as u64 }));
    }
    Some(Ok(4 + length))
}

/// Splits a bundle's beginning into its envelope and what follows it.
pub(super) fn split(bytes: &[u8]) -> Result<(Envelope, &[u8]), BundleError> {
    let end = envelope_end(bytes).unwrap_or(Err(BundleError::Damaged("it has no length")))?;
    let (head, rest) = bytes.split_at_checked(end).ok_or(BundleError::Damaged("its manifest ends early"))?;
    let envelope = Envelope::parse(&head[4..])?;
    if envelope.purpose() != Purpose::Bundle {
        return Err(BundleError::Damaged("what it begins with is not a manifest"));
    }
    Ok((envelope, rest))
}

/// The first allowed publisher with a valid signature. Key ids are hints and are not looked at.
pub(super) fn signer(envelope: &Envelope, publishers: &[PublicKey]) -> Result<PublicKey, BundleError> {
    for line in envelope.signatures() {
        let Ok(sig) = <[u8; 64]>::try_from(line.sig.as_slice()) else {
            continue;
        };
        let by = |key: &&PublicKey| dsse::verify(Purpose::Bundle, envelope.payload(), key, &sig);
        if let Some(key) = publishers.iter().find(by) {
            return Ok(*key);
        }
    }
    Err(BundleError::Unsigned { tried: publishers.len() })
}

/// Reads a manifest and checks its rules.
pub(super) fn parse_manifest(payload: &[u8]) -> Result<Manifest, BundleError> {
    let rules = Rules { max_bytes: MANIFEST_BYTES, null: false };
    let manifest: Manifest = strict::parse(payload, rules, "a manifest")?;
    manifest.check()?;
    Ok(manifest)
}
