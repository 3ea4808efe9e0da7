//! Whole upgrades on one machine: the executor that is real, an init system and programs that are played.
//! Time is played too.
#![allow(clippy::unwrap_used)]

mod machine;
mod signed;

use machine::{Machine, Plays};
use qb_model::action::Action;
use qb_model::dsse::Signer as _;
use signed::{Built, Signed, key};

pub(super) use machine::World;

use super::*;

const GOOD: Plays = Plays { agent: "well", exec: "well" };

#[tokio::test(start_paused = true)]
async fn a_good_version_runs_and_the_one_before_is_kept() {
    let mut machine = Machine::new("0.1.0").await;
    let two = machine.site.build("0.2.0", 50);
    machine.plays("0.2.0", GOOD);
    let order = machine.site.order(1, &two);
    let view = machine.ask(&order, &two).await.unwrap();
    assert_eq!(view.trial.unwrap().version.as_str(), "0.2.0");
    machine.settled().await;
    assert_eq!(machine.runs(), ("0.2.0".to_owned(), "0.2.0".to_owned()));
    let ended = machine.view().ended.unwrap();
    assert_eq!((ended.order, ended.why), (order.digest(), None));
    // Asked once more it is known, and nothing is done.
    let again = machine.ask(&order, &two).await.unwrap();
    assert_eq!((again.trial, again.ended.map(|e| e.order)), (None, Some(order.digest())));
    // The next one: the one before stays, what was before that goes.
    for (generation, text, trees) in [(2, "0.3.0", 2), (3, "0.4.0", 2)] {
        let built = machine.site.build(text, 50);
        machine.plays(text, GOOD);
        machine.ask(&machine.site.order(generation, &built), &built).await.unwrap();
        machine.settled().await;
        assert_eq!(machine.runs().0, text);
        assert_eq!(machine.trees(), trees);
    }
    // A package that is newer wins at the next start, and the versions of the mesh go.
    machine.package("0.5.0");
    machine.boot().await;
    machine.settled().await;
    assert_eq!(machine.runs(), ("0.5.0".to_owned(), "0.5.0".to_owned()));
    assert_eq!(machine.trees(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_bad_version_is_left_and_said_why() {
    for (plays, why) in [
        (Plays { agent: "hangs", exec: "well" }, "was not ready within 30 s: its unit is played"),
        (Plays { agent: "crashes", exec: "well" }, "was started 3 times and never got ready"),
        (Plays { agent: "absent", exec: "well" }, "was not started within 30 s"),
        (Plays { agent: "well", exec: "crashes" }, "qb-exec 0.3.0 was started 3 times"),
        (Plays { agent: "once", exec: "well" }, "did not reach qb-exec 0.3.0 within 30 s"),
    ] {
        for before in ["0.1.0", "0.2.0"] {
            let mut machine = Machine::new("0.1.0").await;
            if before == "0.2.0" {
                machine.upgraded("0.2.0").await;
            }
            let (had, trees) = (machine.runs(), machine.trees());
            let three = machine.site.build("0.3.0", 50);
            machine.plays("0.3.0", plays);
            let order = machine.site.order(5, &three);
            machine.ask(&order, &three).await.unwrap();
            machine.settled().await;
            assert_eq!(machine.runs(), had, "{plays:?}");
            assert_eq!(had.0, before);
            let ended = machine.view().ended.unwrap();
            let said = ended.why.unwrap();
            assert!(ended.order == order.digest() && said.contains(why), "{plays:?}: {said}");
            assert_eq!(machine.trees(), trees, "{plays:?}");
            // The same order is not begun again; a newer one is.
            assert!(machine.ask(&order, &three).await.unwrap().trial.is_none());
            machine.plays("0.3.0", GOOD);
            machine.ask(&machine.site.order(6, &three), &three).await.unwrap();
            machine.settled().await;
            assert_eq!(machine.runs().0, "0.3.0", "{plays:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn killed_or_booted_at_any_moment_it_converges() {
    for plays in [GOOD, Plays { agent: "hangs", exec: "well" }, Plays { agent: "well", exec: "crashes" }] {
        let want = if plays == GOOD { "0.2.0" } else { "0.1.0" };
        // What hangs is waited for, in steps that are all alike.
        for moment in (0..6).chain(29..34) {
            for boot in [false, true] {
                let mut machine = Machine::new("0.1.0").await;
                let two = machine.site.build("0.2.0", 50);
                machine.plays("0.2.0", plays);
                let order = machine.site.order(1, &two);
                machine.ask(&order, &two).await.unwrap();
                for _ in 0..moment {
                    machine.step().await;
                }
                if boot {
                    machine.boot().await;
                } else {
                    machine.kill_exec().await;
                }
                machine.settled().await;
                assert_eq!(machine.runs(), (want.to_owned(), want.to_owned()), "{plays:?} {moment} {boot}");
                assert_eq!(machine.view().ended.unwrap().order, order.digest());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_ordered_signed_and_newer_is_refused_and_nothing_changes() {
    let mut machine = Machine::new("0.2.0").await;
    machine.upgraded("0.3.0").await;
    let mut site = Signed::new();
    std::mem::swap(&mut site, &mut machine.site);
    let four = site.build("0.4.0", 50);
    let good = site.order(9, &four);
    let foreign = site.build("0.4.0", 51);
    let unsigned = site.build_by("0.4.0", &[]);
    let arm = site.build_for("0.4.0", 183);
    let cut = Built { bytes: four.bytes[..four.bytes.len() - 1].to_vec(), ..four.clone() };
    let mut longer = four.clone();
    longer.bytes.push(0);
    let mut changed = four.clone();
    let last = changed.bytes.len() - 1;
    changed.bytes[last] ^= 1;
    let rehearsal = site.rehearsal("0.4.0");
    let older = site.build("0.2.5", 50);
    let packaged = site.build("0.2.0", 50);
    let mut other_node = good.clone();
    other_node.node.0[0] ^= 1;
    let mut other_version = good.clone();
    other_version.version = "0.5.0".parse().unwrap();
    let mut same_number = site.order(1, &four);
    same_number.bundle = four.digest;
    machine.site = site;
    let order = |built: &Built, generation| machine.site.order(generation, built);
    let cases = [
        ("another node's", other_node, four.clone(), "another node"),
        ("another version", other_version, four.clone(), "not the one that was signed"),
        ("an older order", order(&four, 0), four.clone(), "generation 0"),
        ("another with its number", same_number, four.clone(), "another agent order with generation 1"),
        ("a publisher nobody trusts", order(&foreign, 9), foreign, "no publisher"),
        ("no signature", order(&unsigned, 9), unsigned, "signatures has 0"),
        ("another bundle", good.clone(), older.clone(), "the order names"),
        ("a cluster's", order(&rehearsal, 9), rehearsal, "driver"),
        ("another machine's", order(&arm, 9), arm, "aarch64"),
        ("cut off", good.clone(), cut, "longer or shorter"),
        ("too long", good.clone(), longer, "longer or shorter"),
        ("changed", good.clone(), changed, "does not have the digest"),
        ("older than what was installed", order(&older, 9), older, "0.3.0 or newer"),
        ("the package's", order(&packaged, 9), packaged, "the package on this machine has version 0.2.0"),
    ];
    let before = machine.listing();
    for (what, order, built, want) in cases {
        let why = machine.ask(&order, &built).await.unwrap_err().to_string();
        assert!(why.contains(want), "{what}: {why}");
        assert_eq!(machine.listing(), before, "{what}");
    }
    machine.hold(true);
    let why = machine.ask(&good, &four).await.unwrap_err().to_string();
    assert!(why.contains("held on this machine") && why.contains("rm /"), "{why}");
    assert_eq!(machine.listing(), before);
    machine.hold(false);
    machine.plays("0.4.0", GOOD);
    machine.ask(&good, &four).await.unwrap();
    machine.settled().await;
    assert_eq!(machine.runs().0, "0.4.0");
}

#[tokio::test(start_paused = true)]
async fn a_stolen_key_stands_in_nobodys_way_and_its_version_is_not_gone_back_to() {
    let mut machine = Machine::new("0.1.0").await;
    machine
        .site
        .trusts(Action::PublisherAdd { publisher: "thief".parse().unwrap(), key: key(51).public_key() });
    let high = machine.site.build("99.0.0", 51);
    machine.plays("99.0.0", GOOD);
    machine.ask(&machine.site.order(1, &high), &high).await.unwrap();
    machine.settled().await;
    assert_eq!(machine.runs().0, "99.0.0");
    machine.site.trusts(Action::PublisherRemove { key: key(51).public_key() });
    let bad = machine.site.build("0.2.0", 50);
    machine.plays("0.2.0", Plays { agent: "hangs", exec: "well" });
    machine.ask(&machine.site.order(2, &bad), &bad).await.unwrap();
    machine.settled().await;
    assert_eq!(machine.runs(), ("0.1.0".to_owned(), "0.1.0".to_owned()), "the package's, not the thief's");
}

#[tokio::test(start_paused = true)]
async fn only_the_agent_on_trial_confirms() {
    let mut machine = Machine::new("0.1.0").await;
    let two = machine.site.build("0.2.0", 50);
    machine.plays("0.2.0", Plays { agent: "hangs", exec: "well" });
    let new = "0.2.0".parse().unwrap();
    // Before it is started: the old one's process may say what it likes.
    machine.ask(&machine.site.order(1, &two), &two).await.unwrap();
    let old = machine.agent_pid();
    let why = machine.versions().confirm(old, &new).await.unwrap_err().to_string();
    assert!(why.contains("before the trial began"), "{why}");
    while machine.view().trial.is_some() && machine.runs().0 != "0.2.0" {
        machine.step().await;
    }
    for (pid, version) in
        [(Some(1), "0.2.0"), (None, "0.2.0"), (old, "0.2.0"), (machine.agent_pid(), "0.1.0")]
    {
        let said = machine.versions().confirm(pid, &version.parse().unwrap()).await;
        assert!(matches!(said, Err(UpgradeError::NotOnTrial(_))), "{pid:?} {version}");
    }
    assert!(!machine.view().trial.unwrap().confirmed);
    machine.versions().confirm(machine.agent_pid(), &new).await.unwrap();
    assert!(machine.view().trial.unwrap().confirmed);
}

#[tokio::test(start_paused = true)]
async fn on_a_held_machine_nothing_is_swapped_there_or_back() {
    let mut machine = Machine::new("0.1.0").await;
    let two = machine.site.build("0.2.0", 50);
    machine.plays("0.2.0", GOOD);
    machine.hold(true);
    assert!(machine.ask(&machine.site.order(1, &two), &two).await.is_err());
    machine.hold(false);
    machine.ask(&machine.site.order(1, &two), &two).await.unwrap();
    machine.hold(true);
    for _ in 0..50 {
        machine.step().await;
    }
    assert_eq!(machine.runs(), ("0.1.0".to_owned(), "0.1.0".to_owned()));
    machine.hold(false);
    machine.settled().await;
    assert!(machine.view().trial.is_none());
}
