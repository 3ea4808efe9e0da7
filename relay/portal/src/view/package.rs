//! Packages of agents.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A package of a site's agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PackageView {
    /// `deb` or `rpm`.
    pub format: String,
    /// The machine that it is for, as the format calls it: `amd64`, `x86_64`.
    pub arch: String,
    /// Version and release: `0.1.0-1`.
    pub version: String,
    /// Where it is downloaded, without a session: `/packages/SITE/qb-agent.deb`.
    pub path: String,
    /// The name of the file.
    pub file: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in hex.
    pub sha256: String,
}

/// The packages that a door hands out for a site: the vendor's, with the site's enrolment file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PackagesView {
    /// Version of this document: 1.
    pub v: u8,
    /// The address before each path; none where no packages are.
    pub url: Option<String>,
    /// The packages; none at an agent's door.
    pub packages: Vec<PackageView>,
    /// One line for a machine that installs the right one. Its digests are this door's word; those of
    /// `qb package line` are computed by who types it.
    pub line: Option<String>,
}
