//! Whatever happens in whatever order: never two voters, never more than the batch, never after a halt,
//! never behind a first wave that is not well.

use proptest::prelude::*;
use qb_model::command::Command;
use qb_model::limits::AGENT_WELL_MS;
use qb_model::state::{NodeUpgrade, UpgradePhase};

use super::Fleet;
use crate::support::site::revoke;
use crate::support::{OPAL, node};

#[derive(Debug, Clone)]
enum Step {
    Lead,
    /// The leader orders whom it likes.
    Order(u8),
    Pass(u64),
    Upgraded(u8),
    Returned(u8),
    Down(u8),
    Up(u8),
    Seat(u8),
    Revoke(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let seed = 101..109u8;
    prop_oneof![
        6 => Just(Step::Lead),
        4 => seed.clone().prop_map(Step::Order),
        6 => (1..15u64).prop_map(Step::Pass),
        8 => seed.clone().prop_map(Step::Upgraded),
        1 => seed.clone().prop_map(Step::Returned),
        1 => seed.clone().prop_map(Step::Down),
        2 => seed.clone().prop_map(Step::Up),
        1 => seed.clone().prop_map(Step::Seat),
        1 => (104..109u8).prop_map(Step::Revoke),
    ]
}

fn take(fleet: &mut Fleet, step: Step) {
    let flies = |fleet: &Fleet, seed| fleet.site.state.agent_order(&node(seed)).is_some();
    let member = |fleet: &Fleet, seed| fleet.site.state.node(&node(seed)).is_some();
    match step {
        Step::Lead => drop(fleet.lead()),
        Step::Order(seed) => drop(fleet.site.propose(fleet.ordered(seed))),
        Step::Pass(seconds) => fleet.pass(seconds),
        Step::Upgraded(seed) if flies(fleet, seed) => fleet.upgraded(seed),
        Step::Returned(seed) if flies(fleet, seed) => fleet.returned(seed, "no"),
        Step::Down(seed) => drop(fleet.down.insert(seed)),
        Step::Up(seed) => drop(fleet.down.remove(&seed)),
        Step::Seat(seed) => drop(fleet.site.propose(Command::Seat(node(seed)))),
        Step::Revoke(seed) if member(fleet, seed) => drop(fleet.site.must("opal", revoke(seed), &[OPAL])),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bounds_hold_whatever_happens(steps in proptest::collection::vec(step(), 1..80), batch in 1..4u16) {
        let mut fleet = Fleet::with_upgrade(8, 3, &[104, 105], batch);
        for step in steps {
            let before = fleet.upgrade().clone();
            take(&mut fleet, step);
            let (state, upgrade) = (&fleet.site.state, fleet.upgrade());
            let flying: Vec<_> = upgrade.in_flight().map(|(n, _)| *n).collect();
            prop_assert!(flying.len() <= usize::from(batch));
            let votes = flying.iter().filter(|n| state.node(n).is_some_and(|r| r.seat.is_some())).count();
            prop_assert!(votes <= 1, "{flying:?}");
            let new = || upgrade.nodes.keys().filter(|n| !before.nodes.contains_key(n));
            if before.phase != UpgradePhase::Rolling {
                prop_assert_eq!(new().count(), 0);
            }
            if new().any(|n| !upgrade.first.contains(n)) {
                for first in upgrade.first.iter().filter(|n| state.node(n).is_some()) {
                    let well = matches!(upgrade.nodes.get(first), Some(NodeUpgrade::Done { at, .. })
                        if upgrade.ordered_at.since(*at) >= AGENT_WELL_MS);
                    prop_assert!(well, "{first}: {upgrade:?}");
                }
            }
            if upgrade.phase == UpgradePhase::Done {
                prop_assert!(state.nodes().keys().all(|n| upgrade.is_done(n)));
            }
        }
    }
}
