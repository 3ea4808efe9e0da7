//! A vendor's package, prepared once, and the packages of sites that are made from it.

use crate::deb::Deb;
use crate::error::{SiteFileError, VendorError};
use crate::limits;
use crate::rpm::Rpm;
use crate::spec::{self, Arch, Format};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::ops::Range;

/// What a package says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    name: String,
    /// With the release.
    version: String,
    arch: Arch,
}

impl Identity {
    /// None if name or version (with its release) are not what this builder lets through.
    pub(crate) fn new(name: &str, version: &str, arch: Arch) -> Option<Identity> {
        let (upstream, release) = version.split_once('-')?;
        spec::check_name(name).ok()?;
        spec::check_version("version", upstream).ok()?;
        spec::check_version("release", release).ok()?;
        Some(Identity { name: name.to_owned(), version: version.to_owned(), arch })
    }
}

/// What surrounds the vendor's files in a site's package.
pub(crate) struct Pieces {
    pub(crate) head: Vec<u8>,
    pub(crate) tail: Vec<u8>,
}

#[derive(Debug)]
enum Body {
    Deb(Deb),
    Rpm(Rpm),
}

/// A generic package as its vendor built it, verified and ready for the files of sites.
///
/// Opening unpacks and hashes it once; each site's package then costs the hashing of its own small
/// parts. The vendor's packed files are shared by all of them.
#[derive(Debug)]
pub struct Vendor {
    bytes: Bytes,
    shared: Range<usize>,
    identity: Identity,
    body: Body,
}

impl Vendor {
    /// Takes a package of this builder, checking every part of it.
    ///
    /// # Errors
    /// If it is of another format, damaged, altered, already some site's, or has no directory for
    /// the site's file. Any input is safe: lengths are bounded before they are used.
    pub fn open(bytes: Bytes) -> Result<Vendor, VendorError> {
        if bytes.len() > limits::PACKAGE_BYTES {
            return Err(VendorError::TooLarge);
        }
        let (body, identity, shared) = match Format::of(&bytes).ok_or(VendorError::UnknownFormat)? {
            Format::Deb => {
                let (deb, identity, shared) = Deb::open(&bytes)?;
                (Body::Deb(deb), identity, shared)
            }
            Format::Rpm => {
                let (rpm, identity, shared) = Rpm::open(&bytes)?;
                (Body::Rpm(rpm), identity, shared)
            }
        };
        Ok(Vendor { bytes, shared, identity, body })
    }

    /// The package's format.
    pub fn format(&self) -> Format {
        match self.body {
            Body::Deb(_) => Format::Deb,
            Body::Rpm(_) => Format::Rpm,
        }
    }

    /// The package's name, `qb-agent`.
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// Version and release, `0.1.0-1`.
    pub fn version(&self) -> &str {
        &self.identity.version
    }

    /// The machine that it is for.
    pub fn arch(&self) -> Arch {
        self.identity.arch
    }

    /// The name of the package's file; a site's package has the same.
    pub fn file_name(&self) -> String {
        spec::file_name(self.format(), self.name(), self.version(), self.arch())
    }

    /// The vendor's bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Where the vendor's files end in its package: about where the end of a site's package begins.
    pub(crate) fn end_of_files(&self) -> usize {
        self.shared.end
    }

    /// The package of a site: this one and exactly one file more, [`crate::SITE_FILE`].
    ///
    /// # Errors
    /// If the file is empty or larger than [`limits::SITE_FILE_BYTES`].
    pub fn with_site(&self, file: &[u8]) -> Result<SitePackage, SiteFileError> {
        match file.len() {
            0 => return Err(SiteFileError::Empty),
            n if n > limits::SITE_FILE_BYTES => return Err(SiteFileError::TooLarge),
            _ => {}
        }
        let shared = self.bytes.slice(self.shared.clone());
        let Pieces { head, tail } = match &self.body {
            Body::Deb(deb) => deb.pieces(shared.len(), file),
            Body::Rpm(rpm) => rpm.pieces(shared.len(), file),
        };
        Ok(SitePackage { file_name: self.file_name(), chunks: [head.into(), shared, tail.into()] })
    }
}

/// A site's package in three pieces, the middle one shared with its vendor's package.
#[derive(Debug, Clone)]
pub struct SitePackage {
    file_name: String,
    chunks: [Bytes; 3],
}

impl SitePackage {
    /// From a vendor's package and an enrolment file, in one go.
    ///
    /// # Errors
    /// As [`Vendor::open`] and [`Vendor::with_site`].
    pub fn from_vendor(vendor: Bytes, file: &[u8]) -> Result<SitePackage, FromVendorError> {
        Ok(Vendor::open(vendor)?.with_site(file)?)
    }

    /// The name of the package's file.
    pub fn file_name(&self) -> &str {
        &self.file_name
    }

    /// Bytes of the whole package.
    #[allow(clippy::len_without_is_empty, reason = "no package is empty")]
    pub fn len(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    /// The package's bytes in order. Clones share memory.
    pub fn chunks(&self) -> [Bytes; 3] {
        self.chunks.clone()
    }

    /// SHA-256 of the whole package in hex: what an install line names. Reads all its bytes.
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        self.chunks.iter().for_each(|chunk| hasher.update(chunk));
        crate::hex(&hasher.finalize())
    }

    /// The whole package, copied.
    pub fn to_vec(&self) -> Vec<u8> {
        self.chunks.concat()
    }
}

/// Why no site's package was made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FromVendorError {
    /// The vendor's package was not taken.
    #[error(transparent)]
    Vendor(#[from] VendorError),
    /// The file was not.
    #[error(transparent)]
    SiteFile(#[from] SiteFileError),
}
