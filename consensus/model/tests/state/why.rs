//! Golden text: why nothing happens, in the words that people read.

use qb_model::action::{Action, RevokeReason};
use qb_model::assignment::Stage;
use qb_model::board::{StepState, Unit, Work};
use qb_model::ids::{Generation, Millis};
use qb_model::plan::why;
use qb_model::preflight::Severity;
use qb_model::state::Applied;
use qb_model::waiting::{Clears, WaitingOn};

use crate::support::site::{
    Site, attach_auto, attach_explicit, attach_named, authorize, create, delete, detach, finding, revoke,
};
use crate::support::{OLGA, OPAL, name, node, public};

/// The line of a list, and what clears it. Checks the rules that hold for every sentence.
fn line(cause: &WaitingOn) -> String {
    let sentence = format!("{} {}", cause.subject, cause.text);
    assert!(sentence.chars().count() <= 90, "{} characters: {sentence}", sentence.chars().count());
    for word in ["please", "error", "pending", "unfortunately"] {
        assert!(!sentence.to_lowercase().contains(word), "{word}: {sentence}");
    }
    assert!(
        cause.text.contains("wait")
            || cause.text.contains("is ")
            || cause.text.contains("cannot ")
            || cause.text.contains("has "),
        "{sentence}"
    );
    let person = cause.clears == Clears::Person;
    assert_eq!((person, person), (cause.command.is_some(), cause.role.is_some()));
    let clears = cause.command.as_ref().map_or("by itself".to_owned(), |c| format!("> {c}"));
    let more = if cause.more > 0 { format!(" (+{})", cause.more) } else { String::new() };
    format!("{}: {sentence}.{more} {clears}", cause.code)
}

fn of_blue(site: &Site) -> String {
    line(&why::of_cluster(&site.state, &site.board, site.blue(), site.now).unwrap())
}

fn of_node(site: &Site, seed: u8) -> String {
    line(&why::of_node(&site.state, &site.board, site.record(seed), site.now).unwrap())
}

fn begun() -> Site {
    let mut site = Site::with_pool(4);
    site.must("opal", create("blue"), &[OPAL]);
    site.must("opal", attach_explicit("blue", &[102], &[103]), &[OPAL]);
    site.lead(&[]);
    site.lead(&[]);
    site
}

fn work(site: &Site, seed: u8, state: StepState) -> Work {
    let error = (state == StepState::Failed)
        .then(|| ("10.0.0.102:2380 refuses connections".to_owned(), "ss -ltnp 'sport = :2380'".to_owned()));
    Work {
        generation: site.record(seed).assignments,
        stage: site.order_of(seed).stage,
        step: 3,
        steps: 9,
        title: "unpack the bundle".into(),
        state,
        since: site.now,
        tries: 3,
        error,
    }
}

#[test]
fn nodes_that_are_not_in() {
    let knocks = why::of_waiting_node("lyon-r2-03", Millis(5));
    let want = "node.authorize: lyon-r2-03 waits for an administrator to authorize it. > qb node authorize lyon-r2-03";
    assert_eq!((line(&knocks).as_str(), knocks.since), (want, Millis(5)));
    let mut site = Site::with_pool(0);
    site.must("opal", authorize(&[102]), &[OPAL]);
    let want = "node.admission: host-102.plant waits for its agent: it was authorized and has not come in yet. by itself";
    assert_eq!(of_node(&site, 102), want);
    site.hello(102);
    assert!(why::of_node(&site.state, &site.board, site.record(102), site.now).is_none());
    // An attach of one that has not come in.
    site.must("opal", authorize(&[103]), &[OPAL]);
    site.must("opal", create("blue"), &[OPAL]);
    site.must("opal", attach_explicit("blue", &[103], &[]), &[OPAL]);
    assert!(
        of_blue(&site).starts_with("node.admission: blue waits for host-103.plant: it waits for its agent")
    );
}

