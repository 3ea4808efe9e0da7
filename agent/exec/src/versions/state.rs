//! What is written down of the versions that came over the mesh: one file, which the executor and every
//! start of a unit read and change under one lock.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use qb_drivers::RelPath;
use qb_drivers::agent::VersionFloors;
use qb_drivers::bundle::directory_name;
use qb_model::ids::{Digest, Generation, PublicKey, Version};
use serde::{Deserialize, Serialize};

use crate::dir::Dir;

/// Bytes of the file: two lists of 64 floors, four versions, and reasons.
const FILE_BYTES: u64 = 128 * 1024;
const FILE: &str = "state.json";
const LOCK: &str = "lock";
/// Where versions lie, in the executor's directory.
const VERSIONS: &str = "versions";

/// Which of the two programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `qb-agent`.
    Agent,
    /// `qb-exec`.
    Exec,
}

impl Program {
    /// Its file's name.
    pub fn name(self) -> &'static str {
        qb_drivers::agent::PROGRAMS[self as usize]
    }
}

/// What a link leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The package's program.
    Packaged,
    /// The program of a bundle, by its manifest's digest.
    Installed(Digest),
}

/// A version that lies in a directory of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Installed {
    /// The bundle's manifest.
    pub(crate) digest: Digest,
    pub(crate) version: Version,
    /// Who signed it.
    pub(crate) publisher: PublicKey,
    /// SHA-256 of the programs' files, in the order of `qb_drivers::agent::PROGRAMS`.
    pub(crate) programs: [Digest; 2],
}

impl Installed {
    pub(crate) fn target(&self) -> Target {
        Target::Installed(self.digest)
    }
}

/// A version that has not proved itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trial {
    pub(crate) of: Installed,
    /// Digest of the order that began it.
    pub(crate) order: Digest,
    /// Starts of its agent before it was confirmed.
    pub(crate) agent_starts: u8,
    /// Starts of its executor.
    pub(crate) exec_starts: u8,
    /// Whether its agent said that it is well: from then on its executor is started too.
    pub(crate) confirmed: bool,
    /// The least versions once it runs well.
    pub(crate) floors: VersionFloors,
}

/// How the last trial ended. Kept until the next one: whoever starts later asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// Digest of the order that began it.
    pub order: Digest,
    /// The bundle's manifest.
    pub bundle: Digest,
    /// The version that was tried.
    pub version: Version,
    /// Why it was given up; none if it runs.
    pub why: Option<String>,
}

/// What was started last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Started {
    pub(crate) agent: Option<Target>,
    pub(crate) exec: Option<Target>,
}

/// Everything that is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// 1.
    pub(crate) v: u16,
    /// The package's version at the last start; none before the first.
    pub(crate) packaged: Option<Version>,
    /// What runs; none for the package's programs.
    pub(crate) current: Option<Installed>,
    /// What ran before: what to go back to if the current one is damaged.
    pub(crate) previous: Option<Installed>,
    pub(crate) trial: Option<Trial>,
    pub(crate) ended: Option<Ended>,
    pub(crate) started: Started,
    /// Generation of the newest order that was begun, and its digest.
    pub(crate) generation: Generation,
    pub(crate) order: Option<Digest>,
    pub(crate) floors: VersionFloors,
}

impl Default for State {
    fn default() -> Self {
        Self {
            v: 1,
            packaged: None,
            current: None,
            previous: None,
            trial: None,
            ended: None,
            started: Started::default(),
            generation: Generation(0),
            order: None,
            floors: VersionFloors::default(),
        }
    }
}

impl State {
    /// What runs if nothing is on trial.
    pub(crate) fn settled(&self) -> Target {
        self.current.as_ref().map_or(Target::Packaged, Installed::target)
    }

    /// Begins a trial. Whoever signed what ran before and is no publisher any more is not gone back to.
    pub(crate) fn try_out(&mut self, trial: Trial, generation: Generation, publishers: &[PublicKey]) {
        let trusted = |held: &Installed| publishers.contains(&held.publisher);
        self.previous = self.previous.take().filter(trusted);
        self.current = self.current.take().filter(trusted).or_else(|| self.previous.take());
        (self.generation, self.order) = (generation, Some(trial.order));
        self.trial = Some(trial);
    }

