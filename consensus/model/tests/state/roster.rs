//! Founding, authorize, revoke, label, seats.

use qb_model::action::{Action, Eligible, Label};
use qb_model::command::{Command, Entry, Found};
use qb_model::ids::{Generation, Millis, RaftId};
use qb_model::intent::ObjectRef;
use qb_model::outcome::Outcome;
use qb_model::state::{Applied, FOUNDER_SEAT, NodePhase, SiteState};

use crate::support::site::{FIRST, Site, attach_explicit, authorize, create, detach, revoke};
use crate::support::{
    HOUR, NOW, OLGA, OPAL, OPAL_BROWSER, OTTO, VERA, authorized, charter, charter_body, key, name, node,
    policy, sign,
};

fn accepted(applied: &Applied) -> bool {
    matches!(applied, Applied::Intent { outcome: Outcome::Accepted { .. }, .. })
}

#[test]
fn founding_seats_exactly_the_named_nodes() {
    let mut site = Site::unfounded();
    let mut nodes = vec![authorized(101), authorized(102)];
    nodes.sort_by_key(|n| n.node);
    let intent = site.founding(nodes.clone());
    assert!(accepted(&site.found(&intent, &[OLGA])));
    assert!(site.state.founded());
    let seats: Vec<_> = site.state.seats().iter().map(|(id, seat)| (*id, seat.node)).collect();
    let want = [(RaftId(FOUNDER_SEAT), nodes[0].node), (RaftId(FOUNDER_SEAT + 1), nodes[1].node)];
    assert_eq!(seats, want);
    assert!(site.in_pool(101) && site.in_pool(102));
    assert_eq!(site.state.chain_head().0, 1);
}

#[test]
fn founding_is_refused_without_a_trace() {
    let refused = |signers: &[u8], change: &dyn Fn(&mut qb_model::intent::Intent)| {
        let mut site = Site::unfounded();
        let mut intent = site.founding(vec![authorized(101)]);
        change(&mut intent);
        let applied = site.found(&intent, signers);
        assert!(matches!(applied, Applied::Ignored(_) | Applied::Unsigned(_)), "{applied:?}");
        assert!(!site.state.founded() && site.state.nodes().is_empty());
        assert_eq!((site.state.chain_head().0, site.state.log_time()), (0, Millis(0)));
    };
    refused(&[99], &|_| {});
    refused(&[OTTO], &|_| {});
    refused(&[OLGA], &|i| i.anchor.index = 1);
    refused(&[OLGA], &|i| i.site = qb_model::ids::SiteId(qb_model::ids::Digest([1; 32])));
    refused(&[OLGA], &|i| i.action = authorize(&[101]));
    // The audit of the site would not hold for ever after.
    refused(&[OLGA], &|i| {
        i.issued_ms = Millis(NOW - 2 * HOUR);
        i.expires_ms = Millis(NOW - HOUR);
    });
    refused(&[OLGA], &|i| {
        i.issued_ms = Millis(NOW + HOUR);
        i.expires_ms = Millis(NOW + 2 * HOUR);
    });
    // A key has one use.
    refused(&[OLGA], &|i| i.action = Action::SiteFound { nodes: vec![authorized(OTTO)] });
}

#[test]
fn another_charter_does_not_found() {
    let mut site = Site::unfounded();
    let intent = site.founding(vec![authorized(101)]);
    let mut body = charter_body();
    body.name = name("plant-8");
    let charter = body.sign(&[&key(OLGA), &key(OTTO)]).to_bytes();
    let found = Found { charter, envelope: sign(&intent, &[OLGA]).to_bytes() };
    site.ignored(Command::Found(found));
}

#[test]
fn nothing_happens_before_founding_and_founding_happens_once() {
    let mut site = Site::unfounded();
    let early = site.intent("olga", create("blue"));
    site.ignored(Command::Intent(sign(&early, &[OLGA]).to_bytes()));
    site.ignored(Command::Seat(node(101)));
    site.ignored(Command::Tick(vec![1]));
    let intent = site.founding(vec![authorized(101)]);
    assert!(accepted(&site.found(&intent, &[OLGA])));
    let again = site.founding(vec![authorized(102)]);
    let found = Found { charter: charter().envelope().to_vec(), envelope: sign(&again, &[OLGA]).to_bytes() };
    site.ignored(Command::Found(found));
    site.must_not("olga", Action::SiteFound { nodes: vec![authorized(102)] }, &[OLGA], "already_founded");
}

#[test]
fn an_unknown_entry_stops_the_replica() {
    let mut site = Site::staffed();
    assert!(site.state.apply(99, &[77, 0, 1, 0]).is_err());
    assert!(site.state.apply(99, &[2, 0, 9, 0]).is_err());
}

