//! The bundle format: a signed manifest, a table of chunks and the artifacts, in one file.
//!
//! ```text
//! .qbb = u32 (big endian) length of the envelope
//!      | envelope   DSSE, payload type application/vnd.qb.bundle.v2+json, signed by a publisher
//!      | table      a SHA-256 for each MiB of the artifacts; the manifest names its size and digest
//!      | artifacts  one after the other, in the manifest's order, nothing behind the last
//! ```
//!
//! The digest by which intents name a bundle is that of its manifest (over its PAE), so signatures
//! may be added without changing it. A bundle is never in memory as a whole: it comes, lies and is read in
//! chunks, each verified against the table before it is used. Rules for changing this: the manifest is
//! signed; a new member means a new payload type.
//!
//! | file | what |
//! |---|---|
//! | `manifest.rs` | what is signed, and its rules |
//! | `head.rs` | manifest and table, verified |
//! | `intake.rs` | a bundle as it comes |
//! | `contents.rs` | a bundle that is there, read and verified |
//! | `build.rs` | a new one |

mod build;
mod contents;
mod error;
mod head;
mod intake;
pub mod limits;
mod manifest;

pub use build::{Label, Tally, Unsigned};
pub use contents::{ArtifactReader, Contents, ReadAt, from_memory, verify_bundle};
pub use error::BundleError;
pub use head::{VerifiedHead, named_keys, peek, signed_by};
pub use intake::{Came, Intake};
pub use limits::{BUNDLE_BYTES, CHUNK_BYTES, CHUNKS, HEAD_BYTES};
pub use manifest::{ANY_ARCH, Artifact, ArtifactKind, Chunks, FORMAT, Manifest, Place, manifest_digest};

use qb_model::ids::Digest;

/// The directory into which a bundle is unpacked: `sha256-` and the digest in hexadecimal.
pub fn directory_name(digest: &Digest) -> String {
    let mut name = String::from("sha256-");
    for byte in digest.as_bytes() {
        name.push_str(&format!("{byte:02x}"));
    }
    name
}
