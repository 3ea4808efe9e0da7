//! An upgrade that goes well, and who has to wait meanwhile.

use qb_model::action::Action;
use qb_model::command::Command;
use qb_model::ids::Digest;
use qb_model::limits::AGENT_WELL_MS;
use qb_model::state::{Applied, UpgradePhase};

use super::{Fleet, NEW, OLD, seed_of, upgrade_to, version};
use crate::support::site::{authorize, hello};
use crate::support::{OLGA, OPAL, OPAL_BROWSER, node};

#[test]
fn waves_are_as_planned_and_the_leader_comes_last() {
    let mut fleet = Fleet::with_upgrade(7, 3, &[104], 2);
    let planned: Vec<Vec<u8>> =
        fleet.planned(&[104], 2).iter().map(|w| w.nodes.iter().map(seed_of).collect()).collect();
    let leads: Vec<bool> = fleet.planned(&[104], 2).iter().map(|w| w.leads).collect();
    let waves = fleet.roll();
    assert_eq!(waves, [vec![104], vec![105, 106], vec![107], vec![102], vec![103], vec![101]]);
    assert_eq!(waves, planned);
    assert_eq!(leads, [false, false, false, false, false, true]);
    assert_ne!(fleet.leader, 101, "the lead was handed over");
    let upgrade = fleet.upgrade();
    assert_eq!(upgrade.phase, UpgradePhase::Done);
    let intent = &fleet.site.state.intents()[&upgrade.cites.digest];
    assert!(intent.finished.is_some());
    assert_eq!(fleet.site.state.agent_floor(), Some(&version(NEW)));
    assert!(fleet.moves().is_empty());
    // Back is not a way: an older one is refused, the same again is not.
    fleet.site.must_not("olga", upgrade_to(OLD, &[104], 1), &[OLGA], "agent_floor");
    fleet.site.must("olga", upgrade_to(NEW, &[104], 1), &[OLGA]);
}

#[test]
fn a_single_node_upgrades_itself() {
    let mut fleet = Fleet::with_upgrade(1, 1, &[101], 1);
    assert_eq!(fleet.roll(), [vec![101]]);
}

#[test]
fn who_may_order_it() {
    let mut fleet = Fleet::new(3, 1);
    for (by, seed, code) in [("opal", OPAL, "role"), ("opal", OPAL_BROWSER, "role")] {
        fleet.site.must_not(by, upgrade_to(NEW, &[102], 1), &[seed], code);
    }
    fleet.site.must_not("olga", upgrade_to(NEW, &[120], 1), &[OLGA], "unknown_node");
    let order = fleet.site.must("olga", upgrade_to(NEW, &[102], 1), &[OLGA]);
    fleet.site.must_not("olga", upgrade_to("0.3.0", &[102], 1), &[OLGA], "agent_upgrade_running");
    let stop = |upgrade| Action::AgentUpgradeStop { upgrade };
    fleet.site.must_not("opal", stop(order.digest()), &[OPAL], "role");
    fleet.site.must_not("olga", stop(Digest([3; 32])), &[OLGA], "unknown_intent");
    fleet.site.must("olga", stop(order.digest()), &[OLGA]);
    fleet.site.must_not("olga", stop(order.digest()), &[OLGA], "no_change");
}

#[test]
fn the_next_wave_waits_until_the_last_is_well() {
    let mut fleet = Fleet::with_upgrade(4, 1, &[103], 1);
    assert_eq!(fleet.lead(), [103]);
    assert_eq!(
        fleet.waits(),
        "agent.back: upgrade waits for host-103.plant to come back with 0.2.0. by itself"
    );
    assert!(fleet.moves().is_empty());
    fleet.upgraded(103);
    assert_eq!(
        fleet.waits(),
        "agent.well: upgrade waits until host-103.plant has run 0.2.0 for 10 s. by itself"
    );
    fleet.pass(AGENT_WELL_MS / 1_000 - 3);
    assert!(fleet.moves().is_empty());
    // Silent: time alone proves nothing.
    fleet.down.insert(103);
    fleet.pass(20);
    assert!(fleet.moves().is_empty());
    fleet.down.clear();
    fleet.hear();
    assert_eq!(fleet.lead(), [102]);
}

