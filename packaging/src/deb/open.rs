//! A vendor's deb, taken apart and prepared for the files of sites; any deb's parts by name.

use super::{CONTROL_NAME, Control, DATA_NAME, VERSION, VERSION_NAME, head, sum_line};
use crate::error::VendorError;
use crate::spec::Arch;
use crate::vendor::{Identity, Pieces};
use crate::verify::{Part, Span};
use crate::{SITE_DIR, SITE_FILE, SITE_MODE, ar, gzip, limits, spec, tar};
use std::io;
use std::ops::Range;

/// What is kept of a vendor's deb.
#[derive(Debug)]
pub(crate) struct Deb {
    date: u32,
    control: Vec<Control>,
}

impl Deb {
    /// Takes a vendor's package apart: what it is, where its files' member lies, and the rest.
    pub(crate) fn open(bytes: &[u8]) -> Result<(Deb, Identity, Range<usize>), VendorError> {
        let bad = VendorError::malformed;
        let (name, date, version) =
            ar::member(bytes, ar::MAGIC.len()).ok_or_else(|| bad("debian-binary", "cut off"))?;
        if name != VERSION_NAME || bytes[version.clone()] != *VERSION {
            return Err(bad("debian-binary", "not of format 2.0"));
        }
        let (name, _, packed) =
            ar::member(bytes, version.end).ok_or_else(|| bad("control.tar.gz", "cut off"))?;
        if name != CONTROL_NAME {
            return Err(bad("control.tar.gz", "not the second member"));
        }
        let control = read_control(&bytes[packed.clone()])
            .ok_or_else(|| bad("control.tar.gz", "damaged, or not as this builder packs it"))?;
        let (name, _, data) = ar::member(bytes, packed.end + ar::pad(packed.len()).len())
            .ok_or_else(|| bad("data.tar.gz", "cut off"))?;
        if name != DATA_NAME {
            return Err(bad("data.tar.gz", "not the third member"));
        }
        // One comparison for all that was not looked at above: names, dates, owners, padding.
        if head(&control, date, data.len()) != bytes[..data.start]
            || bytes[data.end..] != *ar::pad(data.len())
        {
            return Err(bad("members", "not as this builder writes them"));
        }
        let (tail, end) = gzip::stored_at_end(&bytes[data.clone()], limits::TAIL_BYTES)
            .ok_or_else(|| bad("data.tar.gz", "does not end as this builder ends it"))?;
        if site_file(&end).is_some() {
            return Err(VendorError::HasSite);
        }
        if !is_end(&end) {
            return Err(bad("data.tar.gz", "does not end as this builder ends it"));
        }
        let files = data.start..data.start + tail;
        check_files(&bytes[files.clone()])?;
        let identity = identity(&control)?;
        Ok((Deb { date, control }, identity, files))
    }

    /// What stands before and behind the vendor's member, `shared` bytes long, in a site's package.
    pub(crate) fn pieces(&self, shared: usize, file: &[u8]) -> Pieces {
        let entry = tar::Entry {
            name: format!(".{SITE_FILE}"),
            mode: SITE_MODE,
            size: file.len(),
            date: self.date,
            kind: tar::Kind::File,
        };
        let mut end = Vec::new();
        tar::push(&mut end, &entry, file);
        end.extend_from_slice(&tar::END);
        let mut tail = gzip::stored(&end);
        let mut control = self.control.clone();
        for member in control.iter_mut().filter(|m| m.name == "md5sums") {
            member.content = with_sum(&member.content, file);
        }
        let data = shared + tail.len();
        tail.extend_from_slice(ar::pad(data));
        Pieces { head: head(&control, self.date, data), tail }
    }
}

/// The sums with the line of the site's file, which stands where its path sorts.
fn with_sum(sums: &[u8], file: &[u8]) -> Vec<u8> {
    let line = sum_line(SITE_FILE, file);
    let path = |line: &[u8]| line.splitn(2, |b| *b == b' ').nth(1).map(<[u8]>::to_vec);
    let mut lines: Vec<&[u8]> = sums.split_inclusive(|b| *b == b'\n').collect();
    let at = lines.partition_point(|other| path(other) < path(line.as_bytes()));
    lines.insert(at, line.as_bytes());
    lines.concat()
}

