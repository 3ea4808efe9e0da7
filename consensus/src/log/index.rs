//! The log in memory: where each entry lies, and the payloads of the youngest.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::limits::TAIL_BYTES;
use crate::wire::{LogPos, WireVote};

/// Where a record lies on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) len: u32,
}

/// One entry: on disk, in memory, or both, never neither.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) at: LogPos,
    pub(super) place: Option<Place>,
    pub(super) payload: Option<Bytes>,
}

/// An operation on the log would leave a hole or go back. A fault of the caller or of the disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {found} does not follow {last:?} in the log")]
pub(super) struct Hole {
    found: u64,
    last: Option<u64>,
}

/// Entries `(purged, last]`, the vote, and the commit hint.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    slots: VecDeque<Slot>,
    purged: Option<LogPos>,
    vote: Option<WireVote>,
    committed: Option<LogPos>,
    tail_bytes: usize,
    /// Slots before this one hold no payload in memory.
    tail_from: u64,
}

impl Index {
    pub(super) fn purged(&self) -> Option<LogPos> {
        self.purged
    }

    pub(super) fn vote(&self) -> Option<WireVote> {
        self.vote
    }

    pub(super) fn set_vote(&mut self, vote: WireVote) {
        self.vote = Some(vote);
    }

    pub(super) fn set_committed(&mut self, committed: Option<LogPos>) {
        self.committed = committed;
    }

    /// The hint as it was given; it may lie beyond the last entry.
    pub(super) fn committed_hint(&self) -> Option<LogPos> {
        self.committed
    }

    /// The commit hint, cut to what the log holds: what is not here cannot be applied from here.
    pub(super) fn committed(&self) -> Option<LogPos> {
        let (committed, last) = (self.committed?, self.last()?);
        Some(if committed.index > last.index { last } else { committed })
    }

    /// The last entry, or what was purged if there is none.
    pub(super) fn last(&self) -> Option<LogPos> {
        self.slots.back().map(|s| s.at).or(self.purged)
    }

    pub(super) fn first_index(&self) -> Option<u64> {
        self.slots.front().map(|s| s.at.index)
    }

    pub(super) fn next_index(&self) -> u64 {
        self.last().map_or(0, |at| at.index + 1)
    }

    pub(super) fn get(&self, index: u64) -> Option<&Slot> {
        let first = self.first_index()?;
        self.slots.get(usize::try_from(index.checked_sub(first)?).ok()?)
    }

    pub(super) fn push(&mut self, slot: Slot) -> Result<(), Hole> {
        let last = self.slots.back().map(|s| s.at.index).or(self.purged.map(|p| p.index));
        let follows = last.is_none_or(|last| slot.at.index == last + 1);
        if !follows {
            return Err(Hole { found: slot.at.index, last });
        }
        self.tail_bytes += slot.payload.as_ref().map_or(0, Bytes::len);
        self.slots.push_back(slot);
        Ok(())
    }

    /// As [`Index::push`], while the beginning of the log may be missing: its segments are gone,
    /// and the record that purged them follows.
    pub(super) fn push_recovered(&mut self, slot: Slot) -> Result<(), Hole> {
        if self.slots.is_empty() && self.purged.is_none_or(|p| p.index < slot.at.index) {
            self.slots.push_back(slot);
            return Ok(());
        }
        self.push(slot)
    }

    /// Removes entries from `from` on.
    pub(super) fn truncate(&mut self, from: u64) {
        while self.slots.back().is_some_and(|s| s.at.index >= from) {
            if let Some(slot) = self.slots.pop_back() {
                self.tail_bytes -= slot.payload.map_or(0, |p| p.len());
            }
        }
        self.tail_from = self.tail_from.min(from);
    }

    /// Removes entries up to `upto`.
    pub(super) fn purge(&mut self, upto: LogPos) {
        while self.slots.front().is_some_and(|s| s.at.index <= upto.index) {
            if let Some(slot) = self.slots.pop_front() {
                self.tail_bytes -= slot.payload.map_or(0, |p| p.len());
            }
        }
        if self.purged.is_none_or(|p| p.index < upto.index) {
            self.purged = Some(upto);
        }
    }

    /// Notes where an entry lies, unless it was removed or replaced meanwhile.
    pub(super) fn placed(&mut self, at: LogPos, place: Place) {
        let Some(first) = self.first_index() else {
            return;
        };
        let slot = at.index.checked_sub(first).and_then(|n| self.slots.get_mut(n as usize));
        if let Some(slot) = slot.filter(|s| s.at == at) {
            slot.place = Some(place);
        }
    }

    /// Drops payloads, oldest first, until the tail is within its bound. Those not on disk stay.
    pub(super) fn evict(&mut self) {
        let Some(first) = self.first_index() else {
            return;
        };
        let mut at = self.tail_from.max(first);
        while self.tail_bytes > TAIL_BYTES {
            let Some(slot) = self.slots.get_mut((at - first) as usize) else {
                break;
            };
            if slot.place.is_none() {
                break;
            }
            self.tail_bytes -= slot.payload.take().map_or(0, |p| p.len());
            at += 1;
        }
        self.tail_from = at;
    }

    /// Whether entries and what was purged leave no hole between them.
    pub(super) fn is_whole(&self) -> bool {
        match (self.first_index(), self.purged) {
            (Some(first), Some(purged)) => first == purged.index + 1,
            (Some(first), None) => first <= 1,
            (None, _) => true,
        }
    }
}
