//! S05, S07 to S12, S16: site, replay, labels, time, anchors, expectations.

use qb_model::action::{Action, KeyClass, Role};
use qb_model::envelope::Envelope;
use qb_model::ids::{Digest, Generation, Millis, SiteId};
use qb_model::intent::{Expect, Intent, ObjectRef};
use qb_model::judge::{Refusal, Verdict};
use qb_model::outcome::{Outcome, Reason};
use qb_model::replay::ReplayTable;

use crate::support::{
    HOUR, MINUTE, NOW, OLGA, OPAL, OPAL_BROWSER, VERA, World, add, cluster, key, label, name, new_key, node,
    policy, public, rejection, remove, sign,
};

fn duplicate_of(outcome: &Outcome) -> Option<&Outcome> {
    match outcome {
        Outcome::Duplicate { first, .. } => Some(first),
        _ => None,
    }
}

#[test]
fn s05_another_site_refuses() {
    let mut world = World::staffed();
    let mut intent = world.intent("opal", label());
    intent.site = SiteId(Digest([3; 32]));
    assert_eq!(rejection(&world.send(&intent, &[OPAL])), Some("wrong_site"));
}

#[test]
fn s07_the_same_again_is_a_duplicate() {
    let mut world = World::staffed();
    let intent = world.intent("opal", label());
    let first = world.send(&intent, &[OPAL]);
    let before = world.records.len();
    assert_eq!(duplicate_of(&world.send(&intent, &[OPAL])), Some(&first));
    // After a snapshot.
    let bytes = postcard::to_stdvec(&world.replay).unwrap();
    let restored: ReplayTable = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(restored, world.replay);
    world.replay = restored;
    assert_eq!(duplicate_of(&world.send(&intent, &[OPAL])), Some(&first));
    assert_eq!(world.records.len(), before, "a duplicate leaves no record");
}

#[test]
fn s08_another_envelope_of_the_same_payload_is_the_same_intent() {
    let mut world = World::staffed();
    let intent = world.intent("opal", label());
    let first = world.send(&intent, &[OPAL]);
    for seeds in [&[OLGA, OPAL][..], &[OPAL, OLGA], &[OPAL, 99]] {
        assert_eq!(duplicate_of(&world.send(&intent, seeds)), Some(&first));
    }
    // A bad signature beside a good one does not matter either.
    let other = world.intent("opal", label());
    let envelope = sign(&other, &[99, OPAL]);
    let text = String::from_utf8(envelope.to_bytes()).unwrap();
    assert!(matches!(world.submit(text.as_bytes()), Ok(Outcome::Accepted { .. })));
}

#[test]
fn s09_a_rejection_is_final() {
    let mut world = World::staffed();
    let intent = world.intent("vera", label());
    let first = world.send(&intent, &[VERA]);
    assert_eq!(rejection(&first), Some("role"));
    world.must("olga", Action::AdminRole { admin: name("vera"), role: Role::Operator }, &[OLGA]);
    assert_eq!(duplicate_of(&world.send(&intent, &[VERA])), Some(&first));
}

#[test]
fn s10_labels_of_others_do_not_count() {
    let mut world = World::staffed();
    world.must("olga", add("omar", Role::Operator, vec![new_key(40, KeyClass::Cli)]), &[OLGA]);
    let one = world.intent("opal", label());
    let mut two = world.intent("omar", label());
    two.id = one.id.clone();
    assert!(matches!(world.send(&two, &[40]), Outcome::Accepted { .. }));
    assert!(matches!(world.send(&one, &[OPAL]), Outcome::Accepted { .. }));
    // The same key with the same label: refused, and that is remembered under its own digest.
    let mut again = world.intent("opal", label());
    again.id = one.id.clone();
    let outcome = world.send(&again, &[OPAL]);
    assert_eq!(rejection(&outcome), Some("id_reused"));
    assert_eq!(outcome, Outcome::Rejected(Reason::IdReused { id: one.id.clone(), first: one.digest() }));
    assert!(matches!(world.send(&again, &[OPAL]), Outcome::Duplicate { .. }));
    // Another key of the same admin: both stand.
    let mut other_key = world.intent("opal", label());
    other_key.id = one.id;
    assert!(matches!(world.send(&other_key, &[OPAL_BROWSER]), Outcome::Accepted { .. }));
}

