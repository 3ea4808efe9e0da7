//! Every route that takes something.

use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::stream::{self, StreamExt as _};
use qb_model::NodeId;
use qb_portal::limits::{BUNDLE_BYTES, ENVELOPE_BYTES, PLAN_BYTES, UPLOADS};
use qb_portal::paths;
use qb_portal::view::IntentState;
use serde_json::json;

use crate::ask::{SITE, get, local, post};
use crate::stub::{Asked, Stub};

#[tokio::test]
async fn an_intent_goes_through_byte_by_byte() {
    let site = Stub::new();
    let door = local(&site);
    let bytes = b"{ \"payload\" : \"odd\\u0041\"}  \n";
    let path = paths::submit("lyon", Duration::from_secs(10));
    let got = post(path, bytes.as_slice()).send(&door).await;
    assert_eq!((got.status.as_u16(), &got.json()["state"]), (200, &json!("done")));
    let sent = Bytes::from_static(bytes);
    assert_eq!(site.asked(), [Asked::Submit(sent, Duration::from_secs(10))]);
}

#[tokio::test]
async fn an_unknown_outcome_is_202() {
    let site = Stub::new();
    let door = local(&site);
    for (state, status) in [
        (IntentState::Held, 202),
        (IntentState::Pending, 202),
        (IntentState::Unknown, 202),
        (IntentState::Doing, 200),
        (IntentState::Rejected, 200),
    ] {
        *site.state.lock().unwrap() = state;
        let got = post(paths::intents("lyon"), "{}").send(&door).await;
        assert_eq!(got.status, status);
    }
}

#[tokio::test]
async fn content_types_are_enforced() {
    let site = Stub::new();
    let door = local(&site);
    for path in ["intents", "plan", "preflight", "bundles"] {
        for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""] {
            let got = post(format!("{SITE}/{path}"), "{}").typed(kind).send(&door).await;
            assert_eq!(got.problem().0, 415, "{path} {kind}");
        }
    }
    let got = post(format!("{SITE}/bundles"), "x").send(&door).await.problem();
    assert!(got.2.contains("application/octet-stream"), "{}", got.2);
    let mut none = post(format!("{SITE}/intents"), "{}");
    none = none.typed("application/json; charset=utf-8");
    assert_eq!(none.send(&door).await.status, 200);
}

/// A body without a length, in small pieces.
fn dripping(size: usize) -> Body {
    let pieces = std::iter::repeat_n(Bytes::from(vec![b' '; 1024]), size / 1024 + 1);
    Body::from_stream(stream::iter(pieces.map(Ok::<_, std::io::Error>)))
}

