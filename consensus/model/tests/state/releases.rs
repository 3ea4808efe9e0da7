//! The first half of leaving: who is taken out of a real cluster, by whom, when, and what that rests on.

use qb_model::assignment::{Assignment, AssignmentError, Citation, Floor, Grounds, NodeResult, Stage};
use qb_model::board::Releasing;
use qb_model::ids::{Digest, Generation, Millis};
use qb_model::outcome::Reason;
use qb_model::plan::{Effect, release, why};
use qb_model::release::verify_release;
use qb_model::state::Applied;

use crate::support::site::{Site, attach_explicit, create, create_with, delete, detach, revoke};
use crate::support::{OLGA, OPAL, charter, name, node};

/// `blue` with 102, 103, 104 as control plane and 105, 106 as workers; all report.
fn three() -> Site {
    let mut site = Site::with_blue(8, &[102, 103, 104], &[105, 106]);
    for seed in 102..=106 {
        site.report(seed, |_| {});
    }
    site
}

/// These report now, the others fell silent.
fn heard(site: &mut Site, seeds: &[u8]) {
    site.wait(60_000);
    for (at, seed) in seeds.iter().enumerate() {
        let sequence = site.now.0 + at as u64 + 1;
        site.report(*seed, |r| r.sequence = sequence);
    }
}

/// Who is to take whom out now.
fn asked(site: &Site) -> Vec<(u8, u8)> {
    let seed = |id| (102..=110).find(|n| node(*n) == id).unwrap();
    let mut all: Vec<(u8, u8)> = site
        .plan()
        .into_iter()
        .filter_map(|e| match e {
            Effect::Release { node, by, .. } => Some((seed(node), seed(by))),
            _ => None,
        })
        .collect();
    all.sort_unstable();
    all
}

fn pending(site: &Site) -> Vec<u8> {
    (102..=110).filter(|n| site.blue().releases.contains_key(&node(*n))).collect()
}

fn cause(site: &Site, seed: u8) -> (String, String, Option<String>) {
    let cause = why::of_node(&site.state, &site.board, site.record(seed), site.now).unwrap();
    (cause.code, cause.text, cause.command)
}

#[test]
fn a_worker_is_out_before_it_is_ordered_to_leave() {
    let mut site = three();
    site.must("opal", detach("blue", &[105]), &[OPAL]);
    assert_eq!((asked(&site), pending(&site)), (vec![(105, 102)], vec![105]));
    assert_eq!(cause(&site, 105).1, "waits to be taken out of blue by host-102.plant");
    assert_eq!(site.released(102, 105), Applied::Done);
    assert!(pending(&site).is_empty());
    site.lead(&[]);
    assert_eq!(site.order_of(105).stage, Stage::Leave);
    site.done(105);
    assert!(site.in_pool(105) && site.blue().phase.word() == "ready");
}

#[test]
fn only_a_control_plane_node_that_stays_says_so_once() {
    let mut site = three();
    site.must("opal", detach("blue", &[104, 105]), &[OPAL]);
    let generation = site.blue().releases[&node(105)].generation;
    let said = |node, generation| NodeResult::Released { node, generation };
    let rows = [
        (105, said(node(105), generation), "itself"),
        (106, said(node(105), generation), "a worker"),
        (104, said(node(105), generation), "one that leaves"),
        (107, said(node(105), generation), "one of the pool"),
        (102, said(node(106), generation), "one that stays"),
        (102, said(node(105), Generation(generation.0 - 1)), "an earlier way out"),
    ];
    for (by, result, what) in rows {
        let applied = site.say(by, None, &result);
        assert!(matches!(applied, Applied::Ignored(_)), "{what}: {applied:?}");
        assert_eq!(pending(&site), [104, 105], "{what}");
    }
    assert_eq!(site.say(103, None, &said(node(105), generation)), Applied::Done);
    assert!(matches!(site.say(102, None, &said(node(105), generation)), Applied::Ignored(_)), "once");
}