/// The site's file in the unpacked end of a payload: one entry with its path, then the end.
pub(crate) fn site_file(end: &[u8]) -> Option<&[u8]> {
    let (block, rest) = end.split_first_chunk::<{ tar::BLOCK }>()?;
    let entry = tar::Entry::parse(block)?;
    if entry.name.strip_prefix('.') != Some(SITE_FILE)
        || entry.kind != tar::Kind::File
        || entry.mode != SITE_MODE
    {
        return None;
    }
    let (content, rest) = rest.split_at_checked(entry.size)?;
    let tail_ok = rest.strip_prefix(tar::padding(entry.size))? == tar::END;
    (tail_ok && (1..=limits::SITE_FILE_BYTES).contains(&content.len())).then_some(content)
}

/// Whether an unpacked end is that of a vendor's package.
pub(crate) fn is_end(end: &[u8]) -> bool {
    end == tar::END
}

/// The members of a stored control archive. None unless it is as [`head`] writes it, apart from
/// dates, which the caller compares.
fn read_control(member: &[u8]) -> Option<Vec<Control>> {
    let (start, archive) = gzip::stored_at_end(member, limits::CONTROL_BYTES)?;
    (start == 0).then_some(())?;
    let (members, _) = control_members(&archive)?;
    Some(members)
}

/// The members of an unpacked control archive, and where each lies in it with its header.
fn control_members(archive: &[u8]) -> Option<(Vec<Control>, Vec<Range<usize>>)> {
    let (mut members, mut places) = (Vec::new(), Vec::new());
    let mut at = 0;
    while archive.len() - at > tar::END.len() {
        let entry = tar::Entry::parse(archive.get(at..)?.first_chunk()?)?;
        let content = archive.get(at + tar::BLOCK..)?.get(..entry.size)?;
        let next = at + tar::BLOCK + entry.size.next_multiple_of(tar::BLOCK);
        if entry.kind == tar::Kind::File {
            let name = entry.name.strip_prefix("./")?.to_owned();
            members.push(Control { name, mode: entry.mode, content: content.to_vec() });
            places.push(at..next);
        }
        at = next;
        if at > archive.len() || members.len() > limits::CONTROL_MEMBERS {
            return None;
        }
    }
    Some((members, places))
}

fn identity(control: &[Control]) -> Result<Identity, VendorError> {
    let bad = |why: &str| VendorError::malformed("control", why);
    let text = control
        .iter()
        .find(|m| m.name == "control")
        .and_then(|m| std::str::from_utf8(&m.content).ok())
        .ok_or_else(|| bad("missing"))?;
    if control.iter().filter(|m| m.name == "md5sums").count() != 1 {
        return Err(VendorError::malformed("md5sums", "missing"));
    }
    let field = |name: &str| {
        text.lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(": "))
            .ok_or_else(|| VendorError::malformed("control", format!("no field {name}")))
    };
    let (name, version) = (field("Package")?, field("Version")?);
    let arch = field("Architecture")?;
    let arch = Arch::ALL
        .into_iter()
        .find(|a| a.name(spec::Format::Deb) == arch)
        .ok_or_else(|| bad("an unknown machine"))?;
    Identity::new(name, version, arch).ok_or_else(|| bad("name or version of no package of ours"))
}

/// Unpacks the vendor's files without keeping them: headers in form, sizes, the site's directory.
fn check_files(member: &[u8]) -> Result<(), VendorError> {
    let mut walk = Walk { pending: Vec::new(), skip: 0, entries: 0, has_dir: false, has_site: false };
    gzip::inflate(member, limits::UNPACKED_BYTES, |piece| walk.take(piece))
        .map_err(|why| VendorError::malformed("data.tar.gz", why.to_string()))?;
    if walk.skip > 0 || !walk.pending.is_empty() {
        return Err(VendorError::malformed("data.tar.gz", "the last entry is cut off"));
    }
    match (walk.has_site, walk.has_dir) {
        (true, _) => Err(VendorError::HasSite),
        (false, false) => Err(VendorError::NoPlace),
        (false, true) => Ok(()),
    }
}

