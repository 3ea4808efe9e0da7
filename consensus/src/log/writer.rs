//! The one thread that writes the log: takes what waits, writes it, one fsync, completes in order.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::IOFlushed;
use qb_queue::Complete;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::disk::{Disk, LogFile, write_all_at};
use super::index::{Index, Place};
use super::record::{
    Kind, RecordHeader, SEGMENT_HEADER, SegmentHeader, put_record, record_size, segment_name,
};
use super::recover::{LogError, Recovered};
use crate::limits::SEGMENT_BYTES;
use crate::types::Types;
use crate::wire::{LogPos, StoreUuid, WireEntry, WireVote, encode};

/// The log's disk failed. Final: the process must end, and never repeat the fsync, since the kernel
/// has forgotten what it could not write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("raft log cannot be written: {0}; this node must stop, check its disk")]
pub struct LogFailure(pub String);

impl From<LogFailure> for io::Error {
    fn from(failure: LogFailure) -> Self {
        io::Error::other(failure)
    }
}

/// Who waits for an operation.
pub(super) enum Done {
    Nobody,
    Flushed(IOFlushed<Types>),
    Sender(oneshot::Sender<Result<(), LogFailure>>),
}

/// What the log is asked to write.
pub(super) enum Change {
    Append(Vec<WireEntry>),
    Vote(WireVote),
    Truncate {
        from: u64,
    },
    Purge {
        upto: LogPos,
    },
    /// A hint: written at once, made durable with whatever comes next.
    Committed(LogPos),
}

/// A change, who waits for it, and its share of the bytes in flight.
pub(super) struct Op {
    pub(super) change: Change,
    pub(super) done: Done,
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

impl Complete<LogFailure> for Op {
    fn complete(self, result: Result<(), LogFailure>) {
        match self.done {
            Done::Nobody => {}
            Done::Flushed(done) => done.io_completed(result.map_err(io::Error::from)),
            // The caller may have gone; what it asked for is durable all the same.
            Done::Sender(done) => drop(done.send(result)),
        }
        drop(self.permit);
    }
}

/// How far the log is durable: entries below `next` are, unless it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Durable {
    pub(super) next: u64,
    pub(super) failed: Option<LogFailure>,
}

/// What the writer, the store and its readers share.
pub(super) struct Shared {
    index: Mutex<Index>,
    files: Mutex<BTreeMap<u64, Arc<dyn LogFile>>>,
    pub(super) durable: watch::Sender<Durable>,
    /// Bytes ever appended, for the snapshot policy.
    pub(super) appended: AtomicU64,
}

impl Shared {
    pub(super) fn new(recovered: &Recovered) -> Self {
        let files = recovered.segments.iter().map(|s| (s.number, s.file.clone())).collect();
        let next = recovered.index.next_index();
        Self {
            index: Mutex::new(recovered.index.clone()),
            files: Mutex::new(files),
            durable: watch::Sender::new(Durable { next, failed: None }),
            appended: AtomicU64::new(0),
        }
    }

