//! Tar headers (ustar), written and read in one form: root's, with one date.

/// Bytes of a header, and what contents are padded to.
pub(crate) const BLOCK: usize = 512;
/// The two empty blocks that end an archive.
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Dir,
    Link(String),
}

/// One entry's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The name with its `./`; a directory's ends with a slash. At most 100 bytes.
    pub(crate) name: String,
    pub(crate) mode: u32,
    pub(crate) size: usize,
    pub(crate) date: u32,
    pub(crate) kind: Kind,
}

fn octal(field: &mut [u8], value: u64) {
    let text = format!("{value:0width$o}", width = field.len() - 1);
    // Mode, owner, date (u32) and size (bounded below 8 GiB) have fewer digits than their fields.
    field[..text.len()].copy_from_slice(text.as_bytes());
}

impl Entry {
    /// The header's bytes.
    pub(crate) fn header(&self) -> [u8; BLOCK] {
        let mut out = [0; BLOCK];
        out[..self.name.len()].copy_from_slice(self.name.as_bytes());
        octal(&mut out[100..108], u64::from(self.mode));
        octal(&mut out[108..116], 0);
        octal(&mut out[116..124], 0);
        octal(&mut out[124..136], self.size as u64);
        octal(&mut out[136..148], u64::from(self.date));
        out[156] = match &self.kind {
            Kind::File => b'0',
            Kind::Dir => b'5',
            Kind::Link(target) => {
                out[157..157 + target.len()].copy_from_slice(target.as_bytes());
                b'2'
            }
        };
        out[257..265].copy_from_slice(b"ustar\x0000");
        out[265..269].copy_from_slice(b"root");
        out[297..301].copy_from_slice(b"root");
        out[148..156].fill(b' ');
        let sum: u64 = out.iter().map(|b| u64::from(*b)).sum();
        octal(&mut out[148..155], sum);
        out
    }

    /// Reads a header. None unless it is exactly as [`Entry::header`] writes it.
    pub(crate) fn parse(block: &[u8; BLOCK]) -> Option<Entry> {
        let text = |from: usize, to: usize| {
            let field = &block[from..to];
            let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
            std::str::from_utf8(&field[..end]).ok()
        };
        let number = |from: usize, to: usize| u64::from_str_radix(text(from, to)?, 8).ok();
        let kind = match block[156] {
            b'0' => Kind::File,
            b'5' => Kind::Dir,
            b'2' => Kind::Link(text(157, 257)?.to_owned()),
            _ => return None,
        };
        let entry = Entry {
            name: text(0, 100)?.to_owned(),
            mode: u32::try_from(number(100, 108)?).ok().filter(|mode| *mode <= 0o777)?,
            size: usize::try_from(number(124, 136)?).ok()?,
            date: u32::try_from(number(136, 148)?).ok()?,
            kind,
        };
        (entry.header() == *block).then_some(entry)
    }
}

/// Bytes of zero behind a content of this length.
pub(crate) fn padding(len: usize) -> &'static [u8] {
    &END[..(BLOCK - len % BLOCK) % BLOCK]
}

/// An entry with its content, padded.
pub(crate) fn push(out: &mut Vec<u8>, entry: &Entry, content: &[u8]) {
    out.extend_from_slice(&entry.header());
    out.extend_from_slice(content);
    out.extend_from_slice(padding(content.len()));
}
