//! S42: whatever a leader proposes, only what an intent implies takes effect.

use qb_model::action::{NodeRole, PlacedNode, RevokeReason};
use qb_model::assignment::Stage;
use qb_model::command::{Assign, Command, Place, PreflightDone};
use qb_model::ids::{Digest, Generation};
use qb_model::preflight::Severity;
use qb_model::state::Applied;

use crate::support::site::{
    Site, attach_auto, attach_explicit, attach_named, authorize, create, detach, finding, placed, revoke,
};
use crate::support::{OLGA, OPAL, OPAL_BROWSER, name, node, public};

fn place(cluster: &str, intent: Digest, nodes: Vec<PlacedNode>) -> Command {
    Command::Place(Place { cluster: name(cluster), intent, nodes })
}

fn assign(n: u8, stage: Stage, generation: u64) -> Command {
    Command::Assign(Assign { node: node(n), stage, generation: Generation(generation) })
}

fn compromised(site: &mut Site) {
    let revoke = qb_model::action::Action::KeyRevoke {
        admin: name("opal"),
        key: public(OPAL),
        reason: RevokeReason::Compromised,
    };
    site.must("olga", revoke, &[OLGA]);
}

#[test]
fn s42_placements() {
    let mut site = Site::with_pool(6);
    site.must("opal", authorize(&[110]), &[OPAL_BROWSER]);
    site.must("opal", create("blue"), &[OPAL]);
    site.must("opal", create("green"), &[OPAL]);
    site.must("opal", attach_explicit("green", &[107], &[]), &[OPAL]);
    let intent = site.must("opal", attach_auto("blue", 3), &[OPAL]).digest();
    site.must("opal", revoke(106), &[OPAL]);
    let good = placed(&[102], &[103, 104]);
    let unsorted: Vec<PlacedNode> = good.iter().rev().cloned().collect();
    let twice = vec![good[0].clone(), good[0].clone(), good[1].clone()];
    let rows = [
        ("too few", place("blue", intent, placed(&[102], &[103]))),
        ("too many", place("blue", intent, placed(&[102], &[103, 104, 105]))),
        ("none", place("blue", intent, vec![])),
        ("unsorted", place("blue", intent, unsorted)),
        ("twice", place("blue", intent, twice)),
        ("not in the pool", place("blue", intent, placed(&[102], &[103, 107]))),
        ("revoked", place("blue", intent, placed(&[102], &[103, 106]))),
        ("unknown", place("blue", intent, placed(&[102], &[103, 120]))),
        ("even", place("blue", intent, placed(&[102, 103], &[104]))),
        ("no control plane", place("blue", intent, placed(&[], &[102, 103, 104]))),
        ("probation", place("blue", intent, placed(&[110], &[103, 104]))),
        ("another intent", place("blue", Digest([1; 32]), good.clone())),
        ("another cluster", place("green", intent, good.clone())),
        ("no cluster", place("red", intent, good.clone())),
    ];
    for (what, command) in rows {
        assert!(!site.ignored(command).is_empty(), "{what}");
    }
    assert_eq!(site.propose(place("blue", intent, good)), Applied::Done);
}

#[test]
fn s42_named_nodes_and_no_others() {
    let mut site = Site::with_pool(6);
    site.must("opal", create("blue"), &[OPAL]);
    let intent = site.must("opal", attach_named("blue", &[102, 103]), &[OPAL]).digest();
    site.ignored(place("blue", intent, placed(&[102], &[104])));
    site.ignored(place("blue", intent, placed(&[102], &[])));
    assert_eq!(site.propose(place("blue", intent, placed(&[103], &[102]))), Applied::Done);
}

#[test]
fn s42_orders() {
    let mut site = Site::with_pool(6);
    site.must("opal", create("blue"), &[OPAL]);
    site.must("opal", attach_explicit("blue", &[102, 103, 104], &[]), &[OPAL]);
    let before_preflight = assign(102, Stage::Prepare, 1);
    site.ignored(before_preflight.clone());
    site.lead(&[finding(Severity::Error)]);
    site.ignored(before_preflight.clone());
    site.wait(10_000);
    site.lead(&[]);
    let rows = [
        assign(105, Stage::Prepare, 1),
        assign(120, Stage::Prepare, 1),
        assign(102, Stage::Prepare, 0),
        assign(102, Stage::Prepare, 2),
        assign(102, Stage::Initialize, 1),
        assign(102, Stage::Join, 1),
        assign(102, Stage::Leave, 1),
    ];
    for command in rows.clone() {
        site.ignored(command);
    }
    assert_eq!(site.propose(before_preflight.clone()), Applied::Done);
    site.ignored(before_preflight);
    site.ignored(assign(102, Stage::Prepare, 2));
    site.done(102);
    // The others are not prepared, and nobody has initialized.
    for command in [assign(102, Stage::Join, 2), assign(102, Stage::Leave, 2), assign(103, Stage::Join, 1)] {
        site.ignored(command);
    }
    site.lead(&[]);
    site.done(103);
    site.ignored(assign(103, Stage::Initialize, 2));
    site.ignored(assign(103, Stage::Join, 2));
    site.settle();
    for stage in [Stage::Prepare, Stage::Initialize, Stage::Join, Stage::Leave] {
        let next = site.state.next_assignment(&node(102)).unwrap().0;
        site.ignored(assign(102, stage, next));
    }
    site.must("opal", detach("blue", &[103]), &[OPAL]);
    let next = site.state.next_assignment(&node(103)).unwrap().0;
    site.ignored(assign(103, Stage::Prepare, next));
    site.ignored(assign(103, Stage::Leave, next - 1));
    // Still in the cluster: 102 has to take it out.
    site.ignored(assign(103, Stage::Leave, next));
    assert_eq!(site.released(102, 103), Applied::Done);
    assert_eq!(site.propose(assign(103, Stage::Leave, next)), Applied::Done);
}