    /// Ends the trial: it runs.
    pub(crate) fn complete(&mut self) {
        let Some(trial) = self.trial.take() else { return };
        self.ended = Some(trial.ended(None));
        self.floors = trial.floors;
        self.previous = self.current.replace(trial.of);
    }

    /// Ends the trial: what ran before runs again.
    pub(crate) fn give_up(&mut self, why: String) {
        let Some(trial) = self.trial.take() else { return };
        self.ended = Some(trial.ended(Some(why)));
    }
}

impl Trial {
    fn ended(&self, why: Option<String>) -> Ended {
        Ended { order: self.order, bundle: self.of.digest, version: self.of.version.clone(), why }
    }
}

/// Why what is written down cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} cannot be {what}: {source}; check the disk. If the file is damaged, the package's programs run: remove it, then run `systemctl restart qb-exec qb-agent`"
)]
pub struct StoreError {
    path: PathBuf,
    what: &'static str,
    source: io::Error,
}

/// The directory of versions with its file.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) dir: Dir,
}

impl Store {
    /// Opens the directory of versions below the executor's, making it if it is missing. The agent's
    /// user starts programs there, and lists nothing.
    pub(crate) fn open(root: &Path) -> Result<Self, StoreError> {
        let path = root.join(VERSIONS);
        let open = || {
            Dir::create(root)?;
            let dir = Dir::create(&path)?;
            std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o711))?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o711))?;
            Ok(dir)
        };
        Ok(Self { dir: open().map_err(|source| StoreError { path: path.clone(), what: "made", source })? })
    }

    /// What is written down.
    pub(crate) fn read(&self) -> Result<State, StoreError> {
        let bytes = self.dir.read(&clean(FILE), FILE_BYTES).map_err(|e| self.error("read", e))?;
        let Some(bytes) = bytes else { return Ok(State::default()) };
        let state: State = serde_json::from_slice(&bytes).map_err(|e| self.error("understood", e.into()))?;
        match state.v {
            1 => Ok(state),
            _ => Err(self.error("understood", io::Error::other("its version is not 1"))),
        }
    }

    /// Changes it, under the lock; what is on disk is whole at any time. Nothing is written if nothing
    /// changed.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T, StoreError> {
        let _locked = self.lock()?;
        let mut state = self.read()?;
        let before = state.clone();
        let made = change(&mut state);
        if state != before {
            let bytes = serde_json::to_vec(&state).map_err(|e| self.error("written", e.into()))?;
            self.dir.write(&clean(FILE), &bytes, 0o600).map_err(|e| self.error("written", e))?;
        }
        Ok(made)
    }

    /// Deletes the versions that nothing refers to, and what was being unpacked.
    pub(crate) fn sweep(&self) -> Result<(), StoreError> {
        let _locked = self.lock()?;
        let state = self.read()?;
        let trial = state.trial.as_ref().map(|trial| &trial.of);
        let kept = [state.current.as_ref(), state.previous.as_ref(), trial];
        let kept: Vec<String> = kept.into_iter().flatten().map(|held| directory_name(&held.digest)).collect();
        for name in self.dir.names().map_err(|e| self.error("read", e))? {
            let is_version = name.as_str().trim_start_matches(".new-").starts_with("sha256-");
            if is_version && !kept.iter().any(|kept| kept == name.as_str()) {
                self.dir.remove_tree(&name).map_err(|e| self.error("tidied", e))?;
            }
        }
        Ok(())
    }

    /// The file of a program.
    pub(crate) fn program(&self, digest: &Digest, which: Program) -> PathBuf {
        self.dir.path().join(directory_name(digest)).join(which.name())
    }

    fn lock(&self) -> Result<File, StoreError> {
        let lock = || {
            let file = self.dir.append(&clean(LOCK))?;
            rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
            Ok(file)
        };
        lock().map_err(|e| self.error("locked", e))
    }

    fn error(&self, what: &'static str, source: io::Error) -> StoreError {
        StoreError { path: self.dir.path().join(FILE), what, source }
    }
}

fn clean(name: &'static str) -> RelPath {
    name.parse().expect("a constant clean path")
}
