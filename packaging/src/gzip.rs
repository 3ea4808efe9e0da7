//! Gzip members: the compressed one that a vendor's build writes, and *stored* ones.
//!
//! What a relay or a command line adds to a package is stored, not compressed: the bytes then follow
//! from this file alone, not from the version of a compression library, so that two builds of qb
//! make the same site's package. RFC 1952 lets members follow each other; gzread takes them as one.

use flate2::bufread::GzDecoder;
use flate2::{Compression, Crc, GzBuilder};
use std::io::{self, Read, Write};

/// Bytes of a member's header as this module writes it.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// Bytes of CRC-32 and length behind a member's data.
const TRAILER: usize = 8;
/// Bytes that one stored block of RFC 1951 can hold.
const BLOCK: usize = 65_535;
/// Bytes before each block's data.
const BLOCK_HEADER: usize = 5;

/// Compresses `pieces`, one after the other, into one member: best compression, no name, no date.
pub(crate) fn deflate<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out =
        GzBuilder::new().mtime(0).operating_system(HEADER[9]).write(Vec::new(), Compression::best());
    for piece in pieces {
        out.write_all(piece).expect("a Vec takes every write");
    }
    out.finish().expect("a Vec takes every write")
}

fn blocks(len: usize) -> usize {
    len.div_ceil(BLOCK).max(1)
}

/// Bytes of the stored member of `len` bytes.
pub(crate) fn stored_len(len: usize) -> usize {
    HEADER.len() + blocks(len) * BLOCK_HEADER + len + TRAILER
}

/// Where byte `at` of a stored member's content lies in the member.
pub(crate) fn stored_offset(at: usize) -> usize {
    HEADER.len() + (at / BLOCK + 1) * BLOCK_HEADER + at
}

/// `content` as a member without compression. There is exactly one such member for each content.
pub(crate) fn stored(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(stored_len(content.len()));
    out.extend_from_slice(&HEADER);
    for n in 0..blocks(content.len()) {
        let block = &content[n * BLOCK..content.len().min((n + 1) * BLOCK)];
        // At most BLOCK bytes, which is u16::MAX.
        let len = block.len() as u16;
        out.push(u8::from(n + 1 == blocks(content.len())));
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&(!len).to_le_bytes());
        out.extend_from_slice(block);
    }
    let mut crc = Crc::new();
    crc.update(content);
    out.extend_from_slice(&crc.sum().to_le_bytes());
    // RFC 1952: the length modulo 2^32.
    out.extend_from_slice(&(content.len() as u32).to_le_bytes());
    out
}

/// The content of a stored member that ends where `bytes` ends, and where that member begins.
/// None if there is none whose content has at most `bound` bytes. It is found by the length that
/// stands at a member's end, so that nothing before it has to be unpacked.
pub(crate) fn stored_at_end(bytes: &[u8], bound: usize) -> Option<(usize, Vec<u8>)> {
    let len = u32::from_le_bytes(*bytes.last_chunk::<4>()?) as usize;
    if len > bound {
        return None;
    }
    let start = bytes.len().checked_sub(stored_len(len))?;
    let member = &bytes[start..];
    let mut content = Vec::with_capacity(len);
    while content.len() < len {
        let here = stored_offset(content.len());
        content.extend_from_slice(&member[here..here + (len - content.len()).min(BLOCK)]);
    }
    // Written again it must be the same bytes: headers, lengths and sum are checked by that.
    (stored(&content) == member).then_some((start, content))
}

/// Reads one compressed member to its end.
///
/// `take` is given the content piece by piece. Fails if the member is damaged, is followed by
/// anything, holds more than `bound` bytes, or if `take` fails.
pub(crate) fn inflate(
    member: &[u8],
    bound: usize,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    // As `deflate` writes it: of the stored form, apart from the note that this is the best compression.
    let mut header = HEADER;
    header[8] = 2;
    if !member.starts_with(&header) {
        return Err(io::Error::other("does not begin as this builder packs it"));
    }
    let mut reader = GzDecoder::new(member);
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        let got = reader.read(&mut buffer)?;
        if got == 0 {
            break;
        }
        total += got;
        if total > bound {
            return Err(io::Error::other("unpacks to more than a package may hold"));
        }
        take(&buffer[..got])?;
    }
    if !reader.into_inner().is_empty() {
        return Err(io::Error::other("is followed by bytes of no known kind"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_by_the_library_and_found_from_its_end() {
        for len in [0, 1, 511, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 7] {
            let content: Vec<u8> = (0..len).map(|n| (n * 7) as u8).collect();
            let member = stored(&content);
            assert_eq!(member.len(), stored_len(len));
            let mut read = Vec::new();
            GzDecoder::new(&member[..]).read_to_end(&mut read).unwrap();
            assert_eq!(read, content);
            let mut file = b"something before".to_vec();
            file.extend_from_slice(&member);
            assert_eq!(stored_at_end(&file, len), Some((16, content.clone())));
            if len > 0 {
                assert_eq!(stored_at_end(&file, len - 1), None);
                assert_eq!(member[stored_offset(len - 1)], content[len - 1]);
            }
        }
    }

    #[test]
    fn a_damaged_stored_member_is_not_found() {
        let member = stored(b"some content");
        for at in 0..member.len() {
            let mut damaged = member.clone();
            damaged[at] ^= 0x10;
            assert_eq!(stored_at_end(&damaged, 1000), None, "byte {at}");
        }
    }

    #[test]
    fn a_bomb_ends_at_its_bound() {
        let member = deflate([&vec![0; 1 << 20][..]]);
        assert!(inflate(&member, 1 << 20, |_| Ok(())).is_ok());
        assert!(inflate(&member, (1 << 20) - 1, |_| Ok(())).is_err());
        assert!(inflate(&[member.clone(), vec![1]].concat(), 1 << 20, |_| Ok(())).is_err());
    }
}