    // Nothing that can panic runs under these locks, so a poisoned one is whole.
    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn files(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<dyn LogFile>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// State of the writing thread.
pub(super) struct Writer {
    disk: Arc<dyn Disk>,
    store: StoreUuid,
    shared: Arc<Shared>,
    segments: VecDeque<(u64, Option<u64>)>,
    file: Arc<dyn LogFile>,
    offset: u64,
    seq: u64,
    chain: u32,
    durable: u64,
    buffer: Vec<u8>,
    placed: Vec<(LogPos, Place)>,
    vote: Option<WireVote>,
    purged: Option<LogPos>,
    committed: Option<LogPos>,
}

impl Writer {
    /// Goes on where `recovered` ends, and says durably that all before is durable.
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        store: StoreUuid,
        shared: Arc<Shared>,
        recovered: &Recovered,
    ) -> Result<Self, LogError> {
        let file = recovered.segments.last().ok_or(LogError::Missing)?.file.clone();
        let mut writer = Self {
            disk,
            store,
            shared,
            segments: recovered.segments.iter().map(|s| (s.number, s.max_index)).collect(),
            file,
            offset: recovered.offset,
            seq: recovered.seq,
            chain: recovered.chain,
            durable: recovered.seq,
            buffer: Vec::new(),
            placed: Vec::new(),
            vote: recovered.index.vote(),
            purged: recovered.index.purged(),
            committed: recovered.index.committed_hint(),
        };
        // What was read may still be in the page cache only: the process before may have died
        // between write and fsync.
        writer.mark().map_err(LogError::io("sync"))?;
        Ok(writer)
    }

    /// Makes the first segment of a new log.
    pub(super) fn create(disk: &dyn Disk, store: StoreUuid) -> Result<(), LogError> {
        let head = SegmentHeader { store, number: 1, first_seq: 1, chain: 0 }.encode();
        disk.install(&segment_name(1), &head, SEGMENT_BYTES).map_err(LogError::io("create"))?;
        Ok(())
    }

    /// Writes a batch and makes it durable, then tells readers how far the log is durable.
    pub(super) fn write(&mut self, batch: &[Op]) -> Result<(), LogFailure> {
        let result = self.write_batch(batch).map_err(|e| LogFailure(e.to_string()));
        let changes = batch.iter().map(|op| &op.change);
        self.shared.durable.send_if_modified(|durable| match &result {
            Ok(()) => {
                let before = durable.next;
                durable.next = changes.fold(before, durable_after);
                durable.next != before
            }
            Err(failure) => {
                durable.failed = Some(failure.clone());
                true
            }
        });
        result
    }

    fn write_batch(&mut self, batch: &[Op]) -> io::Result<()> {
        for op in batch {
            self.change(&op.change)?;
        }
        let hints_only = batch.iter().all(|op| matches!(op.change, Change::Committed(_)));
        self.flush(!hints_only)?;
        if !hints_only {
            self.remove_purged()?;
        }
        Ok(())
    }

    /// Says durably that everything before is durable, so that later damage to it shows.
    pub(super) fn mark(&mut self) -> io::Result<()> {
        self.flush(true)?;
        self.put(Kind::Mark, NOWHERE, &[])?;
        self.flush(true)
    }

    fn change(&mut self, change: &Change) -> io::Result<()> {
        match change {
            Change::Append(entries) => {
                for entry in entries {
                    self.put(Kind::Entry, entry.at, &entry.payload)?;
                }
            }
            Change::Vote(vote) => {
                self.vote = Some(*vote);
                self.put(Kind::Vote, NOWHERE, &encode(vote))?;
            }
            Change::Truncate { from } => {
                self.put(Kind::Truncate, LogPos { index: *from, ..NOWHERE }, &[])?;
            }
            Change::Purge { upto } => {
                self.purged = Some(*upto);
                self.put(Kind::Purge, *upto, &[])?;
            }
            Change::Committed(at) => {
                self.committed = Some(*at);
                self.put(Kind::Committed, *at, &[])?;
            }
        }
        Ok(())
    }

    /// Adds a record to the buffer, in a new segment if this one is full.
    fn put(&mut self, kind: Kind, at: LogPos, body: &[u8]) -> io::Result<()> {
        let size = record_size(body.len()) as u64;
        if self.offset + self.buffer.len() as u64 + size > SEGMENT_BYTES {
            self.flush(true)?;
            self.roll()?;
        }
        let offset = self.offset + self.buffer.len() as u64;
        self.encode(kind, at, body);
        if let (Kind::Entry, Some(segment)) = (kind, self.segments.back_mut()) {
            segment.1 = segment.1.max(Some(at.index));
            let place = Place { segment: segment.0, offset, len: body.len() as u32 };
            self.placed.push((at, place));
        }
        Ok(())
    }

    fn encode(&mut self, kind: Kind, at: LogPos, body: &[u8]) {
        self.seq += 1;
        let header = RecordHeader {
            kind,
            len: body.len() as u32,
            prev: self.chain,
            seq: self.seq,
            durable: self.durable,
            at,
            crc: 0,
        };
        self.chain = put_record(&mut self.buffer, &header, body);
    }

    fn flush(&mut self, sync: bool) -> io::Result<()> {
        write_all_at(&*self.file, &self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.shared.appended.fetch_add(self.buffer.len() as u64, Ordering::Relaxed);
        self.buffer.clear();
        if sync {
            self.file.sync()?;
            self.durable = self.seq;
        }
        let mut index = self.shared.index();
        for (at, place) in self.placed.drain(..) {
            index.placed(at, place);
        }
        index.evict();
        Ok(())
    }

    /// Starts a segment. It begins with all that is not an entry, so that it needs no older one,
    /// and with a record that says that this beginning is durable, which it is once it is visible.
    fn roll(&mut self) -> io::Result<()> {
        let number = self.segments.back().map_or(1, |s| s.0 + 1);
        let first_seq = self.seq + 1;
        let head = SegmentHeader { store: self.store, number, first_seq, chain: self.chain };
        if let Some(vote) = self.vote {
            self.encode(Kind::Vote, NOWHERE, &encode(&vote));
        }
        if let Some(purged) = self.purged {
            self.encode(Kind::Purge, purged, &[]);
        }
        if let Some(committed) = self.committed {
            self.encode(Kind::Committed, committed, &[]);
        }
        self.durable = self.seq + 1;
        self.encode(Kind::Mark, NOWHERE, &[]);
        let mut bytes = head.encode();
        bytes.append(&mut self.buffer);
        self.file = self.disk.install(&segment_name(number), &bytes, SEGMENT_BYTES)?;
        self.shared.files().insert(number, self.file.clone());
        self.offset = bytes.len() as u64;
        debug_assert!(self.offset >= SEGMENT_HEADER);
        self.segments.push_back((number, None));
        Ok(())
    }

    /// Removes the oldest segments while all their entries are purged. The current one stays.
    fn remove_purged(&mut self) -> io::Result<()> {
        let purged = self.purged.map(|p| p.index);
        while self.segments.len() > 1 {
            let Some((number, max_index)) = self.segments.front().copied() else {
                break;
            };
            if max_index > purged {
                break;
            }
            self.shared.files().remove(&number);
            self.disk.remove(&segment_name(number))?;
            self.segments.pop_front();
        }
        Ok(())
    }
}

/// The position of a record that has none.
const NOWHERE: LogPos = LogPos { term: 0, leader: 0, index: 0 };

fn durable_after(next: u64, change: &Change) -> u64 {
    match change {
        Change::Append(entries) => entries.last().map_or(next, |e| e.at.index + 1),
        Change::Truncate { from } => next.min(*from),
        Change::Purge { upto } => next.max(upto.index + 1),
        Change::Vote(_) | Change::Committed(_) => next,
    }
}
