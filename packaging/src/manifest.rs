//! The description of a package as a TOML file: `packaging/NAME.toml`.
//!
//! Strict: a key of no meaning is an error that names it. Where files come from is a word that the
//! caller reads: a path relative to the description, or one below `{bin}`, `{gen}` or `{out}`.

use crate::error::SpecError;
use crate::gzip;
use crate::limits;
use crate::spec::{Arch, FileEntry, ForDeb, ForRpm, Format, PackageSpec};
use serde::Deserialize;

/// A package's description.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name of the package.
    pub name: String,
    /// One line.
    pub summary: String,
    /// Paragraphs.
    pub description: String,
    /// SPDX expression; that of qb if none is given.
    #[serde(default = "own_license")]
    pub license: String,
    /// `Name <address>`.
    #[serde(default = "own_maintainer")]
    pub maintainer: String,
    /// Home page.
    pub url: Option<String>,
    /// What must be installed.
    #[serde(default)]
    pub depends: PerFormat,
    /// What should be.
    #[serde(default)]
    pub recommends: PerFormat,
    /// What must not be.
    #[serde(default)]
    pub conflicts: PerFormat,
    /// Maintainer scripts, each a word for the caller to read.
    #[serde(default)]
    pub scripts: Scripts,
    /// Files.
    #[serde(default)]
    pub file: Vec<File>,
    /// Symbolic links.
    #[serde(default)]
    pub link: Vec<Link>,
    /// Directories that belong to the package.
    #[serde(default)]
    pub dir: Vec<Dir>,
}

fn own_license() -> String {
    env!("CARGO_PKG_LICENSE").to_owned()
}

fn own_maintainer() -> String {
    "The qb authors <qb@qb.invalid>".to_owned()
}

/// Dependencies in the words of each format.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PerFormat {
    /// Of the deb.
    pub deb: Vec<String>,
    /// Of the rpm.
    pub rpm: Vec<String>,
}

/// Maintainer scripts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scripts {
    /// Of the deb.
    pub deb: DebScripts,
    /// Of the rpm.
    pub rpm: RpmScripts,
}

/// A deb's scripts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the names are those of the formats")]
pub struct DebScripts {
    pub preinst: Option<String>,
    pub postinst: Option<String>,
    pub prerm: Option<String>,
    pub postrm: Option<String>,
}

/// An rpm's scripts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the names are those of the formats")]
pub struct RpmScripts {
    pub pre: Option<String>,
    pub post: Option<String>,
    pub preun: Option<String>,
    pub postun: Option<String>,
    pub posttrans: Option<String>,
}

/// One format's name, as a description says `only`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Only {
    /// The deb.
    Deb,
    /// The rpm.
    Rpm,
}

impl From<Only> for Format {
    fn from(only: Only) -> Format {
        match only {
            Only::Deb => Format::Deb,
            Only::Rpm => Format::Rpm,
        }
    }
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Path in the package; `{version}` is that of the build. If it ends in `.gz` and `from` does not,
    /// the file is compressed.
    pub to: String,
    /// Where its bytes come from.
    pub from: String,
    /// Permissions in octal.
    #[serde(default = "file_mode")]
    pub mode: String,
    /// Whether administrators change it.
    #[serde(default)]
    pub config: bool,
    /// Whether it is documentation.
    #[serde(default)]
    pub doc: bool,
    /// The one format that has it.
    pub only: Option<Only>,
}

/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Path in the package.
    pub to: String,
    /// What it points to.
    pub target: String,
    /// The one format that has it.
    pub only: Option<Only>,
}

/// A directory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dir {
    /// Path in the package.
    pub to: String,
    /// Permissions in octal.
    #[serde(default = "dir_mode")]
    pub mode: String,
    /// The one format that has it.
    pub only: Option<Only>,
}

fn file_mode() -> String {
    "0644".to_owned()
}

fn dir_mode() -> String {
    "0755".to_owned()
}

/// What a description does not say: it follows from the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Version of the programs.
    pub version: String,
    /// Number of the packaging.
    pub release: String,
    /// The machine that they are built for.
    pub arch: Arch,
    /// Seconds since 1970: the date of everything.
    pub source_date: u32,
}

/// Why a description gives no package.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Beyond the bound.
    #[error("a description of more than {} bytes", limits::MANIFEST_BYTES)]
    TooLarge,
    /// Not TOML, or a key of no meaning.
    #[error("{0}")]
    Toml(String),
    /// A mode that is no octal number.
    #[error("{path}: mode {mode:?} is no octal number like \"0644\"")]
    Mode {
        /// The entry's path.
        path: String,
        /// As given.
        mode: String,
    },
    /// Something named in the description could not be read.
    #[error("{from}: {why}")]
    Read {
        /// As given.
        from: String,
        /// What the caller said.
        why: String,
    },
    /// A script that is no text.
    #[error("{from}: a script is UTF-8 text")]
    Script {
        /// As given.
        from: String,
    },
    /// The package is not allowed so.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