#[test]
fn s11_the_table_never_evicts_and_keeps_room_for_removals() {
    let mut world = World::staffed();
    let template = world.intent("opal", label());
    let filled = |replay: &mut ReplayTable, admin: &str, from: u32, count: u32| {
        for n in from..from + count {
            let mut digest = [0; 32];
            digest[..4].copy_from_slice(&n.to_be_bytes());
            let record = qb_model::judge::Record {
                digest: Digest(digest),
                id: crate::support::ulid(1_000_000 + u64::from(n)),
                author: name(admin),
                key: public(OPAL),
                expires: Millis(NOW + HOUR),
                envelope: vec![],
            };
            replay.record(&record, Outcome::Accepted { generation: Generation(1) }, 1, Millis(NOW));
        }
    };
    filled(&mut world.replay, "opal", 0, 4096);
    let envelope = sign(&template, &[OPAL]).to_bytes();
    assert!(matches!(world.submit(&envelope), Err(Verdict::Refused(Refusal::Busy(_)))));
    // Others go on, up to the site's bound, which leaves 1,024 places to owners' removals.
    for part in 0..15 {
        let count = if part == 14 { 3500 } else { 4096 };
        filled(&mut world.replay, &format!("filler-{part}"), 5000 + part * 4096, count);
    }
    assert!(world.replay.len() > 65_536 - 1024);
    let others = world.intent("vera", label());
    let envelope = sign(&others, &[VERA]).to_bytes();
    assert!(matches!(world.submit(&envelope), Err(Verdict::Refused(Refusal::Busy(_)))));
    let adding = world.intent("olga", add("nina", Role::Viewer, vec![new_key(41, KeyClass::Cli)]));
    let envelope = sign(&adding, &[OLGA]).to_bytes();
    assert!(matches!(world.submit(&envelope), Err(Verdict::Refused(Refusal::Busy(_)))));
    world.must("olga", remove("opal"), &[OLGA]);
    // Nothing is forgotten before its time, and then at most 64 at once.
    assert_eq!(world.replay.prune(Millis(NOW + HOUR)), 0);
    assert_eq!(world.replay.prune(Millis(NOW + HOUR + 1)), 64);
}

#[test]
fn s12_log_time_alone_decides() {
    let judged = |change: &dyn Fn(&mut Intent)| {
        let mut world = World::staffed();
        let mut intent = world.intent("opal", label());
        change(&mut intent);
        world.judge(&sign(&intent, &[OPAL]).to_bytes())
    };
    let code = |verdict: Verdict| match verdict {
        Verdict::Rejected { reason, .. } => reason.code().to_owned(),
        Verdict::Hold { reason, .. } => format!("hold {}", reason.code()),
        Verdict::Pass(_) => "pass".to_owned(),
        other => format!("{other:?}"),
    };
    let times = |issued: u64, expires: u64| {
        code(judged(&|i| {
            i.issued_ms = Millis(issued);
            i.expires_ms = Millis(expires);
        }))
    };
    assert_eq!(times(NOW - HOUR, NOW), "pass");
    assert_eq!(times(NOW - HOUR, NOW - 1), "expired");
    assert_eq!(times(NOW + 5 * MINUTE, NOW + HOUR), "pass");
    assert_eq!(times(NOW + 6 * MINUTE, NOW + HOUR), "hold not_yet_valid");
    assert_eq!(times(NOW, NOW + 24 * HOUR), "pass");
    assert_eq!(times(NOW, NOW + 24 * HOUR + 1), "lifetime");
    assert_eq!(times(NOW, NOW + 999), "lifetime");
}

