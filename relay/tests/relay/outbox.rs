//! Intents on their way: offline, expiry, restart, standby.

use std::sync::atomic::Ordering;

use qb_model::Millis;
use qb_model::action::Action;
use qb_portal::view::{IntentState, IntentView};

use crate::agent::FakeAgent;
use crate::client::{Client, eventually};
use crate::site::{FakeSite, OLGA, key, now};
use crate::world::World;

async fn shown(client: &Client, digest: qb_model::Digest) -> IntentView {
    client.get(format!("/v1/sites/plant/intents/{digest}")).await.read()
}

async fn settled(client: &Client, digest: qb_model::Digest) -> IntentView {
    eventually("a receipt", || async {
        let view = shown(client, digest).await;
        (!matches!(view.state, IntentState::Unknown | IntentState::Held)).then_some(view)
    })
    .await
}

#[tokio::test]
async fn t20_an_intent_for_a_dark_site_waits_and_is_applied_once() {
    let mut world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    let view = olga.submit("plant", site.sign("olga", site.label("r1"), OLGA), "0s").await;
    assert_eq!(view.state, IntentState::Held);
    assert!(
        view.detail.as_ref().unwrap().starts_with("the relay says: queued 0 s ago, expires in"),
        "{view:?}"
    );
    assert_eq!(view.waiting_on.as_ref().unwrap().code, "relay.link");
    // The outbox outlives the relay.
    world.restart().await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    assert_eq!(shown(&olga, view.digest).await.state, IntentState::Held);
    let before = site.lock().chain_head().0;
    let gateway = FakeAgent::start(&site, 101, &world.url).up().await;
    let standby = FakeAgent::start(&site, 102, &world.url).up().await;
    assert_eq!(settled(&olga, view.digest).await.state, IntentState::Done);
    assert_eq!(site.lock().chain_head().0, before + 1);
    // However often it is handed over, it has one effect; with a receipt it is handed over no more.
    let took = gateway.took() + standby.took();
    world.restart().await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    assert_eq!(shown(&olga, view.digest).await.state, IntentState::Done);
    assert_eq!(gateway.took() + standby.took(), took);
}

#[tokio::test]
async fn t21_an_intent_that_expires_in_the_outbox_says_so() {
    let world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    let mut intent = site.intent("olga", site.label("r1"));
    (intent.issued_ms, intent.expires_ms) = (Millis(now() - 1_000), Millis(now() + 400));
    let envelope = intent.sign(&[&key(1, OLGA)]).unwrap().to_bytes();
    let view = olga.submit("plant", envelope, "0s").await;
    assert_eq!(view.state, IntentState::Held);
    let view = eventually("expiry", || async {
        let view = shown(&olga, view.digest).await;
        view.reason.is_some().then_some(view)
    })
    .await;
    assert_eq!((view.state, view.reason.as_deref()), (IntentState::Unknown, Some("relay_expired")));
    assert!(view.detail.unwrap().contains("before any gateway took it"));
    let agent = FakeAgent::start(&site, 101, &world.url).up().await;
    // A later intent overtakes what is dead.
    let alive = olga.submit("plant", site.sign("olga", site.label("r2"), OLGA), "10s").await;
    assert_eq!(alive.state, IntentState::Done);
    assert_eq!(agent.took(), 1);
}

#[tokio::test]
async fn t22_a_gateway_that_withholds_is_passed_by() {
    let world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    let silent = FakeAgent::with(&site, (101, 1), &world.url, world.key, false).up().await;
    let standby = FakeAgent::start(&site, 102, &world.url).up().await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    let before = site.lock().chain_head().0;
    let view = olga.submit("plant", site.sign("olga", site.label("r1"), OLGA), "10s").await;
    assert_eq!(view.state, IntentState::Done, "{view:?}");
    assert!(view.detail.unwrap().contains("receipt signed by host-102"));
    assert!(silent.took() >= 1 && standby.took() >= 1);
    assert_eq!(site.lock().chain_head().0, before + 1);
}

#[tokio::test]
async fn t23_two_receipts_that_differ_raise_the_alarm() {
    let world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    let agent = FakeAgent::start(&site, 101, &world.url).up().await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    let view = olga.submit("plant", site.sign("olga", site.label("r1"), OLGA), "10s").await;
    let other = agent.door.receipt(view.digest, qb_model::outcome::Outcome::Pending { have: 1, need: 2 }, 77);
    assert!(agent.link.receipt(other));
    eventually("split view", || async {
        olga.get("/v1/sites/plant/alerts").await.text().contains("split-view").then_some(())
    })
    .await;
    assert_eq!(shown(&olga, view.digest).await.state, IntentState::Done);
}

#[tokio::test]
async fn t24_a_cancellation_that_arrives_first_wins() {
    let world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    let order = olga.submit("plant", site.sign("olga", site.label("r1"), OLGA), "0s").await;
    let cancel = site.sign("olga", Action::IntentCancel { intent: order.digest }, OLGA);
    // Over another door of the site.
    site.judge(cancel).unwrap();
    let _agent = FakeAgent::start(&site, 101, &world.url).up().await;
    let view = settled(&olga, order.digest).await;
    assert_eq!((view.state, view.reason.as_deref()), (IntentState::Rejected, Some("cancelled")));
}

#[tokio::test]
async fn t25_an_intent_for_another_site_is_refused_at_the_door() {
    let world = World::new().await;
    let plant = world.site(1, "plant", "acme").await;
    let other: std::sync::Arc<FakeSite> = world.site(2, "mill", "bolt").await;
    let agent = FakeAgent::start(&plant, 101, &world.url).up().await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    let mut intent = plant.intent("olga", plant.label("r1"));
    intent.site = other.id();
    let envelope = intent.sign(&[&key(1, OLGA)]).unwrap().to_bytes();
    let got = olga.post("/v1/sites/plant/intents", envelope).await;
    assert_eq!((got.status.as_u16(), got.code().as_str()), (422, "wrong_site"));
    assert_eq!(agent.door.took.load(Ordering::SeqCst), 0);
}
