//! Logging in and out: a challenge, a signed answer, a token. No password exists.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use qb_model::Nonce;
use serde::Deserialize;

use crate::door::{Access, Door};
use crate::error::{code, shown};
use crate::extract::{Here, SignedLogin, parse};
use crate::guard::{Caller, Shown};
use crate::limits::{SESSION_IDLE, SESSION_MAX};
use crate::mirror;
use crate::session::nonce_problem;
use crate::site::{Answer, LoginExpected};
use crate::view::{LoginChallenge, LoginView, Problem};

/// Begins a login: what `login.v1` must sign.
#[utoipa::path(get, path = "/v1/login", tag = "login",
    responses((status = 200, body = LoginChallenge)))]
pub(crate) async fn challenge(State(door): State<Arc<Door>>) -> Shown<LoginChallenge> {
    let origins = origins(&door)?.to_vec();
    let (nonce, server_key) = (door.sessions.challenge()?, door.config.server_key);
    Ok(Json(LoginChallenge { v: 1, nonce, server_key, origins }))
}

/// Logs in with the envelope of a `login.v1`, signed by a key of an admin.
#[utoipa::path(post, path = "/v1/login", tag = "login",
    request_body(content = mirror::Envelope, content_type = "application/json", description = "The envelope, at most 8 KiB."),
    responses((status = 200, body = LoginView)))]
pub(crate) async fn login(
    State(door): State<Arc<Door>>,
    headers: HeaderMap,
    envelope: SignedLogin,
) -> Shown<LoginView> {
    let expected = expected(&door, &headers, &envelope.0)?;
    let login = door.site.verify_login(envelope.0, expected).await?;
    let token = door.sessions.open(login.clone())?;
    tracing::debug!(admin = %login.admin, key = %login.key, "session opened");
    let (idle_ms, max_ms) = (SESSION_IDLE.as_secs() * 1_000, SESSION_MAX.as_secs() * 1_000);
    let (admin, role, key) = (login.admin, login.role, login.key);
    Ok(Json(LoginView { v: 1, token, admin, role, key, idle_ms, max_ms }))
}

/// Ends the session that asks.
#[utoipa::path(delete, path = "/v1/login", tag = "login",
    responses((status = 204, description = "The session is over.")))]
pub(crate) async fn logout(State(door): State<Arc<Door>>, here: Here) -> StatusCode {
    if let Caller::Session(key, _) = &here.caller {
        door.sessions.close(key);
    }
    StatusCode::NO_CONTENT
}

/// The origins of a door that has a login.
fn origins(door: &Door) -> Answer<&[String]> {
    match &door.config.access {
        Access::Network { origins, .. } => Ok(origins),
        Access::Local => {
            let detail = "This door is the local socket: it needs no login.";
            let status = StatusCode::NOT_FOUND;
            Err(Problem::new(code::NO_LOGIN, status, "No login here", detail, "just ask"))
        }
    }
}

/// What the payload claims. Only used to find the nonce and the origin that it must match.
#[derive(Deserialize)]
struct Claims {
    origin: String,
    nonce: String,
}

/// Finds what the login must say, and uses its nonce up: whatever comes of it, the nonce is gone.
fn expected(door: &Door, headers: &HeaderMap, envelope: &Bytes) -> Answer<LoginExpected> {
    let origins = origins(door)?;
    let claims = claims(envelope)?;
    let nonce: Nonce = parse("nonce", &claims.nonce, "take it from GET /v1/login")?;
    if !door.sessions.use_nonce(&nonce) {
        return Err(nonce_problem());
    }
    let page = headers.get(header::ORIGIN).map(|origin| origin.as_bytes());
    let same_page = page.is_none_or(|page| page == claims.origin.as_bytes());
    match origins.iter().find(|origin| **origin == claims.origin && same_page) {
        Some(origin) => {
            let (origin, server_key) = (origin.clone(), door.config.server_key);
            Ok(LoginExpected { origin, server_key, nonce })
        }
        None => {
            let detail = format!("The login is for {}, not this door.", shown(&claims.origin));
            let remedy = format!("log in at {}", origins.join(" or "));
            Err(Problem::refused(code::LOGIN_ORIGIN, detail, remedy))
        }
    }
}

/// Looks into an envelope that nothing is known of yet.
fn claims(envelope: &[u8]) -> Answer<Claims> {
    #[derive(Deserialize)]
    struct Outer {
        payload: String,
    }
    let remedy = "send the envelope of a login.v1";
    let outer: Outer = serde_json::from_slice(envelope)
        .map_err(|e| Problem::malformed("The login's envelope", e, remedy))?;
    let payload =
        STANDARD.decode(outer.payload).map_err(|e| Problem::malformed("The login's payload", e, remedy))?;
    serde_json::from_slice(&payload).map_err(|e| Problem::malformed("The login's payload", e, remedy))
}
