//! The upgrade of a connection to a link.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::TokioIo;
use qb_link::ws::{PATH, WsIo, accept_key};
use qb_portal::view::Problem;

use super::session;
use crate::limits::GREETING;
use crate::relay::Relay;

/// The route of links.
pub(crate) fn routes() -> Router<Arc<Relay>> {
    Router::new().route(PATH, get(upgrade))
}

async fn upgrade(State(relay): State<Arc<Relay>>, mut request: Request) -> Result<Response, Problem> {
    let key = websocket_key(request.headers())?;
    let room = Arc::clone(&relay.greeting).try_acquire_owned();
    let room = room.map_err(|_| Problem::busy("links being greeted", GREETING))?;
    let upgrading = hyper::upgrade::on(&mut request);
    let shared = Arc::clone(&relay);
    relay.tasks.spawn(async move {
        match upgrading.await {
            Ok(io) => session::serve(shared, WsIo::server(TokioIo::new(io)).await, room).await,
            Err(error) => tracing::debug!(%error, "a link's connection was not upgraded"),
        }
    });
    let headers = [
        (header::CONNECTION, "upgrade".to_owned()),
        (header::UPGRADE, "websocket".to_owned()),
        (header::SEC_WEBSOCKET_ACCEPT, accept_key(&key)),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// The key of a WebSocket's request. A browser's page has an origin, an agent has none.
fn websocket_key(headers: &HeaderMap) -> Result<String, Problem> {
    let has = |name: header::HeaderName, word: &str| {
        let value = headers.get(&name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    let version = headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|v| v == "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).and_then(|v| v.to_str().ok()).filter(|k| k.len() == 24);
    let plain = !headers.contains_key(header::ORIGIN);
    match key {
        Some(key)
            if version
                && plain
                && has(header::CONNECTION, "upgrade")
                && has(header::UPGRADE, "websocket") =>
        {
            Ok(key.to_owned())
        }
        _ => {
            let detail = "This path is for the links of agents: a WebSocket, version 13, from no page.";
            let status = StatusCode::UPGRADE_REQUIRED;
            Err(Problem::new("not_a_link", status, "Not a link", detail, "people use the API or the portal"))
        }
    }
}
