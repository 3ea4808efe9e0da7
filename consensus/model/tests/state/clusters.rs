//! Create, attach, detach, delete: every precondition, and what each leaves behind.

use qb_model::action::Placement;
use qb_model::command::{Command, Place, PreflightDone};
use qb_model::ids::Generation;
use qb_model::outcome::Outcome;
use qb_model::plan::Effect;
use qb_model::preflight::Severity;
use qb_model::state::{Applied, ClusterPhase, NodePhase};

use crate::support::site::{
    FIRST, Site, attach, attach_auto, attach_explicit, attach_named, authorize, create, create_with, delete,
    detach, finding, placed, revoke,
};
use crate::support::{OLGA, OPAL, OPAL_BROWSER, VERA, cluster, name, node};

#[test]
fn create_takes_a_free_name() {
    let mut site = Site::with_pool(0);
    site.must_not("vera", create("blue"), &[VERA], "role");
    site.must("opal", create("blue"), &[OPAL_BROWSER]);
    assert_eq!(site.blue().phase, ClusterPhase::Empty);
    site.must_not("opal", create("blue"), &[OPAL], "name_taken");
}

#[test]
fn generations_survive_deletion() {
    let mut site = Site::with_pool(0);
    site.must("opal", create("blue"), &[OPAL]);
    assert_eq!(site.state.generation(&cluster("blue")), Generation(1));
    site.must("olga", delete("blue"), &[OLGA]);
    assert!(site.state.cluster(&name("blue")).is_none(), "it had no nodes");
    let gone = site.state.generation(&cluster("blue"));
    assert!(gone > Generation(1));
    site.must("opal", create("blue"), &[OPAL]);
    assert_eq!(site.state.generation(&cluster("blue")), gone.next());
    // Who looked at the old one orders nothing of the new one.
    let mut stale = site.intent("opal", attach_auto("blue", 1));
    stale.expect =
        vec![qb_model::intent::Expect::Generation { object: cluster("blue"), generation: Generation(1) }];
    let outcome = site.send(&stale, &[OPAL]);
    assert_eq!(crate::support::rejection(&outcome), Some("stale_generation"));
}

#[test]
fn attach_knows_cluster_and_nodes() {
    let mut site = Site::with_blue(6, &[102], &[]);
    site.must("opal", create("green"), &[OPAL]);
    site.must("opal", revoke(107), &[OPAL]);
    let rows = [
        (attach_auto("red", 1), "unknown_cluster"),
        (attach_named("green", &[102]), "not_in_pool"),
        (attach_named("green", &[107]), "tombstone"),
        (attach_named("green", &[120]), "unknown_node"),
        (attach_explicit("green", &[102], &[]), "not_in_pool"),
        (attach_explicit("green", &[103], &[107]), "tombstone"),
        (attach_explicit("green", &[120], &[]), "unknown_node"),
    ];
    for (action, code) in rows {
        site.must_not("opal", action, &[OPAL], code);
    }
    site.must_not("vera", attach_auto("green", 1), &[VERA], "role");
}

#[test]
fn one_attach_at_a_time() {
    let mut site = Site::with_pool(4);
    site.must("opal", create("blue"), &[OPAL]);
    site.must("opal", attach_auto("blue", 9), &[OPAL]);
    for action in [attach_auto("blue", 1), attach_explicit("blue", &[102], &[])] {
        site.must_not("opal", action, &[OPAL], "cluster_busy");
    }
    site.must("olga", delete("blue"), &[OLGA]);
    assert!(site.state.cluster(&name("blue")).is_none());
    let mut site = Site::with_blue(4, &[102], &[103]);
    site.must("olga", delete("blue"), &[OLGA]);
    site.must_not("opal", attach_auto("blue", 1), &[OPAL], "cluster_busy");
    site.must_not("opal", detach("blue", &[103]), &[OPAL], "cluster_busy");
    site.must_not("olga", delete("blue"), &[OLGA], "cluster_busy");
}

