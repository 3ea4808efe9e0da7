//! S18, S20 to S24, S75, S76: owners, their number, their removal.

use qb_model::action::{Action, KeyClass, NewKey, RevokeReason, Role};
use qb_model::ids::{Generation, Millis};
use qb_model::intent::{Expect, IntentError, ObjectRef};
use qb_model::judge::{Refusal, Verdict};
use qb_model::key::{KeyId, KeyKind};
use qb_model::outcome::Outcome;
use qb_model::trust::replay_log;

use crate::support::{
    HOUR, OLGA, OPAL, OTTO, VERA, World, add, label, name, new_key, policy, public, rejection, remove, sign,
};

const OSKAR: u8 = 70;

/// Three owners, two of whom must sign.
fn two_of_three() -> World {
    let mut world = World::staffed();
    let keys = vec![new_key(OSKAR, KeyClass::Cli), new_key(OSKAR + 1, KeyClass::Cli)];
    world.must("olga", add("oskar", Role::Owner, keys), &[OLGA]);
    world.must("olga", policy(|p| p.owners_needed = 2), &[OLGA, OTTO]);
    world
}

fn revoke_key(admin: &str, seed: u8) -> Action {
    Action::KeyRevoke { admin: name(admin), key: public(seed), reason: RevokeReason::Retired }
}

fn is_pending(outcome: &Outcome, have: u8, need: u8) -> bool {
    *outcome == Outcome::Pending { have, need }
}

#[test]
fn s18_after_the_revocation_nothing_counts() {
    let mut world = World::staffed();
    let flying: Vec<_> = (0..100).map(|_| world.intent("opal", label())).collect();
    let envelopes: Vec<_> = flying.iter().map(|i| sign(i, &[OPAL]).to_bytes()).collect();
    for (at, envelope) in envelopes.iter().enumerate() {
        if at == 40 {
            world.must("olga", revoke_key("opal", OPAL), &[OLGA]);
        }
        let outcome = world.submit(envelope);
        assert_eq!(outcome.is_ok(), at < 40, "{at}: {outcome:?}");
    }
}

#[test]
fn s20_the_last_owner_stays() {
    // Founded by olga and otto; each case leaves olga as the only other way in, then closes it.
    let cases: Vec<(&str, Action)> = vec![
        ("remove", remove("olga")),
        ("demote", Action::AdminRole { admin: name("olga"), role: Role::Operator }),
        ("take the key", revoke_key("olga", OLGA)),
    ];
    for (what, action) in cases {
        let mut world = World::staffed();
        world.must("olga", remove("otto"), &[OLGA]);
        let before = world.trust.clone();
        world.must_not("olga", action, &[OLGA], "last_owner");
        assert_eq!(world.trust, before, "{what}: unchanged");
    }
    // An owner whose only key ends, or lives in a browser, does not count.
    for (class, expires_ms) in
        [(KeyClass::Cli, Some(Millis(u64::from(u32::MAX) * 1000))), (KeyClass::Browser, None)]
    {
        let mut world = World::staffed();
        world.must("olga", remove("otto"), &[OLGA]);
        let weak = NewKey { expires_ms, ..new_key(OSKAR, class) };
        world.must("olga", add("oskar", Role::Owner, vec![weak]), &[OLGA]);
        world.must_not("olga", remove("olga"), &[OLGA], "last_owner");
        // Taking the lasting key of the only one who has one, leaving a weak one.
        world.must(
            "olga",
            Action::KeyAdd { admin: name("olga"), key: NewKey { expires_ms, ..new_key(72, class) } },
            &[OLGA],
        );
        world.must_not("olga", revoke_key("olga", OLGA), &[OLGA], "last_owner");
        if class == KeyClass::Cli {
            // Both sign, but only one of them can for ever.
            world.must_not("olga", policy(|p| p.owners_needed = 2), &[OLGA, OSKAR], "last_owner");
        }
        world.must("olga", add("omar", Role::Owner, vec![new_key(73, KeyClass::Cli)]), &[OLGA]);
        world.must("olga", remove("olga"), &[OLGA]);
    }
}

