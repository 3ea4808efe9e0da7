//! A torn tail is cut, rot refuses: a table.

use std::sync::Arc;

use super::super::disk::Disk;
use super::super::record::{SEGMENT_HEADER, get_record, record_size, segment_name};
use super::super::recover::LogError;
use super::super::writer::{Change, Writer};
use super::faulty::FaultyDisk;
use super::{STORE, entry, open, vote, write};
use crate::limits::SEGMENT_BYTES;

/// Three segments; the last batches are a vote, two entries, and an entry.
fn healthy(closed: bool) -> Arc<FaultyDisk> {
    let disk = Arc::new(FaultyDisk::default());
    Writer::create(&*disk, STORE).expect("create");
    let as_disk: Arc<dyn Disk> = disk.clone();
    let (mut writer, _) = open(&as_disk).expect("open");
    for index in 0..40 {
        write(&mut writer, vec![Change::Append(vec![entry(1, index, 220_000)])]).expect("write");
    }
    write(&mut writer, vec![Change::Vote(vote(2))]).expect("write");
    let two = vec![entry(2, 40, 700), entry(2, 41, 700)];
    write(&mut writer, vec![Change::Append(two)]).expect("write");
    write(&mut writer, vec![Change::Append(vec![entry(2, 42, 10)])]).expect("write");
    if closed {
        writer.mark().expect("mark");
    }
    disk
}

/// Offsets of the records in a segment.
fn records(bytes: &[u8]) -> Vec<usize> {
    let (mut at, mut out) = (SEGMENT_HEADER as usize, Vec::new());
    while let Some((record, _)) = get_record(&bytes[at..]) {
        out.push(at);
        at += record_size(record.len as usize);
    }
    out
}

fn flip(disk: &FaultyDisk, segment: u64, at: usize) {
    let name = segment_name(segment);
    let mut bytes = disk.get(&name);
    bytes[at] ^= 0x10;
    disk.put(&name, bytes);
}

/// Opens after damage to the `back`-th last record of the last segment, in its header or body.
fn after_damage(closed: bool, back: usize, body: usize) -> Result<usize, LogError> {
    let disk = healthy(closed);
    let all = records(&disk.get(&segment_name(3)));
    flip(&disk, 3, all[all.len() - 1 - back] + body);
    let as_disk: Arc<dyn Disk> = disk.clone();
    let (_, content) = open(&as_disk)?;
    // What was cut stays cut: the next start finds nothing more to cut and the same entries.
    let (_, again) = open(&as_disk)?;
    assert_eq!(content, again);
    Ok(content.entries.len())
}

fn is_rot<T>(result: Result<T, LogError>) -> bool {
    matches!(result, Err(LogError::Rot { .. }))
}

#[test]
fn table() {
    for body in [0, 8, 20, 60 + 4] {
        // The last record of a log that was not closed: nobody says that it was durable.
        assert_eq!(after_damage(false, 0, body).expect("torn"), 42, "byte {body}");
        // The two before share a batch; the last record says that they were durable.
        assert!(is_rot(after_damage(false, 1, body)), "byte {body}");
        assert!(is_rot(after_damage(false, 2, body)), "byte {body}");
        // The vote.
        assert!(is_rot(after_damage(false, 3, body)), "byte {body}");
    }
    // A clean close protects the last record, and leaves itself unprotected.
    assert_eq!(after_damage(true, 0, 0).expect("torn"), 43);
    assert!(is_rot(after_damage(true, 1, 0)));
}

#[test]
fn damage_in_older_segments_is_rot() {
    for segment in 1..=2 {
        let all = records(&healthy(false).get(&segment_name(segment)));
        for at in [0, 40, all[0], all[all.len() - 1], all[all.len() - 1] + 200] {
            let disk = healthy(false);
            flip(&disk, segment, at);
            assert!(is_rot(open(&(disk as Arc<dyn Disk>))), "segment {segment} byte {at}");
        }
    }
    let disk = healthy(false);
    disk.drop_file(&segment_name(2));
    assert!(is_rot(open(&(disk as Arc<dyn Disk>))), "a missing segment");
    let disk = healthy(false);
    disk.drop_file(&segment_name(1));
    assert!(is_rot(open(&(disk as Arc<dyn Disk>))), "the first segment, not purged");
    let disk = healthy(false);
    disk.put(&segment_name(3), vec![0; SEGMENT_BYTES as usize]);
    assert!(is_rot(open(&(disk as Arc<dyn Disk>))), "zeroes instead of a segment");
    let disk = healthy(false);
    disk.put(&segment_name(3), Vec::new());
    assert!(is_rot(open(&(disk as Arc<dyn Disk>))), "an empty file");
}

#[test]
fn another_store_and_no_store() {
    let disk = healthy(false);
    let header = super::super::record::SegmentHeader { store: [6; 16], number: 1, first_seq: 1, chain: 0 };
    let mut bytes = disk.get(&segment_name(1));
    bytes[..SEGMENT_HEADER as usize].copy_from_slice(&header.encode());
    disk.put(&segment_name(1), bytes);
    assert!(matches!(open(&(disk as Arc<dyn Disk>)), Err(LogError::Foreign)));
    let empty: Arc<dyn Disk> = Arc::new(FaultyDisk::default());
    assert!(matches!(open(&empty), Err(LogError::Missing)));
}
