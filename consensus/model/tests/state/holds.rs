//! S19, S07: held intents, cancelled intents, repeated intents.

use qb_model::action::{Action, RevokeReason};
use qb_model::audit::verify_chain;
use qb_model::chain::AuditRecord;
use qb_model::command::Command;
use qb_model::judge::Verdict;
use qb_model::outcome::Outcome;
use qb_model::state::{Applied, SiteState};

use crate::support::site::{Site, attach_auto, attach_explicit, create, delete, detach, picture, revoke};
use crate::support::{HOUR, OLGA, OPAL, OPAL_BROWSER, OTTO, VERA, charter, name, public, rejection, sign};

fn key_revoke(seed: u8, reason: RevokeReason) -> Action {
    Action::KeyRevoke { admin: name("opal"), key: public(seed), reason }
}

fn half_way(seeds: &[u8]) -> (Site, Action) {
    let mut site = Site::with_pool(4);
    site.must("opal", create("blue"), &[OPAL_BROWSER]);
    let intent = site.must("opal", attach_explicit("blue", &[102], &[103]), seeds);
    site.lead(&[]);
    site.lead(&[]);
    site.done(102);
    (site, Action::IntentRelease { intent: intent.digest() })
}

#[test]
fn s19_held_until_an_owner_releases() {
    let (mut site, release) = half_way(&[OPAL]);
    site.must_not("olga", release.clone(), &[OLGA], "no_change");
    site.must("olga", key_revoke(OPAL, RevokeReason::Compromised), &[OLGA]);
    site.done(103);
    assert_eq!(site.plan(), [], "nothing further is ordered");
    site.must_not("opal", release.clone(), &[OPAL_BROWSER], "role");
    let unknown = Action::IntentRelease { intent: qb_model::ids::Digest([4; 32]) };
    site.must_not("olga", unknown, &[OLGA], "unknown_intent");
    site.must("otto", release, &[OTTO]);
    site.settle();
    assert_eq!(site.blue().phase.word(), "ready");
}

#[test]
fn s19_also_long_after_the_intent_expired() {
    let (mut site, _) = half_way(&[OPAL]);
    for _ in 0..30 {
        site.wait(HOUR);
    }
    site.must("olga", key_revoke(OPAL, RevokeReason::Compromised), &[OLGA]);
    site.done(103);
    assert_eq!(site.plan(), [], "the replay table has forgotten it, the state has not");
}

#[test]
fn s19_whichever_of_the_authors_keys_it_was() {
    for seed in [OPAL, OPAL_BROWSER] {
        let (mut site, _) = half_way(&[OPAL, OPAL_BROWSER]);
        site.must("olga", key_revoke(seed, RevokeReason::Compromised), &[OLGA]);
        assert!(site.state.held(&site.blue().attach.as_ref().unwrap().cites));
    }
}

#[test]
fn s19_an_admin_removed_as_compromised_holds_all() {
    let (mut site, _) = half_way(&[OPAL]);
    let remove = Action::AdminRemove { admin: name("opal"), reason: RevokeReason::Compromised };
    site.must("olga", remove, &[OLGA]);
    site.done(103);
    assert_eq!(site.plan(), []);
}

#[test]
fn retired_keys_hold_nothing_and_neither_do_strangers_signatures() {
    let (mut site, _) = half_way(&[OPAL]);
    site.must("olga", key_revoke(OPAL, RevokeReason::Retired), &[OLGA]);
    site.settle();
    assert_eq!(site.blue().phase.word(), "ready");
    // What another admin put beside it does not hold it.
    let (mut site, _) = half_way(&[OPAL, VERA]);
    let remove = Action::AdminRemove { admin: name("vera"), reason: RevokeReason::Compromised };
    site.must("olga", remove, &[OLGA]);
    site.settle();
    assert_eq!(site.blue().phase.word(), "ready");
}

#[test]
fn a_held_attach_can_be_taken_back() {
    let (mut site, _) = half_way(&[OPAL]);
    site.must("olga", key_revoke(OPAL, RevokeReason::Compromised), &[OLGA]);
    site.must("olga", detach("blue", &[102, 103]), &[OLGA]);
    site.settle();
    assert!(site.in_pool(102) && site.in_pool(103));
    site.must("olga", delete("blue"), &[OLGA]);
}

#[test]
fn cancelled_before_it_arrives() {
    let mut site = Site::with_pool(3);
    let intent = site.intent("opal", create("blue"));
    let other = site.intent("opal", create("green"));
    let cancel = |i: &qb_model::intent::Intent| Action::IntentCancel { intent: i.digest() };
    // A third party's word counts for nothing.
    site.must(
        "olga",
        Action::AdminRole { admin: name("vera"), role: qb_model::action::Role::Operator },
        &[OLGA],
    );
    site.must("vera", cancel(&other), &[VERA]);
    assert!(matches!(site.send(&other, &[OPAL]), Outcome::Accepted { .. }));
    site.must("opal", cancel(&intent), &[OPAL]);
    assert_eq!(rejection(&site.send(&intent, &[OPAL])), Some("cancelled"));
    let third = site.intent("opal", create("red"));
    site.must("olga", cancel(&third), &[OLGA]);
    assert_eq!(rejection(&site.send(&third, &[OPAL])), Some("cancelled"));
}

