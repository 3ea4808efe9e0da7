//! A site's package against the vendor's package that it was made from.
//!
//! The enrolment file is taken out, the package is made again, and both are compared byte by byte.
//! Where they differ, the parts of both are compared by name, so that what somebody changed is
//! named, and not the digests that follow from it.

use crate::error::ExtractError;
use crate::spec::Format;
use crate::vendor::Vendor;
use crate::{deb, gzip, limits, rpm};
use std::fmt;
use std::ops::Range;

/// A part of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// What holds the parts together: magic numbers, member headers, padding, lead.
    Frame,
    /// A deb's control fields.
    Control,
    /// A deb's checksums.
    Md5sums,
    /// A deb's list of configuration files.
    Conffiles,
    /// A maintainer script.
    Script(String),
    /// An rpm's digests of header and payload.
    Digests,
    /// An rpm header's index.
    Index,
    /// A tag of an rpm's header that follows from the files.
    Derived(u32),
    /// A tag of an rpm's list of files.
    FileList(u32),
    /// Another tag of an rpm's header.
    Tag(u32),
    /// The vendor's files.
    Payload,
    /// The package's end, with the site's file.
    SiteFile,
}

impl Part {
    /// Which part names a change best: what people write before what follows from it.
    fn rank(&self) -> u8 {
        match self {
            Part::Script(_) => 0,
            Part::Payload => 1,
            // A deb's fields hold the installed size, which follows from the files.
            Part::Control | Part::Conffiles | Part::Tag(_) => 2,
            Part::SiteFile => 3,
            Part::FileList(_) => 4,
            Part::Md5sums | Part::Digests | Part::Derived(_) => 5,
            Part::Index => 6,
            Part::Frame => 7,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Frame => f.write_str("the package's frame"),
            Part::Control => f.write_str("the control fields"),
            Part::Md5sums => f.write_str("the checksums of files"),
            Part::Conffiles => f.write_str("the list of configuration files"),
            Part::Script(name) => write!(f, "the script {name}"),
            Part::Digests => f.write_str("the digests of header and payload"),
            Part::Index => f.write_str("the header's index"),
            Part::Derived(tag) => write!(f, "tag {tag} of the header, which follows from the files"),
            Part::FileList(tag) => write!(f, "the list of files (tag {tag})"),
            Part::Tag(tag) => write!(f, "tag {tag} of the header"),
            Part::Payload => f.write_str("the vendor's files"),
            Part::SiteFile => f.write_str("the site's file at the package's end"),
        }
    }
}

/// Where a part lies in a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) part: Part,
    pub(crate) range: Range<usize>,
}

/// How a part differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// It has other bytes.
    Changed,
    /// The vendor's package gives no such part.
    Added,
    /// The package lacks it; the range is where it would be.
    Missing,
    /// No enrolment file can be taken out.
    NoSiteFile(ExtractError),
    /// A deb was compared with an rpm.
    OtherFormat,
}

/// The first difference between a package and what the vendor's package gives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Difference {
    /// The part that names the change best.
    pub part: Part,
    /// Bytes of the package that was looked at, from the first that differs to the last one in that part.
    pub range: Range<usize>,
    /// How the part differs.
    pub how: How,
    /// Other parts that differ, in the order of the package.
    pub also: Vec<Part>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes {}..{}: {}", self.range.start, self.range.end, self.part)?;
        match &self.how {
            How::Changed => f.write_str(" differ from what the vendor's package gives"),
            How::Added => f.write_str(": the vendor's package gives no such part"),
            How::Missing => f.write_str(": missing, the vendor's package gives it"),
            How::NoSiteFile(why) => write!(f, ": {why}"),
            How::OtherFormat => f.write_str(": the vendor's package is of the other format"),
        }
    }
}

/// A package that is the vendor's and one enrolment file, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The enrolment file. Whose it is, is for the caller to judge.
    pub site_file: Vec<u8>,
}

/// Takes the enrolment file out of a site's package. Says nothing of the rest of the package.
///
/// # Errors
/// If the package does not end as this builder ends a site's package.
pub fn extract_site_file(bytes: &[u8]) -> Result<Vec<u8>, ExtractError> {
    if bytes.len() > limits::PACKAGE_BYTES {
        return Err(ExtractError::TooLarge);
    }
    let format = Format::of(bytes).ok_or(ExtractError::UnknownFormat)?;
    let end = |bytes: &[u8]| gzip::stored_at_end(bytes, limits::TAIL_BYTES).map(|(_, end)| end);
    // A deb's member of odd length has one byte behind it.
    let padded = bytes.strip_suffix(b"\n").filter(|_| format == Format::Deb);
    let end = end(bytes).or_else(|| end(padded?)).ok_or(ExtractError::NoSiteFile)?;
    let (file, generic) = match format {
        Format::Deb => (deb::site_file(&end), deb::is_end(&end)),
        Format::Rpm => (rpm::site_file(&end), rpm::is_end(&end)),
    };
    match file {
        Some(file) => Ok(file.to_vec()),
        None if generic => Err(ExtractError::Generic),
        None => Err(ExtractError::NoSiteFile),
    }
}

