//! What the executor takes for an agent order, and what not; what a snapshot may say of an upgrade.

use qb_model::agent_order::{AgentFloor, AgentGrounds, AgentOrder, verify_agent_order};
use qb_model::assignment::AssignmentError;
use qb_model::ids::{Digest, Generation};

use super::{Fleet, NEW, version};
use crate::support::site::{authorize, revoke};
use crate::support::{OLGA, OPAL, VERA, name, node, public, sign};
use qb_model::action::Action;

fn handed(fleet: &Fleet) -> (AgentOrder, AgentGrounds, AgentFloor) {
    let order = fleet.order_of(102);
    let grounds = fleet.site.state.agent_grounds(&order).unwrap();
    let (generation, trust_head) = (order.generation, fleet.site.state.trust().head());
    (order, grounds, AgentFloor { site: fleet.site.id(), node: node(102), generation, trust_head })
}

fn ordered() -> Fleet {
    let mut fleet = Fleet::new(3, 1);
    fleet.site.must("olga", Action::PublisherAdd { publisher: name("acme"), key: public(30) }, &[OLGA]);
    fleet.site.must("olga", super::upgrade_to(NEW, &[102], 1), &[OLGA]);
    fleet.hear();
    assert_eq!(fleet.lead(), [102]);
    fleet
}

#[test]
fn what_the_state_orders_stands() {
    let mut fleet = ordered();
    let (order, grounds, floor) = handed(&fleet);
    let stands = verify_agent_order(order.clone(), &grounds, &floor).unwrap();
    assert_eq!((stands.order(), stands.trust_head()), (&order, floor.trust_head));
    assert_eq!(stands.publishers(), [public(30)]);
    // A publisher that was removed since counts no more.
    fleet.site.must("olga", Action::PublisherRemove { key: public(30) }, &[OLGA]);
    let (order, grounds, floor) = handed(&fleet);
    assert!(verify_agent_order(order, &grounds, &floor).unwrap().publishers().is_empty());
}

#[test]
fn what_no_owner_signed_does_not() {
    let mut fleet = ordered();
    let attach = fleet.site.must("opal", authorize(&[120]), &[OPAL]);
    let forged = fleet.site.intent("vera", super::upgrade_to(NEW, &[102], 1));
    let by_opal = fleet.site.intent("opal", super::upgrade_to(NEW, &[102], 1));
    type Change<'a> = &'a dyn Fn(&mut AgentOrder, &mut AgentGrounds, &mut AgentFloor);
    let refused = |change: Change<'_>| {
        let (mut order, mut grounds, mut floor) = handed(&fleet);
        change(&mut order, &mut grounds, &mut floor);
        verify_agent_order(order, &grounds, &floor).unwrap_err()
    };
    assert_eq!(refused(&|o, _, _| o.node = node(103)), AssignmentError::NotForMe);
    assert_eq!(refused(&|_, _, f| f.site = qb_model::SiteId(Digest([1; 32]))), AssignmentError::NotForMe);
    assert!(matches!(refused(&|_, _, f| f.generation = Generation(9)), AssignmentError::Stale { .. }));
    assert!(matches!(refused(&|_, _, f| f.trust_head = Digest([7; 32])), AssignmentError::Trust(_)));
    assert!(matches!(refused(&|_, g, _| drop(g.trust_log.pop())), AssignmentError::Trust(_)));
    assert!(matches!(refused(&|o, _, _| o.bundle = Digest([1; 32])), AssignmentError::NotImplied(_)));
    assert!(matches!(refused(&|o, _, _| o.version = version("9.9.9")), AssignmentError::NotImplied(_)));
    for (intent, seed) in [(&forged, VERA), (&by_opal, OPAL), (&by_opal, OLGA)] {
        let error = refused(&|o, g, _| {
            o.cites.digest = intent.digest();
            g.upgrade.0 = sign(intent, &[seed]).to_bytes();
        });
        assert!(matches!(error, AssignmentError::Intent { .. }), "{error:?}");
    }
    let other = refused(&|o, g, _| {
        o.cites = fleet.site.state.intents()[&attach.digest()].cites;
        g.upgrade.0 = sign(&attach, &[OPAL]).to_bytes();
    });
    assert_eq!(other, AssignmentError::NotImplied("the order is not an upgrade of agents"));
    assert!(matches!(refused(&|o, _, _| o.cites.digest = Digest([1; 32])), AssignmentError::Intent { .. }));
}

#[test]
fn generations_rise_over_upgrades_and_apart_from_assignments() {
    let mut fleet = ordered();
    assert_eq!(fleet.order_of(102).generation, Generation(1));
    fleet.returned(102, "no");
    fleet.site.must("olga", super::upgrade_to(NEW, &[102], 1), &[OLGA]);
    fleet.hear();
    assert_eq!(fleet.lead(), [102]);
    assert_eq!(fleet.order_of(102).generation, Generation(2));
    assert_eq!(fleet.site.record(102).assignments, Generation(0));
    fleet.site.must("opal", revoke(103), &[OPAL]);
    // Digests tell orders apart by every member.
    let order = fleet.order_of(102);
    let mut other = order.clone();
    other.generation = Generation(3);
    assert_ne!(order.digest(), other.digest());
}

#[test]
fn an_action_of_a_later_level_leaves_no_trace() {
    let mut world = crate::support::World::staffed();
    let intent = world.intent("olga", super::upgrade_to(NEW, &[102], 1));
    let envelope = sign(&intent, &[OLGA]).to_bytes();
    assert!(matches!(world.judge_at_level(1, &envelope), qb_model::judge::Verdict::Pass(_)));
    let refused = world.judge_at_level(0, &envelope);
    let qb_model::judge::Verdict::Refused(refusal) = refused else { panic!("{refused:?}") };
    assert_eq!(refusal.code(), "feature_level");
    let want =
        "agent.upgrade needs feature level 1, the site is at 0: upgrade all agents first, see qb agent list";
    assert_eq!(refusal.to_string(), want);
}