#[test]
fn authorize_lets_in_once() {
    let mut site = Site::with_pool(1);
    site.must_not("opal", authorize(&[102]), &[OPAL], "already_member");
    site.must_not("vera", authorize(&[103]), &[VERA], "role");
    // Some new, some known: the new ones come in.
    site.must("opal", authorize(&[102, 103]), &[OPAL]);
    assert!(site.in_pool(103));
    site.must("opal", revoke(103), &[OPAL]);
    site.must_not("opal", authorize(&[103]), &[OPAL], "tombstone");
    site.must_not("opal", authorize(&[103, 104]), &[OPAL], "tombstone");
    // A key has one use, also one that is no longer used.
    site.must_not("opal", authorize(&[VERA]), &[OPAL], "key_in_use");
    site.must("olga", crate::support::remove("vera"), &[OLGA]);
    site.must_not("opal", authorize(&[VERA]), &[OPAL], "key_in_use");
    let keys = vec![crate::support::new_key(102, qb_model::action::KeyClass::Cli)];
    let add = crate::support::add("nina", qb_model::action::Role::Viewer, keys);
    site.must_not("olga", add, &[OLGA], "key_in_use");
}

#[test]
fn a_browser_key_lets_in_on_probation() {
    let mut site = Site::with_pool(0);
    site.must("opal", authorize(&[102]), &[OPAL_BROWSER]);
    site.hello(102);
    assert!(site.record(102).probation && !site.state.eligible(&node(102)));
    site.ignored(Command::Seat(node(102)));
    site.must("opal", create("blue"), &[OPAL]);
    site.must_not("opal", attach_explicit("blue", &[102], &[]), &[OPAL], "probation");
    site.must_not("opal", authorize(&[102]), &[OPAL_BROWSER], "already_member");
    let generation = site.state.generation(&ObjectRef::Node(node(102)));
    site.must("opal", authorize(&[102]), &[OPAL]);
    assert!(!site.record(102).probation && site.state.eligible(&node(102)));
    assert_eq!(site.state.generation(&ObjectRef::Node(node(102))), generation.next());
    assert!(site.record(102).present(), "what it said stays");
}

#[test]
fn labels_replace_labels() {
    let mut site = Site::with_pool(1);
    let label = |n: u8, value: &str| Action::NodeLabel {
        node: node(n),
        labels: vec![Label { key: "rack".into(), value: value.into() }],
    };
    site.must("opal", label(102, "r7"), &[OPAL]);
    site.must("opal", label(102, "r8"), &[OPAL_BROWSER]);
    assert_eq!(site.record(102).labels.len(), 1);
    assert_eq!(site.record(102).labels[0].value, "r8");
    assert_eq!(site.state.generation(&ObjectRef::Node(node(102))), Generation(3));
    site.must_not("opal", label(103, "r7"), &[OPAL], "unknown_node");
    site.must_not("vera", label(102, "r9"), &[VERA], "role");
}

#[test]
fn the_last_voter_stays() {
    let mut site = Site::with_pool(2);
    site.must_not("opal", revoke(FIRST), &[OPAL], "last_voter");
    site.ignored(Command::Unseat(RaftId(FOUNDER_SEAT)));
}

/// Whoever is put out votes no more at once, and the group needs a majority of all that it has until it let them go.
#[test]
fn no_revocation_takes_the_majority_of_votes() {
    let mut site = Site::with_pool(2);
    for n in [102, 103] {
        assert_eq!(site.propose(Command::Seat(node(n))), Applied::Done);
    }
    let seat = |site: &Site, n: u8| site.record(n).seat.unwrap();
    let (second, third) = (seat(&site, 102), seat(&site, 103));
    site.must("opal", revoke(102), &[OPAL]);
    assert_eq!(site.state.seats().len(), 3, "its seat is there until the group has let it go");
    for n in [103, FIRST] {
        site.must_not("opal", revoke(n), &[OPAL], "voter_quorum");
    }
    assert_eq!(site.propose(Command::Unseat(second)), Applied::Done);
    // Of two none can go: both are needed.
    for n in [103, FIRST] {
        site.must_not("opal", revoke(n), &[OPAL], "voter_quorum");
    }
    assert_eq!(site.propose(Command::Unseat(third)), Applied::Done);
    site.must("opal", revoke(103), &[OPAL]);
    site.must_not("opal", revoke(FIRST), &[OPAL], "last_voter");
}

#[test]
fn revoke_knows_whom() {
    let mut site = Site::with_pool(1);
    site.must_not("opal", revoke(103), &[OPAL], "unknown_node");
    site.must_not("opal", revoke(102), &[OPAL_BROWSER], "key_class");
    site.must("opal", revoke(102), &[OPAL]);
    site.must_not("opal", revoke(102), &[OPAL], "tombstone");
    assert!(site.state.tombstones().contains_key(&node(102)));
    let said = crate::support::site::hello(site.id(), 102, 2);
    let command = site.command(102, None, &said);
    use qb_model::statement::Statement as _;
    assert!(site.ignored(Command::Node(command.sign(&key(102)).to_bytes())).contains("roster"));
}

