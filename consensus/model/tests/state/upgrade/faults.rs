//! What halts an upgrade, what is said then, and what never happens after.

use qb_model::action::{Action, RevokeReason};
use qb_model::alerts::{Kept, Rule, Scene, judge};
use qb_model::assignment::NodeResult;
use qb_model::command::{AgentHalt, Command};
use qb_model::history::History;
use qb_model::limits::{AGENT_BACK_MS, AGENT_WHY_BYTES, FEATURE_LEVEL};
use qb_model::state::{AgentUpgrade, Applied, SiteState, SnapshotError, UpgradePhase};

use super::{Fleet, NEW, upgrade_to, version};
use crate::support::site::revoke;
use crate::support::{OLGA, OPAL, OTTO, name, new_key, node, public};

fn halted(upgrade: &AgentUpgrade) -> String {
    match &upgrade.phase {
        UpgradePhase::Halted { node, why } => {
            format!("{} {why}", node.map(|n| super::seed_of(&n).to_string()).unwrap_or_default())
        }
        other => panic!("{other:?}"),
    }
}

/// 102 of four nodes has its order.
fn ordered() -> Fleet {
    let mut fleet = Fleet::with_upgrade(4, 1, &[102], 1);
    assert_eq!(fleet.lead(), [102]);
    fleet
}

#[test]
fn a_node_that_returned_halts_everybody() {
    let mut fleet = ordered();
    fleet.returned(102, "it was not ready within 30 s");
    assert_eq!(halted(fleet.upgrade()), "102 returned to 0.1.0: it was not ready within 30 s");
    fleet.pass(60);
    assert!(fleet.moves().is_empty());
    assert_eq!(fleet.site.ignored(fleet.ordered(103)), "no upgrade goes on");
    let bundle = fleet.upgrade().bundle;
    let want = format!(
        "to 0.2.0 is halted: host-102.plant returned to 0.1.0: it was not ready within 30 s. > qb agent upgrade {bundle} --first host-102.plant"
    );
    assert_eq!(fleet.waits(), format!("agent.halted: upgrade {want}"));
    let digest = fleet.upgrade().cites.digest;
    assert!(fleet.site.state.intents()[&digest].finished.is_some());
    // A new one begins anew.
    fleet.site.must("olga", upgrade_to(NEW, &[103], 1), &[OLGA]);
    fleet.hear();
    assert_eq!(fleet.lead(), [103]);
}

#[test]
fn whoever_does_not_answer_is_given_up() {
    let late = AGENT_BACK_MS / 1_000;
    type Fault = fn(&mut Fleet);
    let table: [(Fault, &str); 3] = [
        (|f| f.down.extend([102]), "102 has not come back within 120 s"),
        (|_| {}, "102 still runs 0.1.0 after 120 s"),
        (
            |f| drop(f.runs.insert(102, (NEW.into(), 2))),
            "102 runs 0.2.0 and has not said within 120 s that it is ready",
        ),
    ];
    for (fault, want) in table {
        let mut fleet = ordered();
        fault(&mut fleet);
        fleet.pass(late - 2);
        assert!(fleet.moves().is_empty(), "{want}");
        fleet.pass(2);
        assert_eq!(fleet.lead(), [] as [u8; 0]);
        assert_eq!(halted(fleet.upgrade()), want);
        // It may say later that it is done, and is; nobody follows.
        fleet.down.clear();
        fleet.upgraded(102);
        assert!(fleet.upgrade().is_done(&node(102)));
        fleet.pass(30);
        assert!(fleet.moves().is_empty());
    }
}

