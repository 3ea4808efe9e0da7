//! What handlers take: each part of a request, bounded and checked, or a [`Problem`] that names
//! the field, its value and the rule.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use futures::{Stream, StreamExt as _};
use qb_model::{Digest, Name};
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use crate::door::Door;
use crate::error::code;
use crate::guard::Caller;
use crate::limits::{
    BODY_DEADLINE, BUNDLE_BYTES, ENVELOPE_BYTES, LOGIN_BYTES, SEGMENT_BYTES, UPLOAD_DEADLINE, UPLOAD_STALL,
    UPLOADS, WAIT_MAX,
};
use crate::site::{Answer, IntentKey, Site, Upload};
use crate::view::Problem;

const JSON: &str = "application/json";
const OCTETS: &str = "application/octet-stream";

/// The caller, the site that the path names (if it names one), and the rest of the path.
pub(crate) struct Here {
    pub(crate) site: Arc<dyn Site>,
    pub(crate) caller: Caller,
    params: Vec<(String, String)>,
}

impl FromRequestParts<Arc<Door>> for Here {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &Arc<Door>) -> Answer<Self> {
        let none = || Problem::unauthorized("The request passed no guard.");
        let caller = parts.extensions.get::<Caller>().cloned().ok_or_else(none)?;
        let unreadable = |_| Problem::malformed("The path", "it is not UTF-8", "escape it");
        let raw = RawPathParams::from_request_parts(parts, door).await.map_err(unreadable)?;
        let params: Vec<_> = raw.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let named = params.iter().find(|(k, _)| k == "site").map(|(_, v): &(String, String)| v.as_str());
        let scoped = match &caller {
            Caller::Session(_, login) => door.site.scoped(login, named)?,
            Caller::Local => None,
        };
        let site = scoped.unwrap_or_else(|| Arc::clone(&door.site));
        let here = Self { site, caller, params };
        here.check_site()?;
        Ok(here)
    }
}

impl Here {
    /// A path of a site must name this one, by id or name.
    fn check_site(&self) -> Answer<()> {
        let Some(text) = self.find("site") else {
            return Ok(());
        };
        match self.site.names() {
            Some(names) if text == names.name.as_str() || text == names.id.to_string() => Ok(()),
            Some(names) => {
                let known = [names.name.as_str()];
                Err(Problem::not_found("site here called", text, &known, "qb site list"))
            }
            None => {
                let remedy = "give it its site's enrolment file, or make a site: qb site create";
                let detail = "This node belongs to no site yet.";
                let status = StatusCode::NOT_FOUND;
                Err(Problem::new(code::NOT_FOUND, status, "Not found", detail, remedy))
            }
        }
    }

    fn find(&self, field: &str) -> Option<&str> {
        self.params.iter().find(|(k, _)| k == field).map(|(_, v)| v.as_str())
    }

    /// A name in the path.
    pub(crate) fn name(&self, field: &'static str) -> Answer<Name> {
        parse(field, self.find(field).unwrap_or_default(), "qb cluster list")
    }

    /// A node's name, key, or a prefix of either.
    pub(crate) fn node(&self) -> Answer<&str> {
        let text = self.find("node").unwrap_or_default();
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if (1..=SEGMENT_BYTES).contains(&text.len()) && text.bytes().all(plain) {
            return Ok(text);
        }
        let rule = "a node's name or key, or the beginning of one: at most 64 letters, digits, -, _ and .";
        Err(Problem::bad_field("node", text, rule, "qb node list"))
    }

    /// A bundle's digest.
    pub(crate) fn bundle(&self) -> Answer<Digest> {
        parse("digest", self.find("digest").unwrap_or_default(), "qb bundle list")
    }

