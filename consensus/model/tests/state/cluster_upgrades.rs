//! Upgrades of clusters: what may be asked, who goes when, what halts them, and what brings them on.

use qb_model::action::Action;
use qb_model::assignment::{Citation, Floor, Grounds, NodeResult, Stage, verify};
use qb_model::ids::{Digest, Version};
use qb_model::plan::why;
use qb_model::state::{Applied, MemberUpgrade, UpgradePhase};

use crate::support::site::{Site, attach_explicit, create, create_with, detach, revoke, upgrade_cluster};
use crate::support::{OLGA, OPAL, OPAL_BROWSER, VERA, charter, name, node};

/// `blue` at 1.36.2: 102, 103, 104 rule, 105, 106, 107 work; all report.
fn blue() -> Site {
    let mut site = Site::with_blue(9, &[102, 103, 104], &[105, 106, 107]);
    heard(&mut site, &[102, 103, 104, 105, 106, 107]);
    site
}

/// These report now; nobody else has for a while.
fn heard(site: &mut Site, seeds: &[u8]) {
    site.wait(60_000);
    for (at, seed) in seeds.iter().enumerate() {
        let sequence = site.now.0 + 1_000 * (at as u64 + 1);
        site.report(*seed, |r| r.sequence = sequence);
    }
}

/// Orders what the planner wants until it wants nothing, and says who is at it. Whoever was heard a while
/// ago still reports.
fn wave(site: &mut Site) -> Vec<u8> {
    loop {
        let heard = |n: &u8| site.board.get(&node(*n)).is_some_and(|h| site.now.since(h.at) < 59_000);
        for seed in (102..=110).filter(heard).collect::<Vec<_>>() {
            let sequence = site.board.get(&node(seed)).unwrap().report.sequence + 1;
            site.report(seed, |r| r.sequence = sequence);
        }
        if site.lead(&[]) == 0 {
            return site.busy();
        }
    }
}

fn returned(site: &mut Site, seed: u8, why: &str) -> Applied {
    let order = site.order_of(seed);
    site.say(seed, Some(&order), &NodeResult::UpgradeReturned { why: why.into() })
}

fn phase(site: &Site) -> &UpgradePhase {
    &site.blue().upgrade.as_ref().unwrap().phase
}

fn version(site: &Site) -> &str {
    site.blue().version.as_str()
}

#[test]
fn who_may_ask_and_for_what() {
    let mut site = blue();
    let to = |version: &str| upgrade_cluster("blue", version, 1);
    site.must_not("vera", to("1.36.3"), &[VERA], "role");
    site.must_not("opal", to("1.36.3"), &[OPAL_BROWSER], "key_class");
    let rows = [
        ("1.36.2", "no_change"),
        ("1.36.1", "downgrade"),
        ("1.35.9", "downgrade"),
        ("0.99.0", "downgrade"),
        ("1.36.2-rc.1", "downgrade"),
        ("1.38.0", "skips_minor"),
        ("2.0.0", "skips_minor"),
        ("2.37.0", "skips_minor"),
    ];
    for (version, code) in rows {
        site.must_not("opal", to(version), &[OPAL], code);
    }
    site.must_not("opal", upgrade_cluster("red", "1.36.3", 1), &[OPAL], "unknown_cluster");
    for version in ["1.36.3", "1.37.0", "1.37.12"] {
        blue().must("opal", to(version), &[OPAL]);
    }
    let mut other = Site::with_pool(3);
    other.must("opal", create_with("blue", "rehearsal"), &[OPAL]);
    other.must_not("opal", to("1.36.3"), &[OPAL], "driver");
    let mut empty = Site::with_pool(3);
    empty.must("opal", create("blue"), &[OPAL]);
    empty.must_not("opal", to("1.36.3"), &[OPAL], "cluster_busy");
    empty.must("opal", attach_explicit("blue", &[102], &[]), &[OPAL]);
    empty.must_not("opal", to("1.36.3"), &[OPAL], "cluster_busy");
    site.must("opal", to("1.36.3"), &[OPAL]);
    site.must_not("opal", to("1.36.4"), &[OPAL], "cluster_busy");
    site.must_not("opal", attach_explicit("blue", &[], &[108]), &[OPAL], "cluster_busy");
}

