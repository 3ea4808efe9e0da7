#![allow(clippy::unwrap_used)]

use qb_drivers::agent::VersionFloors;
use qb_model::ids::PublicKey;

use super::*;
use crate::versions::state::{Installed, Started, Trial};

const LATE: u64 = AGENT_TRIAL_MS;

fn installed(n: u8) -> Installed {
    let version = format!("0.{n}.0").parse().unwrap();
    let digest = Digest([n; 32]);
    Installed { digest, version, publisher: PublicKey([9; 32]), programs: [digest; 2] }
}

/// Version 1 runs. `trial` is whether version 2 is on trial, and confirmed; then what was started last.
fn state(trial: Option<bool>, agent: Option<u8>, exec: Option<u8>) -> State {
    let at = |n: u8| Target::Installed(Digest([n; 32]));
    let trial = trial.map(|confirmed| Trial {
        of: installed(2),
        order: Digest([7; 32]),
        agent_starts: 0,
        exec_starts: 0,
        confirmed,
        floors: VersionFloors::default(),
    });
    let started = Started { agent: agent.map(at), exec: exec.map(at) };
    State { current: Some(installed(1)), trial, started, ..State::default() }
}

#[test]
fn what_was_started_is_compared_with_what_is_to_run() {
    let (one, two) = (Some(1), Some(2));
    for (what, state, waited, want) in [
        ("settled", state(None, one, one), 0, Act::Nothing),
        ("by hand", state(None, None, None), 0, Act::Nothing),
        ("begun", state(Some(false), one, one), 0, Act::RestartAgent),
        ("asked for", state(Some(false), one, one), LATE - 1, Act::RestartAgent),
        ("the agent is not started", state(Some(false), one, one), LATE, Act::GiveUp),
        ("its agent starts", state(Some(false), two, one), LATE - 1, Act::Nothing),
        ("is not ready", state(Some(false), two, one), LATE, Act::GiveUp),
        ("is well", state(Some(true), two, one), 0, Act::RestartSelf),
        ("the executor is not started", state(Some(true), two, one), LATE, Act::GiveUp),
        ("its executor runs", state(Some(true), two, two), LATE - 1, Act::Nothing),
        ("they do not meet", state(Some(true), two, two), LATE, Act::GiveUp),
        ("given up: agent", state(None, two, one), 0, Act::RestartAgent),
        ("given up: both", state(None, two, two), 0, Act::RestartAgent),
        ("given up: executor", state(None, one, two), 0, Act::RestartSelf),
    ] {
        assert_eq!(next(&state, false, Millis(waited)), want, "{what}");
        assert_eq!(next(&state, true, Millis(waited)), Act::Nothing, "{what}, held");
        if want == Act::GiveUp {
            let missed = Phase::of(&state).unwrap().missed(&state);
            assert!(missed.contains("0.2.0") && missed.ends_with("within 30 s"), "{what}: {missed}");
        }
    }
}
