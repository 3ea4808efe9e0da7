//! Grants: who may open what, once, and until when (tests S61, S62).

use qb_model::action::{Action, KeyClass, RevokeReason, Role};
use qb_model::document::{Document as _, Grant, GrantScope, GrantTarget};
use qb_model::grant::{GrantContext, GrantError, Granted, UsedGrants, judge_grant};
use qb_model::ids::{Digest, Millis, Nonce16, SiteId};
use qb_model::limits::{GRANT_AHEAD_MS, GRANT_MS, GRANTS_USED_ADMIN};

use super::documents::grant;
use crate::support::{
    HOUR, NOW, OLGA, OPAL, OPAL_BROWSER, VERA, World, add, key, name, new_key, node, public, remove,
};

fn by(seed: u8) -> Grant {
    Grant { admin_key: public(seed), ..grant() }
}

fn judged(world: &World, grant: &Grant, signer: u8, now: u64) -> Result<Granted, GrantError> {
    let blue = name("blue");
    let ctx = GrantContext {
        site: world.site(),
        trust: &world.trust,
        cluster: &blue,
        exists: true,
        now: Millis(now),
    };
    judge_grant(&ctx, &grant.sign(&[&key(signer)]).to_bytes())
}

#[test]
fn a_grant_opens_one_thing_for_an_admin_of_now() {
    let world = World::staffed();
    for (seed, admin, role) in
        [(OLGA, "olga", Role::Owner), (OPAL, "opal", Role::Operator), (VERA, "vera", Role::Viewer)]
    {
        let granted = judged(&world, &by(seed), seed, NOW).unwrap();
        assert_eq!((granted.admin().as_str(), granted.role()), (admin, role));
        assert_eq!(granted.target(), GrantTarget::Apiserver);
        assert_eq!((granted.key(), granted.client_key()), (public(seed), grant().client_key.0));
    }
}