#[test]
fn clusters_without_nodes() {
    let mut site = Site::with_pool(3);
    site.must("opal", create("blue"), &[OPAL]);
    let want =
        "cluster.empty: blue waits for nodes: it has none, the pool has 4. > qb cluster attach blue -n 3";
    assert_eq!(of_blue(&site), want);
    let intent = site.must("opal", attach_auto("blue", 9), &[OPAL]);
    let want =
        "attach.nodes: blue waits for free nodes: 4 in the pool, 9 wanted. > qb node authorize --waiting";
    assert_eq!(of_blue(&site), want);
    let of_intent = why::of_intent(&site.state, &site.board, &intent.digest(), site.now).unwrap();
    assert_eq!(line(&of_intent), want);
}

#[test]
fn named_nodes_that_went_away() {
    let mut site = Site::with_pool(3);
    site.must("opal", create("blue"), &[OPAL]);
    site.must("opal", create("green"), &[OPAL]);
    site.must("opal", attach_named("blue", &[102]), &[OPAL]);
    assert_eq!(of_blue(&site), "attach.place: blue waits for the leader to place it. by itself");
    site.must("opal", attach_explicit("green", &[102], &[]), &[OPAL]);
    let want = "attach.nodes: blue waits for host-102.plant: it is attached green, not in the pool. > qb node show host-102.plant";
    assert_eq!(of_blue(&site), want);
    site.must("opal", revoke(102), &[OPAL]);
    let want = "attach.nodes: blue waits for host-102.plant, which was revoked and does not come back. > qb cluster delete blue";
    assert_eq!(of_blue(&site), want);
}

#[test]
fn preflight() {
    let mut site = Site::with_pool(3);
    site.must("opal", create("blue"), &[OPAL]);
    site.must("opal", attach_explicit("blue", &[102], &[103]), &[OPAL]);
    assert_eq!(of_blue(&site), "cluster.preflight: blue waits for preflight of 2 nodes. by itself");
    site.lead(&[finding(Severity::Warning), finding(Severity::Error), finding(Severity::Error)]);
    let want = "cluster.preflight: blue waits for preflight: NET-REFUSED host-103 > host-102: tcp/6443 refused. (+1) \
                > on host-102: ss -ltnp 'sport = :6443'";
    assert_eq!(of_blue(&site), want);
    assert!(
        of_node(&site, 103).starts_with("cluster.preflight: host-103.plant waits for preflight: NET-REFUSED")
    );
}

#[test]
fn steps() {
    let mut site = begun();
    let want = "node.turn: host-103.plant waits for its agent to take up its order. by itself";
    assert_eq!(of_node(&site, 103), want);
    let running = work(&site, 103, StepState::Applying);
    site.report(103, |r| r.work = Some(running));
    let want = "step.running: host-103.plant is at step 3 of 9 of prepare: unpack the bundle. by itself";
    assert_eq!(of_node(&site, 103), want);
    site.now = site.now.plus(1);
    let failed = work(&site, 103, StepState::Failed);
    site.report(103, |r| r.work = Some(failed));
    let want = "step.failed: host-103.plant cannot prepare: 10.0.0.102:2380 refuses connections, 3 tries. \
                > ss -ltnp 'sport = :2380'";
    assert_eq!(of_node(&site, 103), want);
    let want = "step.failed: blue waits for host-103.plant: it cannot prepare: 10.0.0.102:2380 refuses \
                connections, 3 …. (+1) > ss -ltnp 'sport = :2380'";
    assert_eq!(of_blue(&site), want);
    // Of an order that is over nothing is said.
    site.now = site.now.plus(1);
    let mut old = work(&site, 103, StepState::Failed);
    old.generation = Generation(0);
    site.report(103, |r| r.work = Some(old));
    assert!(of_node(&site, 103).starts_with("node.turn"));
}