#[test]
fn who_was_ordered_nothing_or_has_nobody_left_needs_nobody() {
    // Nothing was ordered.
    let mut site = three();
    site.must("opal", attach_explicit("blue", &[], &[107]), &[OPAL]);
    site.must("opal", detach("blue", &[107]), &[OPAL]);
    assert!(site.in_pool(107) && pending(&site).is_empty());
    // All go: the last control plane node leaves with the last nodes.
    let mut site = three();
    site.must("opal", detach("blue", &[102, 103, 104, 105, 106]), &[OPAL]);
    assert!(pending(&site).is_empty());
    site.settle();
    assert_eq!(site.blue().phase.word(), "empty");
    // The cluster is deleted, also while somebody is being taken out.
    let mut site = three();
    site.must("opal", detach("blue", &[105]), &[OPAL]);
    site.must("olga", delete("blue"), &[OLGA]);
    assert!(pending(&site).is_empty() && asked(&site).is_empty());
    site.settle();
    assert!(site.state.cluster(&name("blue")).is_none());
    // A rehearsal has nothing to be taken out of.
    let mut site = Site::with_pool(4);
    site.must("opal", create_with("blue", "rehearsal"), &[OPAL]);
    site.must("opal", attach_explicit("blue", &[102], &[103]), &[OPAL]);
    site.settle();
    site.must("opal", detach("blue", &[103]), &[OPAL]);
    assert!(pending(&site).is_empty());
}

#[test]
fn nobody_is_left_when_the_last_control_plane_node_is_revoked() {
    let mut site = Site::with_blue(6, &[102], &[103, 104]);
    site.must("opal", detach("blue", &[103]), &[OPAL]);
    assert_eq!(pending(&site), [103]);
    site.must("opal", revoke(102), &[OPAL]);
    assert!(pending(&site).is_empty());
    site.lead(&[]);
    assert_eq!(site.order_of(103).stage, Stage::Leave);
}

#[test]
fn a_revoked_node_is_taken_out_and_holds_its_slot_until_then() {
    let mut site = three();
    let slot = site.record(104).slot;
    site.must("opal", revoke(104), &[OPAL]);
    assert_eq!((pending(&site), asked(&site)), (vec![104], vec![(104, 102)]));
    let cause = why::of_cluster(&site.state, &site.board, site.blue(), site.now).unwrap();
    assert_eq!((cause.code.as_str(), cause.subject.as_str()), ("node.release", "blue"));
    site.must("opal", attach_explicit("blue", &[107], &[]), &[OPAL]);
    assert_ne!(site.record(107).slot, slot);
    // The new control plane node enters once the dead one is out.
    site.takes_out = false;
    site.lead(&[]);
    site.lead(&[]);
    site.done(107);
    assert_eq!(
        cause_of_join(&site, 107),
        "waits for host-104.plant: it is taken out of the control plane first"
    );
    assert_eq!(site.released(103, 104), Applied::Done);
    site.settle();
    assert!(site.record(107).phase.serves());
    site.must("opal", attach_explicit("blue", &[], &[108]), &[OPAL]);
    assert_eq!(site.record(108).slot, slot);
}

fn cause_of_join(site: &Site, seed: u8) -> String {
    cause(site, seed).1
}

#[test]
fn a_node_that_is_revoked_on_its_way_out_is_taken_out_by_the_revoke() {
    let mut site = three();
    site.must("opal", detach("blue", &[105]), &[OPAL]);
    let revoked = site.must("opal", revoke(105), &[OPAL]).digest();
    let release = &site.blue().releases[&node(105)];
    assert!(release.revoked && release.cites.digest == revoked);
    assert_eq!(site.released(102, 105), Applied::Done);
    // Out already: nobody is asked again.
    let mut site = three();
    site.must("opal", detach("blue", &[105]), &[OPAL]);
    site.released(102, 105);
    site.must("opal", revoke(105), &[OPAL]);
    assert!(pending(&site).is_empty());
}