#[test]
fn the_control_plane_one_by_one_then_workers_within_the_budget() {
    let mut site = blue();
    let intent = site.must("opal", upgrade_cluster("blue", "1.37.0", 2), &[OPAL]).digest();
    for seed in [102, 103, 104] {
        assert_eq!(wave(&mut site), [seed]);
        let order = site.order_of(seed);
        assert_eq!((order.stage, order.version.as_str()), (Stage::Upgrade, "1.37.0"));
        assert_eq!((order.cites.digest, order.created_by.digest), (intent, intent));
        assert_eq!(version(&site), "1.36.2", "not before all are done");
        site.done(seed);
    }
    assert_eq!(wave(&mut site), [105, 106]);
    site.done(106);
    assert_eq!(wave(&mut site), [105, 107]);
    site.done(107);
    site.done(105);
    assert_eq!((version(&site), phase(&site)), ("1.37.0", &UpgradePhase::Done));
    assert!(site.state.intents()[&intent].finished.is_some());
    assert_eq!(why::of_cluster(&site.state, &site.board, site.blue(), site.now), None);
    // Whoever joins from now on cites the upgrade.
    site.must("opal", attach_explicit("blue", &[], &[108]), &[OPAL]);
    let orders = wave(&mut site);
    let order = site.order_of(orders[0]);
    assert_eq!((order.version.as_str(), order.created_by.digest), ("1.37.0", intent));
    site.settle();
    // And the next one begins from there.
    site.must_not("opal", upgrade_cluster("blue", "1.37.0", 1), &[OPAL], "no_change");
    heard(&mut site, &[102, 103, 104, 105, 106, 107, 108]);
    site.must("opal", upgrade_cluster("blue", "1.38.1", 9), &[OPAL]);
    assert_eq!(wave(&mut site), [102]);
}

#[test]
fn every_order_stands_before_its_executor() {
    let mut site = blue();
    site.must("opal", upgrade_cluster("blue", "1.37.0", 2), &[OPAL]);
    wave(&mut site);
    let order = site.order_of(102);
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
    let floor = Floor { site: site.id(), node: node(102), generation: order.generation, trust_head };
    assert!(verify(order.clone(), &grounds, &floor).is_ok());
    let mut other = order.clone();
    other.version = "1.37.1".parse().unwrap();
    assert!(verify(other, &grounds, &floor).is_err());
    let mut other = order.clone();
    other.bundle = Digest([9; 32]);
    assert!(verify(other, &grounds, &floor).is_err());
    // The cluster's creation does not order an upgrade, nor an upgrade a stage of its own choice.
    let mut other = order.clone();
    let mut swapped = grounds.clone();
    (other.created_by, swapped.create) = (site.blue().created, of(&site.blue().created));
    assert!(verify(other, &swapped, &floor).is_err());
    for stage in [Stage::Prepare, Stage::Join, Stage::Leave] {
        let mut other = order.clone();
        other.stage = stage;
        assert!(verify(other, &grounds, &floor).is_err(), "{stage:?}");
    }
}

#[test]
fn the_first_that_returns_halts_it_and_the_same_again_goes_on() {
    let mut site = blue();
    site.must("opal", upgrade_cluster("blue", "1.37.0", 2), &[OPAL]);
    wave(&mut site);
    site.done(102);
    wave(&mut site);
    assert_eq!(returned(&mut site, 103, "node not Ready within 300 s"), Applied::Done);
    assert!(matches!(returned(&mut site, 103, "again"), Applied::Ignored(_)), "once");
    let halted = UpgradePhase::Halted { node: Some(node(103)), why: "node not Ready within 300 s".into() };
    assert_eq!(phase(&site), &halted);
    assert!(wave(&mut site).is_empty());
    let cause = why::of_cluster(&site.state, &site.board, site.blue(), site.now).unwrap();
    assert_eq!(cause.code, "upgrade.halted");
    assert_eq!(cause.text, "is half at 1.37.0: host-103.plant: node not Ready within 300 s");
    assert!(cause.command.unwrap().starts_with("qb cluster upgrade blue --version 1.37.0 --bundle "));
    // Half a cluster takes nobody in, and does not go back.
    site.must_not("opal", attach_explicit("blue", &[], &[108]), &[OPAL], "half_upgraded");
    site.must_not("opal", upgrade_cluster("blue", "1.36.9", 1), &[OPAL], "downgrade");
    site.must_not("opal", upgrade_cluster("blue", "1.38.0", 1), &[OPAL], "skips_minor");
    site.must("opal", upgrade_cluster("blue", "1.37.0", 1), &[OPAL]);
    assert_eq!(wave(&mut site), [103], "102 is done");
    for seed in [103, 104, 105, 106, 107] {
        assert_eq!(wave(&mut site), [seed]);
        site.done(seed);
    }
    assert_eq!(version(&site), "1.37.0");
}

