//! What a package holds, and what of that is allowed.

use crate::error::SpecError;
use crate::limits;
use std::collections::BTreeMap;

/// The two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// Debian, Ubuntu.
    Deb,
    /// RHEL, Rocky, SUSE, Fedora.
    Rpm,
}

impl Format {
    /// The format's name, which is also the end of a file's name: `deb`, `rpm`.
    pub fn name(self) -> &'static str {
        match self {
            Format::Deb => "deb",
            Format::Rpm => "rpm",
        }
    }

    /// The format of bytes by how they begin, if it is one of the two.
    pub fn of(bytes: &[u8]) -> Option<Format> {
        if bytes.starts_with(crate::ar::MAGIC) {
            Some(Format::Deb)
        } else if bytes.starts_with(&crate::rpm::LEAD_MAGIC) {
            Some(Format::Rpm)
        } else {
            None
        }
    }
}

/// The machine that a package's programs run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// x86-64.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

impl Arch {
    /// All of them.
    pub const ALL: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];

    /// What a format calls the machine.
    pub fn name(self, format: Format) -> &'static str {
        match (self, format) {
            (Arch::X86_64, Format::Deb) => "amd64",
            (Arch::X86_64, Format::Rpm) => "x86_64",
            (Arch::Aarch64, Format::Deb) => "arm64",
            (Arch::Aarch64, Format::Rpm) => "aarch64",
        }
    }
}

/// What belongs to a deb only. Dependencies in the words of deb control (`libc6 (>= 2.28)`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForDeb {
    /// `Depends`.
    pub depends: Vec<String>,
    /// `Recommends`.
    pub recommends: Vec<String>,
    /// `Conflicts`.
    pub conflicts: Vec<String>,
    /// Script before unpacking.
    pub preinst: Option<String>,
    /// Script after unpacking.
    pub postinst: Option<String>,
    /// Script before removal.
    pub prerm: Option<String>,
    /// Script after removal.
    pub postrm: Option<String>,
}

/// What belongs to an rpm only. Dependencies as `name` or `name >= version`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForRpm {
    /// `Requires`.
    pub depends: Vec<String>,
    /// `Recommends`.
    pub recommends: Vec<String>,
    /// `Conflicts`.
    pub conflicts: Vec<String>,
    /// Script before the files of this version.
    pub pre: Option<String>,
    /// Script after them.
    pub post: Option<String>,
    /// Script before removal.
    pub preun: Option<String>,
    /// Script after removal.
    pub postun: Option<String>,
    /// Script after the whole transaction.
    pub posttrans: Option<String>,
}

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A file with these bytes.
    File(Vec<u8>),
    /// A symbolic link to this target.
    Link(String),
    /// A directory that belongs to the package.
    Dir,
}

/// One entry of a package. It belongs to root, always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Absolute path.
    pub path: String,
    /// Permissions, at most 0777. A link's are not looked at.
    pub mode: u32,
    /// What lies there.
    pub content: Content,
    /// Configuration that an administrator may change: kept by upgrades (only files).
    pub config: bool,
    /// Documentation, which an rpm marks.
    pub doc: bool,
    /// Only in this format's package; None: in both.
    pub only: Option<Format>,
}

impl FileEntry {
    /// A file of root's with this mode.
    pub fn file(path: impl Into<String>, mode: u32, bytes: impl Into<Vec<u8>>) -> FileEntry {
        FileEntry::new(path, mode, Content::File(bytes.into()))
    }

    /// A symbolic link.
    pub fn link(path: impl Into<String>, target: impl Into<String>) -> FileEntry {
        FileEntry::new(path, 0o777, Content::Link(target.into()))
    }

    /// A directory.
    pub fn dir(path: impl Into<String>, mode: u32) -> FileEntry {
        FileEntry::new(path, mode, Content::Dir)
    }

    fn new(path: impl Into<String>, mode: u32, content: Content) -> FileEntry {
        FileEntry { path: path.into(), mode, content, config: false, doc: false, only: None }
    }

    /// The bytes that follow the entry's header in an archive of files.
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::File(bytes) => bytes,
            Content::Link(_) | Content::Dir => &[],
        }
    }
}

