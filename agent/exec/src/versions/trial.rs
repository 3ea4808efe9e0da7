//! What comes next in an upgrade, decided from what is written down and nothing else: killed at any
//! point, whoever starts next goes on.
//!
//! ```text
//! trial ── agent restarted ── agent confirms ── executor restarted ── agent confirms again ──> current
//!   └───────────┴── late, or started three times ──┴───────────┴──> given up: both back to the one before
//! ```

use qb_model::ids::{Digest, Millis};
use qb_model::limits::AGENT_TRIAL_MS;

use super::state::{State, Target};

/// What the executor does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    /// The agent that was started last is not the one that is to run.
    RestartAgent,
    /// The executor is not.
    RestartSelf,
    /// The version on trial had its time.
    GiveUp,
}

/// A step of a trial: each has a time of its own. None if nothing is on trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Phase {
    pub(super) order: Digest,
    pub(super) confirmed: bool,
    agent: Option<Target>,
    exec: Option<Target>,
}

impl Phase {
    pub(super) fn of(state: &State) -> Option<Self> {
        let trial = state.trial.as_ref()?;
        let (agent, exec) = (state.started.agent, state.started.exec);
        Some(Self { order: trial.order, confirmed: trial.confirmed, agent, exec })
    }

    /// What did not happen in time.
    pub(super) fn missed(&self, state: &State) -> String {
        let Some(trial) = &state.trial else { return String::new() };
        let (version, within) = (&trial.of.version, AGENT_TRIAL_MS / 1_000);
        let on_trial = Some(trial.of.target());
        if !self.confirmed && self.agent == on_trial {
            format!("qb-agent {version} was not ready within {within} s")
        } else if !self.confirmed {
            format!("qb-agent {version} was not started within {within} s")
        } else if self.exec == on_trial {
            format!("qb-agent {version} did not reach qb-exec {version} within {within} s")
        } else {
            format!("qb-exec {version} was not started within {within} s")
        }
    }
}

/// What comes next. `waited` is how long this phase has lasted, as far as this process saw it.
pub(super) fn next(state: &State, held: bool, waited: Millis) -> Act {
    // On a machine that is held nothing is swapped, there or back.
    if held {
        return Act::Nothing;
    }
    let Some(trial) = &state.trial else {
        let settled = state.settled();
        let other = |started: Option<Target>| started.is_some_and(|started| started != settled);
        return match (other(state.started.agent), other(state.started.exec)) {
            (true, _) => Act::RestartAgent,
            (false, true) => Act::RestartSelf,
            (false, false) => Act::Nothing,
        };
    };
    let on_trial = Some(trial.of.target());
    if waited.0 >= AGENT_TRIAL_MS {
        Act::GiveUp
    } else if !trial.confirmed {
        if state.started.agent == on_trial { Act::Nothing } else { Act::RestartAgent }
    } else if state.started.exec == on_trial {
        Act::Nothing
    } else {
        Act::RestartSelf
    }
}

#[cfg(test)]
#[path = "trial_tests.rs"]
mod tests;
