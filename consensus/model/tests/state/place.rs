//! Placement: which nodes, and who is control plane.

use proptest::prelude::*;
use qb_model::action::{NodeRole, PlacedNode, Placement};
use qb_model::command::Command;
use qb_model::plan::place::choose;

use crate::support::site::{Site, attach_explicit, authorize, create, revoke, sorted};
use crate::support::{OPAL, OPAL_BROWSER, name, node};

/// A pool whose nodes are in the zones a, b, c in turn.
fn zoned(pool: u8) -> Site {
    let mut site = Site::with_pool(pool);
    site.must("opal", create("blue"), &[OPAL]);
    for seed in 101..=101 + pool {
        let zone = ["a", "b", "c"][usize::from(seed % 3)];
        site.report(seed, |r| r.facts.zone = zone.into());
    }
    site
}

fn auto(site: &Site, count: u16, control_plane: u8) -> Result<Vec<PlacedNode>, String> {
    let placement = Placement::Auto { count, control_plane };
    choose(&site.state, &site.board, &name("blue"), &placement).map_err(|r| r.code().to_owned())
}

fn control(placed: &[PlacedNode]) -> Vec<u8> {
    (101..=140)
        .filter(|n| placed.iter().any(|p| p.node == node(*n) && p.role == NodeRole::ControlPlane))
        .collect()
}

fn all(placed: &[PlacedNode]) -> Vec<u8> {
    (101..=140).filter(|n| placed.iter().any(|p| p.node == node(*n))).collect()
}

#[test]
fn nodes_come_from_every_zone_and_voters_last() {
    let site = zoned(9);
    let placed = auto(&site, 3, 0).unwrap();
    // Zones a, b, c: 102, 103 and 104 are the first of each; 101 votes.
    assert_eq!(all(&placed), [102, 103, 104]);
    assert_eq!(control(&placed), [102, 103, 104]);
    let placed = auto(&site, 9, 0).unwrap();
    assert_eq!(all(&placed), (102..=110).collect::<Vec<u8>>());
    let zones: std::collections::BTreeSet<u8> = control(&placed).iter().map(|n| n % 3).collect();
    assert_eq!(zones.len(), 3);
    assert_eq!(all(&auto(&site, 10, 0).unwrap()).len(), 10, "voters too, if there is nobody else");
    assert_eq!(auto(&site, 11, 0).unwrap_err(), "not_enough_nodes");
}

#[test]
fn control_planes_by_number_and_by_wish() {
    let site = zoned(12);
    let rows = [
        (1, 0, 1),
        (2, 0, 1),
        (3, 0, 3),
        (9, 0, 3),
        (10, 0, 5),
        (5, 1, 1),
        (5, 3, 3),
        (4, 5, 3),
        (2, 3, 1),
        (5, 5, 5),
    ];
    for (count, wanted, got) in rows {
        assert_eq!(
            control(&auto(&site, count, wanted).unwrap()).len(),
            got,
            "{count} nodes, {wanted} wanted"
        );
    }
}

#[test]
fn those_that_are_there_count() {
    let mut site = zoned(12);
    site.must("opal", attach_explicit("blue", &[102], &[]), &[OPAL]);
    site.settle();
    for (count, wanted, more) in [(1, 0, 0), (2, 0, 2), (9, 0, 4), (4, 1, 0), (1, 3, 0), (3, 5, 2)] {
        assert_eq!(
            control(&auto(&site, count, wanted).unwrap()).len(),
            more,
            "{count} more, {wanted} wanted"
        );
    }
}

#[test]
fn never_one_that_is_absent_revoked_taken_or_named_twice() {
    let mut site = zoned(4);
    site.must("opal", authorize(&[110]), &[OPAL]);
    assert_eq!(auto(&site, 6, 0).unwrap_err(), "not_enough_nodes", "110 has not come in");
    site.must("opal", revoke(105), &[OPAL]);
    assert_eq!(auto(&site, 5, 0).unwrap_err(), "not_enough_nodes");
    let named = |seeds: &[u8]| {
        let placement = Placement::Named { nodes: sorted(seeds), control_plane: 0 };
        choose(&site.state, &site.board, &name("blue"), &placement).map_err(|r| r.code().to_owned())
    };
    assert_eq!(named(&[105]).unwrap_err(), "tombstone");
    assert_eq!(named(&[102, 120]).unwrap_err(), "unknown_node");
    assert_eq!(all(&named(&[102, 104]).unwrap()), [102, 104]);
    site.must("opal", create("green"), &[OPAL]);
    site.must("opal", attach_explicit("green", &[102], &[]), &[OPAL]);
    let placement = Placement::Named { nodes: sorted(&[102]), control_plane: 0 };
    let error = choose(&site.state, &site.board, &name("blue"), &placement).unwrap_err();
    assert_eq!(error.code(), "not_in_pool");
}

#[test]
fn probation_rules_nothing() {
    let mut site = Site::with_pool(0);
    site.must("opal", create("blue"), &[OPAL]);
    site.must("opal", authorize(&[102, 103, 104]), &[OPAL_BROWSER]);
    for seed in [102, 103, 104] {
        site.hello(seed);
    }
    let placed = auto(&site, 2, 0).unwrap();
    assert_eq!(control(&placed), [101], "the voter is the only one that may");
    assert_eq!(all(&placed), [101, 102]);
    let placement = Placement::Named { nodes: sorted(&[102, 103]), control_plane: 0 };
    let error = choose(&site.state, &site.board, &name("blue"), &placement).unwrap_err();
    assert_eq!(error.code(), "control_plane_count");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// What is chosen, apply takes; and it is the same every time.
    #[test]
    fn what_is_chosen_is_taken(
        trusted in 1u8..7,
        others in 0u8..5,
        there in 0usize..4,
        count in 1u16..9,
        wanted in prop::sample::select(vec![0u8, 1, 3, 5]),
        voters in 0u8..4,
    ) {
        let mut site = zoned(trusted);
        let doubtful: Vec<u8> = (120..120 + others).collect();
        if !doubtful.is_empty() {
            site.must("opal", authorize(&doubtful), &[OPAL_BROWSER]);
        }
        for seed in doubtful {
            site.hello(seed);
        }
        for seed in 102..102 + voters.min(trusted) {
            site.propose(Command::Seat(node(seed)));
        }
        let old: &[u8] = [&[][..], &[102], &[102], &[102, 103, 104]][there];
        if trusted >= 3 && !old.is_empty() {
            site.must("opal", attach_explicit("blue", old, &[]), &[OPAL]);
            site.settle();
        }
        let free = site.state.nodes().values().filter(|n| n.phase == qb_model::state::NodePhase::Pool).count();
        match auto(&site, count, wanted) {
            Err(code) => prop_assert!(free < usize::from(count) || code == "control_plane_count", "{}", code),
            Ok(placed) => {
                prop_assert_eq!(placed.len(), usize::from(count));
                prop_assert_eq!(auto(&site, count, wanted).unwrap(), placed.clone());
                let intent = site.must("opal", crate::support::site::attach("blue", Placement::Auto { count, control_plane: wanted }), &[OPAL]);
                let (cluster, intent) = (name("blue"), intent.digest());
                let place = Command::Place(qb_model::command::Place { cluster, intent, nodes: placed });
                prop_assert_eq!(site.propose(place), qb_model::state::Applied::Done);
                prop_assert!(matches!(site.state.control_plane(&name("blue")), 1 | 3 | 5));
            }
        }
    }
}
