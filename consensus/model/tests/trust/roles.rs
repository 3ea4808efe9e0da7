//! S17: the whole matrix of roles, classes of keys and actions, from the one table.

use qb_model::action::{Action, KeyClass, PORTAL_SET, Role};
use qb_model::judge::Verdict;
use qb_model::trust::{ACTIONS, required, required_by_name};

use crate::support::{OLGA, World, add, every_action, name, new_key, policy, public, sign};

const BROWSER: u8 = 50;
const CLI: u8 = 51;
const AGENT: u8 = 52;

/// A site with one more admin of this role, who has a key of each class that signs directly.
fn with(role: Role) -> World {
    let mut world = World::staffed();
    let keys = vec![
        new_key(BROWSER, KeyClass::Browser),
        new_key(CLI, KeyClass::Cli),
        new_key(AGENT, KeyClass::AgentOrigin),
    ];
    world.must("olga", add("mara", role, keys), &[OLGA]);
    world
}

fn judged(world: &mut World, action: &Action, seeds: &[u8]) -> String {
    let intent = world.intent("mara", action.clone());
    match world.judge(&sign(&intent, seeds).to_bytes()) {
        Verdict::Pass(_) => "pass".into(),
        Verdict::Rejected { reason, .. } => reason.code().into(),
        other => format!("{other:?}"),
    }
}

#[test]
fn s17_every_role_class_and_action() {
    let names: Vec<_> = every_action().iter().map(Action::name).collect();
    assert_eq!(names, ACTIONS, "every action is in the table, and in this test");
    for role in [Role::Viewer, Role::Operator, Role::Owner] {
        let mut world = with(role);
        for action in every_action() {
            let class = required(&action);
            assert_eq!(Some(class), required_by_name(action.name()));
            for (seed, browser) in [(BROWSER, true), (CLI, false), (AGENT, false)] {
                let expected = if role < class.role {
                    "role"
                } else if browser && !PORTAL_SET.contains(&class.name) {
                    "key_class"
                } else {
                    "pass"
                };
                let found = judged(&mut world, &action, &[seed]);
                assert_eq!(found, expected, "{role:?}, key {seed}, {}", action.name());
            }
        }
    }
}

#[test]
fn a_second_signature_by_a_lasting_key_lifts_a_browser_key() {
    let mut world = with(Role::Operator);
    let revoke = &every_action()[2];
    assert_eq!(judged(&mut world, revoke, &[BROWSER]), "key_class");
    assert_eq!(judged(&mut world, revoke, &[BROWSER, CLI]), "pass");
    // An owner's approval does as well; a viewer's does not.
    assert_eq!(judged(&mut world, revoke, &[BROWSER, OLGA]), "pass");
    assert_eq!(judged(&mut world, revoke, &[BROWSER, crate::support::VERA]), "key_class");
}

#[test]
fn owners_widen_and_empty_the_portal_set() {
    let mut world = with(Role::Operator);
    let revoke = &every_action()[2];
    let label = &every_action()[3];
    world.must("olga", policy(|p| p.browser_actions = vec!["node.revoke".into()]), &[OLGA]);
    assert_eq!(judged(&mut world, revoke, &[BROWSER]), "pass");
    assert_eq!(judged(&mut world, label, &[BROWSER]), "key_class");
}

#[test]
fn anybody_changes_their_own_keys_and_nobody_elses() {
    for role in [Role::Viewer, Role::Operator] {
        let mut world = with(role);
        let own = |class| Action::KeyAdd { admin: name("mara"), key: new_key(60, class) };
        assert_eq!(judged(&mut world, &own(KeyClass::Cli), &[CLI]), "pass");
        assert_eq!(judged(&mut world, &own(KeyClass::Hardware), &[AGENT]), "pass");
        let other = Action::KeyAdd { admin: name("vera"), key: new_key(60, KeyClass::Cli) };
        assert_eq!(judged(&mut world, &other, &[CLI]), "role");
        let revoke = |admin, seed| Action::KeyRevoke {
            admin: name(admin),
            key: public(seed),
            reason: qb_model::action::RevokeReason::Retired,
        };
        assert_eq!(judged(&mut world, &revoke("mara", BROWSER), &[CLI]), "pass");
        assert_eq!(judged(&mut world, &revoke("opal", crate::support::OPAL), &[CLI]), "role");
    }
}

#[test]
fn s76_a_browser_key_makes_no_stronger_key() {
    let mut world = with(Role::Owner);
    let own = |class| Action::KeyAdd { admin: name("mara"), key: new_key(60, class) };
    assert_eq!(judged(&mut world, &own(KeyClass::Cli), &[BROWSER]), "key_class");
    assert_eq!(judged(&mut world, &own(KeyClass::Browser), &[BROWSER]), "key_class");
    // Not even where owners let browser keys add keys.
    let widened = policy(|p| p.browser_actions = vec!["admin.add".into(), "key.add".into()]);
    world.must("olga", widened, &[OLGA]);
    assert_eq!(judged(&mut world, &own(KeyClass::Browser), &[BROWSER]), "pass");
    assert_eq!(judged(&mut world, &own(KeyClass::Cli), &[BROWSER]), "key_class");
    let puppet = add("puppet", Role::Owner, vec![new_key(61, KeyClass::Cli)]);
    assert_eq!(judged(&mut world, &puppet, &[BROWSER]), "key_class");
}

#[test]
fn an_ended_key_signs_nothing() {
    let mut world = World::staffed();
    let mut ending = new_key(CLI, KeyClass::Cli);
    ending.expires_ms = Some(world.log_time.plus(10));
    world.must("olga", add("mara", Role::Operator, vec![ending]), &[OLGA]);
    assert_eq!(judged(&mut world, &every_action()[3], &[CLI]), "pass");
    let end = world.log_time.0 + 10;
    world.tick(end);
    assert!(judged(&mut world, &every_action()[3], &[CLI]).contains("Unsigned"));
}
