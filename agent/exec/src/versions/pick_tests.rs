#![allow(clippy::unwrap_used)]

use qb_drivers::agent::VersionFloors;
use qb_model::ids::{Digest, PublicKey};

use super::*;
use crate::versions::state::Trial;

fn installed(n: u8) -> Installed {
    Installed {
        digest: Digest([n; 32]),
        version: format!("0.{n}.0").parse().unwrap(),
        publisher: PublicKey([9; 32]),
        programs: [Digest([n; 32]), Digest([100 + n; 32])],
    }
}

fn trial(n: u8, agent_starts: u8, exec_starts: u8, confirmed: bool) -> Option<Trial> {
    let (of, order) = (installed(n), Digest([200; 32]));
    Some(Trial { of, order, agent_starts, exec_starts, confirmed, floors: VersionFloors::default() })
}

fn at(n: u8) -> Target {
    Target::Installed(Digest([n; 32]))
}

fn state(current: Option<u8>, previous: Option<u8>, trial: Option<Trial>) -> State {
    State { current: current.map(installed), previous: previous.map(installed), trial, ..State::default() }
}

// Afterwards: current version, counts of the trial's two programs, why the last one was given up.
#[test]
fn a_unit_starts_what_is_to_run() {
    use Program::{Agent, Exec};
    use Target::Packaged;
    let never = Some("was started 3 times");
    for (what, state, packaged, damaged, which, target, (current, counts, why)) in [
        ("nothing came", state(None, None, None), 1, &[][..], Agent, Packaged, (None, None, None)),
        ("current", state(Some(2), None, None), 1, &[], Exec, at(2), (Some(2), None, None)),
        ("a package as new", state(Some(2), Some(1), None), 2, &[], Agent, Packaged, (None, None, None)),
        ("a newer package", state(Some(2), None, None), 3, &[], Exec, Packaged, (None, None, None)),
        (
            "first start",
            state(None, None, trial(2, 0, 0, false)),
            1,
            &[],
            Agent,
            at(2),
            (None, Some((1, 0)), None),
        ),
        (
            "third start",
            state(Some(2), None, trial(3, 2, 0, false)),
            1,
            &[],
            Agent,
            at(3),
            (Some(2), Some((3, 0)), None),
        ),
        ("fourth", state(Some(2), None, trial(3, 3, 0, false)), 1, &[], Agent, at(2), (Some(2), None, never)),
        (
            "fourth, of a package",
            state(None, None, trial(3, 3, 0, false)),
            1,
            &[],
            Agent,
            Packaged,
            (None, None, never),
        ),
        // The executor that looks after the trial stays until its agent is well.
        (
            "old executor",
            state(Some(2), None, trial(3, 1, 0, false)),
            1,
            &[],
            Exec,
            at(2),
            (Some(2), Some((1, 0)), None),
        ),
        (
            "new executor",
            state(None, None, trial(3, 1, 0, true)),
            1,
            &[],
            Exec,
            at(3),
            (None, Some((1, 1)), None),
        ),
        (
            "its fourth start",
            state(Some(2), None, trial(3, 1, 3, true)),
            1,
            &[],
            Exec,
            at(2),
            (Some(2), None, never),
        ),
        (
            "confirmed agent",
            state(Some(2), None, trial(3, 3, 1, true)),
            1,
            &[],
            Agent,
            at(3),
            (Some(2), Some((3, 1)), None),
        ),
        (
            "a package in between",
            state(None, None, trial(2, 1, 0, false)),
            2,
            &[],
            Agent,
            Packaged,
            (None, None, Some("a package of version 0.2.0")),
        ),
        (
            "damaged on trial",
            state(Some(2), None, trial(3, 0, 0, false)),
            1,
            &[3],
            Agent,
            at(2),
            (Some(2), None, Some("damaged")),
        ),
        ("damaged", state(Some(3), Some(2), None), 1, &[3], Agent, at(2), (Some(2), None, None)),
        ("both damaged", state(Some(3), Some(2), None), 1, &[3, 2], Exec, Packaged, (None, None, None)),
        (
            "all damaged",
            state(Some(3), Some(2), trial(4, 0, 0, true)),
            1,
            &[4, 3, 2],
            Exec,
            Packaged,
            (None, None, Some("damaged")),
        ),
    ] {
        let packaged = installed(packaged).version;
        let sound = |of: &Installed| match damaged.contains(&of.digest.0[0]) {
            true => Err("damaged".to_owned()),
            false => Ok(()),
        };
        let picked = pick(&state, &packaged, which, &sound);
        assert_eq!(picked.target, target, "{what}");
        let after = &picked.state;
        assert_eq!(after.current, current.map(installed), "{what}");
        assert_eq!(after.trial.as_ref().map(|t| (t.agent_starts, t.exec_starts)), counts, "{what}");
        let given_up = after.ended.as_ref().and_then(|ended| ended.why.clone());
        assert_eq!(given_up.is_some(), why.is_some(), "{what}: {given_up:?}");
        assert!(given_up.unwrap_or_default().contains(why.unwrap_or_default()), "{what}");
        assert_eq!(after.packaged, Some(packaged), "{what}");
        let started = if which == Agent { after.started.agent } else { after.started.exec };
        assert_eq!(started, Some(target), "{what}");
        let told = after.current != state.current || after.ended != state.ended;
        assert_eq!(!picked.notes.is_empty(), told, "{what}: what changed is said: {:?}", picked.notes);
    }
}