#[test]
fn s42_preflight_results() {
    let mut site = Site::with_pool(6);
    site.must("opal", create("blue"), &[OPAL]);
    let intent = site.must("opal", attach_auto("blue", 1), &[OPAL]).digest();
    let result = |cluster: &str, intent, findings: usize| {
        let findings = vec![finding(Severity::Warning); findings];
        Command::Preflight(PreflightDone { cluster: name(cluster), intent, findings })
    };
    site.ignored(result("blue", intent, 0));
    site.lead(&[]);
    site.ignored(result("red", intent, 0));
    site.ignored(result("blue", Digest([1; 32]), 0));
    site.ignored(result("blue", intent, 65));
    assert_eq!(site.propose(result("blue", intent, 64)), Applied::Done);
    site.ignored(result("blue", intent, 0));
}

#[test]
fn s42_nothing_for_a_held_intent() {
    // Unplaced.
    let mut site = Site::with_pool(6);
    site.must("opal", create("blue"), &[OPAL]);
    let intent = site.must("opal", attach_auto("blue", 1), &[OPAL]).digest();
    compromised(&mut site);
    assert_eq!(site.plan(), []);
    site.ignored(place("blue", intent, placed(&[102], &[])));
    // Placed.
    let mut site = Site::with_pool(6);
    site.must("opal", create("blue"), &[OPAL]);
    let intent = site.must("opal", attach_explicit("blue", &[102], &[]), &[OPAL]).digest();
    compromised(&mut site);
    assert_eq!(site.plan(), []);
    site.ignored(Command::Preflight(PreflightDone { cluster: name("blue"), intent, findings: vec![] }));
    site.ignored(assign(102, Stage::Prepare, 1));
    // On its way out.
    let mut site = Site::with_blue(6, &[102], &[103]);
    site.must("opal", detach("blue", &[103]), &[OPAL]);
    compromised(&mut site);
    assert_eq!(site.plan(), []);
    let next = site.state.next_assignment(&node(103)).unwrap().0;
    site.ignored(assign(103, Stage::Leave, next));
}

#[test]
fn an_order_holds_what_was_created_and_nothing_else() {
    let mut site = Site::with_pool(6);
    site.must("opal", create("blue"), &[OPAL]);
    site.must("opal", attach_explicit("blue", &[102], &[103]), &[OPAL]);
    site.lead(&[]);
    site.lead(&[]);
    let order = site.order_of(103);
    assert_eq!((order.driver.as_str(), order.version.as_str()), ("kubeadm", "1.36.2"));
    assert_eq!((order.bundle, order.first), (Digest([9; 32]), node(102)));
    assert_eq!((order.role, order.stage), (NodeRole::Worker, Stage::Prepare));
    assert_eq!(order.members.len(), 2);
    assert!(order.members.windows(2).all(|w| w[0].node < w[1].node));
    assert_eq!(order.created_by, site.blue().created);
    assert_eq!(order.cites, site.blue().attach.as_ref().unwrap().cites);
}

#[test]
fn a_late_order_does_not_overtake_the_next_attach() {
    let mut site = Site::with_pool(6);
    site.must("opal", create("blue"), &[OPAL]);
    site.must("opal", create("green"), &[OPAL]);
    site.must("opal", attach_explicit("blue", &[102], &[]), &[OPAL]);
    site.lead(&[]);
    let [qb_model::plan::Effect::Propose(late)] = &site.plan()[..] else { panic!("{:?}", site.plan()) };
    let late = late.clone();
    site.must("opal", detach("blue", &[102]), &[OPAL]);
    site.must("opal", attach_explicit("green", &[102], &[]), &[OPAL]);
    site.ignored(late);
    site.settle();
}
