//! The format of a segment file: a header, then records, then zeros.
//!
//! ```text
//! header  magic 8 | format u32 | 0 u32 | store uuid 16 | number u64 | first seq u64 | chain u32 | crc u32 | 0 u64
//! record  magic u32 | body len u32 | kind u32 | prev crc u32 | seq u64 | durable u64
//!         | index u64 | term u64 | leader u64 | crc u32 | 0 u32 | body, padded to 8
//! ```
//! `crc` covers the record's header before it and the body. `prev crc` is the crc of the record
//! before: a record is valid by itself and only after its predecessor. `durable` is the greatest
//! seq that was on stable storage when the record was written: it tells a torn tail from rot.
//!
//! Rules for changing this: a new layout takes a new format number, and n-1 is read.

use crate::wire::{LogPos, StoreUuid};

const SEGMENT_MAGIC: [u8; 8] = *b"qb-log\0\0";
const FORMAT: u32 = 1;
const RECORD_MAGIC: u32 = 0x5152_4231;
/// Bytes of a segment's header.
pub(super) const SEGMENT_HEADER: u64 = 64;
/// Bytes of a record's header.
pub(super) const RECORD_HEADER: usize = 64;
/// Where a record's crc lies: it covers what is before.
const CRC_AT: usize = 56;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The entry at `at`; the body is its payload.
    Entry,
    /// The vote; the body is its wire form.
    Vote,
    /// Entries from `at.index` on are gone.
    Truncate,
    /// Entries up to `at` are gone.
    Purge,
    /// Entries up to `at` are committed.
    Committed,
    /// Nothing; carries `durable`.
    Mark,
}

const KINDS: [Kind; 6] = [Kind::Entry, Kind::Vote, Kind::Truncate, Kind::Purge, Kind::Committed, Kind::Mark];

/// A segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) store: StoreUuid,
    pub(super) number: u64,
    pub(super) first_seq: u64,
    pub(super) chain: u32,
}

/// A record without its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) kind: Kind,
    pub(super) len: u32,
    pub(super) prev: u32,
    pub(super) seq: u64,
    pub(super) durable: u64,
    pub(super) at: LogPos,
    pub(super) crc: u32,
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER as usize);
        out.extend(SEGMENT_MAGIC);
        out.extend(FORMAT.to_le_bytes());
        out.extend([0; 4]);
        out.extend(self.store);
        out.extend(self.number.to_le_bytes());
        out.extend(self.first_seq.to_le_bytes());
        out.extend(self.chain.to_le_bytes());
        let crc = crc32c::crc32c(&out);
        out.extend(crc.to_le_bytes());
        out.resize(SEGMENT_HEADER as usize, 0);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let sound = bytes.get(..8)? == SEGMENT_MAGIC
            && u32_at(bytes, 8)? == FORMAT
            && u32_at(bytes, 52)? == crc32c::crc32c(&bytes[..52]);
        sound.then_some(())?;
        Some(Self {
            store: bytes.get(16..32)?.try_into().ok()?,
            number: u64_at(bytes, 32)?,
            first_seq: u64_at(bytes, 40)?,
            chain: u32_at(bytes, 48)?,
        })
    }
}

/// The space that a record with a body of `len` bytes takes.
pub(super) fn record_size(len: usize) -> usize {
    RECORD_HEADER + len.next_multiple_of(8)
}

/// Appends a record to `out` and returns its crc.
pub(super) fn put_record(out: &mut Vec<u8>, header: &RecordHeader, body: &[u8]) -> u32 {
    let start = out.len();
    out.extend(RECORD_MAGIC.to_le_bytes());
    out.extend((body.len() as u32).to_le_bytes());
    let kind = KINDS.iter().position(|k| *k == header.kind).unwrap_or_default() as u32 + 1;
    out.extend(kind.to_le_bytes());
    out.extend(header.prev.to_le_bytes());
    for word in [header.seq, header.durable, header.at.index, header.at.term, header.at.leader] {
        out.extend(word.to_le_bytes());
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out[start..start + CRC_AT]), body);
    out.extend(crc.to_le_bytes());
    out.extend([0; 4]);
    out.extend(body);
    out.resize(start + record_size(body.len()), 0);
    crc
}

/// The record at the start of `bytes`, if it is valid by itself, and its body.
pub(super) fn get_record(bytes: &[u8]) -> Option<(RecordHeader, &[u8])> {
    let head = bytes.get(..RECORD_HEADER)?;
    (u32_at(head, 0)? == RECORD_MAGIC).then_some(())?;
    let len = u32_at(head, 4)?;
    let body = bytes.get(RECORD_HEADER..)?.get(..len as usize)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..CRC_AT]), body);
    (u32_at(head, CRC_AT)? == crc).then_some(())?;
    let kind = *KINDS.get((u32_at(head, 8)? as usize).checked_sub(1)?)?;
    let at = LogPos { index: u64_at(head, 32)?, term: u64_at(head, 40)?, leader: u64_at(head, 48)? };
    let header = RecordHeader {
        kind,
        len,
        prev: u32_at(head, 12)?,
        seq: u64_at(head, 16)?,
        durable: u64_at(head, 24)?,
        at,
        crc,
    };
    Some((header, body))
}

/// The name of a segment's file.
pub(super) fn segment_name(number: u64) -> String {
    format!("segment-{number:016x}")
}

/// The number in a segment file's name.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_prefix("segment-")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let at = LogPos { term: 3, leader: 2, index: 9 };
        let header = RecordHeader { kind: Kind::Entry, len: 2, prev: 7, seq: 5, durable: 4, at, crc: 0 };
        let mut bytes = Vec::new();
        let crc = put_record(&mut bytes, &header, b"ab");
        assert_eq!(bytes.len(), 72);
        assert_eq!(crc32c::crc32c(&bytes), GOLDEN_RECORD, "the format changed: raise FORMAT");
        assert_eq!(get_record(&bytes), Some((RecordHeader { crc, ..header }, &b"ab"[..])));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let padding = (60..64).contains(&(bit / 8)) || bit / 8 >= 66;
            assert_eq!(get_record(&bad).is_some(), padding, "bit {bit}");
        }
    }

    const GOLDEN_RECORD: u32 = 287_371_971;

    #[test]
    fn segment_header_round_trips() {
        let header = SegmentHeader { store: [7; 16], number: 1, first_seq: 2, chain: 3 };
        let bytes = header.encode();
        assert_eq!(bytes.len() as u64, SEGMENT_HEADER);
        assert_eq!(SegmentHeader::decode(&bytes), Some(header));
        let mut bad = bytes;
        bad[33] ^= 1;
        assert_eq!(SegmentHeader::decode(&bad), None);
        assert_eq!(segment_number(&segment_name(77)), Some(77));
        assert_eq!(segment_number("segment-0.tmp"), None);
    }
}
