//! The durable Raft log and vote: one ordered stream of checksummed records in segment files.
//!
//! ```text
//! append, save_vote, truncate, purge ──► qb_queue ──► Writer: encode, write, one fdatasync
//!        │ (readable at once)                            │ completes in order
//!        ▼                                               ▼
//!      Index: where each entry lies, a bounded tail   segment-1 segment-2 … (preallocated)
//! ```
//! Files: `disk` (seam under the log) · `record` (format) · `recover` (open, torn or rot) ·
//! `index` (the log in memory) · `writer` (the thread) · `store` (what the library sees).
//!
//! Invariants: one writer, one order, one fsync per batch; a completion is a watermark; the first
//! failure is final; a torn tail removes only what was never completed; rot refuses to open.

pub(crate) mod disk;
mod index;
mod record;
mod recover;
mod store;
mod writer;

pub use recover::LogError;
pub use writer::LogFailure;

pub(crate) use store::LogStore;

#[cfg(test)]
mod tests;