#[test]
fn a_dead_node_is_taken_out_and_stays_detaching() {
    let mut site = three();
    heard(&mut site, &[102, 103, 104, 105]);
    site.must("opal", detach("blue", &[106]), &[OPAL]);
    assert_eq!(asked(&site), [(106, 102)]);
    assert_eq!(site.released(102, 106), Applied::Done);
    site.lead(&[]);
    assert_eq!(cause(&site, 106).0, "node.silent");
    site.must("opal", revoke(106), &[OPAL]);
    assert!(pending(&site).is_empty() && site.blue().phase.word() == "ready");
}

#[test]
fn control_plane_nodes_go_one_at_a_time_the_silent_first() {
    let mut site = Site::with_blue(8, &[102, 103, 104, 105, 106], &[]);
    heard(&mut site, &[102, 103, 104, 105]);
    site.must("opal", detach("blue", &[105, 106]), &[OPAL]);
    assert_eq!(asked(&site), [(106, 102)], "the silent one");
    assert_eq!(cause(&site, 105).1, "waits for host-106.plant: control plane nodes change one at a time");
    site.released(102, 106);
    assert_eq!(asked(&site), [(105, 102)]);
    // Whoever is at it stays at it, though another one is first.
    let sequence = site.now.0 + 100;
    site.report(104, |r| {
        r.sequence = sequence;
        r.releasing = vec![Releasing {
            node: node(105),
            since: Millis(1),
            title: "drain".into(),
            text: "a budget holds shop/web-1".into(),
            remedy: String::new(),
        }];
    });
    assert_eq!(asked(&site), [(105, 104)]);
    assert_eq!(cause(&site, 105).1, "is taken out by host-104.plant: drain: a budget holds shop/web-1");
    // And is replaced when it falls silent.
    heard(&mut site, &[102, 103]);
    assert!(asked(&site).is_empty(), "104 and 105 are silent: 2 of 4 would be none");
    heard(&mut site, &[102, 103, 105]);
    assert_eq!(asked(&site), [(105, 102)], "without 105, 2 of 3 answer");
}

#[test]
fn no_control_plane_node_goes_without_which_too_few_answer() {
    let mut site = three();
    // All three answer when the detach is signed; then 104 dies.
    site.must("opal", detach("blue", &[103]), &[OPAL]);
    assert_eq!(asked(&site), [(103, 102)]);
    heard(&mut site, &[102, 103, 105, 106]);
    assert!(asked(&site).is_empty());
    let (code, text, command) = cause(&site, 103);
    assert_eq!(code, "release.quorum");
    assert_eq!(text, "waits for host-104.plant: without both, 1 of 2 control plane nodes answer");
    assert_eq!(command.as_deref(), Some("systemctl status qb-agent"));
    // Given up, the dead one goes first.
    site.must("opal", revoke(104), &[OPAL]);
    assert_eq!(asked(&site), [(104, 102)]);
    site.released(102, 104);
    assert_eq!(asked(&site), [(103, 102)]);
    // Nobody that answers, nobody to ask.
    site.wait(60_000);
    assert!(asked(&site).is_empty());
    assert_eq!(cause(&site, 103).1, "waits for a control plane node of blue that answers");
}

