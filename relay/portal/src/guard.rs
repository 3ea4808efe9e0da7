//! What every request passes before a handler sees it, from the outside in: the deadline and the
//! headers of the answer, the host, the origin, the session.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use qb_model::action::Role;

use crate::door::{Access, Door};
use crate::error::{PROBLEM_TYPE, code, shown};
use crate::limits::{ANSWER_DEADLINE, UPLOAD_ANSWER};
use crate::session::TokenHash;
use crate::site::{Answer, LoginOk};
use crate::view::Problem;

/// What a page of the web UI may do.
pub(crate) const PAGE_CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; require-trusted-types-for 'script'";
/// What an answer of the API may do, should a browser take it for a page: nothing.
const API_CSP: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Who asks. Put into every request that passed [`session`]; a handler cannot run without.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// Somebody at the local socket.
    Local,
    /// An admin with a session.
    Session(TokenHash, LoginOk),
}

impl Caller {
    /// Refuses a session whose role is below `need`. At the local door files' modes decide.
    pub(crate) fn needs(&self, need: Role, what: &str) -> Answer<()> {
        match self {
            Self::Session(_, login) if login.role < need => {
                Err(Problem::role(what, role_word(login.role), role_word(need)))
            }
            _ => Ok(()),
        }
    }
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Owner => "owner",
    }
}

/// Outermost: the host, a deadline, and the security headers on whatever is answered.
pub(crate) async fn door(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    within(&door.config.access, request, next).await
}

/// The same around a router that has no [`Door`].
pub(crate) async fn outside(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    within(&access, request, next).await
}

async fn within(access: &Access, request: Request, next: Next) -> Response {
    // Before anybody looked at it: a bundle has bounds of its own, and needs a role and room.
    let upload = request.method() == Method::POST && request.uri().path().ends_with("/bundles");
    let limit = if upload { UPLOAD_ANSWER } else { ANSWER_DEADLINE };
    let answer = async {
        check_host(access, &request)?;
        Ok(next.run(request).await)
    };
    let timed_out = || Problem::timed_out("This door", limit.as_secs());
    let mut response = match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer.unwrap_or_else(Problem::into_response),
        Err(_) => timed_out().into_response(),
    };
    secure(response.headers_mut());
    response
}

/// Sets what the answer does not set itself.
fn secure(headers: &mut HeaderMap) {
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, API_CSP),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// Around the web UI: pages get a policy of their own. A problem is no page.
pub(crate) async fn page(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM_TYPE) {
        return response;
    }
    let policy = HeaderValue::from_static(PAGE_CSP);
    response.headers_mut().entry(header::CONTENT_SECURITY_POLICY).or_insert(policy);
    response
}

/// A name that an attacker made resolve to this machine is not in the list.
fn check_host(access: &Access, request: &Request) -> Answer<()> {
    let Access::Network { hosts, .. } = access else {
        return Ok(());
    };
    let known = |host: &str| hosts.iter().any(|h| h.eq_ignore_ascii_case(host));
    let host = only(request.headers(), &header::HOST);
    let target = request.uri().authority().is_none_or(|a| known(a.as_str()));
    match host {
        Some(host) if known(host) && target => Ok(()),
        host => {
            let detail = format!("This door is not {}.", shown(host.unwrap_or_default()));
            let remedy = format!("use one of its addresses: {}", hosts.join(", "));
            let status = StatusCode::MISDIRECTED_REQUEST;
            Err(Problem::new(code::HOST, status, "Wrong host", detail, remedy))
        }
    }
}

/// The value of a header that occurs exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// Around the API: pages of other origins get nothing. No CORS header is ever sent.
pub(crate) async fn origin(State(door): State<Arc<Door>>, request: Request, next: Next) -> Answer<Response> {
    if let Access::Network { origins, .. } = &door.config.access {
        check_origin(origins, request.headers())?;
    }
    Ok(next.run(request).await)
}

/// The same around a router that has no [`Door`].
pub(crate) async fn foreign(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Answer<Response> {
    if let Access::Network { origins, .. } = access.as_ref() {
        check_origin(origins, request.headers())?;
    }
    Ok(next.run(request).await)
}

/// Browsers send `Origin` with everything but plain reads of their own origin.
fn check_origin(origins: &[String], headers: &HeaderMap) -> Answer<()> {
    let own = |value: &HeaderValue| origins.iter().any(|o| o.as_bytes() == value.as_bytes());
    let same = |value: &HeaderValue| matches!(value.as_bytes(), b"same-origin" | b"none");
    let foreign = headers.get_all(header::ORIGIN).iter().find(|value| !own(value));
    let cross = headers.get_all(SEC_FETCH_SITE).iter().find(|value| !same(value));
    let Some(value) = foreign.or(cross) else {
        return Ok(());
    };
    let value = String::from_utf8_lossy(value.as_bytes());
    let detail = format!("The request came from a page of another origin: {}.", shown(&value));
    let remedy = format!("open the portal itself: {}", origins.join(", "));
    Err(Problem::new(code::ORIGIN, StatusCode::FORBIDDEN, "Wrong origin", detail, remedy))
}

/// Around all but the login: finds out who asks.
pub(crate) async fn session(
    State(door): State<Arc<Door>>,
    mut request: Request,
    next: Next,
) -> Answer<Response> {
    let caller = match &door.config.access {
        Access::Local => Caller::Local,
        Access::Network { .. } => door.caller(request.headers())?,
    };
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

impl Door {
    fn caller(&self, headers: &HeaderMap) -> Answer<Caller> {
        let none = || Problem::unauthorized("The request has no session token.");
        let value = only(headers, &header::AUTHORIZATION).ok_or_else(none)?;
        let token = value.strip_prefix("Bearer ").ok_or_else(none)?;
        let (key, login) = self.sessions.enter(token)?;
        if self.site.session_alive(&login) {
            return Ok(Caller::Session(key, login));
        }
        self.sessions.close(&key);
        Err(Problem::session_ended("The key, the admin or the role is no longer what it was."))
    }

    /// Whether a caller may still listen: asked again and again by long answers.
    pub(crate) fn still_in(&self, caller: &Caller) -> bool {
        match caller {
            Caller::Local => true,
            Caller::Session(key, _) => {
                self.sessions.login(key).is_some_and(|login| self.site.session_alive(&login))
            }
        }
    }
}

/// No such path.
pub(crate) async fn no_route(request: Request) -> Problem {
    Problem::no_route(request.uri().path())
}

/// The path has no such method.
pub(crate) async fn no_method(request: Request) -> Problem {
    Problem::method_not_allowed(request.method().as_str(), request.uri().path())
}

/// A JSON answer: all handlers' return type.
pub(crate) type Shown<T> = Answer<Json<T>>;
