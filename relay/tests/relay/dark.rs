//! A site whose link is gone: last state with its age, and the alarm.

use std::time::Duration;

use qb_portal::view::{AlertView, NodeView, SiteView};
use qb_relay::Timing;

use crate::agent::FakeAgent;
use crate::client::{Client, eventually};
use crate::site::OLGA;
use crate::world::{World, timing};

#[tokio::test]
async fn t60_a_dark_site_shows_its_last_state_and_since_when() {
    let mut world = World::with(Timing { dark: Duration::from_millis(300), ..timing() }).await;
    let site = world.site(1, "plant", "acme").await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    // Before the first link there is nothing to show but that.
    let view: SiteView = olga.get("/v1/sites/plant").await.read();
    assert_eq!(view.waiting_on[0].code, "relay.stale");
    assert_eq!(olga.get("/v1/sites/plant/nodes").await.status, 503);
    let agent = FakeAgent::start(&site, 101, &world.url).up().await;
    let head = eventually("the views are read", || async {
        let got = olga.get("/v1/sites/plant/head").await;
        got.status.is_success().then(|| got.json())
    })
    .await;
    eventually("all views are kept", || async {
        let view: Vec<SiteView> = olga.get("/v1/sites").await.read();
        (view[0].waiting_on.is_empty() && olga.get("/v1/sites/plant/nodes").await.status == 200).then_some(())
    })
    .await;
    let proof = eventually("what voters signed is read", || async {
        let got = olga.get("/v1/sites/plant/attestation").await;
        got.status.is_success().then(|| got.json())
    })
    .await;
    assert!(proof["why"].is_null() && proof["founding"].is_string(), "{proof}");
    drop(agent);
    let dark = |alerts: &[AlertView]| alerts.iter().any(|a| a.rule == "site-dark");
    eventually("the alarm", || async {
        let alerts: Vec<AlertView> = olga.get("/v1/sites/plant/alerts").await.read();
        dark(&alerts).then_some(())
    })
    .await;
    assert_eq!(olga.get("/v1/sites/plant/head").await.json(), head);
    // The same proof, and why there is no newer one: whoever reads it tells its age by the signed time.
    let late = olga.get("/v1/sites/plant/attestation").await.json();
    assert_eq!((&late["founding"], &late["trust"]), (&proof["founding"], &proof["trust"]));
    assert_eq!(late["why"], "the relay has no link to the site");
    let nodes: Vec<NodeView> = olga.get("/v1/sites/plant/nodes").await.read();
    assert!(nodes.iter().all(|n| n.report_age_ms > Some(5)), "reports grow older");
    // The same after a restart, from the database.
    eventually("kept in the database", || async {
        let kept = std::fs::read(world.dir().join("relay.sqlite-wal")).unwrap_or_default();
        (!kept.is_empty()).then_some(())
    })
    .await;
    world.restart().await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    let view: SiteView = olga.get("/v1/sites/plant").await.read();
    assert_eq!(view.waiting_on[0].code, "relay.stale");
    assert_eq!(view.head.index, head["index"].as_u64().unwrap());
    // With a link again the alarm is over.
    let _agent = FakeAgent::with(&site, (101, 2), &world.url, world.key, true).up().await;
    eventually("no alarm", || async {
        let alerts: Vec<AlertView> = olga.get("/v1/sites/plant/alerts").await.read();
        (!dark(&alerts)).then_some(())
    })
    .await;
    let view: SiteView = olga.get("/v1/sites/plant").await.read();
    assert!(view.waiting_on.is_empty());
}

#[tokio::test]
async fn t61_events_reach_whoever_reads_at_the_relay() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    let agent = FakeAgent::start(&site, 101, &world.url).up().await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    let mut tcp = tokio::net::TcpStream::connect(&world.authority).await.unwrap();
    let ask = format!(
        "GET /v1/sites/plant/events HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\r\n",
        world.authority,
        olga.token()
    );
    tcp.write_all(ask.as_bytes()).await.unwrap();
    let mut text = String::new();
    let read = async {
        let mut bytes = [0; 4096];
        while !text.contains("host-101 is silent") {
            let count = tcp.read(&mut bytes).await.unwrap();
            assert!(count > 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&bytes[..count]));
            // Once somebody listens, something happens.
            agent.link.event(qb_model::Millis(5), "alert", "host-101", "host-101 is silent");
        }
    };
    tokio::time::timeout(Duration::from_secs(10), read).await.unwrap();
    assert!(text.contains("event: alert"), "{text}");
}