/// A package, whole: the same value makes the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageSpec {
    /// Name, in both formats.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Number of the packaging of that version.
    pub release: String,
    /// The machine.
    pub arch: Arch,
    /// One line.
    pub summary: String,
    /// Lines; an empty one divides paragraphs.
    pub description: String,
    /// SPDX expression.
    pub license: String,
    /// `Name <address>`.
    pub maintainer: String,
    /// Home page.
    pub url: Option<String>,
    /// What only a deb has.
    pub deb: ForDeb,
    /// What only an rpm has.
    pub rpm: ForRpm,
    /// Entries, in any order.
    pub files: Vec<FileEntry>,
    /// Seconds since 1970: the date of everything in the package.
    pub source_date: u32,
}

impl PackageSpec {
    /// The name of the package's file, as the format's tools write it.
    pub fn file_name(&self, format: Format) -> String {
        file_name(format, &self.name, &format!("{}-{}", self.version, self.release), self.arch)
    }

    /// Builds the package of a format.
    ///
    /// # Errors
    /// The first thing of the description that is not allowed.
    pub fn build(&self, format: Format) -> Result<Vec<u8>, SpecError> {
        self.check(format)?;
        match format {
            Format::Deb => Ok(crate::deb::write(self)),
            Format::Rpm => crate::rpm::write(self),
        }
    }

    /// The entries of a format's package, sorted by path.
    pub(crate) fn entries(&self, format: Format) -> BTreeMap<&str, &FileEntry> {
        self.files
            .iter()
            .filter(|e| e.only.is_none_or(|only| only == format))
            .map(|e| (e.path.as_str(), e))
            .collect()
    }

    fn check(&self, format: Format) -> Result<(), SpecError> {
        self.check_fields()?;
        match format {
            Format::Deb => check_lists(&[&self.deb.depends, &self.deb.recommends, &self.deb.conflicts])?,
            Format::Rpm => check_lists(&[&self.rpm.depends, &self.rpm.recommends, &self.rpm.conflicts])?,
        }
        let (deb, rpm) = (&self.deb, &self.rpm);
        let scripts: &[(&'static str, &Option<String>)] = match format {
            Format::Deb => &[
                ("preinst", &deb.preinst),
                ("postinst", &deb.postinst),
                ("prerm", &deb.prerm),
                ("postrm", &deb.postrm),
            ],
            Format::Rpm => &[
                ("pre", &rpm.pre),
                ("post", &rpm.post),
                ("preun", &rpm.preun),
                ("postun", &rpm.postun),
                ("posttrans", &rpm.posttrans),
            ],
        };
        for (script, text) in scripts {
            if text.as_ref().is_some_and(|text| !is_script(text, format)) {
                return Err(SpecError::Script { script });
            }
        }
        self.check_files(format)
    }

    fn check_fields(&self) -> Result<(), SpecError> {
        check_name(&self.name)?;
        check_version("version", &self.version)?;
        check_version("release", &self.release)?;
        for (field, text) in
            [("summary", &self.summary), ("license", &self.license), ("maintainer", &self.maintainer)]
        {
            check_line(field, text)?;
        }
        if let Some(url) = &self.url {
            check_line("url", url)?;
        }
        let clean = self.description.lines().all(|l| l.is_empty() || is_line(l));
        if self.description.trim().is_empty() || self.description.len() > limits::DESCRIPTION_BYTES || !clean
        {
            return Err(SpecError::Field {
                field: "description",
                why: format!(
                    "must be 1 to {} bytes in lines without control characters",
                    limits::DESCRIPTION_BYTES
                ),
            });
        }
        Ok(())
    }

    fn check_files(&self, format: Format) -> Result<(), SpecError> {
        if self.files.len() > limits::ENTRIES {
            return Err(SpecError::TooMuch { what: "entries", limit: limits::ENTRIES });
        }
        let mut bytes = 0_usize;
        let entries = self.entries(format);
        for (path, entry) in &entries {
            check_entry(entry)?;
            bytes = bytes.saturating_add(entry.bytes().len());
            // A clean path begins with a slash: the first parent is the root, which nobody lists.
            for parent in parents(path) {
                if entries.get(parent).is_some_and(|p| p.content != Content::Dir) {
                    return Err(SpecError::Below { path: (*path).into(), parent: parent.into() });
                }
            }
        }
        let mine = self.files.iter().filter(|e| e.only.is_none_or(|only| only == format));
        let mut seen = std::collections::BTreeSet::new();
        for entry in mine {
            if !seen.insert(&entry.path) {
                return Err(SpecError::Duplicate { path: entry.path.clone() });
            }
        }
        if bytes > limits::PACKAGE_BYTES {
            return Err(SpecError::TooMuch { what: "bytes of files", limit: limits::PACKAGE_BYTES });
        }
        Ok(())
    }
}

/// The directories above a clean path, the outermost first, without the root.
pub(crate) fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').skip(1).map(|(at, _)| &path[..at])
}

