//! Settings of a cluster: signed once, in every order, kept over upgrades.

use qb_model::assignment::{Assignment, AssignmentError, Citation, Floor, Grounds, Stage, verify};
use qb_model::settings::{ChosenSettings, Settings};

use crate::support::site::{
    Site, attach_explicit, chosen, create, create_chosen, delete, upgrade_chosen, upgrade_cluster,
};
use crate::support::{OLGA, OPAL, charter, node};

/// `blue` with settings of its own: 102 rules, 103 and 104 work; 105 and more are in the pool.
fn blue(pool: u8) -> Site {
    let mut site = Site::with_pool(pool);
    site.must("opal", create_chosen("blue", chosen()), &[OPAL]);
    site.must("opal", attach_explicit("blue", &[102], &[103, 104]), &[OPAL]);
    site.settle();
    assert_eq!(site.blue().phase.word(), "ready");
    site
}

fn handed(site: &Site, order: &Assignment) -> (Grounds, Floor) {
    let of = |cites: &Citation| {
        let live = &site.state.intents()[&cites.digest];
        (live.envelope.clone(), live.at)
    };
    let grounds = Grounds {
        charter: charter().envelope().to_vec(),
        trust_log: site.state.trust().log().to_vec(),
        order: of(&order.cites),
        create: of(&order.created_by),
    };
    let trust_head = site.state.trust().head();
    (grounds, Floor { site: site.id(), node: order.node, generation: order.generation, trust_head })
}

/// The order stands, and none with other settings.
fn stands(site: &Site, order: &Assignment) {
    let (grounds, floor) = handed(site, order);
    assert!(verify(order.clone(), &grounds, &floor).is_ok(), "{:?}", order.stage);
    let changes: [fn(&mut Settings); 5] = [
        |s| s.pods = "10.9.0.0/20".parse().unwrap(),
        |s| s.services = "10.9.0.0/20".parse().unwrap(),
        |s| drop(s.endpoints.pop()),
        |s| s.port = 6443,
        |s| *s = Settings::default(),
    ];
    for change in changes {
        let mut other = order.clone();
        change(&mut other.settings);
        let refused = verify(other, &grounds, &floor);
        assert!(matches!(refused, Err(AssignmentError::NotImplied(_))), "{refused:?}");
    }
}

#[test]
fn every_order_has_them_and_the_executor_verifies_them() {
    let mut site = Site::with_pool(4);
    site.must("opal", create_chosen("blue", chosen()), &[OPAL]);
    let settings = Settings::of(Some(&chosen())).unwrap();
    assert_eq!(site.blue().settings, settings);
    site.must("opal", attach_explicit("blue", &[102], &[103]), &[OPAL]);
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..12 {
        if round == 6 {
            site.must("olga", delete("blue"), &[OLGA]);
        }
        site.lead(&[]);
        for seed in site.busy() {
            let order = site.order_of(seed);
            assert_eq!(order.settings, settings);
            stands(&site, &order);
            seen.insert(order.stage);
            site.done(seed);
        }
    }
    let all = [Stage::Prepare, Stage::Initialize, Stage::Join, Stage::Leave];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn an_upgrade_names_them_again_and_who_joins_after_it_rests_on_it() {
    let mut site = blue(6);
    let other = ChosenSettings { port: None, ..chosen() };
    site.must_not("opal", upgrade_cluster("blue", "1.37.0", 2), &[OPAL], "settings");
    site.must_not("opal", upgrade_chosen("blue", "1.37.0", Some(other)), &[OPAL], "settings");
    site.must("opal", upgrade_chosen("blue", "1.37.0", Some(chosen())), &[OPAL]);
    site.settle();
    assert_eq!(site.blue().version.as_str(), "1.37.0");
    site.must("opal", attach_explicit("blue", &[], &[105]), &[OPAL]);
    while site.busy().is_empty() {
        site.lead(&[]);
    }
    let order = site.order_of(105);
    assert_eq!(order.created_by, site.blue().installed);
    assert_ne!(order.created_by, site.blue().created);
    stands(&site, &order);
    // A cluster without settings has none in its upgrades either.
    let mut plain = Site::with_blue(5, &[102], &[103]);
    plain.must_not("opal", upgrade_chosen("blue", "1.37.0", Some(chosen())), &[OPAL], "settings");
    plain.must("opal", upgrade_cluster("blue", "1.37.0", 2), &[OPAL]);
}

#[test]
fn a_small_network_has_room_for_few_and_a_large_one_for_as_many_as_ever() {
    let mut site = Site::with_pool(20);
    site.must("opal", create_chosen("blue", chosen()), &[OPAL]);
    let workers: Vec<u8> = (103..=118).collect();
    site.must_not("opal", attach_explicit("blue", &[102], &workers), &[OPAL], "cluster_full");
    site.must("opal", attach_explicit("blue", &[102], &workers[..15]), &[OPAL]);
    assert_eq!(site.state.slots_for(&"blue".parse().unwrap(), &[]).len(), 0);
    assert_eq!(site.record(117).slot, Some(15));
    let large = ChosenSettings { pods: Some("11.0.0.0/8".parse().unwrap()), ..ChosenSettings::default() };
    site.must("opal", create_chosen("green", large), &[OPAL]);
    site.must("opal", create("red"), &[OPAL]);
    let slots = |name: &str| site.state.cluster(&name.parse().unwrap()).unwrap().slots();
    assert_eq!([slots("blue"), slots("green"), slots("red")], [16, 256, 256]);
    assert_eq!(site.record(102).node, node(102));
}

#[test]
fn snapshots_keep_them() {
    let site = blue(4);
    let held = qb_model::state::SiteState::new(charter().envelope()).unwrap();
    let taken = qb_model::state::SiteState::from_snapshot(&site.state.to_snapshot(), &held).unwrap();
    assert!(taken == site.state);
    assert_eq!(taken.cluster(&"blue".parse().unwrap()).unwrap().settings, site.blue().settings);
}
