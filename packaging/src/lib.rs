//! qb-package: builds qb's deb and rpm packages, and makes a site's package from a vendor's.
//!
//! ```text
//!   packaging/NAME.toml ── Manifest ── PackageSpec ── build ──> vendor's package (deb, rpm)
//!                                                                  │
//!   Vendor::open ── verified once, kept ready ─────────────────────┘
//!     └─ with_site(enrolment file) ──> SitePackage = head + the vendor's packed files + tail
//!   verify(site's package, vendor) ──> the enrolment file, or the first bytes that differ
//! ```
//!
//! | file | holds |
//! |---|---|
//! | [`limits`] | every bound, with its reason |
//! | [`spec`] | what a package holds, and what of that is allowed |
//! | [`manifest`] | the TOML description of a package |
//! | `deb`, `ar`, `tar` | the deb |
//! | `rpm` | the rpm: headers, list of files, `cpio` |
//! | `gzip` | compressed and stored members |
//! | [`vendor`] | a vendor's package and those of sites |
//! | [`verify`] | a site's package against its vendor's |
//!
//! # Why not a library
//! A site's package must be made in milliseconds, and be the same bytes wherever it is made. Both
//! come from reusing the vendor's packed payload as it is and adding a stored gzip member; libraries
//! that write debs or rpms compress everything anew, and their bytes change with their version.
//!
//! # Invariants
//! - Pure: no file, process, clock or network. The program of this crate does the reading and writing.
//! - The same inputs give the same bytes; a site's package does not depend on any compression.
//! - Nothing that makes a site's package takes a path, a script or a name: only the file's bytes.
//! - A vendor's package is taken only if this builder would write its heads exactly so.
//! - Owners are root, modes are permissions; scripts are text that nothing is put into.

mod ar;
mod deb;
pub mod error;
mod gzip;
pub mod limits;
pub mod manifest;
mod rpm;
pub mod spec;
mod tar;
pub mod vendor;
pub mod verify;

pub use error::{ExtractError, SiteFileError, SpecError, VendorError};
pub use manifest::{Facts, Manifest, ManifestError};
pub use spec::{Arch, Content, FileEntry, ForDeb, ForRpm, Format, PackageSpec};
pub use vendor::{FromVendorError, SitePackage, Vendor};
pub use verify::{Difference, Part, Verified, extract_site_file, verify, verify_for};

/// The one file that a site's package has more than its vendor's.
pub const SITE_FILE: &str = "/usr/share/qb/site.enroll.json";
/// The directory of that file, which a vendor's package must have.
pub const SITE_DIR: &str = "/usr/share/qb";
/// The mode of that file: it holds nothing secret.
const SITE_MODE: u32 = 0o644;

/// SHA-256 of a whole package in hex, as install lines and `SHA256SUMS` name it.
pub fn digest(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex(&sha2::Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}