#[test]
fn a_long_cause_is_cut_and_the_tries_stay() {
    let mut site = begun();
    let mut failed = work(&site, 103, StepState::Failed);
    failed.error = Some(("x".repeat(300), "df -h".into()));
    failed.tries = 1;
    site.report(103, |r| r.work = Some(failed));
    let said = of_node(&site, 103);
    assert!(said.starts_with("step.failed: host-103.plant cannot prepare: xxx"), "{said}");
    assert!(said.ends_with("x…, 1 try. > df -h"), "{said}");
}

#[test]
fn turns() {
    let mut site = begun();
    site.done(103);
    let want = "node.turn: host-103.plant waits for host-102.plant: it has not answered yet. by itself";
    assert_eq!(of_node(&site, 103), want);
    site.done(102);
    site.lead(&[]);
    assert_eq!(site.order_of(102).stage, Stage::Initialize);
    let running = work(&site, 102, StepState::Applying);
    site.report(102, |r| r.work = Some(running));
    let want = "node.turn: host-103.plant waits for host-102.plant: it is at step 3 of 9 of initialize: unpack the b…. by itself";
    assert_eq!(of_node(&site, 103), want);
}

#[test]
fn silence_and_what_is_unwell() {
    let mut site = Site::with_blue(4, &[102], &[103]);
    for seed in [102, 103] {
        site.report(seed, |_| {});
    }
    assert!(why::of_cluster(&site.state, &site.board, site.blue(), site.now).is_none());
    site.now = site.now.plus(1);
    site.report(103, |r| {
        let (name, state) = ("kubelet".into(), "restarting".into());
        r.units = vec![Unit { cluster: crate::support::name("blue"), name, state, well: false }];
    });
    let want = "unit.unwell: blue is degraded: host-103.plant has kubelet restarting. by itself";
    assert_eq!(of_blue(&site), want);
    site.now = site.now.plus(7_000);
    site.report(103, |_| {});
    let want = "node.silent: host-102.plant is silent: no report for 7 s. > systemctl status qb-agent";
    assert_eq!(of_node(&site, 102), want);
    let want = "node.silent: blue is degraded: host-102.plant is silent: no report for 7 s. > systemctl status qb-agent";
    assert_eq!(of_blue(&site), want);
}

#[test]
fn held_on_the_way_in_and_on_the_way_out() {
    let compromised =
        Action::KeyRevoke { admin: name("opal"), key: public(OPAL), reason: RevokeReason::Compromised };
    let mut site = begun();
    site.must("olga", compromised.clone(), &[OLGA]);
    let held = "is held: the key that signed its intent was revoked as compromised. > qb intent release ";
    assert!(of_blue(&site).starts_with(&format!("intent.held: blue {held}")), "{}", of_blue(&site));
    assert!(of_node(&site, 103).starts_with(&format!("intent.held: host-103.plant {held}")));
    let mut site = Site::with_blue(4, &[102], &[103]);
    site.must("opal", detach("blue", &[103]), &[OPAL]);
    assert_eq!(site.released(102, 103), Applied::Done);
    let want = "node.leave: host-103.plant waits for its order to leave blue. by itself";
    assert_eq!(of_node(&site, 103), want);
    site.must("olga", compromised, &[OLGA]);
    assert!(of_node(&site, 103).starts_with(&format!("intent.held: host-103.plant {held}")));
    assert!(of_blue(&site).starts_with("intent.held: blue waits for host-103.plant: it is held"));
}

#[test]
fn a_lost_control_plane_is_said() {
    let mut site = Site::with_blue(5, &[102], &[103, 104]);
    site.must("opal", revoke(102), &[OPAL]);
    let want = |nodes: usize| {
        format!(
            "cluster.control_plane: blue has no control plane that serves: 0 of {nodes} nodes. > qb cluster delete blue"
        )
    };
    assert_eq!(of_blue(&site), want(2));
    // An attach does not hide it.
    site.must("opal", attach_explicit("blue", &[105], &[]), &[OPAL]);
    assert_eq!(of_blue(&site), want(3));
    site.must("olga", delete("blue"), &[OLGA]);
    site.settle();
    assert!(site.state.cluster(&name("blue")).is_none());
    assert!(site.state.node(&node(103)).is_some());
}