    /// An intent's digest or id.
    pub(crate) fn intent(&self) -> Answer<IntentKey> {
        let text = self.find("id").unwrap_or_default();
        let digest = text.parse().map(IntentKey::Digest);
        digest.or_else(|_| text.parse().map(IntentKey::Id)).map_err(|_| {
            let rule = "a digest of 43 characters or an intent id of 26";
            Problem::bad_field("id", text, rule, "qb intent list")
        })
    }
}

/// The parameters of the query, read by a type that knows them all.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Door>> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &Arc<Door>) -> Answer<Self> {
        let read = Query::<T>::from_request_parts(parts, door).await;
        let bad = |e: axum::extract::rejection::QueryRejection| {
            Problem::malformed("The query", e.body_text(), "GET /v1/openapi.json lists parameters")
        };
        read.map(|Query(value)| Self(value)).map_err(bad)
    }
}

/// Reads a field whose type says itself what it must be.
pub(crate) fn parse<T>(field: &str, text: &str, remedy: &str) -> Answer<T>
where
    T: FromStr<Err = qb_model::IdError>,
{
    text.parse().map_err(|e: qb_model::IdError| Problem::bad_field(field, text, e.rule, remedy))
}

/// A number in the query.
pub(crate) fn number<T: FromStr>(field: &str, text: Option<&str>, default: T) -> Answer<T> {
    let Some(text) = text else { return Ok(default) };
    let bad = || Problem::bad_field(field, text, "a whole number", "leave it out for the default");
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().map_err(|_| bad()) } else { Err(bad()) }
}

/// How long to wait for an outcome: `500ms`, `10s`, `1m`; nothing is no wait.
pub(crate) fn wait(text: Option<&str>) -> Answer<Duration> {
    let Some(text) = text else {
        return Ok(Duration::ZERO);
    };
    let bad = || Problem::bad_field("wait", text, "500ms, 10s or 1m, at most 60 s", "wait=30s");
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let (count, unit) = text.split_at(at);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err(bad()),
    };
    let ms = count.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_ms)).ok_or_else(bad)?;
    let wait = Duration::from_millis(ms);
    if wait <= WAIT_MAX { Ok(wait) } else { Err(bad()) }
}

/// The bytes of an intent's envelope. They are not read here: what is verified is what was sent.
pub(crate) struct Signed(pub(crate) Bytes);

impl FromRequest<Arc<Door>> for Signed {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Arc<Door>) -> Answer<Self> {
        read(request, "The envelope", JSON, (ENVELOPE_BYTES, BODY_DEADLINE)).await.map(Self)
    }
}

/// The bytes of a login's envelope.
pub(crate) struct SignedLogin(pub(crate) Bytes);

impl FromRequest<Arc<Door>> for SignedLogin {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Arc<Door>) -> Answer<Self> {
        read(request, "The login", JSON, (LOGIN_BYTES, BODY_DEADLINE)).await.map(Self)
    }
}

/// A bundle's file as it comes, with the room that it takes.
pub(crate) struct Pushed {
    pub(crate) upload: Upload,
    /// Held until the site has taken the file.
    pub(crate) _room: OwnedSemaphorePermit,
}

impl FromRequest<Arc<Door>> for Pushed {
    type Rejection = Problem;

    async fn from_request(request: Request, door: &Arc<Door>) -> Answer<Self> {
        // An upload costs a disk's time before the site has looked at all of it, so the role counts first.
        let none = || Problem::unauthorized("The request passed no guard.");
        let caller = request.extensions().get::<Caller>().ok_or_else(none)?;
        caller.needs(qb_model::action::Role::Operator, "Pushing a bundle")?;
        let room = Arc::clone(&door.uploads).try_acquire_owned();
        let room = room.map_err(|_| Problem::busy("bundles on their way", UPLOADS))?;
        check_type(request.headers(), OCTETS)?;
        let length = announced(request.headers());
        if length.is_some_and(|length| length > BUNDLE_BYTES) {
            return Err(Problem::too_large("The bundle", BUNDLE_BYTES));
        }
        let body = pieces(request.into_body()).boxed();
        Ok(Self { upload: Upload { length, body }, _room: room })
    }
}

