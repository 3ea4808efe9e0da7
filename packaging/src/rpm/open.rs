//! A vendor's rpm, taken apart and prepared for the files of sites; any rpm's parts by name.

use super::files::{self, File};
use super::header::{self, Tags, Value};
use super::{LEAD, Payload, cpio, head, tag};
use crate::error::VendorError;
use crate::spec::{Arch, FileEntry, Format};
use crate::vendor::{Identity, Pieces};
use crate::verify::{Part, Span};
use crate::{SITE_DIR, SITE_FILE, SITE_MODE, gzip, limits, spec};
use sha2::{Digest, Sha256};
use std::io;
use std::ops::Range;

/// What is kept of a vendor's rpm.
#[derive(Debug)]
pub(crate) struct Rpm {
    date: u32,
    /// Without those that follow from files and payload.
    tags: Tags,
    files: Vec<File>,
    /// Bytes of the vendor's files with their headers, unpacked.
    unpacked: usize,
    /// The digest's state behind the vendor's member: a site's payload is hashed from there.
    hasher: Sha256,
}

impl Rpm {
    /// Takes a vendor's package apart: what it is, where its files' member lies, and the rest.
    pub(crate) fn open(bytes: &[u8]) -> Result<(Rpm, Identity, Range<usize>), VendorError> {
        let bad = VendorError::malformed;
        let (main, start) =
            headers(bytes).ok_or_else(|| bad("headers", "damaged, or not as this builder writes them"))?;
        let (mut tags, _) = main;
        let files = files::take(&mut tags).ok_or_else(|| bad("list of files", "incomplete"))?;
        for tag in [tag::SIZE, tag::PAYLOAD_DIGEST] {
            tags.remove(&tag);
        }
        let packed = &bytes[start..];
        let (tail, end) = gzip::stored_at_end(packed, limits::TAIL_BYTES)
            .ok_or_else(|| bad("payload", "does not end as this builder ends it"))?;
        if site_file(&end).is_some() || files.iter().any(|f| f.path == SITE_FILE) {
            return Err(VendorError::HasSite);
        }
        if !is_end(&end) {
            return Err(bad("payload", "does not end as this builder ends it"));
        }
        let unpacked = check_files(&packed[..tail], &files)?;
        let hasher = Sha256::new().chain_update(&packed[..tail]);
        let payload = Payload {
            packed: packed.len(),
            unpacked: unpacked + end.len(),
            digest: hasher.clone().chain_update(&packed[tail..]).finalize().into(),
        };
        // One comparison for all that was not looked at above: lead, digests, sizes, padding, arrays.
        if head(&tags, &files, &payload) != bytes[..start] {
            return Err(bad("headers", "not what its files and its payload make them"));
        }
        if !files.iter().any(|f| f.path == SITE_DIR && f.is_dir()) {
            return Err(VendorError::NoPlace);
        }
        let identity = identity(&tags)?;
        let Some(Value::Int32(date)) = tags.get(&tag::BUILD_TIME) else {
            return Err(bad("headers", "no build time"));
        };
        let [date] = date[..] else { return Err(bad("headers", "no build time")) };
        Ok((Rpm { date, tags, files, unpacked, hasher }, identity, start..start + tail))
    }

    /// What stands before and behind the vendor's member, `shared` bytes long, in a site's package.
    pub(crate) fn pieces(&self, shared: usize, file: &[u8]) -> Pieces {
        let inode = self.files.iter().map(|f| f.inode).max().unwrap_or(0).saturating_add(1);
        let entry = File::new(&FileEntry::file(SITE_FILE, SITE_MODE, file), inode, self.date);
        let mut end = entry.cpio_header();
        end.extend_from_slice(file);
        end.extend_from_slice(cpio::padding(file.len()));
        end.extend_from_slice(&cpio::end());
        let tail = gzip::stored(&end);
        let mut files = self.files.clone();
        files.insert(files.partition_point(|f| f.path < entry.path), entry);
        let payload = Payload {
            packed: shared + tail.len(),
            unpacked: self.unpacked + end.len(),
            digest: self.hasher.clone().chain_update(&tail).finalize().into(),
        };
        Pieces { head: head(&self.tags, &files, &payload), tail }
    }
}

/// The tags of the main header, where it begins, and where the payload does.
fn headers(bytes: &[u8]) -> Option<((Tags, usize), usize)> {
    let (_, signatures) = header::decode(header::SIGNATURES, bytes.get(LEAD..)?)?;
    let start = (LEAD + signatures).next_multiple_of(8);
    let (tags, main) = header::decode(header::IMMUTABLE, bytes.get(start..)?)?;
    Some(((tags, start), start + main))
}

/// The site's file in the unpacked end of a payload: one entry with its path, then the end.
pub(crate) fn site_file(end: &[u8]) -> Option<&[u8]> {
    let (size, _) = cpio::sizes(end.first_chunk()?)?;
    let name = format!(".{SITE_FILE}");
    let start = cpio::HEADER + name.len() + 1;
    let start = start + cpio::padding(start).len();
    let name_ok = end.get(cpio::HEADER..)?.strip_prefix(name.as_bytes())?.starts_with(&[0]);
    let (content, rest) = end.get(start..)?.split_at_checked(size)?;
    let tail_ok = rest.strip_prefix(cpio::padding(size))? == cpio::end();
    (name_ok && tail_ok && (1..=limits::SITE_FILE_BYTES).contains(&size)).then_some(content)
}

