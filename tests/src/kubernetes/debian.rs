//! Packages and sources of Debian 12, downloaded and unpacked, with nothing installed on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::lab::{mirror, system};

/// The release that has Kubernetes as a source package.
const RELEASE: &str = "bookworm";
/// Who signs it.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// How long a download may take: some 100 MB.
const DOWNLOAD: Duration = Duration::from_secs(900);
/// How long unpacking may take.
const UNPACK: Duration = Duration::from_secs(300);

/// apt with lists and a cache of its own: this machine's know nothing of it.
#[derive(Debug)]
pub(super) struct Debian {
    dir: PathBuf,
}

impl Debian {
    /// Reads the lists of the release from the mirror that this machine's apt uses.
    ///
    /// # Errors
    /// There is no mirror, or it does not answer.
    pub(super) fn open(dir: PathBuf) -> Result<Self> {
        for below in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(below))
                .with_context(|| format!("cannot make {}", dir.join(below).display()))?;
        }
        let mirror = mirror()?;
        let sources: String = ["deb", "deb-src"]
            .map(|kind| format!("{kind} [signed-by={KEYS}] {mirror} {RELEASE} main\n"))
            .concat();
        fs::write(dir.join("sources.list"), sources)?;
        let debian = Self { dir };
        debian.apt(&["update"]).context("cannot read the lists of Debian 12")?;
        Ok(debian)
    }

    fn apt(&self, args: &[&str]) -> Result<()> {
        let mut command = system::program("apt-get");
        let at = |leaf: &str| self.dir.join(leaf).display().to_string();
        for (key, value) in [
            ("Dir::State::Lists", at("lists")),
            ("Dir::State::Status", "/dev/null".to_owned()),
            ("Dir::Cache", at("cache")),
            ("Dir::Etc::SourceList", at("sources.list")),
            ("Dir::Etc::SourceParts", "/dev/null".to_owned()),
            ("APT::Sandbox::User", "root".to_owned()),
        ] {
            command.args(["-o", &format!("{key}={value}")]);
        }
        command.arg("-q").args(args).env("LC_ALL", "C").current_dir(&self.dir);
        system::run(command, b"", DOWNLOAD)?.ok().map(drop)
    }

    /// Unpacks binary packages over each other, into a folder that is there once it is whole.
    ///
    /// # Errors
    /// One cannot be had.
    pub(super) fn unpack(&self, packages: &[&str], to: &Path) -> Result<()> {
        let new = fresh(to)?;
        self.apt(&[&["download"], packages].concat())?;
        for package in packages {
            let deb = self.only(&format!("{package}_"), ".deb")?;
            let mut command = system::program("dpkg-deb");
            command.arg("--extract").arg(&deb).arg(&new);
            system::run(command, b"", UNPACK)?.ok()?;
            fs::remove_file(&deb)?;
        }
        fs::rename(&new, to).with_context(|| format!("cannot make {}", to.display()))
    }

    /// Unpacks a source package with Debian's patches.
    ///
    /// # Errors
    /// It cannot be had.
    pub(super) fn unpack_source(&self, package: &str, to: &Path) -> Result<()> {
        self.apt(&["source", "--download-only", package])?;
        let description = self.only(&format!("{package}_"), ".dsc")?;
        if to.exists() {
            fs::remove_dir_all(to)?;
        }
        let mut command = system::program("dpkg-source");
        // apt has compared its digest with the signed list; whose key signed it is not known here.
        command.args(["--no-check", "--extract"]).arg(&description).arg(to).current_dir(&self.dir);
        system::run(command, b"", UNPACK)?.ok().map(drop)
    }

    fn only(&self, begin: &str, end: &str) -> Result<PathBuf> {
        let fits = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(begin) && name.ends_with(end)
        };
        let mut found: Vec<_> =
            fs::read_dir(&self.dir)?.flatten().map(|entry| entry.path()).filter(fits).collect();
        match (found.pop(), found.is_empty()) {
            (Some(one), true) => Ok(one),
            (None, _) => bail!("apt brought no {begin}*{end} to {}", self.dir.display()),
            (Some(_), false) => bail!("several {begin}*{end} in {}: remove the older", self.dir.display()),
        }
    }
}

/// An empty folder beside one that is to be.
pub(super) fn fresh(to: &Path) -> Result<PathBuf> {
    let mut new = to.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    if new.exists() {
        fs::remove_dir_all(&new).with_context(|| format!("cannot remove {}", new.display()))?;
    }
    fs::create_dir_all(&new).with_context(|| format!("cannot make {}", new.display()))?;
    Ok(new)
}
