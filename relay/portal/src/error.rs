//! Constructors of [`Problem`]: what went wrong, on what, and what to do about it. The codes are
//! stable; scripts match on them. Texts that came from outside are shown cut and escaped.

use std::fmt::Display;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::limits::{MESSAGE_CHARS, SHOWN_CHARS};
use crate::suggest;
use crate::view::Problem;

/// The content type of every error.
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// The stable codes of the API's own errors. A site adds its reasons for refusing an intent.
pub mod code {
    /// Nothing has that name.
    pub const NOT_FOUND: &str = "not_found";
    /// Several things have that prefix.
    pub const AMBIGUOUS: &str = "ambiguous";
    /// A field, parameter or body is not as it must be.
    pub const BAD_FIELD: &str = "bad_field";
    /// No such path.
    pub const NO_ROUTE: &str = "no_route";
    /// The path has no such method.
    pub const METHOD: &str = "method_not_allowed";
    /// The body is too large.
    pub const TOO_LARGE: &str = "too_large";
    /// The body has another content type.
    pub const CONTENT_TYPE: &str = "content_type";
    /// The body did not arrive in time.
    pub const SLOW_BODY: &str = "slow_body";
    /// No session.
    pub const UNAUTHORIZED: &str = "unauthorized";
    /// The session is over.
    pub const SESSION_ENDED: &str = "session_ended";
    /// The login was not begun here, is too old, or was used.
    pub const LOGIN_NONCE: &str = "login_nonce";
    /// The login was signed for another door.
    pub const LOGIN_ORIGIN: &str = "login_origin";
    /// The door needs no login.
    pub const NO_LOGIN: &str = "no_login";
    /// The admin's role does not suffice.
    pub const ROLE: &str = "role";
    /// The request came from a page of another origin.
    pub const ORIGIN: &str = "origin";
    /// The request named a host that this door is not.
    pub const HOST: &str = "host";
    /// A path of tunnels was asked for something else.
    pub const NOT_A_TUNNEL: &str = "not_a_tunnel";
    /// The site refuses; nothing was changed.
    pub const REFUSED: &str = "refused";
    /// Too much of something at a time.
    pub const BUSY: &str = "busy";
    /// Cannot be answered now.
    pub const UNAVAILABLE: &str = "unavailable";
    /// Took too long.
    pub const TIMED_OUT: &str = "timed_out";
    /// A fault of this program.
    pub const INTERNAL: &str = "internal";
}

/// A text from outside, fit to be shown: quoted, control characters escaped, cut.
pub fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN_CHARS).collect();
    let more = if cut.len() < text.len() { "..." } else { "" };
    format!("{cut:?}{more}")
}

/// A message that may repeat a text from outside: cut, and whatever is not plainly visible escaped,
/// such as marks that turn the direction of writing.
fn visible(text: &str) -> String {
    let plain = |c: char| matches!(c, '"' | '\'' | '\\');
    let escape = |c: char| {
        if plain(c) { c.to_string() } else { c.escape_debug().to_string() }
    };
    text.chars().take(MESSAGE_CHARS).map(escape).collect()
}