#[test]
fn s20_fewer_owners_than_must_sign() {
    let mut world = two_of_three();
    world.must("olga", remove("oskar"), &[OLGA, OTTO]);
    world.must_not("olga", remove("otto"), &[OLGA, OTTO], "last_owner");
    world.must("olga", policy(|_| ()), &[OLGA, OTTO]);
    world.must("olga", remove("otto"), &[OLGA]);
}

#[test]
fn s21_admins_count_not_keys() {
    let mut world = two_of_three();
    let outcome = world.order("oskar", remove("vera"), &[OSKAR, OSKAR + 1]);
    assert!(is_pending(&outcome, 1, 2), "{outcome:?}");
    let outcome = world.order("oskar", remove("vera"), &[OSKAR, OSKAR]);
    assert!(is_pending(&outcome, 1, 2), "{outcome:?}");
    // An operator's approval is none.
    let outcome = world.order("oskar", remove("vera"), &[OSKAR, OPAL]);
    assert!(is_pending(&outcome, 1, 2), "{outcome:?}");
    // One who signed is revoked before the second signs.
    let intent = world.intent("oskar", remove("vera"));
    assert!(is_pending(&world.send(&intent, &[OSKAR]), 1, 2));
    world.must("olga", remove("oskar"), &[OLGA, OTTO]);
    let envelope = sign(&intent, &[OLGA]).to_bytes();
    let verdict = world.submit(&envelope).unwrap_err();
    assert_eq!(verdict, Verdict::Refused(Refusal::NotByAuthor(name("oskar"))));
}

#[test]
fn s22_stripping_a_signature_only_delays() {
    let mut world = two_of_three();
    let intent = world.intent("olga", remove("vera"));
    assert!(is_pending(&world.send(&intent, &[OLGA]), 1, 2));
    assert!(is_pending(&world.send(&intent, &[OLGA]), 1, 2), "the same again");
    // The other half alone completes it: the first is kept.
    let outcome = world.send(&intent, &[OTTO]);
    assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
    assert!(matches!(world.send(&intent, &[OLGA, OTTO]), Outcome::Duplicate { .. }));
}

#[test]
fn s22_junk_signatures_take_no_room() {
    let mut world = two_of_three();
    let intent = world.intent("olga", remove("vera"));
    let mut junk: Vec<u8> = (200..215).collect();
    junk.push(OLGA);
    assert!(is_pending(&world.send(&intent, &junk), 1, 2));
    assert!(matches!(world.send(&intent, &[OTTO]), Outcome::Accepted { .. }));
}

#[test]
fn s23_trust_is_changed_by_as_many_as_must_sign() {
    let alone: Vec<Action> = vec![
        add("puppet", Role::Owner, vec![new_key(80, KeyClass::Cli)]),
        policy(|_| ()),
        policy(|p| {
            p.owners_needed = 2;
            p.browser_actions = vec![];
        }),
        Action::KeyAdd { admin: name("otto"), key: new_key(81, KeyClass::Cli) },
        Action::AdminRole { admin: name("opal"), role: Role::Owner },
        remove("otto"),
    ];
    for action in alone {
        let mut world = two_of_three();
        let outcome = world.order("olga", action.clone(), &[OLGA]);
        assert!(is_pending(&outcome, 1, 2), "{action:?}: {outcome:?}");
    }
    // More owners than now must sign is signed by as many.
    let mut world = two_of_three();
    let three = policy(|p| p.owners_needed = 3);
    assert!(is_pending(&world.order("olga", three.clone(), &[OLGA, OTTO]), 2, 3));
    world.must("olga", three, &[OLGA, OTTO, OSKAR]);
    // One's own keys are one's own.
    world.must("olga", Action::KeyAdd { admin: name("olga"), key: new_key(82, KeyClass::Cli) }, &[OLGA]);
}

#[test]
fn s23_an_intent_for_several_may_live_a_week() {
    let mut world = two_of_three();
    let mut intent = world.intent("olga", remove("vera"));
    intent.expires_ms = intent.issued_ms.plus(7 * 24 * HOUR);
    assert!(is_pending(&world.send(&intent, &[OLGA]), 1, 2));
    let week = world.log_time.0 + 7 * 24 * HOUR;
    world.tick(week);
    assert!(matches!(world.send(&intent, &[OTTO]), Outcome::Accepted { .. }));
    let mut short = world.intent("opal", label());
    short.expires_ms = short.issued_ms.plus(25 * HOUR);
    assert_eq!(rejection(&world.send(&short, &[OPAL])), Some("lifetime"));
}

