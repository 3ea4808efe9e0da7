//! Every bound of the package builder, with its reason.

/// Bytes of a vendor's or a site's package: six times what the agent's package weighs.
pub const PACKAGE_BYTES: usize = 256 * 1024 * 1024;
/// Bytes of a payload once unpacked: four times the packed bound, so that a bomb ends early.
pub const UNPACKED_BYTES: usize = 1024 * 1024 * 1024;
/// Bytes of an enrolment file: a charter of 8 KiB, relays and seeds fit seven times.
pub const SITE_FILE_BYTES: usize = 64 * 1024;
/// Bytes of a deb's control archive: eight scripts at their bound and the sums of a thousand files.
pub const CONTROL_BYTES: usize = 1024 * 1024;
/// Members of a deb's control archive: control, md5sums, conffiles, four scripts and their folder.
pub const CONTROL_MEMBERS: usize = 8;
/// Bytes of the data of an rpm header: scripts, texts, and 300 bytes for each file.
pub const HEADER_BYTES: usize = 4 * 1024 * 1024;
/// Tags of an rpm header: the builder writes some 70.
pub const HEADER_TAGS: usize = 256;
/// Files, links and directories of a package: a hundred times what any of ours holds.
pub const ENTRIES: usize = 10_000;
/// Bytes of a path: with `.` before and `/` behind it fills the 100 bytes of a ustar name.
pub const PATH_BYTES: usize = 98;
/// Bytes of a link's target: the field of a ustar header.
pub const TARGET_BYTES: usize = 100;
/// Bytes of a field of one line (summary, maintainer, one dependency).
pub const LINE_BYTES: usize = 256;
/// Bytes of a description.
pub const DESCRIPTION_BYTES: usize = 8 * 1024;
/// Bytes of a maintainer script.
pub const SCRIPT_BYTES: usize = 64 * 1024;
/// Dependencies of one kind.
pub const DEPENDENCIES: usize = 64;
/// Bytes of what follows the vendor's files in an unpacked payload: an entry of the format, the
/// enrolment file at its bound, the archive's end.
pub const TAIL_BYTES: usize = SITE_FILE_BYTES + 4096;
/// Bytes of a package's description file (TOML).
pub const MANIFEST_BYTES: usize = 256 * 1024;
