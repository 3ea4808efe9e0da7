//! Packages of agents for a relay to hand out, where none were built: as large as one asks, with programs
//! that are no programs.

use std::path::Path;

use anyhow::{Context as _, Result};
use qb_package::{Arch, FileEntry, ForDeb, ForRpm, Format, PackageSpec, Vendor};

/// Puts a deb and an rpm of about `bytes` each into a directory.
///
/// # Errors
/// They cannot be built or written.
pub fn stock(dir: &Path, bytes: usize) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    let spec = PackageSpec {
        name: "qb-agent".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        release: "1".into(),
        arch: Arch::X86_64,
        summary: "agent of qb, for tests".into(),
        description: "Holds no program.".into(),
        license: "Apache-2.0".into(),
        maintainer: "qb <qb@example.invalid>".into(),
        url: None,
        deb: ForDeb::default(),
        rpm: ForRpm::default(),
        files: vec![
            FileEntry::file("/usr/bin/qb-agent", 0o755, noise),
            FileEntry::dir("/usr/share/qb", 0o755),
        ],
        source_date: 1_700_000_000,
    };
    for format in [Format::Deb, Format::Rpm] {
        let vendor = Vendor::open(spec.build(format)?.into())?;
        std::fs::write(dir.join(vendor.file_name()), vendor.bytes())?;
    }
    Ok(())
}
