//! Tenants (S72): what others have is as unknown as what nobody has.

use axum::http::Method;
use bytes::Bytes;
use qb_model::{Digest, SiteId};
use qb_portal::router::ROUTES;
use qb_portal::view::{LoginChallenge, SiteView};

use crate::agent::FakeAgent;
use crate::client::Client;
use crate::site::{FakeSite, OLGA};
use crate::world::World;

fn filled(path: &str, site: &str) -> String {
    let path = path.replace("{site}", site).replace("{node}", "host-101").replace("{name}", "blue");
    path.replace("{id}", "01ARZ3NDEKTSV4RRFFQ69G5FAV")
}

#[tokio::test]
async fn t40_every_route_answers_for_anothers_site_as_for_none() {
    let world = World::new().await;
    let plant = world.site(1, "plant", "acme").await;
    let mill = world.site(2, "mill", "bolt").await;
    let _agents = (
        FakeAgent::start(&plant, 101, &world.url).up().await,
        FakeAgent::start(&mill, 101, &world.url).up().await,
    );
    let a = Client::log_in(&world, 1, OLGA).await;
    let names: Vec<SiteView> = a.get("/v1/sites").await.read();
    assert_eq!(names.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["plant"]);
    let random = SiteId(Digest([77; 32])).to_string();
    let mut walked = 0;
    for (method, path) in ROUTES.iter().filter(|(_, path)| path.contains("{site}")) {
        for (theirs, nobodys) in [(mill.id().to_string(), random.clone()), ("mill".into(), "milk".into())] {
            let method: Method = method.to_uppercase().parse().unwrap();
            let body = if path.ends_with("bundles") { "" } else { "{}" };
            let got = a.ask(method.clone(), &filled(path, &theirs), Bytes::from(body)).await;
            let none = a.ask(method.clone(), &filled(path, &nobodys), Bytes::from(body)).await;
            assert_eq!(got.status, none.status, "{method} {path}");
            assert_eq!(
                got.text().replace(&theirs, "X"),
                none.text().replace(&nobodys, "X"),
                "{method} {path}"
            );
            assert!(got.status.is_client_error(), "{method} {path} {}", got.status);
            walked += 1;
        }
    }
    assert!(walked > 30);
}

#[tokio::test]
async fn t41_a_site_is_registered_by_its_owner_only() {
    let world = World::new().await;
    let mill = world.site(2, "mill", "bolt").await;
    // Somebody knows charter, trust log and id, and signs with a key of their own.
    let mut stolen = mill.registration("acme");
    let action = qb_model::action::Action::RelayRegister { org: "acme".parse().unwrap(), key: world.key };
    let intent = mill.intent("olga", action);
    stolen.intent =
        String::from_utf8(intent.sign(&[&crate::site::key(1, OLGA)]).unwrap().to_bytes()).unwrap();
    let stranger = Client::stranger(&world.authority);
    let got = stranger.post("/v1/register", serde_json::to_vec(&stolen).unwrap()).await;
    assert_eq!((got.status.as_u16(), got.code().as_str()), (422, "registration"), "{}", got.text());
    // A viewer's signature is not an owner's.
    let mut viewer = mill.registration("bolt");
    let action = qb_model::action::Action::RelayRegister { org: "bolt".parse().unwrap(), key: world.key };
    viewer.intent = String::from_utf8(mill.sign("vera", action, crate::site::VERA)).unwrap();
    assert_eq!(stranger.post("/v1/register", serde_json::to_vec(&viewer).unwrap()).await.status, 422);
    // Nor is an owner's intent for another relay, which the site trusts as well, one for this.
    let second = crate::site::public(2, 251);
    mill.must(qb_model::action::Action::RelayAdd { url: "https://second.example".into(), key: second });
    let mut elsewhere = mill.registration("bolt");
    let action = qb_model::action::Action::RelayRegister { org: "bolt".parse().unwrap(), key: second };
    elsewhere.intent = String::from_utf8(mill.sign("olga", action, OLGA)).unwrap();
    let got = stranger.post("/v1/register", serde_json::to_vec(&elsewhere).unwrap()).await;
    assert_eq!(got.status, 422, "{}", got.text());
    // Nor may a site register that does not trust this relay.
    let other = FakeSite::founded(3, "other", &world.url, crate::site::public(3, 250));
    assert_eq!(world.register(&other, "acme").await.status, 422);
    // An org belongs to whose owners founded it.
    let plant = FakeSite::founded(1, "plant", &world.url, world.key);
    let got = world.register(&plant, "bolt").await;
    assert_eq!(got.status, 422, "{}", got.text());
    // Truncated: the last entry of the trust log is gone, which a validly signed log cannot show,
    // but what the relay has verified already it keeps.
    let mut short = mill.registration("bolt");
    short.trust.clear();
    let got = stranger.post("/v1/register", serde_json::to_vec(&short).unwrap()).await;
    assert_eq!(got.status, 422, "{}", got.text());
    assert_eq!(world.register(&mill, "bolt").await.status, 201);
}

