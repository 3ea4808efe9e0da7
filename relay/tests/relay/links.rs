//! Who may have a link: rosters, clones, knocks.

use qb_model::action::Action;
use qb_portal::view::{NodeState, NodeView};

use crate::agent::FakeAgent;
use crate::client::{Client, eventually};
use crate::site::{FakeSite, OLGA, public};
use crate::world::World;

#[tokio::test]
async fn t30_an_unknown_site_and_a_relay_with_another_key_get_no_link() {
    let world = World::new().await;
    let stranger = FakeSite::founded(3, "ghost", &world.url, world.key);
    let agent = FakeAgent::start(&stranger, 101, &world.url);
    assert!(agent.down().await.contains("unknown_site"));
    let site = world.site(1, "plant", "acme").await;
    let agent = FakeAgent::with(&site, (101, 1), &world.url, public(1, 222), true);
    assert!(agent.down().await.contains("the site trusts"));
}

#[tokio::test]
async fn t31_a_clone_is_refused_and_marked() {
    let world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    let first = FakeAgent::start(&site, 101, &world.url).up().await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    eventually("a gateway", || async {
        olga.get("/v1/sites/plant/head").await.status.is_success().then_some(())
    })
    .await;
    let second = FakeAgent::with(&site, (101, 2), &world.url, world.key, true);
    let why = second.down().await;
    assert!(why.contains("clone"), "{why}");
    let alerts = olga.get("/v1/sites/plant/alerts").await.text();
    assert!(alerts.contains("node-cloned"), "{alerts}");
    // The first one is still served.
    assert!(matches!(*first.link.state().borrow(), qb_link::LinkState::Up { .. }));
}

#[tokio::test]
async fn t32_a_restarted_agent_takes_its_place_again() {
    let world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    let first = FakeAgent::start(&site, 101, &world.url).up().await;
    drop(first);
    let second = FakeAgent::with(&site, (101, 2), &world.url, world.key, true).up().await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    let view = olga.submit("plant", site.sign("olga", site.label("r1"), OLGA), "10s").await;
    assert_eq!(view.state, qb_portal::view::IntentState::Done, "{view:?}");
    assert_eq!(second.took(), 1);
    assert!(!olga.get("/v1/sites/plant/alerts").await.text().contains("node-cloned"));
}

#[tokio::test]
async fn t33_a_node_that_knocks_through_the_relay_is_shown_and_marked() {
    let world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    let _gateway = FakeAgent::start(&site, 101, &world.url).up().await;
    let waiting = FakeAgent::start(&site, 140, &world.url).up().await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    let node: NodeView = eventually("the knock", || async {
        let got = olga.get("/v1/sites/plant/nodes/host-140").await;
        got.status.is_success().then(|| got.read())
    })
    .await;
    assert_eq!((node.state, node.id), (NodeState::Waiting, site.node(140)));
    assert!(node.waiting_on.unwrap().text.starts_with("came through the relay"));
    assert!(node.knock.is_some());
    // It is no member: what it says is not taken.
    let receipt = waiting.door.receipt(
        qb_model::Digest([1; 32]),
        qb_model::outcome::Outcome::Accepted { generation: qb_model::Generation(1) },
        1,
    );
    waiting.link.receipt(receipt);
    let why = waiting.down().await;
    assert!(why.contains("unproven"), "{why}");
}

#[tokio::test]
async fn t34_a_revoked_node_loses_its_link_for_good() {
    let world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    let other = FakeAgent::start(&site, 102, &world.url).up().await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    // Its link is proven, and it says nothing of the roster any more.
    eventually("a gateway", || async {
        olga.get("/v1/sites/plant/head").await.status.is_success().then_some(())
    })
    .await;
    let gateway = FakeAgent::start(&site, 101, &world.url).up().await;
    site.unseat(102);
    site.must(site.revoke(102));
    gateway.link.changed();
    let why = other.down().await;
    assert!(!why.is_empty());
    let again = FakeAgent::with(&site, (102, 2), &world.url, world.key, true);
    let why = again.down().await;
    assert!(why.contains("revoked"), "{why}");
    // Each of them has what it needs to verify that by itself: this may be its only way to learn it.
    for revoked in [&other, &again] {
        let (envelope, trust) =
            eventually("the word", || async { revoked.door.put_out.lock().unwrap().take() }).await;
        let envelope = qb_model::envelope::Envelope::parse(&envelope).unwrap();
        let intent = qb_model::intent::Intent::parse(envelope.payload()).unwrap();
        assert_eq!(intent.action, site.revoke(102));
        assert_eq!(trust, site.lock().trust().log());
    }
    assert!(gateway.door.put_out.lock().unwrap().is_none());
}

