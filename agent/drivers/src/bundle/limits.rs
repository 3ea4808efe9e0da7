//! Every bound of a bundle, with its reason.

/// Bytes of all artifacts of a bundle: one of Kubernetes has 300 MB to 1 GiB; twice that.
pub const BUNDLE_BYTES: u64 = 2 << 30;
/// Bytes of one chunk: what a node asks another for, verifies and writes, and holds in memory meanwhile.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Bytes of one chunk's line in the table: a SHA-256.
pub const LINE_BYTES: usize = 32;
/// Chunks of the largest bundle.
pub const CHUNKS: usize = (BUNDLE_BYTES / CHUNK_BYTES as u64) as usize;
/// Bytes of the largest table: 64 KiB.
pub const TABLE_BYTES: usize = CHUNKS * LINE_BYTES;
/// Bytes of a manifest: 256 artifacts fit, and it is what an envelope may carry.
pub const MANIFEST_BYTES: usize = qb_model::limits::PAYLOAD_BYTES;
/// Bytes of an envelope, checked before it is parsed.
pub const ENVELOPE_BYTES: usize = qb_model::limits::ENVELOPE_BYTES;
/// Bytes from a bundle's beginning that hold its manifest and its table whole.
pub const HEAD_BYTES: usize = 4 + ENVELOPE_BYTES + TABLE_BYTES;
/// Artifacts of one bundle: one of Kubernetes has about 45 (10 programs, 20 plugins, 10 images, manifests).
pub const ARTIFACTS: usize = 256;
/// Files and directories of a whole bundle, those inside its archives counted.
pub const ENTRIES: usize = 4_096;
/// Bytes of all files of a whole bundle when it is unpacked, whatever its manifest declares: programs in an
/// archive pack to a third, twice the largest bundle is enough for all of that and little enough for a disk.
pub const UNPACKED_BYTES: u64 = 4 << 30;
/// What unpacks to more than this many times its size is a bomb.
pub const RATIO: u64 = 100;