#[test]
fn s12_what_lives_too_long_is_not_remembered_for_ever() {
    let mut world = World::staffed();
    let mut intent = world.intent("opal", label());
    intent.expires_ms = Millis((1 << 53) - 1);
    assert_eq!(rejection(&world.send(&intent, &[OPAL])), Some("lifetime"));
    let kept = world.replay.get(&intent.digest()).unwrap().expires;
    assert_eq!(kept, Millis(NOW + 7 * 24 * HOUR + 5 * MINUTE));
}

#[test]
fn s15_nothing_from_before_the_floor() {
    let mut world = World::staffed();
    let intent = world.intent("opal", label());
    world.floor = Millis(NOW + 1);
    assert_eq!(rejection(&world.send(&intent, &[OPAL])), Some("issued_floor"));
}

#[test]
fn s16_nothing_can_be_signed_for_later() {
    let mut world = World::staffed();
    let mut stock: Vec<Intent> = Vec::new();
    for day in 3..53 {
        let mut intent = world.intent("opal", label());
        intent.issued_ms = Millis(NOW + day * 24 * HOUR);
        intent.expires_ms = intent.issued_ms.plus(24 * HOUR);
        stock.push(intent);
    }
    for (at, intent) in stock.iter().enumerate() {
        // The site is idle: it ticks once an hour.
        let day = NOW + (at as u64 + 3) * 24 * HOUR;
        while world.log_time.0 < day {
            let next = world.log_time.0 + HOUR;
            world.tick(next);
        }
        let code = rejection(&world.send(intent, &[OPAL])).map(str::to_owned);
        assert!(matches!(code.as_deref(), Some("anchor_too_old" | "anchor_unknown")), "{code:?}");
    }
    world.must("opal", label(), &[OPAL]);
}

#[test]
fn an_anchor_is_a_head_of_this_site() {
    let mut world = World::staffed();
    let mut intent = world.intent("opal", label());
    intent.anchor.hash = Digest([1; 32]);
    assert_eq!(rejection(&world.send(&intent, &[OPAL])), Some("anchor_unknown"));
    let mut intent = world.intent("opal", label());
    intent.anchor.index += 1;
    assert_eq!(rejection(&world.send(&intent, &[OPAL])), Some("anchor_unknown"));
    let mut intent = world.intent("opal", label());
    intent.anchor.index = u64::from(u32::MAX);
    assert_eq!(rejection(&world.send(&intent, &[OPAL])), Some("anchor_unknown"));
    // The age counts from the head's time to the intent's issue.
    let old = world.intent("opal", label()).anchor;
    world.tick(NOW + 24 * HOUR);
    let mut intent = world.intent("opal", label());
    intent.anchor = old;
    assert!(matches!(world.send(&intent, &[OPAL]), Outcome::Accepted { .. }));
    world.tick(NOW + 24 * HOUR + 1);
    let mut intent = world.intent("opal", label());
    intent.anchor = old;
    assert_eq!(rejection(&world.send(&intent, &[OPAL])), Some("anchor_too_old"));
}

#[test]
fn what_comes_after_waits_without_a_trace() {
    let mut world = World::staffed();
    let first = world.intent("opal", label());
    let mut second = world.intent("opal", label());
    second.after = Some(vec![first.digest()]);
    let envelope = sign(&second, &[OPAL]).to_bytes();
    let verdict = world.judge(&envelope);
    assert!(matches!(&verdict, Verdict::Hold { reason: Reason::After { .. }, .. }), "{verdict:?}");
    world.send(&first, &[OPAL]);
    assert!(matches!(world.submit(&envelope), Ok(Outcome::Accepted { .. })));
}