#[test]
fn whoever_does_not_stay_well_is_given_up() {
    type Fault = fn(&mut Fleet);
    let table: [(Fault, &str); 3] = [
        (|f| f.down.extend([102]), "102 has been silent since it said that it runs 0.2.0"),
        (|f| drop(f.runs.insert(102, ("0.1.0".into(), 3))), "102 runs 0.1.0 again"),
        (
            |f| drop(f.runs.insert(102, (NEW.into(), 3))),
            "102 was started again after it said that it runs 0.2.0",
        ),
    ];
    for (fault, want) in table {
        let mut fleet = ordered();
        let order = fleet.order_of(102);
        let result = NodeResult::AgentUpgraded { version: version(NEW), level: 1 };
        fleet.runs.insert(102, (NEW.into(), 2));
        assert_eq!(fleet.answer(102, &order, &result), Applied::Done);
        fault(&mut fleet);
        fleet.pass(AGENT_BACK_MS / 1_000 + 1);
        assert_eq!(fleet.lead(), [] as [u8; 0]);
        assert_eq!(halted(fleet.upgrade()), want);
    }
}

#[test]
fn a_new_leader_waits_its_own_time() {
    let mut fleet = ordered();
    fleet.pass(AGENT_BACK_MS / 1_000 - 5);
    fleet.watching = fleet.site.now;
    fleet.pass(60);
    assert!(fleet.moves().is_empty());
}

#[test]
fn an_owner_stops_it_and_who_began_may_end() {
    let mut fleet = ordered();
    let upgrade = fleet.upgrade().cites.digest;
    assert!(fleet.site.state.agent_order_due(&node(102)).is_some());
    fleet.site.must("olga", Action::AgentUpgradeStop { upgrade }, &[OLGA]);
    assert_eq!(halted(fleet.upgrade()), " olga stopped it");
    assert!(fleet.site.state.agent_order_due(&node(102)).is_none(), "who has not begun does not begin");
    fleet.upgraded(102);
    fleet.pass(30);
    assert!(fleet.moves().is_empty());
}

#[test]
fn a_first_wave_that_is_revoked_shows_nothing() {
    let mut fleet = ordered();
    fleet.site.must("opal", revoke(102), &[OPAL]);
    assert_eq!(halted(fleet.upgrade()), " every node of the first wave was revoked");
    // Once others followed, it had shown enough.
    let mut fleet = ordered();
    fleet.upgraded(102);
    fleet.pass(12);
    assert_eq!(fleet.lead(), [103]);
    fleet.site.must("opal", revoke(102), &[OPAL]);
    assert!(fleet.upgrade().rolling());
}

#[test]
fn what_a_compromised_key_ordered_is_held() {
    let mut fleet = ordered();
    let otto = crate::support::add(
        "otto2",
        qb_model::action::Role::Owner,
        vec![new_key(OTTO + 50, qb_model::action::KeyClass::Cli)],
    );
    fleet.site.must("olga", otto, &[OLGA]);
    let revoked =
        Action::KeyRevoke { admin: name("olga"), key: public(OLGA), reason: RevokeReason::Compromised };
    fleet.site.must("otto2", revoked, &[OTTO + 50]);
    assert!(fleet.site.state.agent_order_due(&node(102)).is_none());
    assert_eq!(fleet.site.ignored(fleet.ordered(103)), "the intent is held");
    fleet.pass(200);
    assert!(fleet.moves().is_empty());
    let digest = fleet.upgrade().cites.digest;
    assert!(fleet.waits().ends_with(&format!("> qb intent release {digest}")), "{}", fleet.waits());
}