impl Problem {
    /// A problem with all its parts.
    pub fn new(
        code: &str,
        status: StatusCode,
        title: &str,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            code: code.to_owned(),
            status: status.as_u16(),
            title: title.to_owned(),
            detail: detail.into(),
            remedy: Some(remedy.into()),
        }
    }

    /// Nothing of this `kind` is called `name`; `known` are the names that are, for a suggestion,
    /// and `remedy` shows all of them.
    pub fn not_found<S: AsRef<str>>(kind: &str, name: &str, known: &[S], remedy: &str) -> Self {
        let near = suggest::nearest(name, known);
        let detail = if near.is_empty() {
            format!("There is no {kind} {}.", shown(name))
        } else {
            format!("There is no {kind} {}. Close to it: {}.", shown(name), suggest::list(&near))
        };
        Self::new(code::NOT_FOUND, StatusCode::NOT_FOUND, "Not found", detail, remedy)
    }

    /// `name` is the beginning of several names.
    pub fn ambiguous<S: AsRef<str>>(kind: &str, name: &str, matches: &[S]) -> Self {
        let detail = format!("{} names {} {kind}s: {}.", shown(name), matches.len(), suggest::list(matches));
        Self::new(code::AMBIGUOUS, StatusCode::CONFLICT, "Ambiguous", detail, "give the full name")
    }

    /// A field, parameter or body part is not as `rule` says.
    pub fn bad_field(field: &str, value: &str, rule: impl Display, remedy: &str) -> Self {
        let detail = format!("{field} is {}; it must be {rule}.", shown(value));
        Self::new(code::BAD_FIELD, StatusCode::BAD_REQUEST, "Bad request", detail, remedy)
    }

    /// A body or query that cannot be read at all; `why` names the place and the value.
    pub fn malformed(what: &str, why: impl Display, remedy: &str) -> Self {
        let why = visible(&why.to_string());
        let detail = format!("{what} cannot be read: {why}.");
        Self::new(code::BAD_FIELD, StatusCode::BAD_REQUEST, "Bad request", detail, remedy)
    }

    /// No such path.
    pub fn no_route(path: &str) -> Self {
        let detail = format!("There is no path {}.", shown(path));
        let remedy = "GET /v1/openapi.json lists all paths";
        Self::new(code::NO_ROUTE, StatusCode::NOT_FOUND, "Not found", detail, remedy)
    }

    /// The path exists, the method does not.
    pub fn method_not_allowed(method: &str, path: &str) -> Self {
        let detail = format!("{} has no method {}.", shown(path), shown(method));
        let remedy = "GET /v1/openapi.json lists all methods";
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self::new(code::METHOD, status, "Method not allowed", detail, remedy)
    }

    /// A body has more than `limit` bytes.
    pub fn too_large(what: &str, limit: u64) -> Self {
        let detail = format!("{what} has more than {limit} bytes.");
        let remedy = format!("send at most {limit} bytes");
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        Self::new(code::TOO_LARGE, status, "Too large", detail, remedy)
    }

    /// A body has the content type `found`, or none.
    pub fn content_type(found: Option<&str>, wanted: &str) -> Self {
        let found = found.map_or_else(|| "missing".to_owned(), shown);
        let detail = format!("Content-Type is {found}; it must be {wanted}.");
        let remedy = format!("send the header Content-Type: {wanted}");
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::new(code::CONTENT_TYPE, status, "Wrong content type", detail, remedy)
    }

    /// A body did not arrive in time.
    pub fn slow_body(what: &str, seconds: u64) -> Self {
        let detail = format!("{what} did not arrive within {seconds} s.");
        let remedy = "try again over a better line, or at a node of the site";
        let status = StatusCode::REQUEST_TIMEOUT;
        Self::new(code::SLOW_BODY, status, "Too slow", detail, remedy)
    }

    /// The door needs a session and the request has none, or one that is unknown.
    pub fn unauthorized(detail: &str) -> Self {
        let remedy = "log in: GET /v1/login, sign, POST /v1/login";
        Self::new(code::UNAUTHORIZED, StatusCode::UNAUTHORIZED, "No session", detail, remedy)
    }

    /// The session is over: idle, too old, or its admin, key or role is no more.
    pub fn session_ended(why: &str) -> Self {
        let remedy = "log in again: GET /v1/login, sign, POST /v1/login";
        Self::new(code::SESSION_ENDED, StatusCode::UNAUTHORIZED, "Session ended", why, remedy)
    }

    /// The admin's role does not suffice.
    pub fn role(what: &str, have: &str, need: &str) -> Self {
        let detail = format!("{what} needs the role {need}; this session has {have}.");
        let remedy = format!("log in as an {need}");
        Self::new(code::ROLE, StatusCode::FORBIDDEN, "Refused", detail, remedy)
    }

    /// The site refuses, for a reason with a code of its own; nothing was changed.
    pub fn refused(code: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(code, StatusCode::UNPROCESSABLE_ENTITY, "Refused", detail, remedy)
    }

    /// Too much of something at a time.
    pub fn busy(what: &str, limit: usize) -> Self {
        let detail = format!("This door already has {limit} {what}.");
        let remedy = "try again in a few seconds, or at another node";
        Self::new(code::BUSY, StatusCode::SERVICE_UNAVAILABLE, "Busy", detail, remedy)
    }

    /// Cannot be answered now: `what` waits for `why`.
    pub fn unavailable(what: &str, why: impl Display, remedy: &str) -> Self {
        let detail = format!("{what}: {why}.");
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(code::UNAVAILABLE, status, "Not available now", detail, remedy)
    }

    /// Nothing was answered in time.
    pub fn timed_out(what: &str, seconds: u64) -> Self {
        let detail = format!("{what} gave no answer within {seconds} s. What was sent may be done.");
        let remedy = "look before you send it again: an intent is found by its digest";
        Self::new(code::TIMED_OUT, StatusCode::GATEWAY_TIMEOUT, "No answer", detail, remedy)
    }

    /// A fault of this program. `what` failed; the log of the node says more.
    pub fn internal(what: &str) -> Self {
        let remedy = "on the node that answers: journalctl -u qb-agent -n 50";
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(code::INTERNAL, status, "Failed", format!("{what} failed."), remedy)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // Strings and a number always serialize.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.code == code::BUSY {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}