#[test]
fn expectations_are_exact() {
    let mut world = World::staffed();
    let mut ask = |object: ObjectRef, generation| {
        let mut intent = world.intent("opal", label());
        intent.expect = vec![Expect::Generation { object, generation: Generation(generation) }];
        rejection(&world.send(&intent, &[OPAL])).map(str::to_owned)
    };
    assert_eq!(ask(cluster("blue"), 3), None);
    assert_eq!(ask(cluster("blue"), 2).as_deref(), Some("stale_generation"));
    assert_eq!(ask(cluster("blue"), 4).as_deref(), Some("stale_generation"));
    assert_eq!(ask(cluster("green"), 0), None, "0 says that there is none");
    assert_eq!(ask(cluster("green"), 1).as_deref(), Some("unknown_object"));
    assert_eq!(ask(ObjectRef::Admin(name("opal")), 1), None);
    assert_eq!(ask(ObjectRef::Admin(name("opal")), 2).as_deref(), Some("stale_generation"));
    assert_eq!(ask(ObjectRef::Node(node(101)), 1).as_deref(), Some("unknown_object"));
}

#[test]
fn a_trust_head_may_have_descendants_for_a_while() {
    let mut world = World::staffed();
    let seen = world.trust.head();
    world.must("olga", policy(|p| p.anchor_max_age_ms = 2 * HOUR), &[OLGA]);
    let named = |world: &mut World, hash| {
        let mut intent =
            world.intent("olga", Action::AdminRole { admin: name("vera"), role: Role::Operator });
        intent.expect = vec![Expect::Trust { hash }];
        intent
    };
    let invented = named(&mut world, Digest([5; 32]));
    assert_eq!(rejection(&world.send(&invented, &[OLGA])), Some("stale_trust"));
    world.tick(NOW + 2 * HOUR);
    let fine = named(&mut world, seen);
    assert!(matches!(world.judge(&sign(&fine, &[OLGA]).to_bytes()), Verdict::Pass(_)));
    world.tick(NOW + 2 * HOUR + 1);
    let late = named(&mut world, seen);
    assert_eq!(rejection(&world.send(&late, &[OLGA])), Some("stale_trust"));
}

#[test]
fn cancelling_works_before_arrival() {
    let mut world = World::staffed();
    let own = world.intent("opal", label());
    world.must("opal", Action::IntentCancel { intent: own.digest() }, &[OPAL]);
    assert_eq!(rejection(&world.send(&own, &[OPAL])), Some("cancelled"));
    // Another operator cannot cancel it, an owner can.
    world.must("olga", add("omar", Role::Operator, vec![new_key(40, KeyClass::Cli)]), &[OLGA]);
    let other = world.intent("opal", label());
    world.must("omar", Action::IntentCancel { intent: other.digest() }, &[40]);
    let third = world.intent("opal", label());
    world.must("olga", Action::IntentCancel { intent: third.digest() }, &[OLGA]);
    assert!(matches!(world.send(&other, &[OPAL]), Outcome::Accepted { .. }));
    assert_eq!(rejection(&world.send(&third, &[OPAL])), Some("cancelled"));
}

#[test]
fn unsigned_things_leave_no_trace() {
    let mut world = World::staffed();
    let intent = world.intent("opal", label());
    let stranger = sign(&intent, &[99]).to_bytes();
    assert_eq!(world.judge(&stranger), Verdict::Refused(Refusal::Unsigned));
    let viewer = sign(&intent, &[VERA]).to_bytes();
    assert_eq!(world.judge(&viewer), Verdict::Refused(Refusal::NotByAuthor(name("opal"))));
    // Validly signed, but no intent.
    let nonsense = Envelope::sign(qb_model::dsse::Purpose::Intent, b"{}".to_vec(), &[&key(OPAL)]);
    assert!(matches!(world.judge(&nonsense.to_bytes()), Verdict::Refused(Refusal::Intent(_))));
}

#[test]
fn s16_an_anchor_ring_is_bounded() {
    let mut world = World::founded();
    for hour in 1..600 {
        world.tick(NOW + hour * HOUR);
    }
    assert!(world.ring.len() < 360, "two weeks of hours, not {}", world.ring.len());
    assert_eq!(world.ring.newest(), Some(&world.head));
}