#[test]
fn every_other_grant_is_refused_with_its_reason() {
    let world = World::staffed();
    let with = |change: fn(&mut Grant)| {
        let mut grant = by(OPAL);
        change(&mut grant);
        grant
    };
    let cases: [(&str, Grant, u8, u64); 12] = [
        ("other_site", with(|g| g.site = SiteId(Digest([8; 32]))), OPAL, NOW),
        ("other_cluster", with(|g| g.scope = GrantScope::Cluster(name("red"))), OPAL, NOW),
        ("other_cluster", with(|g| g.scope = GrantScope::Node(node(101))), OPAL, NOW),
        ("target", with(|g| g.target = GrantTarget::AgentPortal), OPAL, NOW),
        ("unsigned", by(OPAL), OLGA, NOW),
        ("unsigned", by(99), 99, NOW),
        ("key_class", by(OPAL_BROWSER), OPAL_BROWSER, NOW),
        ("expired", by(OPAL), OPAL, NOW + GRANT_MS),
        ("not_yet_valid", by(OPAL), OPAL, NOW - GRANT_AHEAD_MS - 1),
        ("malformed", with(|g| g.expires_ms = g.expires_ms.plus(1)), OPAL, NOW),
        ("malformed", with(|g| g.expires_ms = g.issued_ms), OPAL, NOW),
        ("malformed", with(|g| g.v = 2), OPAL, NOW),
    ];
    for (code, grant, signer, now) in cases {
        let error = judged(&world, &grant, signer, now).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
    assert!(judged(&world, &by(OPAL), OPAL, NOW + GRANT_MS - 1).is_ok());
    assert!(judged(&world, &by(OPAL), OPAL, NOW - GRANT_AHEAD_MS).is_ok());
    let blue = name("blue");
    let ctx = GrantContext {
        site: world.site(),
        trust: &world.trust,
        cluster: &blue,
        exists: false,
        now: Millis(NOW),
    };
    let envelope = by(OPAL).sign(&[&key(OPAL)]).to_bytes();
    assert_eq!(judge_grant(&ctx, &envelope).unwrap_err().code(), "no_cluster");
    // Another signed thing is no grant, and neither is a grant that was touched.
    let login = super::documents::login().sign(&[&key(OPAL)]).to_bytes();
    let ctx = GrantContext { exists: true, ..ctx };
    assert_eq!(judge_grant(&ctx, &login).unwrap_err().code(), "malformed");
    for at in (0..envelope.len()).step_by(7) {
        let mut touched = envelope.clone();
        touched[at] ^= 1;
        if let Ok(granted) = judge_grant(&ctx, &touched) {
            // Only the hint at the key and its bytes outside the signature may differ.
            assert_eq!(granted, judge_grant(&ctx, &envelope).unwrap(), "byte {at}");
        }
    }
}

#[test]
fn a_grant_is_used_once_and_nobody_uses_up_what_others_need() {
    let world = World::staffed();
    let mut used = UsedGrants::default();
    let granted = judged(&world, &by(OPAL), OPAL, NOW).unwrap();
    used.take(&granted, Millis(NOW)).unwrap();
    assert_eq!(used.take(&granted, Millis(NOW)), Err(GrantError::Used));
    assert_eq!(used.take(&granted, Millis(NOW + GRANT_MS - 1)), Err(GrantError::Used));
    for number in 1..GRANTS_USED_ADMIN {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let grant = Grant { nonce: Nonce16(nonce), ..by(OPAL) };
        used.take(&judged(&world, &grant, OPAL, NOW).unwrap(), Millis(NOW)).unwrap();
    }
    let one_more = Grant { nonce: Nonce16([0xff; 16]), ..by(OPAL) };
    let one_more = judged(&world, &one_more, OPAL, NOW).unwrap();
    assert_eq!(used.take(&one_more, Millis(NOW)), Err(GrantError::Full(name("opal"))));
    let other = Grant { nonce: Nonce16([0xfe; 16]), ..by(OLGA) };
    used.take(&judged(&world, &other, OLGA, NOW).unwrap(), Millis(NOW)).unwrap();
    // What has ended frees its room, and is refused by its time.
    used.take(&one_more, Millis(NOW + GRANT_MS)).unwrap();
}

#[test]
fn what_is_open_falls_with_its_admin_key_role_or_cluster() {
    let mut world = World::staffed();
    let granted = judged(&world, &by(OPAL), OPAL, NOW).unwrap();
    let stands = |world: &World| granted.still_stands(&world.trust, world.log_time, true);
    assert!(stands(&world));
    assert!(!granted.still_stands(&world.trust, world.log_time, false));
    // Another key of the same admin changes nothing.
    let another = Action::KeyAdd { admin: name("opal"), key: new_key(77, KeyClass::Cli) };
    world.must("olga", another, &[OLGA]);
    assert!(stands(&world));
    // The grant's own end bounds the opening only.
    world.tick(NOW + HOUR);
    assert!(stands(&world));
    let mut demoted = World::staffed();
    let role = Action::AdminRole { admin: name("opal"), role: Role::Viewer };
    demoted.must("olga", role, &[OLGA]);
    assert!(!stands(&demoted));
    let reason = RevokeReason::Retired;
    let revoke = Action::KeyRevoke { admin: name("opal"), key: public(OPAL), reason };
    let mut revoked = World::staffed();
    revoked.must("olga", revoke, &[OLGA]);
    assert!(!stands(&revoked));
    assert_eq!(judged(&revoked, &by(OPAL), OPAL, NOW).unwrap_err().code(), "unsigned");
    world.must("olga", remove("opal"), &[OLGA]);
    assert!(!stands(&world));
    // The same name again is another person's chance, with another key.
    world.must("olga", add("opal", Role::Operator, vec![new_key(88, KeyClass::Cli)]), &[OLGA]);
    assert!(!stands(&world));
}