#[test]
fn control_planes_are_one_three_or_five() {
    let mut site = Site::with_pool(7);
    site.must("opal", create("blue"), &[OPAL]);
    for control in [&[][..], &[102, 103], &[102, 103, 104, 105], &[102, 103, 104, 105, 106, 107]] {
        let action = attach_explicit("blue", control, &[108]);
        site.must_not("opal", action, &[OPAL], "control_plane_count");
    }
    site.must("opal", attach_explicit("blue", &[102], &[108]), &[OPAL]);
    site.settle();
    // Those that are there count.
    for control in [&[103][..], &[103, 104, 105]] {
        site.must_not("opal", attach_explicit("blue", control, &[]), &[OPAL], "control_plane_count");
    }
    site.must("opal", attach_explicit("blue", &[103, 104], &[]), &[OPAL]);
    site.settle();
    assert_eq!(site.state.control_plane(&name("blue")), 3);
}

#[test]
fn after_a_loss_the_attach_makes_the_number_odd_again() {
    // 5 planned, 1 lost: 4 are left, and 1 more node of any number makes it 5.
    let mut site = Site::with_blue(8, &[102, 103, 104, 105, 106], &[]);
    site.must("opal", detach("blue", &[104]), &[OPAL]);
    site.settle();
    assert_eq!(site.state.control_plane(&name("blue")), 4);
    site.must("opal", attach_auto("blue", 1), &[OPAL]);
    site.settle();
    assert_eq!(site.blue().phase, ClusterPhase::Ready);
    assert!(site.blue().attach.is_none());
    assert_eq!(site.state.control_plane(&name("blue")), 5);
}

#[test]
fn explicit_sits_at_once_named_and_auto_when_placed() {
    let mut site = Site::with_pool(6);
    for cluster in ["blue", "green", "red"] {
        site.must("opal", create(cluster), &[OPAL]);
    }
    site.must("opal", attach_explicit("blue", &[102], &[103]), &[OPAL]);
    assert!(!site.in_pool(102) && !site.in_pool(103));
    site.must("opal", attach_named("green", &[104, 105]), &[OPAL]);
    site.must("opal", attach_auto("red", 1), &[OPAL]);
    assert!(site.in_pool(104) && site.in_pool(105));
    site.settle();
    for cluster in ["blue", "green", "red"] {
        assert_eq!(site.state.cluster(&name(cluster)).unwrap().phase, ClusterPhase::Ready);
        assert_eq!(site.state.control_plane(&name(cluster)), 1);
    }
    let members: Vec<_> = site.state.members(&name("green")).map(|n| n.node).collect();
    assert_eq!(members, crate::support::site::sorted(&[104, 105]));
    assert_eq!(site.state.members(&name("red")).count(), 1);
    assert!(site.in_pool(FIRST), "voters last");
}

#[test]
fn a_node_on_probation_works_and_does_not_rule() {
    let mut site = Site::with_pool(1);
    site.must("opal", authorize(&[103, 104]), &[OPAL_BROWSER]);
    for seed in [103, 104] {
        site.hello(seed);
    }
    site.must("opal", create("blue"), &[OPAL]);
    site.must("opal", attach_auto("blue", 3), &[OPAL]);
    site.settle();
    assert_eq!(site.blue().phase, ClusterPhase::Ready);
    assert_eq!(site.record(102).phase.role(), Some(qb_model::action::NodeRole::ControlPlane));
}

#[test]
fn an_attach_can_be_taken_back_at_every_stage() {
    for steps in 0..4 {
        for action in [attach_auto("blue", 3), attach_named("blue", &[102, 103, 104])] {
            let mut site = Site::with_pool(3);
            site.must("opal", create("blue"), &[OPAL]);
            let intent = site.must("opal", action, &[OPAL]);
            site.lead(&[]);
            for _ in 0..steps {
                site.lead(&[]);
                for seed in site.busy() {
                    site.done(seed);
                }
            }
            let members: Vec<u8> =
                (101..=104).filter(|n| site.record(*n).phase.cluster().is_some()).collect();
            assert_eq!(members.len(), 3);
            site.must("opal", detach("blue", &members), &[OPAL]);
            site.settle();
            assert!((101..=104).all(|n| site.in_pool(n)), "after {steps} steps");
            assert_eq!(site.blue().phase, ClusterPhase::Empty);
            assert!(site.blue().attach.is_none());
            let live = site.state.intents().get(&intent.digest());
            assert!(live.is_none_or(|l| l.finished.is_some()));
        }
    }
}