#[tokio::test]
async fn t42_a_login_is_for_this_door_and_for_known_keys() {
    let world = World::new().await;
    let _plant = world.site(1, "plant", "acme").await;
    let client = Client::stranger(&world.authority);
    let got = client.try_log_in("https://relay.other", 1, OLGA).await;
    assert_eq!((got.status.as_u16(), got.code().as_str()), (422, "login_origin"));
    let got = client.try_log_in(&world.url, 5, OLGA).await;
    assert_eq!((got.status.as_u16(), got.code().as_str()), (422, "login"));
    assert_eq!(client.get("/v1/sites").await.status, 401);
    let wrong = client.ask(Method::GET, "/v1/link", Bytes::new()).await;
    assert_eq!(wrong.status, 426);
}

/// A relay in the middle hands out another's challenge as its own. What is signed then names the relay
/// that was connected to, and the other takes none of it.
#[tokio::test]
async fn t44_a_challenge_of_another_relay_is_worth_nothing() {
    let (here, there) = (World::new().await, World::new().await);
    let _site = there.site(1, "plant", "acme").await;
    let client = Client::stranger(&there.authority);
    let cases = [
        (&here.url, here.key, Some("login_origin")),
        (&there.url, here.key, Some("login")),
        (&here.url, there.key, Some("login_origin")),
        (&there.url, there.key, None),
    ];
    for (origin, server, refused) in cases {
        let challenge: LoginChallenge = client.get("/v1/login").await.read();
        let got = client.answer(challenge.nonce, origin, server, 1, OLGA).await;
        match refused {
            Some(code) => assert_eq!(got.code(), code, "{origin} {server}: {}", got.text()),
            None => assert!(got.status.is_success(), "{}", got.text()),
        }
    }
    // And a challenge that was never given out there.
    let challenge: LoginChallenge = Client::stranger(&here.authority).get("/v1/login").await.read();
    let got = client.answer(challenge.nonce, &there.url, there.key, 1, OLGA).await;
    assert!(got.code().ends_with("login_nonce"), "{}", got.text());
}

#[tokio::test]
async fn t43_the_enrolment_file_holds_what_is_known_and_no_token() {
    let world = World::new().await;
    let plant = world.site(1, "plant", "acme").await;
    let _agent = FakeAgent::start(&plant, 101, &world.url).up().await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    olga.get("/v1/sites/plant/nodes").await;
    let got = olga.get("/enroll/plant").await.json();
    let members: Vec<&String> = got.as_object().unwrap().keys().collect();
    assert_eq!(members, ["charter", "relays", "seeds", "v"]);
    assert_eq!(got["relays"][0]["key"], world.key.to_string());
    let charter = qb_model::charter::Charter::verify(got["charter"].to_string().as_bytes());
    assert_eq!(charter.unwrap().site_id(), plant.id());
    assert_eq!(Client::stranger(&world.authority).get("/enroll/plant").await.status, 401);
}