/// Whether an unpacked end is that of a vendor's package.
pub(crate) fn is_end(end: &[u8]) -> bool {
    end == cpio::end()
}

fn identity(tags: &Tags) -> Result<Identity, VendorError> {
    let text = |tag, what: &str| match tags.get(&tag) {
        Some(Value::Text(text)) => Ok(text.as_str()),
        _ => Err(VendorError::malformed("headers", format!("no {what}"))),
    };
    let arch = text(tag::ARCH, "machine")?;
    let version = format!("{}-{}", text(tag::VERSION, "version")?, text(tag::RELEASE, "release")?);
    Arch::ALL
        .into_iter()
        .find(|a| a.name(Format::Rpm) == arch)
        .and_then(|arch| Identity::new(text(tag::NAME, "name").ok()?, &version, arch))
        .ok_or_else(|| VendorError::malformed("headers", "name, version or machine of no package of ours"))
}

/// Unpacks the vendor's files without keeping them, and compares with the list in the header.
/// Returns how many bytes they are.
fn check_files(member: &[u8], files: &[File]) -> Result<usize, VendorError> {
    let sorted = files.is_sorted_by(|a, b| a.path < b.path);
    if !sorted || files.len() > limits::ENTRIES || !files.iter().all(|f| spec::is_path(&f.path)) {
        return Err(VendorError::malformed("list of files", "unsorted, too long, or a path of no package"));
    }
    // The others' sizes are bounded by what is unpacked: their sum is, too.
    if files.iter().any(|f| f.is_dir() && f.size != 0) {
        return Err(VendorError::malformed("list of files", "a directory with a size"));
    }
    let mut walk = Walk { files: files.iter(), pending: Vec::new(), wanted: 0, skip: 0, total: 0 };
    gzip::inflate(member, limits::UNPACKED_BYTES, |piece| walk.take(piece))
        .map_err(|why| VendorError::malformed("payload", why.to_string()))?;
    if walk.skip > 0 || !walk.pending.is_empty() || walk.files.next().is_some() {
        return Err(VendorError::malformed("payload", "files of the list are missing"));
    }
    Ok(walk.total)
}

/// A walk over a cpio archive that arrives in pieces: it must hold the list's files in their order.
struct Walk<'a> {
    files: std::slice::Iter<'a, File>,
    /// The next entry's header, as the list makes it.
    pending: Vec<u8>,
    /// Bytes of `pending` that have not arrived.
    wanted: usize,
    /// Bytes of content and padding still to come.
    skip: usize,
    total: usize,
}

impl Walk<'_> {
    fn take(&mut self, mut piece: &[u8]) -> io::Result<()> {
        self.total += piece.len();
        while !piece.is_empty() {
            if self.wanted == 0 && self.skip == 0 {
                let file = self.files.next().ok_or_else(|| io::Error::other("more files than its list"))?;
                self.pending = file.cpio_header();
                self.wanted = self.pending.len();
                let size = if file.is_dir() { 0 } else { file.size as usize };
                self.skip = size.next_multiple_of(4);
            }
            let here = self.wanted.min(piece.len());
            let at = self.pending.len() - self.wanted;
            if piece[..here] != self.pending[at..at + here] {
                return Err(io::Error::other("an entry is not as its list says"));
            }
            self.wanted -= here;
            piece = &piece[here..];
            if self.wanted == 0 {
                self.pending.clear();
                let here = self.skip.min(piece.len());
                self.skip -= here;
                piece = &piece[here..];
            }
        }
        Ok(())
    }
}

/// The parts of an rpm, as far as it can be read: for naming differences.
pub(crate) fn layout(bytes: &[u8]) -> Vec<Span> {
    let mut spans = vec![Span { part: Part::Frame, range: 0..LEAD.min(bytes.len()) }];
    let Some(((tags, main), payload)) = headers(bytes) else { return spans };
    spans.push(Span { part: Part::Digests, range: LEAD..main });
    spans.push(Span { part: Part::Index, range: main..main + header::index_len(&tags) });
    for (tag, place) in header::places(&tags) {
        spans.push(Span { part: part(tag), range: main + place.start..main + place.end });
    }
    let end = gzip::stored_at_end(&bytes[payload..], limits::TAIL_BYTES);
    let split = end.map_or(bytes.len(), |(start, _)| payload + start);
    spans.push(Span { part: Part::Payload, range: payload..split });
    if split < bytes.len() {
        spans.push(Span { part: Part::SiteFile, range: split..bytes.len() });
    }
    spans
}

/// The part of the package that a tag belongs to.
fn part(number: u32) -> Part {
    let script = |name: &str| Part::Script(name.to_owned());
    match number {
        tag::PRE => script("pre"),
        tag::POST => script("post"),
        tag::PREUN => script("preun"),
        tag::POSTUN => script("postun"),
        tag::POSTTRANS => script("posttrans"),
        tag::SIZE | tag::PAYLOAD_DIGEST => Part::Derived(number),
        _ if files::ALL.contains(&number) => Part::FileList(number),
        _ => Part::Tag(number),
    }
}
