//! How nodes enter a real cluster: control plane nodes one after the other, workers together.

use qb_model::assignment::Stage;
use qb_model::command::{Assign, Command};
use qb_model::plan::why;

use crate::support::site::{Site, attach_explicit, create_with, detach, has_work};
use crate::support::{OPAL, node};

/// Nodes whose order is to join and not done.
fn joining(site: &Site) -> Vec<u8> {
    let joins = |n: &u8| {
        let record = site.record(*n);
        has_work(&site.state, record) && record.assignment.as_ref().is_some_and(|a| a.stage == Stage::Join)
    };
    (102..=108).filter(joins).collect()
}

/// A cluster of three control plane nodes and two workers, initialized, nobody joined.
fn initialized(driver: &str) -> Site {
    let mut site = Site::with_pool(7);
    site.must("opal", create_with("blue", driver), &[OPAL]);
    site.must("opal", attach_explicit("blue", &[102, 103, 104], &[105, 106]), &[OPAL]);
    for _ in 0..2 {
        site.lead(&[]);
    }
    for seed in 102..=106 {
        site.done(seed);
    }
    site.lead(&[]);
    site.done(102);
    site.lead(&[]);
    site
}

#[test]
fn one_control_plane_node_at_a_time_and_all_workers() {
    let mut site = initialized("kubeadm");
    assert_eq!(joining(&site), [103, 105, 106]);
    assert_eq!(site.lead(&[]), 0, "104 waits for 103 alone");
    let next = site.state.next_assignment(&node(104)).unwrap();
    site.ignored(Command::Assign(Assign { node: node(104), stage: Stage::Join, generation: next }));
    let cause = why::of_node(&site.state, &site.board, site.record(104), site.now).unwrap();
    assert_eq!(
        (cause.code.as_str(), cause.text.as_str()),
        ("node.turn", "waits for host-103.plant: it has not answered yet")
    );
    site.done(105);
    assert_eq!(site.lead(&[]), 0);
    site.done(103);
    site.lead(&[]);
    assert_eq!(joining(&site), [104, 106]);
}

#[test]
fn one_that_is_taken_out_holds_nobody_up() {
    let mut site = initialized("kubeadm");
    site.must("opal", detach("blue", &[103, 104]), &[OPAL]);
    site.settle();
    assert_eq!(site.blue().phase.word(), "ready");
}

#[test]
fn the_rehearsal_joins_them_together() {
    let site = initialized("rehearsal");
    assert_eq!(joining(&site), [103, 104, 105, 106]);
}