#[tokio::test]
async fn large_bodies_are_413() {
    let site = Stub::new();
    let door = local(&site);
    let octets = "application/octet-stream";
    for (path, limit, kind) in
        [("intents", ENVELOPE_BYTES, "application/json"), ("plan", PLAN_BYTES, "application/json")]
    {
        let path = format!("{SITE}/{path}");
        let whole = post(&path, vec![b' '; limit + 1]).typed(kind);
        let (status, code, detail) = whole.send(&door).await.problem();
        assert_eq!((status, code.as_str()), (413, "too_large"), "{path}");
        assert!(detail.contains(&limit.to_string()));
        let got = post(&path, dripping(limit)).typed(kind).send(&door).await;
        assert_eq!(got.problem().0, 413);
        let got = post(&path, "").typed(kind).with("content-length", "99999999999").send(&door).await;
        assert_eq!(got.problem().0, 413);
    }
    assert_eq!(site.asked(), []);
    let got = post(format!("{SITE}/intents"), vec![b'x'; ENVELOPE_BYTES]).send(&door).await;
    assert_eq!(got.status, 200);
    // A bundle's pieces pass through: all of them, and not one more than may be.
    let bundles = format!("{SITE}/bundles");
    let piece = Bytes::from(vec![0; 1 << 20]);
    let pieces = |count: u64| {
        let pieces = std::iter::repeat_n(piece.clone(), usize::try_from(count).unwrap());
        Body::from_stream(stream::iter(pieces.map(Ok::<_, std::io::Error>)))
    };
    let whole = BUNDLE_BYTES / (1 << 20);
    assert_eq!(post(&bundles, pieces(whole)).typed(octets).send(&door).await.status, 200);
    assert_eq!(site.asked().last(), Some(&Asked::Push(usize::try_from(whole << 20).unwrap())));
    assert_eq!(post(&bundles, pieces(whole + 1)).typed(octets).send(&door).await.problem().0, 413);
    let got = post(&bundles, "").typed(octets).with("content-length", "99999999999").send(&door).await;
    assert_eq!(got.problem().0, 413);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_comes_is_408() {
    let door = local(&Stub::new());
    let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let got = post(format!("{SITE}/intents"), never).send(&door).await.problem();
    assert_eq!((got.0, got.1.as_str()), (408, "slow_body"));
}

#[tokio::test(start_paused = true)]
async fn bundles_on_their_way_are_few() {
    let site = Stub::new();
    let door = local(&site);
    let send = |body| {
        let ask = post(format!("{SITE}/bundles"), body).typed("application/octet-stream");
        let door = door.clone();
        async move { ask.send(&door).await }
    };
    let never = || Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let mut waiting: Vec<_> = (0..UPLOADS).map(|_| Box::pin(send(never()))).collect();
    for one in &mut waiting {
        assert!(futures::poll!(one.as_mut()).is_pending());
    }
    let got = send(Body::from("x")).await;
    assert_eq!(got.headers["retry-after"], "2");
    assert_eq!(got.problem().1, "busy");
    drop(waiting);
    assert_eq!(send(Body::from("x")).await.status, 200);
}

#[tokio::test]
async fn questions_are_answered() {
    let door = local(&Stub::new());
    let got = post(paths::plan("lyon"), json!({ "payload": "what" }).to_string()).send(&door).await;
    assert_eq!(got.json()["sentence"], "what");
    let nodes = [NodeId([1; 32]), NodeId([2; 32])];
    let body = json!({ "nodes": nodes, "driver": "rehearsal" }).to_string();
    let got = post(paths::preflight("lyon"), body).send(&door).await;
    assert_eq!(got.json()["hosts"], 2);
}

#[tokio::test]
async fn malformed_json_names_the_field() {
    let door = local(&Stub::new());
    let node = NodeId([1; 32]).to_string();
    let cases = [
        ("plan", "".to_owned(), "The body cannot be read: EOF"),
        ("plan", "{".to_owned(), "The body cannot be read"),
        ("plan", "[]x".to_owned(), "cannot be read"),
        ("plan", "{\"payload\":1}".to_owned(), "The field payload cannot be read: invalid type: integer `1`"),
        ("plan", "{\"payload\":\"\"}{}".to_owned(), "trailing characters"),
        ("plan", "{\"payload\":\"\",\"x\":1}".to_owned(), "unknown field `x`"),
        ("plan", "{\"\u{202e}\":1}".to_owned(), "unknown field `\\u{202e}`"),
        ("plan", "{}".to_owned(), "missing field `payload`"),
        (
            "preflight",
            "{\"nodes\":[],\"driver\":\"A\"}".to_owned(),
            "The field driver cannot be read: \"A\" is not a valid name",
        ),
        (
            "preflight",
            format!("{{\"nodes\":[\"{node}\",\"x\"],\"driver\":\"a\"}}"),
            "The field nodes[1] cannot be read: \"x\" is not a valid node id",
        ),
    ];
    for (path, body, words) in cases {
        let got = post(format!("{SITE}/{path}"), body.clone()).send(&door).await.problem();
        assert_eq!((got.0, got.1.as_str()), (400, "bad_field"), "{body}");
        assert!(got.2.contains(words), "{body}: {}", got.2);
    }
    let nodes = vec![NodeId([1; 32]); 1_001];
    let body = json!({ "nodes": nodes, "driver": "rehearsal" }).to_string();
    let got = post(format!("{SITE}/preflight"), body).send(&door).await.problem();
    assert!(got.2.contains("1001 nodes"), "{}", got.2);
}

#[tokio::test]
async fn another_sites_path_takes_nothing() {
    let site = Stub::new();
    let door = local(&site);
    let got = post("/v1/sites/paris/intents", "{}").send(&door).await;
    assert_eq!(got.problem().0, 404);
    assert_eq!(get("/v1/sites/paris/events").send(&door).await.problem().0, 404);
    assert_eq!(site.asked(), []);
    // The stream's body is not even asked for.
    let never = Body::from_stream(stream::once(async { panic!("read") }).map(Ok::<Bytes, std::io::Error>));
    assert_eq!(post("/v1/sites/paris/intents", never).send(&door).await.status, 404);
}