/// The name of a package's file; `version` with its release.
pub(crate) fn file_name(format: Format, name: &str, version: &str, arch: Arch) -> String {
    match format {
        Format::Deb => format!("{name}_{version}_{}.deb", arch.name(format)),
        Format::Rpm => format!("{name}-{version}.{}.rpm", arch.name(format)),
    }
}

fn check_entry(entry: &FileEntry) -> Result<(), SpecError> {
    let path = || entry.path.clone();
    if !is_path(&entry.path) {
        return Err(SpecError::Path { path: path() });
    }
    if entry.path == crate::SITE_FILE {
        return Err(SpecError::Reserved);
    }
    if entry.mode > 0o777 {
        return Err(SpecError::Mode { path: path(), mode: entry.mode });
    }
    if let Content::Link(target) = &entry.content
        && !(1..=limits::TARGET_BYTES).contains(&target.len())
            | !target.bytes().all(|b| is_path_byte(b) || b == b'/')
    {
        return Err(SpecError::Target { path: path() });
    }
    if entry.config && !matches!(entry.content, Content::File(_)) {
        return Err(SpecError::Config { path: path() });
    }
    Ok(())
}

fn is_path_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"._+-@:~".contains(&b)
}

/// Whether a path is absolute, clean and of the letters that packages use.
pub(crate) fn is_path(path: &str) -> bool {
    path.len() <= limits::PATH_BYTES
        && path.strip_prefix('/').is_some_and(|rest| {
            rest.split('/').all(|part| !["", ".", ".."].contains(&part) && part.bytes().all(is_path_byte))
        })
}

fn is_line(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

fn check_line(field: &'static str, text: &str) -> Result<(), SpecError> {
    if text.trim() != text || text.is_empty() || text.len() > limits::LINE_BYTES || !is_line(text) {
        let why = format!("must be one line of 1 to {} bytes without blanks around it", limits::LINE_BYTES);
        return Err(SpecError::Field { field, why });
    }
    Ok(())
}

/// Names that both formats take.
pub(crate) fn check_name(name: &str) -> Result<(), SpecError> {
    let rest_ok = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
    if !(2..=64).contains(&name.len()) || !rest_ok || !name.as_bytes()[0].is_ascii_alphanumeric() {
        let why = "must be 2 to 64 of a-z, 0-9, `+`, `-`, `.`, the first a letter or digit".into();
        return Err(SpecError::Field { field: "name", why });
    }
    Ok(())
}

/// Versions and releases that both formats take: neither knows `-` inside.
pub(crate) fn check_version(field: &'static str, text: &str) -> Result<(), SpecError> {
    let ok = text.bytes().all(|b| b.is_ascii_alphanumeric() || b".+~".contains(&b));
    if !(1..=32).contains(&text.len()) || !ok || !text.as_bytes()[0].is_ascii_digit() {
        let why = "must be 1 to 32 of letters, digits, `.`, `+`, `~`, the first a digit".into();
        return Err(SpecError::Field { field, why });
    }
    Ok(())
}

fn check_lists(lists: &[&Vec<String>]) -> Result<(), SpecError> {
    for list in lists {
        if list.len() > limits::DEPENDENCIES {
            return Err(SpecError::TooMuch { what: "dependencies of a kind", limit: limits::DEPENDENCIES });
        }
        for one in *list {
            check_line("dependency", one)?;
            if one.contains(',') {
                let why = format!("{one:?}: one dependency each, without a comma");
                return Err(SpecError::Field { field: "dependency", why });
            }
        }
    }
    Ok(())
}

fn is_script(text: &str, format: Format) -> bool {
    (format == Format::Rpm || text.starts_with("#!/bin/sh"))
        && text.ends_with('\n')
        && !text.contains('\0')
        && text.len() <= limits::SCRIPT_BYTES
}