/// Proves that a package is the vendor's with one enrolment file, whatever that file says.
///
/// # Errors
/// The first difference.
pub fn verify(file: &[u8], vendor: &Vendor) -> Result<Verified, Difference> {
    let no_file = |why| Difference {
        part: Part::SiteFile,
        range: vendor.end_of_files().min(file.len())..file.len(),
        how: How::NoSiteFile(why),
        also: Vec::new(),
    };
    check_format(file, vendor)?;
    let site_file = extract_site_file(file).map_err(no_file)?;
    verify_for(file, vendor, &site_file)?;
    Ok(Verified { site_file })
}

/// Proves that a package is the vendor's with exactly this enrolment file.
///
/// # Errors
/// The first difference; a file that no package can be made with counts as a missing one.
pub fn verify_for(file: &[u8], vendor: &Vendor, site_file: &[u8]) -> Result<(), Difference> {
    check_format(file, vendor)?;
    let expected = vendor.with_site(site_file).map_err(|_| Difference {
        part: Part::SiteFile,
        range: file.len()..file.len(),
        how: How::NoSiteFile(ExtractError::NoSiteFile),
        also: Vec::new(),
    })?;
    let expected = expected.to_vec();
    if file == expected {
        return Ok(());
    }
    let layout = match vendor.format() {
        Format::Deb => deb::layout,
        Format::Rpm => rpm::layout,
    };
    let wanted = layout(&expected);
    let mut spans = layout(file);
    // Damage that hides or bends a part: the places of the vendor's package still say what lies there.
    let parts = |all: &[Span]| all.iter().map(|s| s.part.clone()).collect::<Vec<_>>();
    let in_one = changed(file, &expected)
        .is_some_and(|range| wanted.iter().any(|s| s.range.start <= range.start && range.end <= s.range.end));
    if file.len() == expected.len() && (in_one || parts(&spans) != parts(&wanted)) {
        spans.clone_from(&wanted);
    }
    Err(difference(file, &spans, &expected, &wanted))
}

fn check_format(file: &[u8], vendor: &Vendor) -> Result<(), Difference> {
    match Format::of(file) {
        Some(format) if format == vendor.format() => Ok(()),
        _ => {
            let how = How::OtherFormat;
            Err(Difference { part: Part::Frame, range: 0..file.len().min(8), how, also: Vec::new() })
        }
    }
}

/// The bytes of `a` that differ from `b`: from the first to the last.
fn changed(a: &[u8], b: &[u8]) -> Option<Range<usize>> {
    if a == b {
        return None;
    }
    let same = |pairs: &mut dyn Iterator<Item = (&u8, &u8)>| pairs.take_while(|(x, y)| x == y).count();
    let front = same(&mut a.iter().zip(b));
    let back = same(&mut a[front..].iter().rev().zip(b[front..].iter().rev()));
    Some(front..a.len() - back)
}

/// The difference between two packages that are not equal.
fn difference(file: &[u8], spans: &[Span], expected: &[u8], expected_spans: &[Span]) -> Difference {
    // The n-th part of a name in one package is the n-th of that name in the other.
    let find = |all: &[Span], part: &Part, nth: usize| {
        all.iter().filter(|s| s.part == *part).nth(nth).map(|s| s.range.clone())
    };
    let numbered = |all: &[Span]| -> Vec<(Span, usize)> {
        all.iter()
            .enumerate()
            .map(|(n, s)| (s.clone(), all[..n].iter().filter(|other| other.part == s.part).count()))
            .collect()
    };
    let mut found: Vec<(Part, Range<usize>, How)> = Vec::new();
    for (span, nth) in numbered(spans) {
        match find(expected_spans, &span.part, nth) {
            None => found.push((span.part, span.range, How::Added)),
            Some(there) => {
                if let Some(range) = changed(&file[span.range.clone()], &expected[there]) {
                    let range = range.start + span.range.start..range.end + span.range.start;
                    found.push((span.part, range, How::Changed));
                }
            }
        }
    }
    for (span, nth) in numbered(expected_spans) {
        if find(spans, &span.part, nth).is_none() {
            let at = span.range.start.min(file.len());
            found.push((span.part, at..at, How::Missing));
        }
    }
    let best = (0..found.len()).min_by_key(|n| found[*n].0.rank());
    let Some(best) = best else {
        // Every part is the same: what differs stands between them.
        let range = changed(file, expected).unwrap_or(0..0);
        return Difference { part: Part::Frame, range, how: How::Changed, also: Vec::new() };
    };
    let (part, range, how) = found.remove(best);
    Difference { part, range, how, also: found.into_iter().map(|(part, ..)| part).collect() }
}
