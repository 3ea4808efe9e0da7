//! Requests of the page, passed on to the site's door, and answers, passed back as they come.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use qb_portal::Answer;
use qb_portal::limits::{BODY_DEADLINE, PLAN_BYTES};
use qb_portal::view::Problem;

use super::Portal;
use crate::error::{CliError, Exit};

const JSON: &str = "application/json";
const OCTETS: &str = "application/octet-stream";

/// Bytes of a bundle that a page pushes: pages push none today, `qb bundle push` does.
const PUSH_BYTES: usize = 48 << 20;

/// Reads a body of at most `limit` bytes, of the wanted type.
///
/// # Errors
/// Another type, too long, or too slow.
pub(super) async fn body(request: Request, kind: &str, limit: usize, within: Duration) -> Answer<Bytes> {
    let found = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let bare = found.and_then(|f| f.split(';').next()).map(str::trim);
    if bare != Some(kind) {
        return Err(Problem::content_type(found, kind));
    }
    let read = Limited::new(request.into_body(), limit).collect();
    let read = tokio::time::timeout(within, read).await;
    let read = read.map_err(|_| Problem::slow_body("The request", within.as_secs()))?;
    Ok(read.map_err(|_| Problem::too_large("The request", limit as u64))?.to_bytes())
}

/// Passes a request on.
pub(super) async fn forward(State(portal): State<Arc<Portal>>, request: Request) -> Answer<Response> {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let path = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let (kind, bytes) = match method {
        Method::GET => {
            let accept = request.headers().get(ACCEPT).and_then(|v| v.to_str().ok());
            let stream = accept.is_some_and(|a| a.contains("text/event-stream"));
            (if stream { "text/event-stream" } else { JSON }, Bytes::new())
        }
        Method::POST if uri.path().ends_with("/bundles") => {
            (OCTETS, body(request, OCTETS, PUSH_BYTES, BODY_DEADLINE).await?)
        }
        // A question to the planner is the longest.
        Method::POST => (JSON, body(request, JSON, PLAN_BYTES, BODY_DEADLINE).await?),
        _ => return Err(Problem::method_not_allowed(method.as_str(), uri.path())),
    };
    let client = portal.client().await;
    let first = client.forward(method.clone(), &path, kind, bytes.clone()).await;
    let again = match &first {
        Ok(answer) => answer.status() == StatusCode::UNAUTHORIZED,
        // What was sent may have arrived; a question can be asked twice.
        Err(error) => error.exit == Exit::Unreachable && method == Method::GET,
    };
    if !again {
        return first.map(back).map_err(problem);
    }
    let client = portal.renew(&client).await.map_err(problem)?;
    client.forward(method, &path, kind, bytes).await.map(back).map_err(problem)
}

/// The door's answer, as it comes. Its headers are about its own connection.
fn back(answer: hyper::Response<Incoming>) -> Response {
    let (parts, body) = answer.into_parts();
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = parts.status;
    if let Some(kind) = parts.headers.get(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, kind.clone());
    }
    response
}

/// An error of this program as the page shows it.
pub(super) fn problem(error: CliError) -> Problem {
    if let Some(problem) = error.problem {
        return *problem;
    }
    let remedy = error.remedy.unwrap_or_else(|| "qb doctor".to_owned());
    match error.exit {
        Exit::Unreachable => Problem::unavailable("The site", error.text, &remedy),
        _ => Problem::refused("refused", error.text, remedy),
    }
}
