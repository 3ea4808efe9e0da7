//! The archive inside an rpm: cpio in its "new ASCII" form.

const MAGIC: &str = "070701";
/// Bytes of a header before the name.
pub(crate) const HEADER: usize = 110;
const END_NAME: &str = "TRAILER!!!";

/// What an entry's header says; the rest is fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) inode: u32,
    /// Type and permissions.
    pub(crate) mode: u16,
    pub(crate) date: u32,
    pub(crate) size: u32,
    /// The name with its `./`.
    pub(crate) name: &'a str,
}

/// Zeros behind something of this length.
pub(crate) fn padding(len: usize) -> &'static [u8] {
    &[0; 3][..(4 - len % 4) % 4]
}

impl Entry<'_> {
    /// Header and name, padded.
    pub(crate) fn header(&self) -> Vec<u8> {
        let mut out = MAGIC.to_owned();
        let name = self.name.len() as u32 + 1;
        let links = 1;
        for n in [self.inode, self.mode.into(), 0, 0, links, self.date, self.size, 0, 0, 0, 0, name, 0] {
            use std::fmt::Write;
            // Writing to a String cannot fail.
            let _ = write!(out, "{n:08x}");
        }
        out.push_str(self.name);
        out.push('\0');
        let mut out = out.into_bytes();
        out.extend_from_slice(padding(out.len()));
        out
    }
}

/// The entry that ends an archive.
pub(crate) fn end() -> Vec<u8> {
    Entry { inode: 0, mode: 0, date: 0, size: 0, name: END_NAME }.header()
}

/// Bytes of content and of name that a header announces.
pub(crate) fn sizes(header: &[u8; HEADER]) -> Option<(usize, usize)> {
    let number = |n: usize| {
        let text = std::str::from_utf8(&header[6 + n * 8..14 + n * 8]).ok()?;
        usize::from_str_radix(text, 16).ok()
    };
    header.starts_with(MAGIC.as_bytes()).then_some((number(6)?, number(11)?))
}
