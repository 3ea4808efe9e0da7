//! Opening a log: read every segment, fold the records, and tell a torn tail from rot.
//!
//! A record that is not valid is **torn** when nothing says that it was ever durable: then no one
//! was told of it, and it and what follows are cut off. It is **rot** when any later record says
//! "durable up to here", or when it lies in a segment that has a successor: then something that was
//! acknowledged is gone, and the store must not be used again.

use std::io;
use std::sync::Arc;

use super::disk::{Disk, LogFile, read_exact_at, write_all_at};
use super::index::{Index, Place, Slot};
use super::record::{
    Kind, RECORD_HEADER, RecordHeader, SEGMENT_HEADER, SegmentHeader, get_record, record_size, segment_name,
    segment_number,
};
use crate::limits::SEGMENT_BYTES;
use crate::wire::{StoreUuid, decode};

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk failed.
    #[error("cannot {what} the raft log: {source}; check the disk")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Something that was durable is damaged or gone.
    #[error(
        "raft log is damaged in {segment} at byte {offset}: {detail}; the seat is lost: move the store aside and ask for a new seat"
    )]
    Rot {
        /// The file.
        segment: String,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        detail: &'static str,
    },
    /// There is no log where there must be one.
    #[error("raft log is missing although this node holds a seat; the seat is lost: ask for a new one")]
    Missing,
    /// The log of another seat.
    #[error("raft log belongs to another storage; the seat is lost: ask for a new one")]
    Foreign,
}

impl LogError {
    pub(super) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// A segment on disk.
pub(super) struct Segment {
    pub(super) number: u64,
    /// The greatest index of an entry in it, also of one that was truncated later.
    pub(super) max_index: Option<u64>,
    pub(super) file: Arc<dyn LogFile>,
}

/// What recovery found.
pub(super) struct Recovered {
    pub(super) index: Index,
    pub(super) segments: Vec<Segment>,
    /// Where the next record goes in the last segment.
    pub(super) offset: u64,
    /// The last record's seq and crc.
    pub(super) seq: u64,
    pub(super) chain: u32,
    /// Bytes of a torn tail that were cut off.
    pub(super) torn: u64,
}

/// Reads the whole log. Cuts a torn tail off, durably, before it returns.
pub(super) fn recover(disk: &dyn Disk, store: &StoreUuid) -> Result<Recovered, LogError> {
    let mut numbers: Vec<u64> =
        disk.list().map_err(LogError::io("list"))?.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    let last = *numbers.last().ok_or(LogError::Missing)?;
    let mut fold = Fold::default();
    for number in numbers {
        let file = disk.open(&segment_name(number)).map_err(LogError::io("open"))?;
        let mut bytes = vec![0; SEGMENT_BYTES as usize];
        if file.size().map_err(LogError::io("read"))? != SEGMENT_BYTES {
            return Err(fold.rot(number, 0, "the file has another length"));
        }
        read_exact_at(&*file, &mut bytes, 0).map_err(LogError::io("read"))?;
        fold.segment(number, &bytes, store, file.clone())?;
        if number == last {
            fold.tail(number, &bytes, &*file)?;
        }
    }
    if !fold.out.index.is_whole() {
        return Err(fold.rot(last, fold.out.offset, "entries are missing at the beginning"));
    }
    Ok(fold.out)
}

struct Fold {
    out: Recovered,
}

impl Default for Fold {
    fn default() -> Self {
        let out =
            Recovered { index: Index::default(), segments: Vec::new(), offset: 0, seq: 0, chain: 0, torn: 0 };
        Self { out }
    }
}

impl Fold {
    fn rot(&self, number: u64, offset: u64, detail: &'static str) -> LogError {
        LogError::Rot { segment: segment_name(number), offset, detail }
    }

    fn segment(
        &mut self,
        number: u64,
        bytes: &[u8],
        store: &StoreUuid,
        file: Arc<dyn LogFile>,
    ) -> Result<(), LogError> {
        let header = SegmentHeader::decode(bytes)
            .filter(|h| h.number == number)
            .ok_or_else(|| self.rot(number, 0, "the header is not valid"))?;
        if header.store != *store {
            return Err(LogError::Foreign);
        }
        if let Some(before) = self.out.segments.last() {
            if before.number + 1 != number {
                return Err(self.rot(number, 0, "the segment before is missing"));
            }
            if (header.first_seq, header.chain) != (self.out.seq + 1, self.out.chain) {
                return Err(self.rot(before.number, self.out.offset, "the end is not valid"));
            }
        } else {
            (self.out.seq, self.out.chain) = (header.first_seq - 1, header.chain);
        }
        self.out.segments.push(Segment { number, max_index: None, file });
        self.out.offset = SEGMENT_HEADER;
        while let Some((record, body)) = get_record(&bytes[self.out.offset as usize..]) {
            if (record.seq, record.prev) != (self.out.seq + 1, self.out.chain) {
                break;
            }
            self.record(number, &record, body)?;
        }
        Ok(())
    }

    fn record(&mut self, number: u64, record: &RecordHeader, body: &[u8]) -> Result<(), LogError> {
        let offset = self.out.offset;
        let index = &mut self.out.index;
        let mut sound = true;
        match record.kind {
            Kind::Entry => {
                let place = Some(Place { segment: number, offset, len: record.len });
                sound = index.push_recovered(Slot { at: record.at, place, payload: None }).is_ok();
                if let Some(segment) = self.out.segments.last_mut() {
                    segment.max_index = segment.max_index.max(Some(record.at.index));
                }
            }
            Kind::Vote => match decode(body) {
                Ok(vote) => index.set_vote(vote),
                Err(_) => sound = false,
            },
            Kind::Truncate => index.truncate(record.at.index),
            Kind::Purge => index.purge(record.at),
            Kind::Committed => index.set_committed(Some(record.at)),
            Kind::Mark => {}
        }
        if !sound {
            return Err(self.rot(number, offset, "a record contradicts those before"));
        }
        self.out.offset += record_size(record.len as usize) as u64;
        (self.out.seq, self.out.chain) = (record.seq, record.crc);
        Ok(())
    }

    /// Judges what follows the last valid record, and zeroes it if it was torn.
    fn tail(&mut self, number: u64, bytes: &[u8], file: &dyn LogFile) -> Result<(), LogError> {
        let tail = &bytes[self.out.offset as usize..];
        let Some(end) = tail.iter().rposition(|b| *b != 0) else {
            return Ok(());
        };
        let next = self.out.seq + 1;
        let proves_loss =
            |at: usize| get_record(&tail[at..]).is_some_and(|(r, _)| r.seq >= next && r.durable >= next);
        if (0..tail.len().saturating_sub(RECORD_HEADER - 1)).step_by(8).any(proves_loss) {
            return Err(self.rot(number, self.out.offset, "a durable record is not valid"));
        }
        let torn = (end + 1).next_multiple_of(8).min(tail.len());
        write_all_at(file, &vec![0; torn], self.out.offset).map_err(LogError::io("repair"))?;
        file.sync().map_err(LogError::io("repair"))?;
        self.out.torn = torn as u64;
        Ok(())
    }
}
