//! The bundle format: a signed manifest and the artifacts that it names, in one file.
//!
//! ```text
//! .qbb = u32 (big endian) length of the envelope
//!      | envelope   DSSE, payload type application/vnd.qb.bundle.v1+json, signed by a publisher
//!      | artifacts  one after the other, in the manifest's order, nothing behind the last
//! ```
//!
//! The digest by which intents name a bundle is that of its manifest (over its PAE), so signatures
//! may be added without changing it. Rules for changing this file: the manifest is signed; a new
//! member means a new payload type.

use std::borrow::Cow;

use qb_model::dsse::{self, Purpose};
use qb_model::envelope::{Envelope, EnvelopeError};
use qb_model::ids::{Digest, Millis, Name, PublicKey, Version};
use qb_model::strict::{self, Rules, StrictError};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// `arch` of a bundle that runs anywhere.
pub const ANY_ARCH: &str = "any";
/// Bytes of a whole bundle: the agent's two programs packed, three times. It is held in memory once
/// wherever it is verified, and travels between nodes in parts.
pub const BUNDLE_BYTES: usize = 48 << 20;
/// Bytes of a manifest: 64 artifacts fit three times.
const MANIFEST_BYTES: usize = 32 * 1024;
/// Bytes of an envelope, checked before it is parsed.
const ENVELOPE_BYTES: usize = 96 * 1024;
/// Bytes from a bundle's beginning that hold its manifest whole.
pub const HEAD_BYTES: usize = 4 + ENVELOPE_BYTES;
/// Artifacts of one bundle.
const ARTIFACTS: usize = 64;

/// Why bytes are not a bundle that may be installed. The text ends with what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Larger than allowed.
    #[error("the bundle has {have} bytes, at most {most} are taken: build it again with fewer artifacts")]
    TooLarge {
        /// Its size.
        have: usize,
        /// The bound.
        most: usize,
    },
    /// Ends too early, or goes on after its end.
    #[error("the bundle is damaged: {0}; push it again")]
    Damaged(&'static str),
    /// The envelope is not one.
    #[error("the bundle is damaged: {0}; push it again")]
    Envelope(#[from] EnvelopeError),
    /// The manifest is not one.
    #[error("the bundle's manifest cannot be read: {0}; build it again with this version of qb")]
    Manifest(#[from] StrictError),
    /// A member of the manifest is out of bounds.
    #[error("the bundle's manifest cannot be used: {0}; build it again with this version of qb")]
    Rule(&'static str),
    /// No signature by an allowed publisher.
    #[error(
        "no publisher that this site trusts signed the bundle ({tried} keys tried): an owner adds one with `qb bundle trust`, or sign it with a trusted key"
    )]
    Unsigned {
        /// How many publisher keys were tried.
        tried: usize,
    },
    /// An artifact is not what the manifest says.
    #[error("artifact {name} does not have the digest that the manifest names: push the bundle again")]
    Digest {
        /// Which.
        name: String,
    },
    /// A program of an agent's bundle is none for a machine that qb knows.
    #[error("{name} {why}: take the programs of a release for Linux, x86_64 or aarch64")]
    Program {
        /// Which.
        name: String,
        /// What it is or is not.
        why: String,
    },
    /// The bundle is signed and right, but not for this order or this host.
    #[error(
        "the bundle is {have}, the order or this host needs {want}: order a bundle of `qb bundle list` that fits"
    )]
    Unfit {
        /// What the manifest says.
        have: String,
        /// What is needed.
        want: String,
    },
    /// The bundle is not the one that was ordered.
    #[error("the bundle at hand is {have}, the order names {want}: push the ordered one")]
    OtherBundle {
        /// Digest of its manifest.
        have: Digest,
        /// Digest in the order.
        want: Digest,
    },
}

/// What a bundle is and holds. This is what a publisher signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// 1.
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
    /// 1 to 64 artifacts, in the order in which they follow.
    pub artifacts: Vec<Artifact>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArtifactKind {
    /// A tar archive that is unpacked over the others.
    Tar,
    /// One executable, packed with gzip: of agents' bundles only.
    Program,
}

/// A bundle whose manifest is signed by an allowed publisher and whose artifacts are what it names.
/// Made by [`verify_bundle`] only. It borrows the bytes that were verified.
#[derive(Debug, Clone)]
pub struct VerifiedBundle<'a> {
    manifest: Manifest,
    digest: Digest,
    publisher: PublicKey,
    artifacts: Vec<Cow<'a, [u8]>>,
}

impl VerifiedBundle<'_> {
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

    /// The artifacts with their bytes, in the manifest's order.
    pub fn artifacts(&self) -> impl Iterator<Item = (&Artifact, &[u8])> {
        self.manifest.artifacts.iter().zip(self.artifacts.iter().map(AsRef::as_ref))
    }

    /// The same with a copy of the artifacts, for whoever outlives the bytes.
    pub fn into_owned(self) -> VerifiedBundle<'static> {
        let Self { manifest, digest, publisher, artifacts } = self;
        let artifacts = artifacts.into_iter().map(|a| Cow::Owned(a.into_owned())).collect();
        VerifiedBundle { manifest, digest, publisher, artifacts }
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

/// The digest by which intents name the bundle with this manifest.
pub fn manifest_digest(manifest: &[u8]) -> Digest {
    dsse::digest_of(Purpose::Bundle.media_type(), manifest)
}

