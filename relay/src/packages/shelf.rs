//! The vendor's packages as they lie in a directory, opened once.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use qb_package::{Arch, Format, Vendor};

use crate::limits::{PACKAGE_BYTES, PACKAGE_FILES};

/// A kind of package that is handed out.
pub(crate) struct Kind {
    /// The last part of its path.
    pub(super) route: &'static str,
    format: Format,
    arch: Arch,
}

/// All kinds; the first two are those that the install line picks from.
pub(crate) const KINDS: [Kind; 4] = [
    Kind { route: "qb-agent.deb", format: Format::Deb, arch: Arch::X86_64 },
    Kind { route: "qb-agent.rpm", format: Format::Rpm, arch: Arch::X86_64 },
    Kind { route: "qb-agent.arm64.deb", format: Format::Deb, arch: Arch::Aarch64 },
    Kind { route: "qb-agent.aarch64.rpm", format: Format::Rpm, arch: Arch::Aarch64 },
];

impl Kind {
    pub(super) fn format(&self) -> &'static str {
        self.format.name()
    }

    pub(super) fn arch(&self) -> &'static str {
        self.arch.name(self.format)
    }

    /// Whether a file is called as a package of this kind.
    fn names(&self, file: &str) -> bool {
        let (begin, between) = match self.format {
            Format::Deb => ("qb-agent_", "_"),
            Format::Rpm => ("qb-agent-", "."),
        };
        file.starts_with(begin) && file.ends_with(&format!("{between}{}.{}", self.arch(), self.format()))
    }
}

/// A vendor's package, ready for sites.
pub(crate) struct Kept {
    pub(super) vendor: Vendor,
    /// SHA-256 of the vendor's bytes in hex.
    pub(super) sha256: Arc<str>,
}

/// What a relay hands out: of each kind one, or none.
#[derive(Default)]
pub(crate) struct Shelf([Option<Arc<Kept>>; KINDS.len()]);

impl Shelf {
    /// Opens the packages of a directory. One that is missing, damaged or of another version is left
    /// out, which the log says: a relay without packages still forwards what admins sign. Reads and
    /// hashes them: not for a runtime's own threads.
    pub(crate) fn open(dir: &Path) -> Self {
        let mut shelf = Self::default();
        let names = match list(dir) {
            Ok(names) => names,
            Err(error) => {
                let dir = dir.display();
                tracing::warn!("no packages of agents are handed out, {dir} cannot be read: {error:#}");
                return shelf;
            }
        };
        for (at, kind) in KINDS.iter().enumerate() {
            let found: Vec<&String> = names.iter().filter(|name| kind.names(name)).collect();
            match shelf.take(kind, dir, &found) {
                Ok(Some(kept)) => {
                    let (version, sha256) = (kept.vendor.version(), &kept.sha256);
                    tracing::info!(%version, %sha256, "hands out /packages/{}", kind.route);
                    shelf.0[at] = Some(Arc::new(kept));
                }
                Ok(None) if kind.arch == Arch::Aarch64 => {}
                Ok(None) => tracing::warn!("hands out no {}: {} has none", kind.route, dir.display()),
                Err(error) => {
                    tracing::error!("hands out no {}: {error:#}: install qb-relay again", kind.route);
                }
            }
        }
        shelf
    }

    fn take(&self, kind: &Kind, dir: &Path, found: &[&String]) -> Result<Option<Kept>> {
        let name = match found {
            [] => return Ok(None),
            [one] => dir.join(one),
            several => bail!("{} has {several:?}: leave one", dir.display()),
        };
        let read = || -> Result<Vendor> {
            let mut bytes = Vec::new();
            File::open(&name)?.take(PACKAGE_BYTES + 1).read_to_end(&mut bytes)?;
            ensure!(bytes.len() as u64 <= PACKAGE_BYTES, "more than {PACKAGE_BYTES} bytes");
            Ok(Vendor::open(bytes.into())?)
        };
        let vendor = read().with_context(|| name.display().to_string())?;
        let is = (vendor.name(), vendor.format(), vendor.arch());
        ensure!(is == ("qb-agent", kind.format, kind.arch), "{}: it holds {is:?}", name.display());
        if let Some((.., other)) = self.all().next() {
            let (own, other) = (vendor.version(), other.vendor.version());
            ensure!(own == other, "{} is of version {own}, another one of {other}", name.display());
        }
        let sha256 = qb_package::digest(vendor.bytes()).into();
        Ok(Some(Kept { vendor, sha256 }))
    }

    pub(crate) fn get(&self, at: usize) -> Option<&Arc<Kept>> {
        self.0.get(at)?.as_ref()
    }

    /// Those that are there, with their numbers.
    pub(crate) fn all(&self) -> impl Iterator<Item = (usize, &'static Kind, &Arc<Kept>)> {
        let all = self.0.iter().enumerate().zip(&KINDS);
        all.filter_map(|((at, kept), kind)| Some((at, kind, kept.as_ref()?)))
    }
}

fn list(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)?.take(PACKAGE_FILES) {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}
