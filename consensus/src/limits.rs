//! Every bound of this crate in one place, with its reason.

use std::time::Duration;

/// The largest command that is proposed: 256 KiB, so that 16 of them fit into one frame.
pub const MAX_COMMAND: usize = 256 * 1024;
/// The largest frame that is decoded: what the mesh carries in one piece.
pub const MAX_FRAME: usize = 4 * 1024 * 1024;
/// Entries of one append or one follow answer stop at this many bytes, far below [`MAX_FRAME`].
pub const MAX_ENTRIES_BYTES: usize = 1024 * 1024;
/// A piece of a snapshot on the wire.
pub const SNAPSHOT_CHUNK: usize = 1024 * 1024;
/// A snapshot beyond this is refused: state rows are capped so that it stays far below.
pub const MAX_SNAPSHOT: u64 = 256 * 1024 * 1024;
/// How far above the own term a peer's term may lie. A greater jump is a fault or an attack: terms
/// grow by one per election.
pub const MAX_TERM_JUMP: u64 = 1_000_000;

/// One segment file of the log: large enough that a roll-over is rare, small enough that its
/// zeroing costs milliseconds.
pub const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// Payloads kept in memory after they are on disk. The rest is read from disk.
pub const TAIL_BYTES: usize = 4 * 1024 * 1024;
/// Bytes handed to the log's writer and not yet durable; beyond it an append waits.
pub const IN_FLIGHT_BYTES: usize = 8 * 1024 * 1024;
/// Operations that the log's writer makes durable with one fsync.
pub const WRITER_BATCH: usize = 1024;

/// A snapshot is built after this many entries.
pub const SNAPSHOT_ENTRIES: u64 = 4096;
/// A snapshot is built after this many bytes of log.
pub const SNAPSHOT_LOG_BYTES: u64 = 8 * 1024 * 1024;
/// Entries kept behind a snapshot for followers and slow voters.
pub const KEEP_ENTRIES: u64 = 4096;
/// Entries purged in one step, so that a vote never waits behind a large purge.
pub const PURGE_SLICE: u64 = 1000;
/// Commands applied under one lock and published together.
pub const APPLY_BATCH: usize = 256;

/// An append that carries entries waits at least this long: the follower's fsync may be slow, and
/// sending the same entries again would only add to its load.
pub const APPEND_DEADLINE: Duration = Duration::from_secs(2);
/// The last piece of a snapshot waits for its installation and fsync.
pub const INSTALL_DEADLINE: Duration = Duration::from_secs(30);
/// One small question to a peer.
pub const ASK_DEADLINE: Duration = Duration::from_secs(2);

/// How long a voter holds a follower's question open while nothing new is applied.
pub const FOLLOW_WAIT: Duration = Duration::from_secs(5);
/// A follower gives a voter this long on top of [`FOLLOW_WAIT`] before it asks another.
pub const FOLLOW_GRACE: Duration = Duration::from_secs(2);
/// The pause after a voter failed a follower, doubled up to [`FOLLOW_PAUSE_MAX`].
pub const FOLLOW_PAUSE_MIN: Duration = Duration::from_millis(20);
/// The longest pause between two attempts to follow.
pub const FOLLOW_PAUSE_MAX: Duration = Duration::from_secs(1);
/// A follower persists its state this long after the first change that is not on disk.
pub const PERSIST_AFTER: Duration = Duration::from_secs(10);

/// How often the Raft core is asked for a sign of life.
pub const WATCHDOG_PERIOD: Duration = Duration::from_secs(1);
/// A core that does not answer for this long counts as hung: the process must end.
pub const WATCHDOG_LIMIT: Duration = Duration::from_secs(15);
/// A learner may become a voter when it lacks at most this many entries: otherwise the new quorum
/// would wait for it.
pub const CAUGHT_UP_LAG: u64 = 256;
