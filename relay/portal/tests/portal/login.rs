//! Logging in and out, and how sessions end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::http::Method;
use qb_portal::limits::{NONCES, SESSIONS_KEY};
use serde_json::{Value, json};
use tokio::time::advance;

use crate::ask::{Got, ORIGIN, ask, envelope, get, log_in, network, post};
use crate::stub::{Stub, server_key};

async fn nonce(door: &Router) -> Value {
    let got = get("/v1/login").host().send(door).await.json();
    assert_eq!(got["origins"], json!([ORIGIN]));
    assert_eq!(got["server_key"], server_key().to_string());
    assert_eq!(got["nonce"].as_str().unwrap().len(), 43);
    got["nonce"].clone()
}

fn payload(nonce: &Value) -> Value {
    json!({ "origin": ORIGIN, "nonce": nonce, "server_key": server_key().to_string(), "key": 1 })
}

async fn answer(door: &Router, payload: &Value) -> Got {
    post("/v1/login", envelope(payload)).host().send(door).await
}

async fn status(door: &Router, token: &str) -> u16 {
    get("/v1/sites").bearer(token).send(door).await.status.as_u16()
}

#[tokio::test]
async fn round_trip() {
    let door = network(&Stub::new());
    let got = answer(&door, &payload(&nonce(&door).await)).await.json();
    assert_eq!((&got["admin"], &got["role"]), (&json!("mira"), &json!("owner")));
    assert_eq!((&got["idle_ms"], &got["max_ms"]), (&json!(3_600_000), &json!(28_800_000)));
    let token = got["token"].as_str().unwrap();
    assert_eq!(token.len(), 43);
    assert_eq!(status(&door, token).await, 200);
    let out = ask(Method::DELETE, "/v1/login").bearer(token).send(&door).await;
    assert_eq!(out.status, 204);
    assert_eq!(status(&door, token).await, 401);
}

#[tokio::test]
async fn a_nonce_is_good_once() {
    let door = network(&Stub::new());
    let nonce = nonce(&door).await;
    assert_eq!(answer(&door, &payload(&nonce)).await.status, 200);
    assert_eq!(answer(&door, &payload(&nonce)).await.problem().1, "login_nonce");
}

#[tokio::test]
async fn a_refused_login_uses_its_nonce_up() {
    let door = network(&Stub::new());
    let nonce = nonce(&door).await;
    let mut wrong = payload(&nonce);
    wrong["server_key"] = json!("another");
    assert_eq!(answer(&door, &wrong).await.problem().1, "login_server");
    assert_eq!(answer(&door, &payload(&nonce)).await.problem().1, "login_nonce");
}

#[tokio::test(start_paused = true)]
async fn a_nonce_lives_two_minutes() {
    let door = network(&Stub::new());
    let (young, old) = (nonce(&door).await, nonce(&door).await);
    advance(Duration::from_secs(119)).await;
    assert_eq!(answer(&door, &payload(&young)).await.status, 200);
    advance(Duration::from_secs(1)).await;
    assert_eq!(answer(&door, &payload(&old)).await.problem().1, "login_nonce");
}

#[tokio::test]
async fn nonces_are_bounded() {
    let door = network(&Stub::new());
    let first = nonce(&door).await;
    let second = nonce(&door).await;
    for _ in 0..NONCES - 1 {
        nonce(&door).await;
    }
    assert_eq!(answer(&door, &payload(&first)).await.problem().1, "login_nonce");
    assert_eq!(answer(&door, &payload(&second)).await.status, 200);
}

#[tokio::test]
async fn another_doors_login_is_refused() {
    let door = network(&Stub::new());
    let mut foreign = payload(&nonce(&door).await);
    foreign["origin"] = json!("https://evil.test");
    let got = answer(&door, &foreign).await.problem();
    assert_eq!(got.1, "login_origin");
    assert!(got.2.contains("https://evil.test"), "{}", got.2);
}

#[tokio::test]
async fn malformed_logins_are_refused() {
    let door = network(&Stub::new());
    let mut short = payload(&nonce(&door).await);
    short["nonce"] = json!("AAAA");
    assert_eq!(answer(&door, &short).await.problem().1, "bad_field");
    for body in ["", "{}", "{\"payload\":\"!\"}", "{\"payload\":\"e30=\"}", "[1]"] {
        let got = post("/v1/login", body).host().send(&door).await.problem();
        assert_eq!((got.0, got.1.as_str()), (400, "bad_field"), "{body}");
    }
    let large = post("/v1/login", vec![b' '; 9_000]).host().send(&door).await;
    assert_eq!(large.problem().0, 413);
    let form = post("/v1/login", "{}").typed("text/plain").host().send(&door).await;
    assert_eq!(form.problem().0, 415);
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_when_idle() {
    let door = network(&Stub::new());
    let token = log_in(&door, 1).await;
    advance(Duration::from_secs(3_599)).await;
    assert_eq!(status(&door, &token).await, 200);
    advance(Duration::from_secs(3_600)).await;
    let got = get("/v1/sites").bearer(&token).send(&door).await.problem();
    assert_eq!((got.1.as_str(), got.2.as_str()), ("session_ended", "The session was idle for an hour."));
    assert_eq!(get("/v1/sites").bearer(&token).send(&door).await.problem().1, "unauthorized");
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_after_eight_hours() {
    let door = network(&Stub::new());
    let token = log_in(&door, 1).await;
    for _ in 0..15 {
        advance(Duration::from_secs(1_800)).await;
        assert_eq!(status(&door, &token).await, 200);
    }
    advance(Duration::from_secs(1_800)).await;
    assert_eq!(get("/v1/sites").bearer(&token).send(&door).await.problem().1, "session_ended");
}

#[tokio::test]
async fn a_session_dies_with_its_key() {
    let site = Stub::new();
    let door = network(&site);
    let token = log_in(&door, 1).await;
    site.alive.store(false, Ordering::SeqCst);
    assert_eq!(get("/v1/sites").bearer(&token).send(&door).await.problem().1, "session_ended");
    site.alive.store(true, Ordering::SeqCst);
    assert_eq!(status(&door, &token).await, 401);
}

#[tokio::test(start_paused = true)]
async fn sessions_of_a_key_are_bounded() {
    let door = network(&Stub::new());
    let other = log_in(&door, 2).await;
    let mut tokens = Vec::new();
    for _ in 0..SESSIONS_KEY {
        advance(Duration::from_secs(1)).await;
        tokens.push(log_in(&door, 1).await);
    }
    advance(Duration::from_secs(1)).await;
    // The first is used, so that the second is the idlest.
    assert_eq!(status(&door, &tokens[0]).await, 200);
    log_in(&door, 1).await;
    assert_eq!(status(&door, &tokens[0]).await, 200);
    assert_eq!(status(&door, &tokens[1]).await, 401);
    assert_eq!(status(&door, &other).await, 200);
}
