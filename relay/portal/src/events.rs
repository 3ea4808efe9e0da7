//! The event stream: server-sent events that resume, beat, and end with their session.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::Sse;
use axum::response::sse::{self, KeepAlive};
use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::MissedTickBehavior;

use crate::door::Door;
use crate::extract::{Here, Params, number};
use crate::guard::Caller;
use crate::limits::{EVENT_BEAT, EVENT_RETRY, EVENT_STREAMS, SESSION_LOOK};
use crate::site::Answer;
use crate::view::{Event, Problem};

/// The query of the event stream.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventQuery {
    after: Option<String>,
}

/// Nothing on the way may keep events.
type NotKept = [(HeaderName, &'static str); 1];

/// Events as they happen, each with its number as `id`. Resumes after `Last-Event-ID` or `after`.
#[utoipa::path(get, path = "/v1/sites/{site}/events", tag = "audit",
    params(
        ("after" = Option<u64>, Query, description = "Number of the last event seen; without it, events from now on."),
        ("Last-Event-ID" = Option<u64>, Header, description = "The same, as browsers send it; it wins.")),
    responses((status = 200, body = Event, content_type = "text/event-stream")))]
pub(crate) async fn events(
    State(door): State<Arc<Door>>,
    here: Here,
    query: Params<EventQuery>,
    headers: HeaderMap,
) -> Answer<(NotKept, Sse<impl Stream<Item = Result<sse::Event, Infallible>> + use<>>)> {
    let after = resume(&headers, query.0.after.as_deref())?;
    let room = Arc::clone(&door.streams).try_acquire_owned();
    let room = room.map_err(|_| Problem::busy("event streams", EVENT_STREAMS))?;
    let events = here.site.events(after).await?;
    let stream = Sse::new(live(events, door, here.caller, room)).keep_alive(beat());
    Ok(([(header::CACHE_CONTROL, "no-store")], stream))
}

/// After which event to go on.
fn resume(headers: &HeaderMap, after: Option<&str>) -> Answer<Option<u64>> {
    let last = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("not text"));
    let (field, text) = match (last, after) {
        (Some(last), _) => ("Last-Event-ID", last),
        (None, Some(after)) => ("after", after),
        (None, None) => return Ok(None),
    };
    number(field, Some(text), 0).map(Some)
}

fn beat() -> KeepAlive {
    KeepAlive::new().interval(EVENT_BEAT).text("beat")
}

/// A first line at once, so that the client knows it is connected; then the events, until the
/// session ends. Holds its room as long as it lives.
fn live(
    events: BoxStream<'static, Event>,
    door: Arc<Door>,
    caller: Caller,
    room: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    let open = sse::Event::default().retry(EVENT_RETRY).comment("open");
    let lines = events.map(move |event| {
        let _room = &room;
        line(&event)
    });
    stream::iter([open]).chain(lines).take_until(ended(door, caller)).map(Ok)
}

fn line(event: &Event) -> sse::Event {
    // A line break in a kind would be a field of its own.
    let plain = |b: u8| b.is_ascii_lowercase() || b == b'-';
    let kind = if event.kind.bytes().all(plain) { &event.kind } else { "event" };
    let data = serde_json::to_string(event).unwrap_or_default();
    sse::Event::default().id(event.seq.to_string()).event(kind).data(data)
}

/// Ready when the caller's session is over.
async fn ended(door: Arc<Door>, caller: Caller) {
    let mut look = tokio::time::interval(SESSION_LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if !door.still_in(&caller) {
            return;
        }
    }
}