#[test]
fn s24_caps_stop_additions_and_never_removals() {
    let mut world = World::staffed();
    let mut made = world.trust.admins().len();
    let mut seed = 0u32;
    while made < 256 {
        seed += 1;
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&seed.to_be_bytes());
        let secret = qb_model::dsse::SecretKey::from_bytes(&bytes);
        let key = NewKey {
            key: qb_model::dsse::Signer::public_key(&secret),
            class: KeyClass::Cli,
            expires_ms: None,
        };
        world.must("olga", add(&format!("a{seed}"), Role::Viewer, vec![key]), &[OLGA]);
        made += 1;
    }
    world.must_not("olga", add("one-more", Role::Viewer, vec![new_key(90, KeyClass::Cli)]), &[OLGA], "cap");
    world.must("olga", remove("a1"), &[OLGA]);
    world.must("olga", add("one-more", Role::Viewer, vec![new_key(90, KeyClass::Cli)]), &[OLGA]);
    let keys: Vec<_> = (100..115).map(|s| new_key(s, KeyClass::Cli)).collect();
    for key in keys {
        world.must("olga", Action::KeyAdd { admin: name("olga"), key }, &[OLGA]);
    }
    let last = Action::KeyAdd { admin: name("olga"), key: new_key(120, KeyClass::Cli) };
    world.must_not("olga", last, &[OLGA], "cap");
    world.must("olga", revoke_key("olga", 100), &[OLGA]);
}

#[test]
fn s75_who_is_removed_cannot_veto_it() {
    let mut world = two_of_three();
    let removal = world.intent("olga", remove("oskar"));
    assert!(is_pending(&world.send(&removal, &[OLGA]), 1, 2));
    for seed in 130..140 {
        let key = new_key(seed, KeyClass::Cli);
        world.must("oskar", Action::KeyAdd { admin: name("oskar"), key }, &[OSKAR]);
    }
    assert!(matches!(world.send(&removal, &[OTTO]), Outcome::Accepted { .. }));
    // A removal that names a generation is no intent at all.
    let mut exact = world.intent("olga", remove("vera"));
    exact
        .expect
        .insert(0, Expect::Generation { object: ObjectRef::Admin(name("vera")), generation: Generation(1) });
    assert!(matches!(exact.check(), Err(IntentError::Value(_))));
}

#[test]
fn s76_a_copy_signed_by_another_burns_nothing() {
    let mut world = World::staffed();
    let intent = world.intent("opal", label());
    let copy = sign(&intent, &[VERA]).to_bytes();
    assert!(matches!(world.submit(&copy), Err(Verdict::Refused(Refusal::NotByAuthor(_)))));
    assert!(world.replay.get(&intent.digest()).is_none());
    assert!(matches!(world.send(&intent, &[OPAL]), Outcome::Accepted { .. }));
}

#[test]
fn keys_have_one_owner_and_one_use() {
    let mut world = World::staffed();
    let key_of = |admin: &str, seed| Action::KeyAdd { admin: name(admin), key: new_key(seed, KeyClass::Cli) };
    world.must_not("olga", key_of("olga", OTTO), &[OLGA], "key_in_use");
    let relay = |seed| Action::RelayAdd { url: "https://relay.example".into(), key: public(seed) };
    world.must_not("olga", relay(VERA), &[OLGA], "key_in_use");
    world.must("olga", relay(150), &[OLGA]);
    world.must_not("olga", key_of("olga", 150), &[OLGA], "key_in_use");
    world.must("olga", Action::RelayRemove { key: public(150) }, &[OLGA]);
    world.must_not("olga", key_of("olga", 150), &[OLGA], "key_in_use");
    world.must("olga", relay(150), &[OLGA]);
    let compromised = Action::AdminRemove { admin: name("vera"), reason: RevokeReason::Compromised };
    world.must("olga", compromised, &[OLGA]);
    world.must_not("olga", key_of("olga", VERA), &[OLGA], "key_revoked");
    // Nodes and tokens are known elsewhere.
    let intent = world.intent("olga", key_of("olga", 160));
    let Verdict::Pass(verified) = world.judge(&sign(&intent, &[OLGA]).to_bytes()) else { panic!() };
    let node = |_: &_| Some(qb_model::trust::KeyUse::Node);
    let refused = world.trust.clone().apply(&verified, 9, world.log_time, &node).unwrap_err();
    assert_eq!(refused.code(), "key_in_use");
}

