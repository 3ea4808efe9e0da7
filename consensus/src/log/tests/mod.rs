//! The log under the library's own suite, under crashes, and under rot.

#![allow(clippy::unwrap_used)]

mod crash;
mod faulty;
mod rot;
mod suite;

use std::sync::Arc;

use bytes::Bytes;

use super::disk::{Disk, read_exact_at};
use super::record::{get_record, record_size};
use super::recover::{LogError, recover};
use super::writer::{Change, Done, LogFailure, Op, Shared, Writer};
use crate::wire::{LogPos, StoreUuid, WireEntry, WireVote};

const STORE: StoreUuid = [5; 16];

fn op(change: Change) -> Op {
    Op { change, done: Done::Nobody, permit: None }
}

fn entry(term: u64, index: u64, size: usize) -> WireEntry {
    let fill = (term * 31 + index) as u8;
    WireEntry { at: LogPos { term, leader: 1, index }, payload: Bytes::from(vec![fill; size]) }
}

fn vote(term: u64) -> WireVote {
    WireVote { term, leader: 1, committed: false }
}

/// What a log holds, as far as anybody was told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Content {
    vote: Option<WireVote>,
    purged: Option<LogPos>,
    entries: Vec<WireEntry>,
}

/// A writer on `disk`, and what the log held when it was opened.
fn open(disk: &Arc<dyn Disk>) -> Result<(Writer, Content), LogError> {
    let recovered = recover(&**disk, &STORE)?;
    let index = &recovered.index;
    let mut content = Content { vote: index.vote(), purged: index.purged(), entries: Vec::new() };
    for n in index.first_index().unwrap_or(0)..index.next_index() {
        let Some(slot) = index.get(n) else { continue };
        let place = slot.place.expect("recovered entries lie on disk");
        let segment = recovered.segments.iter().find(|s| s.number == place.segment);
        let mut bytes = vec![0; record_size(place.len as usize)];
        read_exact_at(&*segment.expect("listed").file, &mut bytes, place.offset).expect("read");
        let (record, body) = get_record(&bytes).expect("valid");
        assert_eq!(record.at, slot.at);
        content.entries.push(WireEntry { at: slot.at, payload: Bytes::copy_from_slice(body) });
    }
    let shared = Arc::new(Shared::new(&recovered));
    Ok((Writer::new(disk.clone(), STORE, shared, &recovered)?, content))
}

fn write(writer: &mut Writer, changes: Vec<Change>) -> Result<(), LogFailure> {
    let batch: Vec<Op> = changes.into_iter().map(op).collect();
    writer.write(&batch)
}
