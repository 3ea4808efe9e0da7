//! The packages under test.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Variable that names another directory of packages than `target/packages`.
pub(super) const PACKAGES: &str = "QB_PACKAGES";

/// The folder that a variable names, else the one of this name in the directory that cargo builds in: the nearest
/// above this program. (Cargo's own mark of that directory is absent where something else made it first.)
///
/// # Errors
/// This program does not find its own file.
pub fn beside(variable: &str, name: &str) -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os(variable) {
        return Ok(PathBuf::from(dir));
    }
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let found = own.ancestors().map(|dir| dir.join(name)).find(|dir| dir.is_dir());
    Ok(found.unwrap_or_else(|| Path::new("target").join(name)))
}

/// A directory of packages.
#[derive(Debug, Clone)]
pub struct Packages {
    /// Where they lie.
    pub dir: PathBuf,
}

impl Packages {
    /// From `QB_PACKAGES`, else `packages` in the directory that cargo builds in.
    ///
    /// # Errors
    /// There are none, or this program does not find its own file.
    pub fn find() -> Result<Self> {
        let dir = beside(PACKAGES, "packages")?;
        let all = Self { dir };
        for name in ["qb-agent", "qb-relay"] {
            all.deb(name)?;
            all.rpm(name)?;
        }
        Ok(all)
    }

    /// The deb of this name.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn deb(&self, name: &str) -> Result<PathBuf> {
        self.only(&format!("{name}_"), ".deb")
    }

    /// The rpm of this name.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn rpm(&self, name: &str) -> Result<PathBuf> {
        self.only(&format!("{name}-0"), ".rpm")
    }

    fn only(&self, begin: &str, end: &str) -> Result<PathBuf> {
        let dir = self.dir.display();
        let entries = std::fs::read_dir(&self.dir);
        let entries =
            entries.with_context(|| format!("no packages in {dir}: just package, or set {PACKAGES}"))?;
        let fits = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with(begin) && name.ends_with(end)
        };
        let mut found: Vec<_> = entries.flatten().map(|e| e.path()).filter(fits).collect();
        ensure!(
            found.len() == 1,
            "{} packages {begin}*{end} in {dir}: just package, or set {PACKAGES}",
            found.len()
        );
        Ok(found.remove(0))
    }

    /// A deb as its vendor would build it later: of another version, with these changes to its files.
    ///
    /// # Errors
    /// dpkg-deb fails.
    pub fn newer(&self, deb: &Path, version: &str, into: &Path, change: &str) -> Result<PathBuf> {
        let out = into.join(format!("newer_{version}.deb"));
        let script = r#"
            tree="$(mktemp -d)"; trap 'rm -rf "$tree"' EXIT
            dpkg-deb -R "$1" "$tree"; sed -i "s/^Version: .*/Version: $2/" "$tree/DEBIAN/control"
            cd "$tree"; eval "$4"; find . -path ./DEBIAN -prune -o -type f -printf '%P\n' | sort | xargs md5sum >DEBIAN/md5sums
            dpkg-deb -Zgzip -z1 --root-owner-group -b "$tree" "$3""#;
        let mut command = Command::new("sh");
        command.args(["-euc", script, "sh"]).arg(deb.canonicalize()?).arg(version).arg(&out).arg(change);
        let ran = command.output().context("cannot run dpkg-deb")?;
        ensure!(ran.status.success(), "dpkg-deb: {}", String::from_utf8_lossy(&ran.stderr));
        Ok(out)
    }
}