#[test]
fn generations_of_admins_only_grow() {
    let mut world = World::staffed();
    let vera = ObjectRef::Admin(name("vera"));
    let first = world.trust.generation(&vera).unwrap();
    world.must("olga", remove("vera"), &[OLGA]);
    world.must("olga", add("vera", Role::Viewer, vec![new_key(VERA, KeyClass::Cli)]), &[OLGA]);
    assert!(world.trust.generation(&vera).unwrap() > first);
}

#[test]
fn a_fido2_owner_signs() {
    let mut world = World::staffed();
    let token = super::signatures::RawKey::new(61);
    let key = NewKey { key: token.public, class: KeyClass::Hardware, expires_ms: None };
    assert!(world.trust.is_provisional());
    world.must("olga", Action::KeyAdd { admin: name("olga"), key }, &[OLGA]);
    assert!(!world.trust.is_provisional());
    let intent = world.intent("olga", remove("vera"));
    let mut envelope = sign(&intent, &[]);
    let message = qb_model::key::sk_message(1, 42, &envelope.digest());
    let id = KeyId { kind: KeyKind::SkEd25519, key: token.public };
    envelope.add_signature(id, token.sk_signature(1, 42, &message));
    let outcome = world.submit(&envelope.to_bytes());
    assert!(matches!(outcome, Ok(Outcome::Accepted { .. })), "{outcome:?}");
    // The same key does not sign the other way.
    let plain = world.intent("olga", label());
    assert!(matches!(world.judge(&sign(&plain, &[61]).to_bytes()), Verdict::Refused(Refusal::Unsigned)));
}

#[test]
fn the_log_replays_and_shows_every_tampering() {
    let mut world = two_of_three();
    world.must("olga", remove("vera"), &[OLGA, OTTO]);
    let log = world.trust.log().to_vec();
    assert_eq!(replay_log(&world.charter, &log).as_ref(), Ok(&world.trust));
    assert!(log.len() >= 5);
    for at in 0..log.len() {
        let mut dropped = log.clone();
        dropped.remove(at);
        let whole = replay_log(&world.charter, &dropped);
        // Without its tail it is an older log, which says so by its head.
        assert!(whole.is_err() || whole.unwrap().head() != world.trust.head(), "drop {at}");
        let mut later = log.clone();
        later[at].log_time = later[at].log_time.plus(1);
        let whole = replay_log(&world.charter, &later);
        assert!(whole.is_err() || whole.unwrap().head() != world.trust.head(), "time {at}");
        if at > 0 {
            let mut swapped = log.clone();
            swapped.swap(at, at - 1);
            assert!(replay_log(&world.charter, &swapped).is_err(), "swap {at}");
        }
    }
    // An entry signed by nobody who may.
    let mut forged = log;
    let forgery = world.intent("olga", add("eve", Role::Owner, vec![new_key(99, KeyClass::Cli)]));
    let envelope = sign(&forgery, &[99]);
    let entry = qb_model::trust::TrustEntry {
        parent: world.trust.head(),
        digest: envelope.digest(),
        index: 1000,
        log_time: world.log_time,
        envelope: envelope.to_bytes(),
    };
    forged.push(entry);
    assert!(replay_log(&world.charter, &forged).is_err());
}

#[test]
fn trust_state_survives_a_snapshot() {
    let world = two_of_three();
    let bytes = postcard::to_stdvec(&world.trust).unwrap();
    assert_eq!(postcard::from_bytes(&bytes), Ok(world.trust));
}
