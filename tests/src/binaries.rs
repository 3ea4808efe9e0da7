//! Where the programs under test are.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Variable that names another directory of programs, a release build for instance.
pub const BIN_DIR: &str = "QB_BIN_DIR";

/// The executor's program.
const EXEC: &str = "qb-exec";
/// The relay's program.
const RELAY: &str = "qb-relay";

/// The programs under test.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// Their directory.
    pub dir: PathBuf,
    /// `qb-agent`.
    pub agent: PathBuf,
    /// `qb`.
    pub qb: PathBuf,
    /// `qb-exec`; see [`Self::with_exec`].
    pub exec: PathBuf,
    /// `qb-relay`; see [`Self::with_relay`].
    pub relay: PathBuf,
}

impl Binaries {
    /// From `QB_BIN_DIR`, else beside this program.
    ///
    /// # Errors
    /// One is missing.
    pub fn find() -> Result<Self> {
        let dir = match std::env::var_os(BIN_DIR) {
            Some(dir) => PathBuf::from(dir),
            None => {
                let own = std::env::current_exe().context("cannot find this program's own file")?;
                let dir = own.parent().context("this program lies in no directory")?;
                // Test programs lie one level below.
                if dir.ends_with("deps") { dir.join("..") } else { dir.to_owned() }
            }
        };
        let dir = dir.canonicalize().with_context(|| format!("there is no directory {}", dir.display()))?;
        Self::of(dir)
    }

    fn of(dir: PathBuf) -> Result<Self> {
        let (agent, qb) = (program(&dir, "qb-agent")?, program(&dir, "qb")?);
        Ok(Self { agent, qb, exec: dir.join(EXEC), relay: dir.join(RELAY), dir })
    }

    /// The same programs, of which the relay is not needed by everybody.
    ///
    /// # Errors
    /// It is missing.
    pub fn with_relay(self) -> Result<Self> {
        Ok(Self { relay: program(&self.dir, RELAY)?, ..self })
    }

    /// The same programs, of which the executor is needed where it is a process of its own.
    ///
    /// # Errors
    /// It is missing.
    pub fn with_exec(self) -> Result<Self> {
        Ok(Self { exec: program(&self.dir, EXEC)?, ..self })
    }

    /// The same programs below another directory, so that a build in the meantime replaces nothing
    /// that runs.
    ///
    /// # Errors
    /// They can be neither linked nor copied.
    pub fn pinned(&self, dir: &Path) -> Result<Self> {
        let pinned = dir.join("bin");
        fs::create_dir_all(&pinned).with_context(|| format!("cannot make {}", pinned.display()))?;
        let relay = self.relay.is_file().then_some(&self.relay);
        for from in [&self.agent, &self.qb].into_iter().chain(relay) {
            let to = pinned.join(from.file_name().unwrap_or_default());
            // Another file system takes no link.
            let placed = fs::hard_link(from, &to).or_else(|_| fs::copy(from, &to).map(drop));
            placed.with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
        }
        Self::of(pinned)
    }
}

fn program(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    if !path.is_file() {
        bail!(
            "{} is missing: cargo build -p qb-agent -p qb-exec -p qb-cli -p qb-relay --bins, or set {BIN_DIR}",
            path.display()
        );
    }
    Ok(path)
}
