//! `qb-exec pick`: what runs before each start of the two units.

use std::io;
use std::path::{Path, PathBuf};

use qb_model::ids::Version;

use super::files;
use super::pick::{Picked, pick};
use super::state::{Program, State, Store, StoreError, Target};

/// Where the programs lie.
#[derive(Debug, Clone)]
pub struct Places {
    /// Directory of the executor.
    pub root: PathBuf,
    /// The package's agent.
    pub agent: PathBuf,
    /// The package's executor.
    pub exec: PathBuf,
    /// Directory of the links.
    pub links: PathBuf,
}

/// What was picked.
#[derive(Debug, PartialEq, Eq)]
pub struct Start {
    /// The file that the link leads to now.
    pub program: PathBuf,
    /// What people should know.
    pub notes: Vec<String>,
}

/// Picks the program that a unit starts and sets its link. Whatever is wrong with what is written down,
/// the package's program runs. `packaged` is the version of the package.
///
/// # Errors
/// The link cannot be set.
pub fn before(places: &Places, packaged: &Version, which: Program) -> io::Result<Start> {
    let (target, notes) = match decide(&places.root, packaged, which) {
        Ok(decided) => decided,
        Err(error) => (None, vec![format!("{error}; the package's program runs")]),
    };
    let program = target.unwrap_or_else(|| match which {
        Program::Agent => places.agent.clone(),
        Program::Exec => places.exec.clone(),
    });
    files::link(&places.links, which.name(), &program)?;
    Ok(Start { program, notes })
}

/// The file of a version, none for the package's.
fn decide(
    root: &Path,
    packaged: &Version,
    which: Program,
) -> Result<(Option<PathBuf>, Vec<String>), StoreError> {
    let store = Store::open(root)?;
    let look = |state: &State| pick(state, packaged, which, &|of| files::check(&store, of, which));
    let written = store.change(|state| {
        let picked = look(state);
        state.clone_from(&picked.state);
        picked
    });
    let Picked { target, mut notes, .. } = match written {
        Ok(picked) => picked,
        Err(error) => {
            // A start that cannot be counted is not one of a version on trial.
            let mut picked = look(&State { trial: None, ..store.read()? });
            picked.notes.insert(0, error.to_string());
            picked
        }
    };
    // The executor does so too; this is for a package that replaced what is there.
    if let Err(error) = store.sweep() {
        notes.push(error.to_string());
    }
    let file = match target {
        Target::Packaged => None,
        Target::Installed(digest) => Some(store.program(&digest, which)),
    };
    Ok((file, notes))
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