#[test]
fn what_is_decided_is_not_cancelled() {
    let mut site = Site::with_pool(3);
    site.must("opal", create("blue"), &[OPAL]);
    let attach = site.must("opal", attach_auto("blue", 9), &[OPAL]);
    let cancel = Action::IntentCancel { intent: attach.digest() };
    site.must_not("opal", cancel.clone(), &[OPAL], "already_judged");
    for _ in 0..30 {
        site.wait(HOUR);
    }
    site.must_not("opal", cancel, &[OPAL], "already_judged");
}

fn first_of(outcome: &Outcome) -> &Outcome {
    match outcome {
        Outcome::Duplicate { first, .. } => first,
        other => panic!("{other:?}"),
    }
}

#[test]
fn s07_the_same_again_has_one_effect() {
    let mut site = Site::with_pool(4);
    site.must("opal", create("blue"), &[OPAL]);
    let attach = site.intent("opal", attach_explicit("blue", &[102], &[]));
    let refused = site.intent("opal", attach_explicit("blue", &[120], &[]));
    let yes = site.send(&attach, &[OPAL]);
    let no = site.send(&refused, &[OPAL]);
    site.settle();
    site.must("opal", detach("blue", &[102]), &[OPAL]);
    site.settle();
    for restore in [false, true] {
        if restore {
            // A restart, and a snapshot from another voter.
            let bytes = site.state.to_snapshot();
            assert!(SiteState::from_own_snapshot(&bytes).unwrap() == site.state);
            let fresh = SiteState::new(charter().envelope()).unwrap();
            site.state = SiteState::from_snapshot(&bytes, &fresh).unwrap();
        }
        let before = picture(&site.state);
        let chained = site.state.chain_head();
        assert_eq!(first_of(&site.send(&attach, &[OPAL])), &yes);
        assert_eq!(first_of(&site.send(&refused, &[OPAL])), &no);
        assert!(picture(&site.state) == before);
        assert_eq!(site.state.chain_head(), chained, "a repetition is not chained");
    }
}

#[test]
fn s09_a_refused_intent_does_not_pass_later() {
    let mut site = Site::with_pool(4);
    let intent = site.intent("opal", attach_auto("blue", 1));
    assert_eq!(rejection(&site.send(&intent, &[OPAL])), Some("unknown_cluster"));
    site.must("opal", create("blue"), &[OPAL]);
    let before = picture(&site.state);
    assert!(matches!(site.send(&intent, &[OPAL]), Outcome::Duplicate { .. }));
    assert!(picture(&site.state) == before);
}

#[test]
fn too_early_leaves_no_trace() {
    let mut site = Site::with_pool(4);
    let first = site.intent("opal", create("blue"));
    let mut second = site.intent("opal", attach_auto("blue", 1));
    second.after = Some(vec![first.digest()]);
    let envelope = sign(&second, &[OPAL]).to_bytes();
    site.ignored(Command::Intent(envelope.clone()));
    site.send(&first, &[OPAL]);
    let applied = site.propose(Command::Intent(envelope));
    assert!(matches!(applied, Applied::Intent { outcome: Outcome::Accepted { .. }, .. }), "{applied:?}");
}

#[test]
fn a_whole_life_verifies_offline() {
    let mut site = Site::with_blue(5, &[102], &[103]);
    site.must_not("opal", create("blue"), &[OPAL], "name_taken");
    site.wait(2 * HOUR);
    site.must("opal", detach("blue", &[103]), &[OPAL]);
    site.settle();
    site.must("opal", revoke(104), &[OPAL]);
    site.must("olga", delete("blue"), &[OLGA]);
    site.settle();
    let records: Vec<AuditRecord> = site.state.audit().iter().map(|r| (**r).clone()).collect();
    let proof = verify_chain(site.id(), &charter(), &records).unwrap();
    assert_eq!((proof.head.index, proof.head.hash), site.state.chain_head());
    assert_eq!(proof.trust_head, site.state.trust().head());
    assert_eq!(proof.rejected, 1);
}

/// An idle site's clock stands still. The leader judges by its own, since its stamp moves the other.
#[test]
fn an_idle_site_takes_an_intent_that_is_issued_now() {
    let mut site = Site::staffed();
    let later = site.now.plus(HOUR);
    site.now = later;
    let envelope = sign(&site.intent("opal", create("blue")), &[OPAL]).to_bytes();
    let held = site.state.judge(&envelope);
    assert!(matches!(held, Verdict::Hold { .. }), "{held:?}");
    let judged = site.state.judge_at(&envelope, later);
    assert!(matches!(judged, Verdict::Pass(_)), "{judged:?}");
}
