//! Which program a unit starts: decided before every start, from what is written down, so that a version
//! which never gets ready is left by itself, whoever is killed meanwhile.

use qb_model::ids::Version;

use super::state::{Installed, Program, State, Target};

/// Starts of a version on trial: one that its executor asked for, and two by the init system.
pub(super) const STARTS: u8 = 3;

/// What a unit starts, and what is to be written down before it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picked {
    pub(super) target: Target,
    pub(super) state: State,
    /// What people should know.
    pub(super) notes: Vec<String>,
}

/// Picks. `sound` says what is wrong with the files of a version, if anything is.
pub(super) fn pick(
    state: &State,
    packaged: &Version,
    which: Program,
    sound: &dyn Fn(&Installed) -> Result<(), String>,
) -> Picked {
    let mut pick = Pick { state: state.clone(), notes: Vec::new() };
    pick.state.packaged = Some(packaged.clone());
    pick.outdated(packaged);
    let trial = pick.trial(which, sound);
    pick.damaged(sound);
    let target = trial.unwrap_or_else(|| pick.state.settled());
    match which {
        Program::Agent => pick.state.started.agent = Some(target),
        Program::Exec => pick.state.started.exec = Some(target),
    }
    Picked { target, state: pick.state, notes: pick.notes }
}

struct Pick {
    state: State,
    notes: Vec<String>,
}

impl Pick {
    /// A package that is as new, or newer, wins: an administrator installed it.
    fn outdated(&mut self, packaged: &Version) {
        let old = |held: &Installed| !packaged.precedence(&held.version).is_lt();
        if let Some(trial) = self.state.trial.as_ref().filter(|trial| old(&trial.of)) {
            self.give_up(format!("a package of version {packaged} was installed over {}", trial.of.version));
        }
        if let Some(current) = self.state.current.take_if(|current| old(current)) {
            self.notes.push(format!("the package's version {packaged} replaces {}", current.version));
            self.state.previous = None;
        }
        self.state.previous.take_if(|previous| old(previous));
    }

    /// The version on trial, if it is this one's turn: counted, and given up after too many starts.
    fn trial(&mut self, which: Program, sound: &dyn Fn(&Installed) -> Result<(), String>) -> Option<Target> {
        let trial = self.state.trial.as_mut()?;
        let starts = match (which, trial.confirmed) {
            (Program::Agent, false) => &mut trial.agent_starts,
            (Program::Exec, true) => &mut trial.exec_starts,
            (Program::Exec, false) => return None,
            // It was well once; whether it stays well is found out with the executor of its version.
            (Program::Agent, true) => {
                return match sound(&trial.of) {
                    Ok(()) => Some(trial.of.target()),
                    Err(why) => self.give_up(why),
                };
            }
        };
        if *starts >= STARTS {
            let why = format!(
                "{} {} was started {STARTS} times and never got ready",
                which.name(),
                trial.of.version
            );
            return self.give_up(why);
        }
        *starts += 1;
        match sound(&trial.of) {
            Ok(()) => Some(trial.of.target()),
            Err(why) => self.give_up(why),
        }
    }

    fn damaged(&mut self, sound: &dyn Fn(&Installed) -> Result<(), String>) {
        while let Some(current) = &self.state.current {
            let Err(why) = sound(current) else { return };
            self.notes.push(why);
            self.state.current = self.state.previous.take();
        }
    }

    fn give_up(&mut self, why: String) -> Option<Target> {
        self.notes.push(format!("back to the version before: {why}"));
        self.state.give_up(why);
        None
    }
}

#[cfg(test)]
#[path = "pick_tests.rs"]
mod tests;
