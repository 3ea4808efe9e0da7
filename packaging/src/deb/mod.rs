//! The deb: `ar` of `debian-binary`, `control.tar.gz` and `data.tar.gz`.
//!
//! `control.tar.gz` is stored (see [`crate::gzip`]). `data.tar.gz` is two members: the vendor's files,
//! compressed, and the archive's end, stored. A site's package differs in the second one, in a line
//! of `md5sums`, and in the lengths that stand before both.

mod open;

pub(crate) use open::{Deb, is_end, layout, site_file};

use crate::spec::{Content, FileEntry, Format, PackageSpec, parents};
use crate::{ar, gzip, tar};
use md5::{Digest, Md5};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The version of the format.
const VERSION: &[u8] = b"2.0\n";
const VERSION_NAME: &str = "debian-binary";
const CONTROL_NAME: &str = "control.tar.gz";
const DATA_NAME: &str = "data.tar.gz";

/// A member of the control archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Control {
    name: String,
    mode: u32,
    content: Vec<u8>,
}

/// Builds the package. The description was checked.
pub(crate) fn write(spec: &PackageSpec) -> Vec<u8> {
    let entries = with_parents(spec.entries(Format::Deb));
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let mut contents: Vec<&[u8]> = Vec::new();
    for (path, entry) in &entries {
        pieces.push(tar_entry(path, entry.as_ref().copied(), spec.source_date).header().to_vec());
        contents.push(entry.map_or(&[][..], FileEntry::bytes));
    }
    let files = gzip::deflate(
        pieces
            .iter()
            .zip(&contents)
            .flat_map(|(header, bytes)| [&header[..], bytes, tar::padding(bytes.len())]),
    );
    let tail = gzip::stored(&tar::END);
    let mut out = head(&control(spec, &entries), spec.source_date, files.len() + tail.len());
    out.extend_from_slice(&files);
    out.extend_from_slice(&tail);
    out.extend_from_slice(ar::pad(files.len() + tail.len()));
    out
}

/// All entries and the directories above them, as dpkg wants them. The root has the empty path.
fn with_parents<'a>(entries: BTreeMap<&'a str, &'a FileEntry>) -> BTreeMap<&'a str, Option<&'a FileEntry>> {
    let mut all = BTreeMap::from([("", None)]);
    for path in entries.keys() {
        for parent in parents(path) {
            all.entry(parent).or_insert(None);
        }
    }
    all.extend(entries.into_iter().map(|(path, entry)| (path, Some(entry))));
    all
}

/// The header of an entry; without one, of a directory that every system has.
fn tar_entry(path: &str, entry: Option<&FileEntry>, date: u32) -> tar::Entry {
    let kind = match entry.map(|e| &e.content) {
        Some(Content::File(_)) => tar::Kind::File,
        Some(Content::Link(target)) => tar::Kind::Link(target.clone()),
        Some(Content::Dir) | None => tar::Kind::Dir,
    };
    let mode = match kind {
        tar::Kind::Link(_) => 0o777,
        _ => entry.map_or(0o755, |e| e.mode),
    };
    let slash = if kind == tar::Kind::Dir { "/" } else { "" };
    let size = entry.map_or(0, |e| e.bytes().len());
    tar::Entry { name: format!(".{path}{slash}"), mode, size, date, kind }
}

/// Everything before the payload: `payload` is the number of its bytes.
fn head(control: &[Control], date: u32, payload: usize) -> Vec<u8> {
    let mut archive = Vec::new();
    let dir = tar::Entry { name: "./".into(), mode: 0o755, size: 0, date, kind: tar::Kind::Dir };
    tar::push(&mut archive, &dir, &[]);
    for member in control {
        tar::push(&mut archive, &control_entry(member, date), &member.content);
    }
    archive.extend_from_slice(&tar::END);
    let mut out = ar::MAGIC.to_vec();
    ar::push(&mut out, VERSION_NAME, date, VERSION);
    ar::push(&mut out, CONTROL_NAME, date, &gzip::stored(&archive));
    out.extend_from_slice(&ar::header(DATA_NAME, date, payload));
    out
}

fn control_entry(member: &Control, date: u32) -> tar::Entry {
    let name = format!("./{}", member.name);
    tar::Entry { name, mode: member.mode, size: member.content.len(), date, kind: tar::Kind::File }
}

fn control(spec: &PackageSpec, entries: &BTreeMap<&str, Option<&FileEntry>>) -> Vec<Control> {
    let member = |name: &str, mode, content: Vec<u8>| Control { name: name.into(), mode, content };
    let files: Vec<&FileEntry> = entries.values().flatten().copied().collect();
    let mut sums = String::new();
    let mut conffiles = String::new();
    for entry in files.iter().filter(|e| matches!(e.content, Content::File(_))) {
        if entry.config {
            conffiles.push_str(&entry.path);
            conffiles.push('\n');
        } else {
            sums.push_str(&sum_line(&entry.path, entry.bytes()));
        }
    }
    let mut all = vec![member("control", 0o644, fields(spec, entries).into_bytes())];
    all.push(member("md5sums", 0o644, sums.into_bytes()));
    if !conffiles.is_empty() {
        all.push(member("conffiles", 0o644, conffiles.into_bytes()));
    }
    let deb = &spec.deb;
    for (name, script) in [
        ("preinst", &deb.preinst),
        ("postinst", &deb.postinst),
        ("prerm", &deb.prerm),
        ("postrm", &deb.postrm),
    ] {
        if let Some(text) = script {
            all.push(member(name, 0o755, text.clone().into_bytes()));
        }
    }
    all
}

/// A line of `md5sums`. dpkg knows no other digest there; it finds damage, nothing relies on it.
fn sum_line(path: &str, bytes: &[u8]) -> String {
    format!("{}  {}\n", crate::hex(&Md5::digest(bytes)), path.trim_start_matches('/'))
}

fn fields(spec: &PackageSpec, entries: &BTreeMap<&str, Option<&FileEntry>>) -> String {
    // As dpkg-gencontrol counts: whole KiB of each file, one for everything else.
    let installed: usize =
        entries.values().map(|e| e.map_or(1, |e| e.bytes().len().div_ceil(1024).max(1))).sum();
    let mut out = String::new();
    let mut field = |name: &str, value: &str| {
        // Writing to a String cannot fail; every value is a line without control characters.
        let _ = writeln!(out, "{name}: {value}");
    };
    field("Package", &spec.name);
    field("Version", &format!("{}-{}", spec.version, spec.release));
    field("Architecture", spec.arch.name(Format::Deb));
    field("Maintainer", &spec.maintainer);
    field("Installed-Size", &installed.to_string());
    for (name, list) in [
        ("Depends", &spec.deb.depends),
        ("Recommends", &spec.deb.recommends),
        ("Conflicts", &spec.deb.conflicts),
    ] {
        if !list.is_empty() {
            field(name, &list.join(", "));
        }
    }
    field("Section", "admin");
    field("Priority", "optional");
    if let Some(url) = &spec.url {
        field("Homepage", url);
    }
    field("Description", &spec.summary);
    for line in spec.description.trim().lines() {
        let line = line.trim_end();
        out.push_str(if line.is_empty() { " ." } else { " " });
        out.push_str(line);
        out.push('\n');
    }
    out
}
