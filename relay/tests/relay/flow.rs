//! From a registration to a receipt.

use qb_model::action::Action;
use qb_model::{Digest, SiteId};
use qb_portal::view::{IntentState, IntentView, NodeView, SiteView};

use crate::agent::FakeAgent;
use crate::client::{Client, eventually};
use crate::site::{OLGA, VERA};
use crate::world::World;

#[tokio::test]
async fn t10_register_link_read_submit_receipt() {
    let world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    let agent = FakeAgent::start(&site, 101, &world.url).up().await;
    let olga = Client::log_in(&world, 1, OLGA).await;

    let views: Vec<SiteView> = olga.get("/v1/sites").await.read();
    assert_eq!(views.len(), 1);
    let view = eventually("the site is read", || async {
        let view: SiteView = olga.get("/v1/sites/plant").await.read();
        view.waiting_on.is_empty().then_some(view)
    })
    .await;
    assert_eq!((view.id, view.name.as_str()), (site.id(), "plant"));
    // What the relay can verify itself is not taken from the gateway.
    assert_ne!(view.words, "these words are a lie");
    assert_eq!(view.trust, "provisional");
    let nodes: Vec<NodeView> = olga.get("/v1/sites/plant/nodes").await.read();
    assert_eq!(nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["host-101", "host-102"]);

    let envelope = site.sign("olga", site.label("r1"), OLGA);
    let view = olga.submit("plant", envelope.clone(), "10s").await;
    assert_eq!(view.state, IntentState::Done, "{view:?}");
    assert!(view.detail.as_ref().unwrap().contains("receipt signed by host-101"), "{view:?}");
    assert!(!view.sentence.is_empty());
    // The same bytes again are the same intent.
    let again = olga.submit("plant", envelope, "10s").await;
    assert_eq!((again.state, again.duplicate), (IntentState::Done, true));
    assert_eq!(agent.took(), 1);
}

#[tokio::test]
async fn t11_a_rejection_is_an_outcome_and_a_stranger_gets_nowhere() {
    let world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    let _agent = FakeAgent::start(&site, 101, &world.url).up().await;
    let vera = Client::log_in(&world, 1, VERA).await;
    // Nobody's signature.
    let forged = site.intent("olga", site.label("r1")).sign(&[&crate::site::key(9, 9)]).unwrap().to_bytes();
    let got = vera.post("/v1/sites/plant/intents", forged).await;
    assert_eq!((got.status.as_u16(), got.code().as_str()), (422, "unsigned"), "{}", got.text());
    // A viewer's.
    let envelope = site.sign("vera", site.label("r1"), VERA);
    let got = vera.post("/v1/sites/plant/intents", envelope).await;
    assert_eq!((got.status.as_u16(), got.code().as_str()), (422, "role"), "{}", got.text());
    // One that only the site can reject: the node is unknown there.
    let unknown = Action::NodeLabel { node: site.node(150), labels: vec![] };
    let view = vera.submit("plant", site.sign("olga", unknown, OLGA), "10s").await;
    assert_eq!(view.state, IntentState::Rejected, "{view:?}");
    assert!(view.reason.is_some());
}

#[tokio::test]
async fn t12_two_doors_agree() {
    let world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    let agent = FakeAgent::start(&site, 101, &world.url).up().await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    let at_site: Vec<NodeView> = qb_portal::Site::nodes(&*agent.door).await.unwrap();
    let at_relay = eventually("a fresh view", || async {
        let got = olga.get("/v1/sites/plant/nodes").await;
        got.status.is_success().then(|| got.read::<Vec<NodeView>>())
    })
    .await;
    assert_eq!(at_site, at_relay);
    let head = olga.get("/v1/sites/plant/head").await.json();
    let own = serde_json::to_value(qb_portal::Site::head(&*agent.door).await.unwrap()).unwrap();
    assert_eq!(head, own);
    // A key revoked at the site ends the session at the relay.
    let vera = Client::log_in(&world, 1, VERA).await;
    assert_eq!(vera.get("/v1/sites").await.status, 200);
    let remove = Action::AdminRemove {
        admin: "vera".parse().unwrap(),
        reason: qb_model::action::RevokeReason::Retired,
    };
    site.must(remove);
    agent.link.changed();
    eventually("the session is over", || async { (vera.get("/v1/sites").await.status == 401).then_some(()) })
        .await;
    assert_eq!(olga.get("/v1/sites").await.status, 200);
}

#[tokio::test]
async fn t13_without_a_receipt_it_is_the_relays_word() {
    let world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    let agent = FakeAgent::with(&site, (101, 1), &world.url, world.key, false).up().await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    let envelope = site.sign("olga", site.label("r1"), OLGA);
    let digest = olga.submit("plant", envelope, "0s").await.digest;
    let path = format!("/v1/sites/plant/intents/{digest}");
    let view = eventually("handed over", || async {
        let view: IntentView = olga.get(&path).await.read();
        view.detail.as_deref().is_some_and(|d| d.contains("handed")).then_some(view)
    })
    .await;
    assert_eq!(view.state, IntentState::Unknown);
    assert!(view.detail.unwrap().starts_with("the relay says: handed to gateway host-101"));
    // The gateway's own "done" changes nothing, in the list neither.
    let all: Vec<IntentView> = olga.get("/v1/sites/plant/intents").await.read();
    assert!(!all.is_empty());
    for view in &all {
        assert_eq!(view.state, IntentState::Unknown, "{view:?}");
        assert!(view.detail.as_ref().unwrap().starts_with("the relay says: "), "{view:?}");
    }
    // A receipt by a key that is on no roster ends the link and settles nothing.
    let mut forged = agent.door.receipt(
        digest,
        qb_model::outcome::Outcome::Accepted { generation: qb_model::Generation(2) },
        9,
    );
    let stranger =
        qb_model::statement::Receipt { node: site.node(150), ..forged.open().unwrap().into_value() };
    forged = qb_model::statement::Statement::sign(&stranger, &crate::site::key(1, 150));
    agent.link.receipt(forged);
    agent.down().await;
    // Nor does one of a node of the roster for another site.
    let good = agent.door.receipt(
        digest,
        qb_model::outcome::Outcome::Accepted { generation: qb_model::Generation(2) },
        9,
    );
    let elsewhere =
        qb_model::statement::Receipt { site: SiteId(Digest([8; 32])), ..good.open().unwrap().into_value() };
    let elsewhere = qb_model::statement::Statement::sign(&elsewhere, &crate::site::key(1, 101));
    let agent = agent.up().await;
    agent.link.receipt(elsewhere);
    agent.down().await;
    let view: IntentView = olga.get(&path).await.read();
    assert_eq!(view.state, IntentState::Unknown);
}
