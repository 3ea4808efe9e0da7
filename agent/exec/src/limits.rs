//! Every bound of the socket between agent and executor, with its reason. Lengths are compared with
//! these before anything is read into memory, and memory grows with what arrives.

use std::time::Duration;

pub use qb_drivers::bundle::BUNDLE_BYTES;
use qb_model::limits::{ENVELOPE_BYTES, TRUST_BYTES};

/// Bytes of a greeting: two numbers and a version.
pub const GREETING_BYTES: usize = 256;
/// Bytes of a request: a whole trust log, of which removals may go over its bound, the envelopes of an
/// order, and a sealed secret; or those of what is kept in a cluster.
pub const REQUEST_BYTES: usize = TRUST_BYTES + TRUST_BYTES / 2 + (KEEP_INTENTS + 1) * ENVELOPE_BYTES;
/// Intents in one request to keep what they say: a helper is started for each request.
pub const KEEP_INTENTS: usize = 16;
/// Bytes of one part of a bundle: a frame is never what fills the memory.
pub const PART_BYTES: usize = 256 * 1024;
/// Bytes of an answer: the members of a cluster, 400 at 1 KiB, fit twice.
pub const ANSWER_BYTES: usize = 1024 * 1024;
/// Connections at a time: the agent asks one thing of each kind, and a previous one may just be ending.
pub const CONNECTIONS: usize = 9;
/// Orders with their bundle on disk: one that runs, and one that waits until the one before has come
/// to its safe point.
pub const ORDERS: usize = 2;
/// How often a bundle that was taken is used by tries of its order before it is taken once more: a file that
/// went bad on the disk must not stop a node for good.
pub const KEPT_TRIES: u32 = 8;
/// How long a frame may take from its first expected moment to its last byte: both sides are on one
/// machine.
pub const FRAME_LIMIT: Duration = Duration::from_secs(10);
/// How long a whole bundle may take: 2 GiB, hashed and written to a disk that takes 4 MiB/s.
pub const BUNDLE_LIMIT: Duration = Duration::from_secs(520);
/// How often an executor that carries out an order says that it lives.
pub const ALIVE: Duration = Duration::from_secs(5);
/// How long the agent waits for any word about an order: several signs of life are missing then.
pub const SILENCE: Duration = Duration::from_secs(30);
/// How long a question may take: minting writes to a disk.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Bytes of what a program of the host may say to a parser, unless the step says otherwise.
pub const OUTPUT_BYTES: usize = 64 * 1024;
/// Bytes of the end of what a program said that are shown in an error.
pub const SAID_BYTES: usize = 64 * 1024;
/// Bytes of the line that is shown while a step runs.
pub const TOLD_BYTES: usize = 1024;