#[test]
fn answers_are_exact() {
    let mut fleet = ordered();
    let order = fleet.order_of(102);
    let upgraded = |v: &str| NodeResult::AgentUpgraded { version: version(v), level: 1 };
    let refused = |fleet: &mut Fleet, seed: u8, order: &_, result: &NodeResult| match fleet
        .answer(seed, order, result)
    {
        Applied::Ignored(why) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refused(&mut fleet, 102, &order, &upgraded("0.3.0")),
        "runs another version than the one ordered"
    );
    assert_eq!(refused(&mut fleet, 103, &order, &upgraded(NEW)), "has no agent order");
    let mut other = order.clone();
    other.generation = other.generation.next();
    let stale = "answers an agent order that is not the current one";
    assert_eq!(refused(&mut fleet, 102, &other, &upgraded(NEW)), stale);
    for why in ["a".repeat(AGENT_WHY_BYTES + 1), "two\nlines".into()] {
        let result = NodeResult::AgentReturned { version: version(NEW), why };
        assert_eq!(refused(&mut fleet, 102, &order, &result), "the reason is no short text");
    }
    fleet.upgraded(102);
    assert_eq!(refused(&mut fleet, 102, &order, &upgraded(NEW)), "has no agent order");
    let halt = |node, why: &str| {
        let upgrade = fleet.upgrade().cites.digest;
        fleet.site.ignored(Command::AgentHalt(AgentHalt { upgrade, node, why: why.into() }))
    };
    assert_eq!(halt(node(103), "x"), "the node was not ordered");
    assert_eq!(halt(node(102), "\u{1b}[31m"), "the reason is no short text");
}

#[test]
fn a_halt_is_an_alert_until_the_next_begins() {
    let mut fleet = ordered();
    fleet.returned(102, "the disk is full");
    let look = |fleet: &Fleet, kept: &Kept| {
        let (history, voters) = (History::default(), [node(101)].into());
        let (state, board, watching) = (&fleet.site.state, &fleet.site.board, fleet.watching);
        judge(&Scene { state, board, history: &history, voters: &voters, watching }, fleet.site.now, kept)
    };
    let verdict = look(&fleet, &Kept::default());
    let alert = verdict.fired.iter().find(|a| a.rule == Rule::AgentUpgradeHalted).unwrap();
    let said = format!("{}: {} {}; {}", alert.rule.word(), alert.subject, alert.text, alert.rule.remedy(""));
    let want = "agent-upgrade-halted: plant-7 has a halted upgrade to agent 0.2.0: host-102.plant returned to 0.1.0: the disk is full; qb agent list";
    assert_eq!(said, want);
    fleet.site.must("olga", upgrade_to(NEW, &[103], 1), &[OLGA]);
    fleet.hear();
    let verdict = look(&fleet, &verdict.kept);
    assert!(verdict.resolved.iter().any(|a| a.rule == Rule::AgentUpgradeHalted));
}

#[test]
fn the_level_rises_to_what_everybody_knows() {
    // 101 knows less than the others: nothing rises.
    let mut fleet = Fleet::with_upgrade(2, 1, &[102], 1);
    assert_eq!(fleet.lead(), [102]);
    assert_eq!(fleet.upgraded_at(102, FEATURE_LEVEL + 1), Applied::Done);
    fleet.pass(12);
    assert_eq!(fleet.lead(), [101]);
    fleet.upgraded(101);
    assert_eq!((fleet.upgrade().phase.word(), fleet.site.state.feature_level()), ("done", FEATURE_LEVEL));
}

#[test]
fn a_replica_below_the_level_stops_and_says_why() {
    let mut fleet = Fleet::with_upgrade(1, 1, &[101], 1);
    assert_eq!(fleet.lead(), [101]);
    let order = fleet.order_of(101);
    let result = NodeResult::AgentUpgraded { version: version(NEW), level: FEATURE_LEVEL + 1 };
    let mut command = fleet.site.command(101, None, &result);
    (command.assignment, command.stage) = (order.digest(), qb_model::agent_order::AGENT_STAGE);
    let bytes = qb_model::statement::Statement::sign(&command, &crate::support::key(101)).to_bytes();
    let entry = qb_model::command::Entry { stamp: fleet.site.now, command: Command::Node(bytes) };
    let at = fleet.site.state.applied() + 1;
    let error = fleet.site.state.apply(at, &entry.encode().unwrap()).unwrap_err().to_string();
    assert!(
        error.ends_with("the site is at feature level 2 now, this agent knows 1: install a newer agent"),
        "{error}"
    );
    // A snapshot of such a site is not taken either.
    let bytes = fleet.site.state.to_snapshot();
    assert_eq!(SiteState::from_own_snapshot(&bytes), Err(SnapshotError::Level(2)));
}