/// The directory into which a bundle is unpacked: `sha256-` and the digest in hexadecimal.
pub fn directory_name(digest: &Digest) -> String {
    let mut name = String::from("sha256-");
    for byte in digest.as_bytes() {
        name.push_str(&format!("{byte:02x}"));
    }
    name
}

/// Puts a signed manifest and its artifacts into one file.
pub fn assemble(envelope: &Envelope, artifacts: &[u8]) -> Vec<u8> {
    let head = envelope.to_bytes();
    let mut out = Vec::with_capacity(4 + head.len() + artifacts.len());
    // An envelope is far below 4 GiB; a wrong length would be refused by every reader.
    out.extend_from_slice(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(artifacts);
    out
}

/// Splits a bundle and checks its bounds, the publisher's signature, sizes and digests.
///
/// # Errors
/// A [`BundleError`] naming the first thing that is wrong.
pub fn verify_bundle<'a>(
    bytes: &'a [u8],
    publishers: &[PublicKey],
) -> Result<VerifiedBundle<'a>, BundleError> {
    let (envelope, rest) = split(bytes)?;
    let publisher = signer(&envelope, publishers)?;
    let manifest = parse_manifest(envelope.payload())?;
    let artifacts = take_artifacts(&manifest, rest)?;
    Ok(VerifiedBundle { digest: envelope.digest(), manifest, publisher, artifacts })
}

/// Whose signature a bundle's manifest has, by its first [`HEAD_BYTES`]: for lists of bundles that were
/// verified when they were taken.
///
/// # Errors
/// A [`BundleError`] if no publisher signed it.
pub fn signed_by(head: &[u8], publishers: &[PublicKey]) -> Result<PublicKey, BundleError> {
    let (envelope, _) = split(head)?;
    signer(&envelope, publishers)
}

/// Reads what a bundle says of itself without believing it: for lists and messages only. Its first
/// [`HEAD_BYTES`] are enough.
///
/// # Errors
/// A [`BundleError`] if it has no readable manifest.
pub fn peek(bytes: &[u8]) -> Result<(Digest, Manifest), BundleError> {
    let (envelope, _) = split(bytes)?;
    Ok((envelope.digest(), parse_manifest(envelope.payload())?))
}

/// The digest of the manifest that the beginning of a bundle holds, as soon as all of that is there.
/// Not a word about its signature.
pub fn manifest_of(beginning: &[u8]) -> Option<Result<Digest, BundleError>> {
    let (length, rest) = beginning.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length) as usize;
    (length > ENVELOPE_BYTES || rest.len() >= length)
        .then(|| split(beginning).map(|(envelope, _)| envelope.digest()))
}

fn split(bytes: &[u8]) -> Result<(Envelope, &[u8]), BundleError> {
    if bytes.len() > BUNDLE_BYTES {
        return Err(BundleError::TooLarge { have: bytes.len(), most: BUNDLE_BYTES });
    }
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(BundleError::Damaged("it has no length"))?;
    let length = u32::from_be_bytes(*length) as usize;
    if length > ENVELOPE_BYTES {
        return Err(BundleError::TooLarge { have: length, most: ENVELOPE_BYTES });
    }
    let (head, rest) =
        rest.split_at_checked(length).ok_or(BundleError::Damaged("its manifest ends early"))?;
    let envelope = Envelope::parse(head)?;
    if envelope.purpose() != Purpose::Bundle {
        return Err(BundleError::Damaged("what it begins with is not a manifest"));
    }
    Ok((envelope, rest))
}

/// The first allowed publisher with a valid signature. Key ids are hints and are not looked at.
fn signer(envelope: &Envelope, publishers: &[PublicKey]) -> Result<PublicKey, BundleError> {
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

fn parse_manifest(payload: &[u8]) -> Result<Manifest, BundleError> {
    let rules = Rules { max_bytes: MANIFEST_BYTES, null: false };
    let manifest: Manifest = strict::parse(payload, rules, "a manifest")?;
    if manifest.v != 1 {
        return Err(BundleError::Rule("its version is not 1"));
    }
    if !matches!(manifest.arch.as_str(), ANY_ARCH | "x86_64" | "aarch64") {
        return Err(BundleError::Rule("arch is not any, x86_64 or aarch64"));
    }
    if !(1..=ARTIFACTS).contains(&manifest.artifacts.len()) {
        return Err(BundleError::Rule("it does not have 1 to 64 artifacts"));
    }
    let mut names: Vec<&Name> = manifest.artifacts.iter().map(|a| &a.name).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(BundleError::Rule("two artifacts have one name"));
    }
    Ok(manifest)
}

fn take_artifacts<'a>(manifest: &Manifest, mut rest: &'a [u8]) -> Result<Vec<Cow<'a, [u8]>>, BundleError> {
    let mut out = Vec::with_capacity(manifest.artifacts.len());
    for artifact in &manifest.artifacts {
        // What does not fit the address space is certainly longer than what is there.
        let size = usize::try_from(artifact.size).unwrap_or(usize::MAX);
        let (bytes, after) =
            rest.split_at_checked(size).ok_or(BundleError::Damaged("an artifact ends early"))?;
        if Sha256::digest(bytes).as_slice() != artifact.sha256.as_bytes() {
            return Err(BundleError::Digest { name: artifact.name.to_string() });
        }
        out.push(Cow::Borrowed(bytes));
        rest = after;
    }
    if rest.is_empty() { Ok(out) } else { Err(BundleError::Damaged("it goes on after its last artifact")) }
}