/// A walk over a tar archive that arrives in pieces.
struct Walk {
    /// The begin of a header, less than a block.
    pending: Vec<u8>,
    /// Bytes of content and padding still to come.
    skip: usize,
    entries: usize,
    has_dir: bool,
    has_site: bool,
}

impl Walk {
    fn take(&mut self, mut piece: &[u8]) -> io::Result<()> {
        while !piece.is_empty() {
            if self.skip > 0 {
                let here = self.skip.min(piece.len());
                self.skip -= here;
                piece = &piece[here..];
                continue;
            }
            let here = (tar::BLOCK - self.pending.len()).min(piece.len());
            self.pending.extend_from_slice(&piece[..here]);
            piece = &piece[here..];
            if let Some(block) = self.pending.first_chunk() {
                let entry = tar::Entry::parse(block)
                    .ok_or_else(|| io::Error::other("an entry is not as this builder writes it"))?;
                self.pending.clear();
                self.enter(&entry)?;
            }
        }
        Ok(())
    }

    fn enter(&mut self, entry: &tar::Entry) -> io::Result<()> {
        let path = entry.name.strip_prefix('.').unwrap_or_default().trim_end_matches('/');
        let root = path.is_empty() && self.entries == 0;
        self.entries += 1;
        if !(root || spec::is_path(path)) || self.entries > limits::ENTRIES {
            return Err(io::Error::other("a path of no package, or too many"));
        }
        self.has_dir |= path == SITE_DIR && entry.kind == tar::Kind::Dir;
        self.has_site |= path == SITE_FILE;
        self.skip = match entry.kind {
            tar::Kind::File => entry.size.next_multiple_of(tar::BLOCK),
            _ => 0,
        };
        Ok(())
    }
}

/// The parts of a deb, as far as it can be read: for naming differences.
pub(crate) fn layout(bytes: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut at = ar::MAGIC.len();
    while let Some((name, _, range)) = ar::member(bytes, at) {
        match name {
            CONTROL_NAME => control_layout(bytes, &range, &mut spans),
            DATA_NAME => data_layout(bytes, &range, &mut spans),
            _ => spans.push(Span { part: Part::Frame, range: at..range.end }),
        }
        at = range.end + ar::pad(range.len()).len();
    }
    spans
}

fn control_layout(bytes: &[u8], range: &Range<usize>, spans: &mut Vec<Span>) {
    let whole = || vec![Span { part: Part::Control, range: range.clone() }];
    let read = || {
        let (start, archive) = gzip::stored_at_end(&bytes[range.clone()], limits::CONTROL_BYTES)?;
        (start == 0).then_some(())?;
        let (members, places) = control_members(&archive)?;
        let place = |p: &Range<usize>| {
            range.start + gzip::stored_offset(p.start)..range.start + gzip::stored_offset(p.end - 1) + 1
        };
        let part = |name: &str| match name {
            "control" => Part::Control,
            "md5sums" => Part::Md5sums,
            "conffiles" => Part::Conffiles,
            other => Part::Script(other.to_owned()),
        };
        Some(
            members.iter().zip(&places).map(|(m, p)| Span { part: part(&m.name), range: place(p) }).collect(),
        )
    };
    spans.extend(read().unwrap_or_else(whole));
}

fn data_layout(bytes: &[u8], range: &Range<usize>, spans: &mut Vec<Span>) {
    let end = gzip::stored_at_end(&bytes[range.clone()], limits::TAIL_BYTES);
    let split = end.map_or(range.end, |(start, _)| range.start + start);
    spans.push(Span { part: Part::Payload, range: range.start..split });
    if split < range.end {
        spans.push(Span { part: Part::SiteFile, range: split..range.end });
    }
}
