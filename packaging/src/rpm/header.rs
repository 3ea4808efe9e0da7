//! The two headers of an rpm: an index of tags, and their data.
//!
//! One form is written and read: tags in ascending order, data in the order of the tags, everything
//! inside the header's region (whose entry comes first and whose trailer comes last).

use crate::limits;
use std::collections::BTreeMap;

const MAGIC: [u8; 8] = [0x8e, 0xad, 0xe8, 0x01, 0, 0, 0, 0];
/// Bytes of an index entry, and of the region's trailer.
const ENTRY: usize = 16;
/// Bytes before the index.
const PROLOGUE: usize = 16;

/// The region of a signature header.
pub(crate) const SIGNATURES: u32 = 62;
/// The region of a main header.
pub(crate) const IMMUTABLE: u32 = 63;

/// A tag's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Int16(Vec<u16>),
    Int32(Vec<u32>),
    Text(String),
    Texts(Vec<String>),
    /// A text that could have translations; always one.
    Local(String),
}

impl Value {
    fn kind(&self) -> u32 {
        match self {
            Value::Int16(_) => 3,
            Value::Int32(_) => 4,
            Value::Text(_) => 6,
            Value::Texts(_) => 8,
            Value::Local(_) => 9,
        }
    }

    fn count(&self) -> usize {
        match self {
            Value::Int16(all) => all.len(),
            Value::Int32(all) => all.len(),
            Value::Texts(all) => all.len(),
            Value::Text(_) | Value::Local(_) => 1,
        }
    }

    fn align(&self) -> usize {
        match self {
            Value::Int16(_) => 2,
            Value::Int32(_) => 4,
            _ => 1,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut text = |t: &String| {
            out.extend_from_slice(t.as_bytes());
            out.push(0);
        };
        match self {
            Value::Text(t) | Value::Local(t) => text(t),
            Value::Texts(all) => all.iter().for_each(text),
            Value::Int16(all) => all.iter().for_each(|n| out.extend_from_slice(&n.to_be_bytes())),
            Value::Int32(all) => all.iter().for_each(|n| out.extend_from_slice(&n.to_be_bytes())),
        }
    }

    /// Reads `count` values from the begin of `data`.
    fn read(kind: u32, count: usize, data: &[u8]) -> Option<Value> {
        let bytes = |width: usize| data.get(..count.checked_mul(width)?);
        let mut texts = data.split(|b| *b == 0);
        // A split has one part more than there are zeros: a text without its end is the last part.
        let ended = data.iter().filter(|b| **b == 0).count();
        let mut text = || std::str::from_utf8(texts.next()?).ok().map(str::to_owned);
        Some(match kind {
            3 => Value::Int16(bytes(2)?.chunks_exact(2).map(|c| u16::from_be_bytes([c[0], c[1]])).collect()),
            4 => Value::Int32(
                bytes(4)?.chunks_exact(4).map(|c| u32::from_be_bytes([c[0], c[1], c[2], c[3]])).collect(),
            ),
            6 | 8 | 9 if count > ended => return None,
            6 if count == 1 => Value::Text(text()?),
            8 => Value::Texts((0..count).map(|_| text()).collect::<Option<_>>()?),
            9 if count == 1 => Value::Local(text()?),
            _ => return None,
        })
    }
}

/// The tags of a header.
pub(crate) type Tags = BTreeMap<u32, Value>;

fn entry(tag: u32, kind: u32, offset: u32, count: u32) -> [u8; ENTRY] {
    let mut out = [0; ENTRY];
    for (at, n) in [tag, kind, offset, count].into_iter().enumerate() {
        out[at * 4..at * 4 + 4].copy_from_slice(&n.to_be_bytes());
    }
    out
}

/// Where each tag's data lies, from the begin of the data; and the data without the trailer.
fn lay(tags: &Tags) -> (Vec<(u32, std::ops::Range<usize>)>, Vec<u8>) {
    let (mut places, mut data) = (Vec::with_capacity(tags.len()), Vec::new());
    for (tag, value) in tags {
        data.resize(data.len().next_multiple_of(value.align()), 0);
        let start = data.len();
        value.write(&mut data);
        places.push((*tag, start..data.len()));
    }
    (places, data)
}

/// The header's bytes, without the padding that follows a signature header.
pub(crate) fn encode(region: u32, tags: &Tags) -> Vec<u8> {
    let (places, data) = lay(tags);
    // Lengths are bounded by what packages hold, far below 4 GiB.
    let index = (tags.len() + 1) * ENTRY;
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&(tags.len() as u32 + 1).to_be_bytes());
    out.extend_from_slice(&((data.len() + ENTRY) as u32).to_be_bytes());
    out.extend_from_slice(&entry(region, 7, data.len() as u32, ENTRY as u32));
    for ((tag, place), value) in places.iter().zip(tags.values()) {
        out.extend_from_slice(&entry(*tag, value.kind(), place.start as u32, value.count() as u32));
    }
    out.extend_from_slice(&data);
    out.extend_from_slice(&entry(region, 7, (index as u32).wrapping_neg(), ENTRY as u32));
    out
}

/// Reads the header that `bytes` begins with: its tags and its length. None unless it is exactly as
/// [`encode`] writes it.
pub(crate) fn decode(region: u32, bytes: &[u8]) -> Option<(Tags, usize)> {
    let number = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
    let (entries, size) = (number(8)?, number(12)?);
    if !bytes.starts_with(&MAGIC)
        || !(1..=limits::HEADER_TAGS).contains(&entries)
        || !(ENTRY..=limits::HEADER_BYTES).contains(&size)
    {
        return None;
    }
    let start = PROLOGUE + entries * ENTRY;
    let data = bytes.get(start..start + size)?;
    let mut tags = Tags::new();
    for n in 1..entries {
        let at = PROLOGUE + n * ENTRY;
        let value = Value::read(number(at + 4)? as u32, number(at + 12)?, data.get(number(at + 8)?..)?)?;
        if tags.insert(number(at)? as u32, value).is_some() {
            return None;
        }
    }
    let whole = &bytes[..start + size];
    (encode(region, &tags) == whole).then_some((tags, whole.len()))
}

/// Where each tag's data lies in the header's bytes.
pub(crate) fn places(tags: &Tags) -> Vec<(u32, std::ops::Range<usize>)> {
    let start = PROLOGUE + (tags.len() + 1) * ENTRY;
    lay(tags).0.into_iter().map(|(tag, place)| (tag, place.start + start..place.end + start)).collect()
}

/// Bytes of the header before its data: what says how many tags there are and where.
pub(crate) fn index_len(tags: &Tags) -> usize {
    PROLOGUE + (tags.len() + 1) * ENTRY
}