#[test]
fn another_version_begins_anew_where_one_was_halted() {
    let mut site = blue();
    site.must("opal", upgrade_cluster("blue", "1.37.0", 2), &[OPAL]);
    wave(&mut site);
    site.done(102);
    wave(&mut site);
    returned(&mut site, 103, "gate");
    site.must("opal", upgrade_cluster("blue", "1.37.1", 3), &[OPAL]);
    assert_eq!(wave(&mut site), [102], "it runs 1.37.0");
    // Nobody was done: the halted version binds nobody.
    let mut site = blue();
    site.must("opal", upgrade_cluster("blue", "1.37.0", 2), &[OPAL]);
    wave(&mut site);
    returned(&mut site, 102, "gate");
    site.must("opal", upgrade_cluster("blue", "1.36.3", 2), &[OPAL]);
    assert!(site.busy().is_empty());
    assert_eq!(wave(&mut site), [102]);
}

#[test]
fn an_admin_stops_it_and_who_began_brings_it_to_its_end() {
    let mut site = blue();
    let upgrade = site.must("opal", upgrade_cluster("blue", "1.37.0", 2), &[OPAL]).digest();
    wave(&mut site);
    let stop = |upgrade| Action::ClusterUpgradeStop { cluster: name("blue"), upgrade };
    site.must_not("opal", stop(Digest([1; 32])), &[OPAL], "unknown_intent");
    site.must("opal", stop(upgrade), &[OPAL]);
    site.must_not("opal", stop(upgrade), &[OPAL], "no_change");
    assert_eq!(wave(&mut site), [102]);
    site.done(102);
    assert!(wave(&mut site).is_empty() && matches!(phase(&site), UpgradePhase::Halted { node: None, .. }));
    let is = &site.blue().upgrade.as_ref().unwrap().nodes[&node(102)];
    assert!(matches!(is, MemberUpgrade::Done { .. }));
}

#[test]
fn nobody_goes_while_too_few_answer_or_the_last_one_is_not_well() {
    let mut site = blue();
    site.must("opal", upgrade_cluster("blue", "1.37.0", 2), &[OPAL]);
    heard(&mut site, &[102, 104, 105, 106, 107]);
    assert!(wave(&mut site).is_empty(), "without 102, 1 of 3 answers");
    let code = |site: &Site| {
        let cause = why::of_cluster(&site.state, &site.board, site.blue(), site.now).unwrap();
        (cause.code, cause.text)
    };
    assert_eq!(
        code(&site),
        (
            "upgrade.unwell".into(),
            "waits for host-103.plant: without it host-102.plant cannot be taken down".into()
        )
    );
    heard(&mut site, &[102, 103, 104, 105, 106, 107]);
    assert_eq!(wave(&mut site), [102]);
    site.done(102);
    heard(&mut site, &[103, 104, 105, 106, 107]);
    assert!(wave(&mut site).is_empty(), "102 is done and silent");
    assert_eq!(code(&site).1, "waits for host-102.plant: it is not well");
    heard(&mut site, &[102, 103, 104, 105, 106, 107]);
    assert_eq!(wave(&mut site), [103]);
}

#[test]
fn whoever_leaves_is_not_waited_for() {
    let mut site = blue();
    site.must("opal", upgrade_cluster("blue", "1.37.0", 5), &[OPAL]);
    for seed in [102, 103, 104] {
        wave(&mut site);
        site.done(seed);
    }
    assert_eq!(wave(&mut site), [105, 106, 107]);
    site.done(105);
    site.must("opal", detach("blue", &[106]), &[OPAL]);
    // What it runs is what its order to leave names: 106 never said that it runs the new one.
    let order = site.state.release_order(&name("blue"), &node(106), &node(102)).unwrap();
    assert_eq!(order.version, "1.36.2".parse::<Version>().unwrap());
    site.must("opal", revoke(107), &[OPAL]);
    assert_eq!((version(&site), phase(&site)), ("1.37.0", &UpgradePhase::Done));
    site.settle();
    assert_eq!(site.blue().phase.word(), "ready");
}

#[test]
fn a_deleted_cluster_and_one_without_nodes_upgrade_nothing() {
    let mut site = blue();
    site.must("opal", upgrade_cluster("blue", "1.37.0", 5), &[OPAL]);
    wave(&mut site);
    site.must("opal", detach("blue", &[102, 103, 104, 105, 106, 107]), &[OPAL]);
    site.settle();
    assert!(site.blue().upgrade.is_none() && site.blue().phase.word() == "empty");
    site.must("opal", attach_explicit("blue", &[102], &[]), &[OPAL]);
    site.settle();
    assert_eq!(site.order_of(102).version.as_str(), "1.36.2");
    site.must("opal", upgrade_cluster("blue", "1.37.0", 5), &[OPAL]);
    site.must("olga", crate::support::site::delete("blue"), &[OLGA]);
    site.settle();
    assert!(site.state.cluster(&name("blue")).is_none());
}
