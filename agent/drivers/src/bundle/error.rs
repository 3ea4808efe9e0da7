//! Why bytes are not a bundle that may be installed.

use qb_model::envelope::EnvelopeError;
use qb_model::ids::Digest;
use qb_model::strict::StrictError;

/// Why bytes are not a bundle that may be installed. The text ends with what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Larger than allowed.
    #[error("the bundle has {have} bytes, at most {most} are taken: build it again with fewer artifacts")]
    TooLarge {
        /// Its size.
        have: u64,
        /// The bound.
        most: u64,
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
        "no publisher that this site trusts signed the bundle ({tried} keys tried): an owner accepts theirs with `qb bundle trust NAME KEY`, or sign it with a trusted key"
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
    /// A chunk is not what the table says.
    #[error(
        "chunk {chunk} of the bundle does not have the digest that its table names: push the bundle again"
    )]
    Chunk {
        /// Which, from 0.
        chunk: u32,
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
