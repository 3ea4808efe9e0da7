//! Restores of a cluster's store: who may ask, who goes, who restores when, and how the others are in again.

use qb_model::action::Action;
use qb_model::assignment::{Citation, Floor, Grounds, Stage, verify};
use qb_model::ids::Digest;
use qb_model::plan::why;
use qb_model::state::RestorePhase;

use crate::support::site::{Site, create_with, detach, revoke, upgrade_cluster};
use crate::support::{OLGA, OPAL, OPAL_BROWSER, VERA, charter, name, node};

/// `blue`: 102, 103, 104 rule, 105 works; all report.
fn blue() -> Site {
    let mut site = Site::with_blue(8, &[102, 103, 104], &[105]);
    heard(&mut site, &[102, 103, 104, 105]);
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

fn restore(on: u8, others: &[u8]) -> Action {
    let mut others: Vec<_> = others.iter().map(|n| node(*n)).collect();
    others.sort();
    Action::ClusterRestore { cluster: name("blue"), node: node(on), backup: Digest([11; 32]), others }
}

fn backup() -> Action {
    Action::ClusterBackup { cluster: name("blue") }
}

fn phase(site: &Site) -> RestorePhase {
    site.blue().restore.as_ref().unwrap().phase
}

#[test]
fn who_may_ask_and_for_what() {
    let mut site = blue();
    site.must_not("vera", backup(), &[VERA], "role");
    site.must_not("opal", backup(), &[OPAL_BROWSER], "key_class");
    site.must("opal", backup(), &[OPAL]);
    site.must_not("opal", restore(102, &[103, 104]), &[OPAL], "role");
    site.must_not("olga", restore(105, &[103, 104]), &[OLGA], "not_in_cluster");
    for others in [&[][..], &[103], &[103, 104, 105], &[102, 103]] {
        site.must_not("olga", restore(102, others), &[OLGA], "restore_others");
    }
    site.must("opal", upgrade_cluster("blue", "1.36.3", 1), &[OPAL]);
    site.must_not("olga", restore(102, &[103, 104]), &[OLGA], "cluster_busy");
    let mut rehearsal = Site::with_pool(3);
    rehearsal.must("opal", create_with("blue", "rehearsal"), &[OPAL]);
    rehearsal.must_not("opal", backup(), &[OPAL], "driver");
}

#[test]
fn a_backup_is_known_by_the_intent_that_asked() {
    let mut site = blue();
    let one = site.must("opal", backup(), &[OPAL]).digest();
    assert_eq!(site.blue().backup.unwrap().cites.digest, one);
    let two = site.must("opal", backup(), &[OPAL]).digest();
    assert!(one != two && site.blue().backup.unwrap().cites.digest == two);
    assert!(site.state.intents()[&two].finished.is_some(), "nobody waits for it");
}

#[test]
fn the_others_are_reset_then_the_store_is_restored_then_they_join() {
    let mut site = blue();
    let digest = site.must("olga", restore(103, &[102, 104]), &[OLGA]).digest();
    assert!(site.blue().releases.is_empty(), "there may be nobody who could take them out");
    assert_eq!(site.blue().first, Some(node(103)));
    site.must_not("opal", detach("blue", &[103]), &[OPAL], "last_control_plane");
    site.lead(&[]);
    assert_eq!(site.busy(), [102, 104]);
    for seed in [102, 104] {
        assert_eq!(site.order_of(seed).stage, Stage::Leave);
    }
    site.done(102);
    heard(&mut site, &[103, 104, 105]);
    assert_eq!((site.lead(&[]), phase(&site)), (0, RestorePhase::Emptying), "104 answers and is not reset");
    site.done(104);
    site.lead(&[]);
    assert_eq!((site.order_of(103).stage, phase(&site)), (Stage::Restore, RestorePhase::Restoring));
    let cause = why::of_cluster(&site.state, &site.board, site.blue(), site.now).unwrap();
    assert_eq!(cause.subject, "blue");
    site.must_not("opal", upgrade_cluster("blue", "1.36.3", 1), &[OPAL], "cluster_busy");
    assert!(site.state.intents()[&digest].finished.is_none());
    site.done(103);
    assert_eq!(phase(&site), RestorePhase::Restored);
    // All of them are in the pool: they are attached again by the same intent.
    assert!(site.blue().attach.as_ref().is_some_and(|a| a.cites.digest == digest));
    site.settle();
    let ruling: Vec<u8> = (102..=104).filter(|n| site.record(*n).phase.serves()).collect();
    assert_eq!(ruling, [102, 103, 104]);
    assert!(site.state.intents()[&digest].finished.is_some() && site.blue().attach.is_none());
    assert_eq!(site.blue().phase.word(), "ready");
    // The same backup once more.
    heard(&mut site, &[102, 103, 104, 105]);
    site.must("olga", restore(103, &[102, 104]), &[OLGA]);
    assert_eq!(phase(&site), RestorePhase::Emptying);
}

#[test]
fn nobody_waits_for_those_that_are_away() {
    let mut site = blue();
    heard(&mut site, &[103, 104, 105]);
    let digest = site.must("olga", restore(103, &[102, 104]), &[OLGA]).digest();
    site.lead(&[]);
    site.done(104);
    site.lead(&[]);
    assert_eq!(site.order_of(103).stage, Stage::Restore);
    site.done(103);
    assert!(site.blue().attach.is_none(), "102 is not reset");
    assert!(site.state.intents()[&digest].finished.is_none());
    // It is back, leaves, and both are in again.
    site.done(102);
    site.settle();
    assert!((102..=104).all(|n| site.record(n).phase.serves()));
    assert!(site.state.intents()[&digest].finished.is_some());
    // One that never comes back ends the wait; what is left is an admin's.
    heard(&mut site, &[103, 104, 105]);
    let digest = site.must("olga", restore(103, &[102, 104]), &[OLGA]).digest();
    site.lead(&[]);
    site.done(104);
    site.lead(&[]);
    site.done(103);
    site.must("opal", revoke(102), &[OPAL]);
    assert!(site.blue().attach.is_none() && site.in_pool(104));
    assert!(site.state.intents()[&digest].finished.is_some());
}

#[test]
fn one_control_plane_node_restores_alone() {
    let mut site = Site::with_blue(6, &[102], &[103]);
    heard(&mut site, &[102, 103]);
    let digest = site.must("olga", restore(102, &[]), &[OLGA]).digest();
    site.lead(&[]);
    assert_eq!(site.order_of(102).stage, Stage::Restore);
    site.done(102);
    assert_eq!(phase(&site), RestorePhase::Restored);
    assert!(site.state.intents()[&digest].finished.is_some() && site.blue().attach.is_none());
}

#[test]
fn an_executor_believes_only_the_signed_restore() {
    let mut site = blue();
    site.must("olga", restore(103, &[102, 104]), &[OLGA]);
    site.lead(&[]);
    site.done(102);
    site.done(104);
    site.lead(&[]);
    let order = site.order_of(103);
    let cited = |c: &Citation| {
        let live = &site.state.intents()[&c.digest];
        (live.envelope.clone(), live.at)
    };
    let grounds = Grounds {
        charter: charter().envelope().to_vec(),
        trust_log: site.state.trust().log().to_vec(),
        order: cited(&order.cites),
        create: cited(&order.created_by),
    };
    let floor = |n: u8| Floor {
        site: site.id(),
        node: node(n),
        generation: order.generation,
        trust_head: site.state.trust().head(),
    };
    let (verified, _) = verify(order.clone(), &grounds, &floor(103)).unwrap();
    assert_eq!(verified.backup(), Some(Digest([11; 32])));
    // Not on a node that the intent resets, and that one does not initialize.
    for (seed, stage) in
        [(104, Stage::Restore), (104, Stage::Initialize), (103, Stage::Leave), (103, Stage::Join)]
    {
        let mut forged = order.clone();
        (forged.node, forged.stage) = (node(seed), stage);
        if forged.member().is_none() {
            let mut member = forged.members[0].clone();
            (member.node, member.role) = (node(seed), qb_model::action::NodeRole::ControlPlane);
            forged.members.push(member);
        }
        assert!(verify(forged, &grounds, &floor(seed)).is_err(), "{seed} {stage:?}");
    }
}