/// Reads what a word of the description names. The error says why not.
pub type ReadSource<'a> = &'a mut dyn FnMut(&str) -> Result<Vec<u8>, String>;

impl Manifest {
    /// Parses a description.
    ///
    /// # Errors
    /// With line and column; a key of no meaning is named.
    pub fn parse(text: &str) -> Result<Manifest, ManifestError> {
        if text.len() > limits::MANIFEST_BYTES {
            return Err(ManifestError::TooLarge);
        }
        toml::from_str(text).map_err(|why| ManifestError::Toml(why.to_string().trim_end().to_owned()))
    }

    /// The package of this description; `read` gives the bytes behind each `from` and each script.
    ///
    /// # Errors
    /// What cannot be read, or a mode that is no number. What a package may hold is judged by
    /// [`PackageSpec::build`].
    pub fn package(&self, facts: &Facts, read: ReadSource<'_>) -> Result<PackageSpec, ManifestError> {
        let (deb, rpm) = (self.for_deb(read)?, self.for_rpm(read)?);
        // Only in paths, which are judged afterwards as they then are.
        let path = |word: &str| word.replace("{version}", &facts.version);
        let mut files = Vec::with_capacity(self.file.len() + self.link.len() + self.dir.len());
        for file in &self.file {
            let mut bytes = source(read, &path(&file.from))?;
            if file.to.ends_with(".gz") && !file.from.ends_with(".gz") {
                bytes = gzip::deflate([&bytes[..]]);
            }
            let entry = FileEntry::file(path(&file.to), mode(&file.to, &file.mode)?, bytes);
            let only = file.only.map(Into::into);
            files.push(FileEntry { config: file.config, doc: file.doc, only, ..entry });
        }
        for link in &self.link {
            let only = link.only.map(Into::into);
            files.push(FileEntry { only, ..FileEntry::link(path(&link.to), &link.target) });
        }
        for dir in &self.dir {
            let only = dir.only.map(Into::into);
            files.push(FileEntry { only, ..FileEntry::dir(path(&dir.to), mode(&dir.to, &dir.mode)?) });
        }
        Ok(PackageSpec {
            name: self.name.clone(),
            version: facts.version.clone(),
            release: facts.release.clone(),
            arch: facts.arch,
            summary: self.summary.clone(),
            description: self.description.clone(),
            license: self.license.clone(),
            maintainer: self.maintainer.clone(),
            url: self.url.clone(),
            deb,
            rpm,
            files,
            source_date: facts.source_date,
        })
    }

    fn for_deb(&self, read: ReadSource<'_>) -> Result<ForDeb, ManifestError> {
        let scripts = &self.scripts.deb;
        Ok(ForDeb {
            depends: self.depends.deb.clone(),
            recommends: self.recommends.deb.clone(),
            conflicts: self.conflicts.deb.clone(),
            preinst: script(read, scripts.preinst.as_ref())?,
            postinst: script(read, scripts.postinst.as_ref())?,
            prerm: script(read, scripts.prerm.as_ref())?,
            postrm: script(read, scripts.postrm.as_ref())?,
        })
    }

    fn for_rpm(&self, read: ReadSource<'_>) -> Result<ForRpm, ManifestError> {
        let scripts = &self.scripts.rpm;
        Ok(ForRpm {
            depends: self.depends.rpm.clone(),
            recommends: self.recommends.rpm.clone(),
            conflicts: self.conflicts.rpm.clone(),
            pre: script(read, scripts.pre.as_ref())?,
            post: script(read, scripts.post.as_ref())?,
            preun: script(read, scripts.preun.as_ref())?,
            postun: script(read, scripts.postun.as_ref())?,
            posttrans: script(read, scripts.posttrans.as_ref())?,
        })
    }
}

fn source(read: ReadSource<'_>, from: &str) -> Result<Vec<u8>, ManifestError> {
    read(from).map_err(|why| ManifestError::Read { from: from.to_owned(), why })
}

fn script(read: ReadSource<'_>, from: Option<&String>) -> Result<Option<String>, ManifestError> {
    let Some(from) = from else { return Ok(None) };
    let text = String::from_utf8(source(read, from)?);
    text.map(Some).map_err(|_| ManifestError::Script { from: from.clone() })
}

fn mode(path: &str, text: &str) -> Result<u32, ManifestError> {
    let octal = text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|_| octal)
        .ok_or_else(|| ManifestError::Mode { path: path.to_owned(), mode: text.to_owned() })
}