#[test]
fn detach_knows_members_and_keeps_a_control_plane() {
    let mut site = Site::with_blue(6, &[102, 103, 104], &[105]);
    site.must_not("opal", detach("red", &[105]), &[OPAL], "unknown_cluster");
    site.must_not("opal", detach("blue", &[106]), &[OPAL], "not_in_cluster");
    site.must_not("opal", detach("blue", &[105, 106]), &[OPAL], "not_in_cluster");
    site.must_not("opal", detach("blue", &[102, 103, 104]), &[OPAL], "last_control_plane");
    site.must("opal", detach("blue", &[105]), &[OPAL]);
    site.must_not("opal", detach("blue", &[105]), &[OPAL], "not_in_cluster");
    site.settle();
    assert!(site.in_pool(105));
    // Without workers all may go: the cluster is empty.
    site.must("opal", detach("blue", &[102, 103, 104]), &[OPAL]);
    site.settle();
    assert_eq!(site.blue().phase, ClusterPhase::Empty);
    assert!(site.blue().public.is_empty() && site.blue().first.is_none());
}

#[test]
fn a_control_plane_that_has_not_joined_keeps_nothing_alive() {
    let mut site = Site::with_blue(6, &[102], &[105]);
    site.must("opal", attach_explicit("blue", &[103, 104], &[]), &[OPAL]);
    site.must_not("opal", detach("blue", &[102]), &[OPAL], "last_control_plane");
    site.settle();
    site.must("opal", detach("blue", &[102]), &[OPAL]);
    site.settle();
    assert_eq!(site.blue().first, Some(node(103)));
    assert_eq!(site.blue().public, b"CA of 102");
    // The first is gone, and the next attach works all the same.
    site.must("opal", attach_explicit("blue", &[102], &[]), &[OPAL]);
    site.settle();
    assert_eq!(site.state.control_plane(&name("blue")), 3);
    assert_eq!(site.blue().public, b"CA of 102");
}

#[test]
fn the_registry_of_a_rehearsal_leaves_last() {
    let mut site = Site::with_pool(4);
    site.must("opal", create_with("blue", "rehearsal"), &[OPAL]);
    site.must("opal", attach_explicit("blue", &[102, 103, 104], &[]), &[OPAL]);
    site.settle();
    site.must_not("opal", detach("blue", &[102]), &[OPAL], "rehearsal_first");
    site.must("opal", detach("blue", &[102, 103, 104]), &[OPAL]);
    site.settle();
    assert_eq!(site.blue().phase, ClusterPhase::Empty);
}

#[test]
fn a_cluster_that_was_emptied_begins_anew_under_an_open_attach() {
    let mut site = Site::with_blue(5, &[102], &[]);
    site.must("opal", attach_named("blue", &[103]), &[OPAL]);
    site.must("opal", detach("blue", &[102]), &[OPAL]);
    site.settle();
    assert!(site.in_pool(102));
    assert_eq!(site.blue().phase, ClusterPhase::Ready);
    assert_eq!(site.blue().first, Some(node(103)));
    assert_eq!(site.blue().public, b"CA of 103");
}

#[test]
fn while_all_leave_a_new_attach_is_not_ready() {
    let mut site = Site::with_blue(5, &[102], &[]);
    site.must("opal", detach("blue", &[102]), &[OPAL]);
    site.must("opal", attach_explicit("blue", &[103], &[]), &[OPAL]);
    assert_eq!(site.blue().phase, ClusterPhase::Preflight);
    site.settle();
    assert_eq!(site.blue().phase, ClusterPhase::Ready);
    assert_eq!(site.blue().public, b"CA of 103");
}

