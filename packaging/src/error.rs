//! Why a package is not built, a vendor's package not taken, an enrolment file not put in.

use crate::limits;

/// What is wrong with the description of a package.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SpecError {
    /// A field holds what its format does not allow.
    #[error("{field}: {why}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What it must be.
        why: String,
    },
    /// A path is not absolute and clean.
    #[error(
        "{path:?} is no path of a package: it must be absolute, without empty, `.` or `..` parts, of letters, digits and `._+-@:~`, at most {} bytes",
        limits::PATH_BYTES
    )]
    Path {
        /// The path as given.
        path: String,
    },
    /// The path of the site's enrolment file is filled by no build.
    #[error("{} is left to the site's package: take it out of the description", crate::SITE_FILE)]
    Reserved,
    /// Two entries have one path.
    #[error("{path} is there twice: take one out")]
    Duplicate {
        /// The path.
        path: String,
    },
    /// An entry lies below something that is no directory.
    #[error("{path} lies below {parent}, which is no directory")]
    Below {
        /// The entry's path.
        path: String,
        /// The path of what is no directory.
        parent: String,
    },
    /// A mode with bits beyond permissions.
    #[error("{path}: mode {mode:04o} is more than permissions: setuid, setgid and sticky are never packaged")]
    Mode {
        /// The entry's path.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// A link to nowhere.
    #[error(
        "{path}: a link's target is 1 to {} bytes of letters, digits and `._+-@:~/`",
        limits::TARGET_BYTES
    )]
    Target {
        /// The link's path.
        path: String,
    },
    /// Configuration is a file.
    #[error("{path}: only a file can be configuration")]
    Config {
        /// The entry's path.
        path: String,
    },
    /// A script without its first line, with a NUL, or too long.
    #[error(
        "script {script}: it must end with a newline, hold no NUL, have at most {} bytes, and in a deb begin with `#!/bin/sh`",
        limits::SCRIPT_BYTES
    )]
    Script {
        /// The script's name.
        script: &'static str,
    },
    /// A bound of the format or of this builder.
    #[error("more than {limit} {what}")]
    TooMuch {
        /// Of what there is too much.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
}

/// Why bytes are not taken as a vendor's package.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum VendorError {
    /// Neither a deb nor an rpm.
    #[error("neither a deb nor an rpm: give the package as its vendor made it")]
    UnknownFormat,
    /// Beyond the bound.
    #[error("a package of more than {} bytes", limits::PACKAGE_BYTES)]
    TooLarge,
    /// A part is cut off, damaged, or not as this builder writes it.
    #[error("{part}: {why}: give the package as its vendor made it")]
    Malformed {
        /// The part of the package.
        part: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The package holds a site's file: it is some site's variant.
    #[error("the package holds {}: give the generic package, not one made for a site", crate::SITE_FILE)]
    HasSite,
    /// The package has no place for the site's file.
    #[error(
        "the package has no directory {}: only a package that has one can be made for a site",
        crate::SITE_DIR
    )]
    NoPlace,
}

impl VendorError {
    pub(crate) fn malformed(part: &'static str, why: impl Into<String>) -> VendorError {
        VendorError::Malformed { part, why: why.into() }
    }
}

/// Why a file is not put into a package as the site's.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum SiteFileError {
    /// Nothing.
    #[error("the enrolment file is empty")]
    Empty,
    /// Beyond the bound.
    #[error("an enrolment file of more than {} bytes", limits::SITE_FILE_BYTES)]
    TooLarge,
}

/// Why no enrolment file is taken out of a package.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum ExtractError {
    /// Neither a deb nor an rpm.
    #[error("neither a deb nor an rpm")]
    UnknownFormat,
    /// Beyond the bound.
    #[error("a package of more than {} bytes", limits::PACKAGE_BYTES)]
    TooLarge,
    /// The package ends as a generic one does.
    #[error("a generic package: it holds no {}", crate::SITE_FILE)]
    Generic,
    /// The end of the package is not what the builder writes.
    #[error("the package's end is not an enrolment file as qb packs it: cut off or altered")]
    NoSiteFile,
}