#[test]
fn orders_out_of_turn_are_ignored() {
    let mut fleet = Fleet::with_upgrade(6, 3, &[104], 2);
    let ignored = |fleet: &Fleet, seed| fleet.site.ignored(fleet.ordered(seed));
    assert_eq!(ignored(&fleet, 105), "the first wave is not done");
    assert_eq!(ignored(&fleet, 120), "not on the roster");
    let Command::AgentOrder(mut order) = fleet.ordered(104) else { panic!() };
    order.generation = order.generation.next();
    assert_eq!(fleet.site.ignored(Command::AgentOrder(order.clone())), "the next generation is 1");
    order.upgrade = Digest([1; 32]);
    assert_eq!(fleet.site.ignored(Command::AgentOrder(order)), "of another upgrade");
    assert_eq!(fleet.lead(), [104]);
    assert_eq!(ignored(&fleet, 104), "the node was ordered already");
    fleet.upgraded(104);
    let early = "the last one upgraded has not run for long enough";
    assert_eq!(ignored(&fleet, 105), early);
    fleet.site.wait(AGENT_WELL_MS);
    for seed in [105, 102] {
        assert_eq!(fleet.site.propose(fleet.ordered(seed)), Applied::Done);
    }
    assert_eq!(ignored(&fleet, 106), "as many nodes as the intent allows are on their way");
    fleet.upgraded(105);
    fleet.site.wait(AGENT_WELL_MS);
    assert_eq!(ignored(&fleet, 103), "another voter is on its way");
    assert_eq!(ignored(&fleet, 101), "another voter is on its way");
    // A node on its way becomes no voter.
    assert_eq!(fleet.site.propose(fleet.ordered(106)), Applied::Done);
    assert_eq!(fleet.site.ignored(Command::Seat(node(106))), "its agent is being upgraded");
}

#[test]
fn who_is_away_is_upgraded_when_it_returns() {
    let mut fleet = Fleet::with_upgrade(4, 1, &[102], 1);
    fleet.down.insert(104);
    fleet.pass(6);
    for seed in [102, 103, 101] {
        assert_eq!(fleet.lead(), [seed]);
        fleet.upgraded(seed);
        fleet.pass(AGENT_WELL_MS / 1_000);
    }
    assert_eq!(fleet.waits(), "agent.away: upgrade waits for host-104.plant, which is away. by itself");
    fleet.down.clear();
    fleet.hear();
    assert_eq!(fleet.lead(), [104]);
    fleet.upgraded(104);
    assert_eq!(fleet.upgrade().phase, UpgradePhase::Done);
}

#[test]
fn a_first_wave_that_is_away_needs_a_person() {
    let mut fleet = Fleet::with_upgrade(4, 1, &[102, 103], 1);
    fleet.down.extend([102, 103]);
    fleet.pass(6);
    assert!(fleet.moves().is_empty());
    assert_eq!(
        fleet.waits(),
        "agent.away: upgrade waits for host-102.plant, which is away. (+1) > qb agent stop"
    );
}

#[test]
fn a_voter_goes_only_if_the_others_are_enough() {
    let mut fleet = Fleet::with_upgrade(4, 3, &[104], 1);
    assert_eq!(fleet.lead(), [104]);
    fleet.upgraded(104);
    fleet.down.insert(103);
    fleet.pass(12);
    assert!(fleet.moves().is_empty());
    let want = "agent.quorum: upgrade waits: without host-102.plant too few voters would answer. by itself";
    assert_eq!(fleet.waits(), want);
    fleet.down.clear();
    fleet.hear();
    assert_eq!(fleet.lead(), [102]);
}

#[test]
fn who_comes_in_meanwhile_is_upgraded_and_who_goes_is_not_waited_for() {
    let mut fleet = Fleet::with_upgrade(3, 1, &[102], 1);
    assert_eq!(fleet.lead(), [102]);
    fleet.site.must("opal", authorize(&[110]), &[OPAL]);
    fleet.upgraded(102);
    fleet.pass(12);
    assert_eq!(fleet.lead(), [103]);
    // Revoked on its way.
    fleet.site.must("opal", crate::support::site::revoke(103), &[OPAL]);
    fleet.hear();
    assert_eq!(fleet.lead(), [101]);
    fleet.upgraded(101);
    fleet.pass(12);
    assert!(fleet.upgrade().rolling() && fleet.moves().is_empty(), "110 has not come in yet");
    let said = hello(fleet.site.id(), 110, 1);
    assert_eq!(fleet.site.say(110, None, &said), Applied::Done);
    fleet.runs.insert(110, (OLD.to_owned(), 1));
    fleet.hear();
    assert_eq!(fleet.lead(), [110]);
    fleet.upgraded(110);
    assert_eq!(fleet.upgrade().phase, UpgradePhase::Done);
}