#[test]
fn delete_is_an_owners_and_ends_with_the_last_node() {
    let mut site = Site::with_blue(5, &[102], &[103, 104]);
    site.must_not("olga", delete("red"), &[OLGA], "unknown_cluster");
    site.must_not("opal", delete("blue"), &[OPAL], "role");
    site.must("opal", detach("blue", &[104]), &[OPAL]);
    site.must("opal", attach_explicit("blue", &[], &[105]), &[OPAL]);
    let intent = site.must("olga", delete("blue"), &[OLGA]);
    assert!(site.in_pool(105), "nothing was done on it yet");
    assert_eq!(site.blue().phase, ClusterPhase::Deleting);
    assert!(site.state.intents()[&intent.digest()].finished.is_none());
    site.settle();
    assert!(site.state.cluster(&name("blue")).is_none());
    assert!((101..=105).all(|n| site.in_pool(n)));
    assert!(site.state.intents().values().all(|live| live.finished.is_some()));
}

#[test]
fn a_delete_of_a_cluster_whose_nodes_leave_already_is_open_until_they_are_out() {
    let mut site = Site::with_blue(5, &[102], &[]);
    site.must("opal", detach("blue", &[102]), &[OPAL]);
    let intent = site.must("olga", delete("blue"), &[OLGA]);
    assert!(site.state.intents()[&intent.digest()].finished.is_none());
    site.settle();
    assert!(site.state.cluster(&name("blue")).is_none());
}

#[test]
fn preflight_with_errors_holds_the_attach_up() {
    let mut site = Site::with_pool(3);
    site.must("opal", create("blue"), &[OPAL]);
    site.must("opal", attach_explicit("blue", &[102], &[]), &[OPAL]);
    site.lead(&[finding(Severity::Error)]);
    assert_eq!(site.blue().phase, ClusterPhase::Preflight);
    assert_eq!(site.plan(), [], "not again at once");
    site.now = site.now.plus(qb_model::plan::PREFLIGHT_AGAIN_MS);
    assert!(matches!(site.plan()[..], [Effect::Preflight { .. }]));
    site.lead(&[finding(Severity::Warning)]);
    assert_eq!(site.blue().phase, ClusterPhase::Initializing);
    assert_eq!(site.blue().attach.as_ref().unwrap().findings.len(), 1);
    site.settle();
}

#[test]
fn a_named_node_that_went_elsewhere_is_not_taken() {
    let mut site = Site::with_pool(3);
    for cluster in ["blue", "green"] {
        site.must("opal", create(cluster), &[OPAL]);
    }
    site.must("opal", attach_named("blue", &[102]), &[OPAL]);
    site.must("opal", attach_explicit("green", &[102], &[]), &[OPAL]);
    site.settle();
    assert_eq!(site.record(102).phase.cluster(), Some(&name("green")));
    let waits = qb_model::plan::why::of_cluster(&site.state, &site.board, site.blue(), site.now).unwrap();
    assert_eq!(waits.clears, qb_model::waiting::Clears::Person, "{waits:?}");
}

#[test]
fn what_is_placed_is_placed_once() {
    let mut site = Site::with_pool(4);
    site.must("opal", create("blue"), &[OPAL]);
    let intent = site.must("opal", attach_auto("blue", 1), &[OPAL]).digest();
    let place = |n: u8| Command::Place(Place { cluster: name("blue"), intent, nodes: placed(&[n], &[]) });
    assert_eq!(site.propose(place(102)), Applied::Done);
    site.ignored(place(103));
    let checked = Command::Preflight(PreflightDone { cluster: name("blue"), intent, findings: vec![] });
    assert_eq!(site.propose(checked.clone()), Applied::Done);
    site.ignored(checked);
    assert!(matches!(site.record(102).phase, NodePhase::Attached { done: None, .. }));
}

#[test]
fn a_preview_changes_nothing_and_tells_the_same() {
    let mut site = Site::with_pool(4);
    site.must("opal", create("blue"), &[OPAL]);
    let good = site.intent("opal", attach_explicit("blue", &[102], &[103]));
    let bad = site.intent("opal", attach("blue", Placement::Explicit { nodes: placed(&[102, 103], &[]) }));
    let shown = site.state.preview(&good).unwrap();
    assert_eq!(shown.control_plane(&name("blue")), 1);
    assert_eq!(site.state.control_plane(&name("blue")), 0);
    assert_eq!(site.state.preview(&bad).unwrap_err().code(), "control_plane_count");
    assert!(matches!(site.send(&good, &[OPAL]), Outcome::Accepted { .. }));
}
