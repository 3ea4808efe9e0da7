//! The event stream: its form, how it resumes, how it ends.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::BodyDataStream;
use axum::response::Response;
use futures::StreamExt as _;
use qb_portal::limits::EVENT_STREAMS;
use qb_portal::paths;

use crate::ask::{get, local, log_in, network};
use crate::stub::{Asked, Stub, event};

/// Reads until `lines` blocks are there.
async fn blocks(response: Response, count: usize) -> (Vec<String>, BodyDataStream) {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let mut body = response.into_body().into_data_stream();
    let mut text = String::new();
    while text.matches("\n\n").count() < count {
        text += std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap();
    }
    (text.split_terminator("\n\n").map(str::to_owned).collect(), body)
}

#[tokio::test]
async fn events_have_number_kind_and_data() {
    let response = get(paths::events("lyon", Some(7))).open(&local(&Stub::new())).await;
    let (blocks, _) = blocks(response, 3).await;
    assert_eq!(blocks[0], "retry: 2000\n: open");
    let data = serde_json::to_string(&event(8)).unwrap();
    assert_eq!(blocks[1], format!("id: 8\nevent: node\ndata: {data}"));
    assert!(blocks[2].starts_with("id: 9\nevent: event\ndata: {"), "{}", blocks[2]);
    assert_eq!(blocks[2].lines().count(), 3);
}

#[tokio::test]
async fn a_stream_resumes_where_it_ended() {
    let site = Stub::new();
    let door = local(&site);
    for (ask, after) in [
        (get(paths::events("lyon", None)), None),
        (get(paths::events("lyon", Some(3))), Some(3)),
        (get(paths::events("lyon", None)).with("last-event-id", "5"), Some(5)),
        (get(paths::events("lyon", Some(3))).with("last-event-id", "5"), Some(5)),
    ] {
        drop(ask.open(&door).await);
        assert_eq!(site.asked(), [Asked::Events(after)]);
    }
    let bad = get(paths::events("lyon", None)).with("last-event-id", "x").send(&door).await;
    assert!(bad.problem().2.contains("Last-Event-ID is \"x\""));
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_beats() {
    let response = get(paths::events("lyon", None)).open(&local(&Stub::new())).await;
    let (blocks, _) = blocks(response, 3).await;
    assert_eq!(blocks[1..], [": beat", ": beat"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_session() {
    let site = Stub::new();
    let door = network(&site);
    let token = log_in(&door, 1).await;
    let response = get(paths::events("lyon", Some(8))).bearer(&token).open(&door).await;
    let (_, mut rest) = blocks(response, 2).await;
    site.alive.store(false, Ordering::SeqCst);
    let begun = tokio::time::Instant::now();
    while let Some(beat) = rest.next().await {
        assert!(beat.unwrap().starts_with(b": beat"));
    }
    // By the test's own clock: who lost a key hears nothing after 5 s at any door.
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn an_open_stream_does_not_keep_a_session() {
    let door = network(&Stub::new());
    let token = log_in(&door, 1).await;
    let response = get(paths::events("lyon", None)).bearer(&token).open(&door).await;
    let begun = tokio::time::Instant::now();
    let mut body = response.into_body().into_data_stream();
    while body.next().await.is_some() {}
    assert!((3_600..3_630).contains(&begun.elapsed().as_secs()));
}

#[tokio::test]
async fn streams_are_bounded_and_give_their_room_back() {
    let door = local(&Stub::new());
    let mut open = Vec::new();
    for _ in 0..EVENT_STREAMS {
        open.push(get(paths::events("lyon", None)).open(&door).await);
    }
    assert_eq!(get(paths::events("lyon", None)).send(&door).await.problem().1, "busy");
    open.pop();
    assert_eq!(get(paths::events("lyon", None)).open(&door).await.status(), 200);
}