#[test]
fn s74_a_revoked_control_plane_exposes_the_ca() {
    for leaving in [false, true] {
        let mut site = Site::with_blue(5, &[102, 103, 104], &[105]);
        site.must("opal", revoke(105), &[OPAL]);
        assert!(!site.blue().ca_exposed, "a worker has no CA key");
        if leaving {
            // On its way out, it has the key until it says that it is out.
            site.must("opal", detach("blue", &[103]), &[OPAL]);
            assert!(matches!(site.record(103).phase, NodePhase::Detaching { .. }));
        }
        site.must("opal", revoke(103), &[OPAL]);
        assert!(site.blue().ca_exposed, "leaving: {leaving}");
        assert_eq!(site.state.members(&name("blue")).count(), 2);
    }
}

#[test]
fn a_revoked_node_frees_the_attach() {
    // The only one that was not through: the attach ends.
    let mut site = Site::with_blue(4, &[102], &[]);
    site.must("opal", attach_explicit("blue", &[], &[103, 104]), &[OPAL]);
    site.lead(&[]);
    site.must("opal", revoke(103), &[OPAL]);
    assert_eq!(site.blue().attach.as_ref().unwrap().nodes, [node(104)]);
    let digest = site.blue().attach.as_ref().unwrap().cites.digest;
    site.must("opal", revoke(104), &[OPAL]);
    assert!(site.blue().attach.is_none());
    assert!(site.state.intents().get(&digest).is_none_or(|live| live.finished.is_some()));
}

#[test]
fn revoking_a_node_that_leaves_ends_the_detach() {
    let mut site = Site::with_blue(4, &[102], &[103]);
    let intent = site.must("opal", detach("blue", &[103]), &[OPAL]);
    site.lead(&[]);
    site.must("opal", revoke(103), &[OPAL]);
    let live = site.state.intents().get(&intent.digest());
    assert!(live.is_none_or(|l| l.finished.is_some()), "{live:?}");
}

#[test]
fn when_the_first_is_revoked_before_it_initialized_the_next_one_does() {
    let mut site = Site::with_pool(4);
    site.must("opal", create("blue"), &[OPAL]);
    site.must("opal", attach_explicit("blue", &[102, 103, 104], &[]), &[OPAL]);
    assert_eq!(site.blue().first, Some(node(102)));
    site.lead(&[]);
    site.lead(&[]);
    site.must("opal", revoke(102), &[OPAL]);
    assert_eq!(site.blue().first, Some(node(103)));
    site.settle();
    assert_eq!(site.blue().phase.word(), "ready");
    assert_eq!(site.blue().public, b"CA of 103");
}

#[test]
fn a_newcomer_never_initializes_a_cluster_that_serves() {
    // 101 sorts before the first that is revoked, and is half way in.
    let mut site = Site::with_blue(6, &[105, 106, 107], &[]);
    site.must("opal", attach_explicit("blue", &[101, 102], &[]), &[OPAL]);
    site.lead(&[]);
    site.lead(&[]);
    site.done(101);
    site.must("opal", revoke(105), &[OPAL]);
    assert_eq!(site.blue().first, Some(node(106)));
    site.settle();
    assert_eq!(site.blue().public, b"CA of 105", "one cluster, one CA");
    assert_eq!(site.state.control_plane(&name("blue")), 4);
}

#[test]
fn seats_are_never_used_again() {
    let mut site = Site::with_pool(2);
    let seat = |site: &mut Site, n: u8| {
        assert_eq!(site.propose(Command::Seat(node(n))), Applied::Done);
        site.record(n).seat.unwrap()
    };
    let one = seat(&mut site, 102);
    assert_eq!(one, RaftId(site.state.applied()));
    site.ignored(Command::Seat(node(102)));
    site.ignored(Command::Seat(node(99)));
    site.ignored(Command::Unseat(RaftId(7)));
    assert_eq!(site.propose(Command::Unseat(one)), Applied::Done);
    site.ignored(Command::Unseat(one));
    let two = seat(&mut site, 102);
    assert!(two > one);
    assert_eq!(site.propose(Command::Unseat(RaftId(FOUNDER_SEAT))), Applied::Done);
    site.ignored(Command::Unseat(two));
    assert_eq!(site.state.seats().len(), 1);
}

#[test]
fn owners_say_who_may_vote() {
    let mut site = Site::with_pool(2);
    site.must("olga", policy(|p| p.voters = Eligible::Nodes { nodes: vec![node(103)] }), &[OLGA]);
    site.ignored(Command::Seat(node(102)));
    assert_eq!(site.propose(Command::Seat(node(103))), Applied::Done);
}

#[test]
fn an_unsigned_intent_is_a_no_op_with_an_alarm() {
    let mut site = Site::with_pool(1);
    let before = site.state.clone();
    let intent = site.intent("opal", revoke(102));
    let command = Command::Intent(sign(&intent, &[99]).to_bytes());
    let bytes = Entry { stamp: before.log_time(), command }.encode().unwrap();
    let mut after: SiteState = before.clone();
    let (applied, told) = after.apply(before.applied(), &bytes).unwrap();
    assert!(matches!(applied, Applied::Unsigned(_)));
    assert_eq!(told[0].kind, "alert");
    assert!(after == before);
    // It was not burnt: the true one passes.
    assert!(matches!(site.send(&intent, &[OPAL]), Outcome::Accepted { .. }));
}
