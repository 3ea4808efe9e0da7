//! The log as the consensus library sees it, and as followers are served from it.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use qb_queue::{Queue, Rejected};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::disk::{Disk, read_exact_at};
use super::index::{Place, Slot};
use super::record::{Kind, get_record, record_size};
use super::recover::{LogError, recover};
use super::writer::{Change, Done, Durable, LogFailure, Op, Shared, Writer};
use crate::limits::{IN_FLIGHT_BYTES, MAX_ENTRIES_BYTES, WRITER_BATCH};
use crate::types::{
    Entry, LogId, Types, Vote, entry_from_wire, entry_to_wire, log_id, pos, vote_from_wire, vote_to_wire,
};
use crate::wire::{LogPos, StoreUuid, WireEntry};

/// A handle to the log. Clones share it; the writer ends with [`LogStore::close`].
#[derive(Clone)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
    queue: Arc<Queue<Op, LogFailure>>,
    in_flight: Arc<Semaphore>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    durable: watch::Receiver<Durable>,
}

impl LogStore {
    /// Makes an empty log.
    pub(crate) fn create(disk: &dyn Disk, store: StoreUuid) -> Result<(), LogError> {
        Writer::create(disk, store)
    }

    /// Opens the log of `store` and starts its writer.
    pub(crate) fn open(disk: Arc<dyn Disk>, store: StoreUuid) -> Result<Self, LogError> {
        let recovered = recover(&*disk, &store)?;
        if recovered.torn > 0 {
            tracing::warn!(bytes = recovered.torn, "cut a torn tail off the raft log");
        }
        let shared = Arc::new(Shared::new(&recovered));
        let mut writer = Writer::new(disk, store, shared.clone(), &recovered)?;
        let queue = Arc::new(Queue::new());
        let run = {
            let queue: Arc<Queue<Op, LogFailure>> = queue.clone();
            move || {
                queue.run(WRITER_BATCH, |batch| writer.write(batch));
                if queue.failure().is_none()
                    && let Err(error) = writer.mark()
                {
                    tracing::error!(%error, "the raft log could not be closed cleanly");
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("raft-log".into())
            .spawn(run)
            .map_err(LogError::io("start the writer of"))?;
        Ok(Self {
            durable: shared.durable.subscribe(),
            shared,
            queue,
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT_BYTES)),
            thread: Arc::new(Mutex::new(Some(thread))),
        })
    }

    /// Accepts nothing more, writes what was accepted, ends the writer.
    pub(crate) async fn close(&self) {
        self.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // The writer may be in an fsync: wait where blocking is allowed.
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the writer of the raft log ended with a panic");
            }
        }
    }

    /// Returns once the entry at `index` is durable here.
    pub(crate) async fn wait_durable(&self, index: u64) -> Result<(), LogFailure> {
        let mut durable = self.durable.clone();
        let reached = durable.wait_for(|d| d.failed.is_some() || d.next > index).await;
        match reached.map(|d| d.failed.clone()) {
            Ok(None) => Ok(()),
            Ok(Some(failure)) => Err(failure),
            Err(_) => Err(LogFailure("the log was closed".into())),
        }
    }

    /// Resolves when the log has failed.
    pub(crate) async fn failed(&self) -> LogFailure {
        let mut durable = self.durable.clone();
        let failed = durable.wait_for(|d| d.failed.is_some()).await;
        let failure = failed.ok().and_then(|d| d.failed.clone());
        match failure {
            Some(failure) => failure,
            None => std::future::pending().await,
        }
    }

    /// Bytes appended since the log was opened.
    pub(crate) fn appended(&self) -> u64 {
        self.shared.appended.load(Ordering::Relaxed)
    }

    /// The last purged position.
    pub(crate) fn purged(&self) -> Option<LogPos> {
        self.shared.index().purged()
    }

    /// The last entry's position, or what was purged if there is none.
    pub(crate) fn last(&self) -> Option<LogPos> {
        self.shared.index().last()
    }

    /// The position of the entry at `index`, or of the purged one.
    pub(crate) fn position(&self, index: u64) -> Option<LogPos> {
        let log = self.shared.index();
        log.get(index).map(|s| s.at).or(log.purged().filter(|p| p.index == index))
    }

    /// Stored entries of `start..end`, from the first that exists, within `max_bytes` but at least one.
    pub(crate) fn read(&self, start: u64, end: u64, max_bytes: usize) -> io::Result<Vec<WireEntry>> {
        let slots: Vec<Slot> = {
            let log = self.shared.index();
            let start = start.max(log.first_index().unwrap_or(start));
            let (mut bytes, mut slots) = (0usize, Vec::new());
            for index in start..end.min(log.next_index()) {
                let Some(slot) = log.get(index) else { break };
                let size =
                    slot.payload.as_ref().map_or(0, Bytes::len).max(slot.place.map_or(0, |p| p.len as usize));
                bytes = bytes.saturating_add(size);
                if bytes > max_bytes && !slots.is_empty() {
                    break;
                }
                slots.push(slot.clone());
            }
            slots
        };
        slots.into_iter().map(|slot| self.load(slot)).collect()
    }

    fn load(&self, slot: Slot) -> io::Result<WireEntry> {
        let payload = match (slot.payload, slot.place) {
            (Some(payload), _) => payload,
            (None, Some(place)) => self.load_payload(slot.at, place)?,
            (None, None) => return Err(io::Error::other("entry is neither in memory nor on disk")),
        };
        Ok(WireEntry { at: slot.at, payload })
    }

    fn load_payload(&self, at: LogPos, place: Place) -> io::Result<Bytes> {
        let file = self.shared.files().get(&place.segment).cloned();
        let file = file.ok_or_else(|| io::Error::other("the entry was purged while it was read"))?;
        let mut bytes = vec![0; record_size(place.len as usize)];
        read_exact_at(&*file, &mut bytes, place.offset)?;
        match get_record(&bytes) {
            Some((record, body)) if record.kind == Kind::Entry && record.at == at => {
                Ok(Bytes::copy_from_slice(body))
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("raft log is damaged at entry {}; check the disk", at.index),
            )),
        }
    }

    fn push(&self, change: Change, done: Done, permit: Option<OwnedSemaphorePermit>) -> io::Result<()> {
        match self.queue.push(Op { change, done, permit }) {
            Ok(_) => Ok(()),
            Err(Rejected::Closed(_)) => Err(io::Error::other("the raft log is closed")),
            Err(Rejected::Failed(_, failure)) => Err(failure.into()),
        }
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (start, end) = bounds(&range);
        decode_entries(self.read(start, end, usize::MAX)?)
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        // In pieces: a replica that was away for long must not load all it missed at once.
        let (start, end) = bounds(&range);
        let pieces = stream::try_unfold((self.clone(), start), move |(log, at)| async move {
            let piece = decode_entries(log.read(at, end, MAX_ENTRIES_BYTES)?)?;
            let next = piece.last().map(|e| e.log_id.index + 1);
            Ok::<_, io::Error>(next.map(|next| (piece, (log, next))))
        });
        pieces.map_ok(|piece: Vec<Entry>| stream::iter(VecDeque::from(piece)).map(Ok)).try_flatten()
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.index().vote().as_ref().map(vote_from_wire))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        decode_entries(self.read(start, end, MAX_ENTRIES_BYTES)?)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let log = self.shared.index();
        Ok(LogState {
            last_purged_log_id: log.purged().as_ref().map(log_id),
            last_log_id: log.last().as_ref().map(log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let vote = vote_to_wire(vote);
        let (sender, done) = oneshot::channel();
        self.push(Change::Vote(vote), Done::Sender(sender), None)?;
        done.await.map_err(|_| io::Error::other("the raft log is closed"))??;
        self.shared.index().set_vote(vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let Some(committed) = committed.as_ref().map(pos) else {
            return Ok(());
        };
        self.shared.index().set_committed(Some(committed));
        self.push(Change::Committed(committed), Done::Nobody, None)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.shared.index().committed().as_ref().map(log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<WireEntry> = entries.into_iter().map(|e| entry_to_wire(&e)).collect();
        let bytes: usize = entries.iter().map(|e| record_size(e.payload.len())).sum();
        // One append beyond the bound takes the whole of it and goes alone.
        let share = bytes.min(IN_FLIGHT_BYTES) as u32;
        let permit = self.in_flight.clone().acquire_many_owned(share).await.map_err(io::Error::other)?;
        {
            let mut log = self.shared.index();
            for entry in &entries {
                let slot = Slot { at: entry.at, place: None, payload: Some(entry.payload.clone()) };
                log.push(slot).map_err(io::Error::other)?;
            }
        }
        self.push(Change::Append(entries), Done::Flushed(callback), Some(permit))
    }

    // Neither truncation nor purge waits for the disk: the log is one ordered stream, so nothing
    // that follows becomes durable before them.
    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |id| id.index + 1);
        self.shared.index().truncate(from);
        self.push(Change::Truncate { from }, Done::Nobody, None)
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let upto = pos(&upto);
        self.shared.index().purge(upto);
        self.push(Change::Purge { upto }, Done::Nobody, None)
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(n) => *n,
        Bound::Excluded(n) => n.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(n) => n.saturating_add(1),
        Bound::Excluded(n) => *n,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

fn decode_entries(entries: Vec<WireEntry>) -> io::Result<Vec<Entry>> {
    let invalid = |e| io::Error::new(io::ErrorKind::InvalidData, e);
    entries.iter().map(|e| entry_from_wire(e).map_err(invalid)).collect()
}