#[test]
fn a_leader_refuses_a_detach_that_would_leave_too_few() {
    let mut site = three();
    let detaches = |site: &Site, nodes: &[u8]| {
        let nodes: Vec<_> = nodes.iter().map(|n| node(*n)).collect();
        release::detaches(&site.state, &site.board, &name("blue"), &nodes, site.now)
    };
    heard(&mut site, &[102, 103, 104, 105, 106]);
    assert_eq!(detaches(&site, &[103]), Ok(Some(2)), "to be warned of");
    assert_eq!(detaches(&site, &[103, 104]), Ok(Some(1)));
    assert_eq!(detaches(&site, &[105]), Ok(None));
    assert_eq!(detaches(&site, &[102, 103, 104, 105, 106]), Ok(None), "nothing stays");
    heard(&mut site, &[102, 103, 105, 106]);
    let Err(Reason::Precondition { code, text, remedy }) = detaches(&site, &[103]) else { panic!() };
    assert_eq!(code, "etcd_quorum");
    assert_eq!(
        text,
        "without host-103.plant too few control plane nodes would answer: 1 of 2, since host-104.plant is silent"
    );
    assert_eq!(
        remedy.unwrap(),
        "bring host-104.plant back, or give it up first: qb node revoke host-104.plant"
    );
    assert_eq!(detaches(&site, &[104]), Ok(Some(2)), "the dead one may go");
    assert_eq!(detaches(&site, &[103, 104]), Ok(Some(1)), "the dead one first");
}

#[test]
fn a_held_detach_takes_nobody_out() {
    let mut site = three();
    site.must("opal", detach("blue", &[105]), &[OPAL]);
    let revoke = qb_model::action::Action::KeyRevoke {
        admin: name("opal"),
        key: crate::support::public(OPAL),
        reason: qb_model::action::RevokeReason::Compromised,
    };
    site.must("olga", revoke, &[OLGA]);
    assert!(asked(&site).is_empty());
    assert_eq!(cause(&site, 105).0, "intent.held");
}

/// What 102 hands to its executor to take a node out.
fn handed(site: &Site, seed: u8) -> (Assignment, Grounds, Floor) {
    let order = site.state.release_order(&name("blue"), &node(seed), &node(102)).unwrap();
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
    (order, grounds, Floor { site: site.id(), node: node(102), generation: Generation(0), trust_head })
}

#[test]
fn s71_a_release_rests_on_a_detach_or_a_revoke_of_that_node() {
    type Change<'a> = &'a dyn Fn(&mut Assignment, &mut Grounds, &mut Floor);
    let mut site = three();
    site.must("opal", detach("blue", &[105]), &[OPAL]);
    site.must("opal", revoke(104), &[OPAL]);
    for seed in [105, 104] {
        let (order, grounds, floor) = handed(&site, seed);
        let (stands, head) = verify_release(order.clone(), &grounds, &floor).unwrap();
        assert_eq!((stands.order(), stands.member().node, head), (&order, node(seed), floor.trust_head));
        let rows: [(&str, Change<'_>); 10] = [
            ("another node", &|a, _, _| a.node = node(106)),
            ("itself", &|a, _, f| f.node = a.node),
            ("a worker", &|_, _, f| f.node = node(106)),
            ("no member", &|_, _, f| f.node = node(108)),
            ("another stage", &|a, _, _| a.stage = Stage::Join),
            ("another cluster", &|a, _, _| a.cluster = name("green")),
            ("another bundle", &|a, _, _| a.bundle = Digest([1; 32])),
            ("another intent", &|a, g, _| {
                g.order = g.create.clone();
                a.cites = a.created_by;
            }),
            ("another site", &|_, _, f| f.site = qb_model::ids::SiteId(Digest([1; 32]))),
            ("an older trust log", &|_, g, _| drop(g.trust_log.pop())),
        ];
        for (what, change) in rows {
            let (mut order, mut grounds, mut floor) = (order.clone(), grounds.clone(), floor.clone());
            change(&mut order, &mut grounds, &mut floor);
            let error: AssignmentError = verify_release(order, &grounds, &floor).unwrap_err();
            assert!(!error.to_string().is_empty(), "{what}");
        }
    }
    // A cluster's deletion takes nobody out.
    let mut site = Site::with_pool(2);
    site.must("opal", create("blue"), &[OPAL]);
    site.must("olga", delete("blue"), &[OLGA]);
}