/// A question as JSON, of at most `LIMIT` bytes.
pub(crate) struct Question<T, const LIMIT: usize>(pub(crate) T);

impl<T: DeserializeOwned, const LIMIT: usize> FromRequest<Arc<Door>> for Question<T, LIMIT> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Arc<Door>) -> Answer<Self> {
        let bytes = read(request, "The body", JSON, (LIMIT, BODY_DEADLINE)).await?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|e| {
            let field = e.path().to_string();
            // The parser writes `.` for the whole and `?` for a place that it cannot name.
            let known = !matches!(field.as_str(), "." | "?");
            let what = if known { format!("The field {field}") } else { "The body".to_owned() };
            Problem::malformed(&what, e.inner(), "GET /v1/openapi.json has the schema")
        })?;
        let rest = |e| Problem::malformed("The body", e, "send one JSON object");
        json.end().map_err(rest)?;
        Ok(Self(value))
    }
}

/// Reads a body of the content type `wanted` within a number of bytes and a time.
async fn read(
    request: Request,
    what: &str,
    wanted: &str,
    (limit, deadline): (usize, Duration),
) -> Answer<Bytes> {
    check_type(request.headers(), wanted)?;
    if announced(request.headers()).is_some_and(|length| length > limit as u64) {
        return Err(Problem::too_large(what, limit as u64));
    }
    let slow = |_| Problem::slow_body(what, deadline.as_secs());
    let body = collect(request.into_body(), what, limit);
    tokio::time::timeout(deadline, body).await.map_err(slow)?
}

/// How many bytes a request says that it has.
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A bundle's pieces, bounded: in all, in the time of all, and in the time of each.
fn pieces(body: Body) -> impl Stream<Item = Answer<Bytes>> + Send {
    let ends = tokio::time::Instant::now() + UPLOAD_DEADLINE;
    let start = Some((body.into_data_stream(), 0u64));
    futures::stream::unfold(start, move |state| async move {
        let (mut chunks, had) = state?;
        let next = tokio::time::timeout(UPLOAD_STALL, chunks.next());
        let piece = match tokio::time::timeout_at(ends, next).await {
            Err(_) => Err(Problem::slow_body("The bundle", UPLOAD_DEADLINE.as_secs())),
            Ok(Err(_)) => Err(Problem::slow_body("The next piece of the bundle", UPLOAD_STALL.as_secs())),
            Ok(Ok(None)) => return None,
            Ok(Ok(Some(Err(e)))) => Err(Problem::malformed("The bundle", e, "send it again")),
            Ok(Ok(Some(Ok(piece)))) if had + piece.len() as u64 > BUNDLE_BYTES => {
                Err(Problem::too_large("The bundle", BUNDLE_BYTES))
            }
            Ok(Ok(Some(Ok(piece)))) => Ok(piece),
        };
        let later = piece.as_ref().ok().map(|piece| (chunks, had + piece.len() as u64));
        Some((piece, later))
    })
}

/// A foreign page can send a form or plain text without being asked, but not these types.
fn check_type(headers: &HeaderMap, wanted: &str) -> Answer<()> {
    let found = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let essence = found.and_then(|f| f.split(';').next()).map(str::trim);
    if essence.is_some_and(|e| e.eq_ignore_ascii_case(wanted)) {
        Ok(())
    } else {
        Err(Problem::content_type(found, wanted))
    }
}

async fn collect(body: Body, what: &str, limit: usize) -> Answer<Bytes> {
    let mut chunks = body.into_data_stream();
    let mut out = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|e| Problem::malformed(what, e, "send it again"))?;
        if out.len() + chunk.len() > limit {
            return Err(Problem::too_large(what, limit as u64));
        }
        out.extend_from_slice(&chunk);
    }
    Ok(out.into())
}