#[tokio::test]
async fn t35_a_relay_that_owners_removed_serves_the_site_no_more() {
    let world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    let agent = FakeAgent::start(&site, 101, &world.url).up().await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    site.must(Action::RelayRemove { key: world.key });
    agent.link.changed();
    eventually("the session is over", || async { (olga.get("/v1/sites").await.status == 401).then_some(()) })
        .await;
    assert!(agent.down().await.len() > 1);
}

#[tokio::test]
async fn t36_a_trust_log_that_does_not_extend_the_held_one_is_marked() {
    let world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    let _first = FakeAgent::start(&site, 101, &world.url).up().await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    // A second history of the same charter: validly signed, but another one.
    let fork = site.forked();
    fork.must(Action::RelayAdd { url: "https://other.example".into(), key: public(1, 230) });
    let _liar = FakeAgent::start(&fork, 102, &world.url);
    eventually("the mark", || async {
        olga.get("/v1/sites/plant/alerts").await.text().contains("trust-fork").then_some(())
    })
    .await;
}

#[tokio::test]
async fn t37_a_removal_that_comes_with_the_first_words_ends_the_link() {
    let world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    site.must(Action::RelayRemove { key: world.key });
    let agent = FakeAgent::start(&site, 101, &world.url);
    let why = agent.down().await;
    assert!(why.contains("removed this relay"), "{why}");
}

#[tokio::test]
async fn t38_a_node_that_waits_hears_that_it_was_let_in() {
    let world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    let gateway = FakeAgent::start(&site, 101, &world.url).up().await;
    let waiting = FakeAgent::start(&site, 140, &world.url).up().await;
    let stranger = FakeAgent::start(&site, 141, &world.url).up().await;
    site.must(Action::NodeAuthorize { nodes: vec![site.authorized(140)] });
    gateway.link.changed();
    let (admission, trust) =
        eventually("the admission", || async { waiting.door.let_in.lock().unwrap().take() }).await;
    // What it needs to verify that by itself, and whom to dial.
    let envelope = qb_model::envelope::Envelope::parse(&admission.envelope).unwrap();
    let intent = qb_model::intent::Intent::parse(envelope.payload()).unwrap();
    assert_eq!(intent.action, Action::NodeAuthorize { nodes: vec![site.authorized(140)] });
    assert_eq!(trust, site.lock().trust().log());
    assert_eq!(admission.hints.members, [(site.node(101), vec!["127.0.0.101:7443".to_owned()])]);
    assert!(stranger.door.let_in.lock().unwrap().is_none());
}

/// A token lets it in: the relay verifies mint and entry, and hands on what proves it.
#[tokio::test]
async fn t38_a_node_with_a_join_token_hears_that_it_is_in() {
    let world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    let gateway = FakeAgent::start(&site, 101, &world.url).up().await;
    let waiting = FakeAgent::start(&site, 140, &world.url).up().await;
    let applied = site.enter(140);
    assert!(matches!(applied, qb_model::state::Applied::Token { index, .. } if index > 0), "{applied:?}");
    gateway.link.changed();
    let (admission, _) =
        eventually("the admission", || async { waiting.door.let_in.lock().unwrap().take() }).await;
    let entry = qb_model::token::Entry::open(&admission.envelope).unwrap();
    assert_eq!(entry.node(), site.node(140));
    assert!(entry.terms(site.lock().trust()).is_ok());
}

#[tokio::test]
async fn t39_a_member_that_does_not_know_it_yet_takes_no_place() {
    let world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    // Its copy of the site ends before it was let in.
    let before = site.forked();
    site.must(Action::NodeAuthorize { nodes: vec![site.authorized(140)] });
    let _gateway = FakeAgent::start(&site, 101, &world.url).up().await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    // A gateway has a place once the relay has the roster, all of it.
    eventually("a gateway", || async {
        olga.get("/v1/sites/plant/head").await.status.is_success().then_some(())
    })
    .await;
    let waiting = FakeAgent::start(&before, 140, &world.url).up().await;
    eventually("the admission", || async { waiting.door.let_in.lock().unwrap().take() }).await;
    let standby = FakeAgent::start(&site, 102, &world.url).up().await;
    let second = FakeAgent::with(&site, (140, 2), &world.url, world.key, true);
    assert!(second.down().await.contains("full"), "two places are taken");
    assert!(matches!(*standby.link.state().borrow(), qb_link::LinkState::Up { .. }));
}
