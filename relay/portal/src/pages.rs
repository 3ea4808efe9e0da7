//! The web UI's files, as `relay/portal/web` builds them, inside the program.
//!
//! ```text
//!  GET /, /{site}, .../{tab}  --> index.html, asked for anew each time; the page reads its address
//!  GET /assets/{name}         --> kept for ever: a name holds the hash of what it names
//! ```

use std::io::Read as _;

use axum::Router;
use axum::extract::{Path, Request};
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};
use flate2::read::GzDecoder;

use crate::error::{code, shown};
use crate::guard;
use crate::limits::PAGE_FILE_BYTES;
use crate::view::Problem;

/// Path below `dist`, and bytes; sorted by path. Empty if the program was built without its pages.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// First parts of paths that are never a page: the API's own, and the pages' files.
const NOT_PAGES: [&str; 5] = ["v1", "healthz", "enroll", "packages", "assets"];
const HTML: &str = "text/html; charset=utf-8";
const MISSING: &str = "This program was built without its pages.\n\
    Build it again after `just web`. Until then: qb site status\n";

type Headers = [(HeaderName, &'static str); 3];

/// The web UI, for [`crate::api_with_pages`]. Has no fallback: other paths are the API's to answer.
pub fn pages() -> Router {
    let mut router = Router::new().route("/assets/{name}", routing::get(asset));
    for path in ["/", "/{site}", "/{site}/{page}", "/{site}/{page}/{object}", "/{site}/{page}/{object}/{tab}"]
    {
        router = router.route(path, page());
    }
    router
}

/// Whether the pages are in this program. Without them, [`pages`] says how to build them.
pub fn has_pages() -> bool {
    index().is_some()
}

/// Bytes of all embedded files as they are stored.
pub fn stored_bytes() -> usize {
    FILES.iter().map(|(_, bytes)| bytes.len()).sum()
}

/// Paths of all files as a browser asks for them, in the order of their names.
pub fn assets() -> impl Iterator<Item = String> {
    let names = FILES.iter().filter(|(name, _)| name.starts_with("assets/"));
    names.map(|(name, _)| format!("/{}", name.strip_suffix(".gz").unwrap_or(name)))
}

fn file(name: &str) -> Option<&'static [u8]> {
    FILES.iter().find(|(known, _)| *known == name).map(|(_, bytes)| *bytes)
}

fn index() -> Option<&'static [u8]> {
    file("index.html")
}

/// A route of the web UI. The API's paths match, too, where the API has no such route.
fn page() -> MethodRouter {
    let shown = async |request: Request| match own(&request) {
        true => document(),
        false => Problem::no_route(request.uri().path()).into_response(),
    };
    let refused = async |request: Request| match own(&request) {
        true => guard::no_method(request).await,
        false => guard::no_route(request).await,
    };
    routing::get(shown).fallback(refused)
}

/// Whether a path is a page's.
fn own(request: &Request) -> bool {
    let first = request.uri().path().split('/').nth(1).unwrap_or_default();
    !NOT_PAGES.contains(&first)
}

fn document() -> Response {
    let headers = |kind| [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")];
    match index() {
        Some(bytes) => (headers(HTML), bytes).into_response(),
        None => {
            (StatusCode::SERVICE_UNAVAILABLE, headers("text/plain; charset=utf-8"), MISSING).into_response()
        }
    }
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let plain = format!("assets/{name}");
    let about: Headers = [
        (header::CONTENT_TYPE, kind(&name)),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::VARY, "accept-encoding"),
    ];
    if let Some(packed) = file(&format!("{plain}.gz")) {
        if takes_gzip(&headers) {
            let gzip = [(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))];
            return (about, gzip, packed).into_response();
        }
        return match unpack(packed) {
            Ok(bytes) => (about, bytes).into_response(),
            Err(e) => Problem::internal(&format!("an embedded page cannot be unpacked: {e}")).into_response(),
        };
    }
    match file(&plain) {
        // What is stored packed has no address of its own.
        Some(bytes) if !name.ends_with(".gz") => (about, bytes).into_response(),
        _ => no_asset(&name).into_response(),
    }
}

fn no_asset(name: &str) -> Problem {
    let detail = format!("The pages of this program have no file {}.", shown(name));
    let remedy = "load the page again: it names the files of the program that serves it";
    Problem::new(code::NO_ROUTE, StatusCode::NOT_FOUND, "No such file", detail, remedy)
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ext)| ext) {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("woff2") => "font/woff2",
        Some("html") => HTML,
        _ => "application/octet-stream",
    }
}

/// Whether `Accept-Encoding` names gzip and does not rule it out.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    let mut choices = lines.flat_map(|line| line.split(','));
    choices.any(|choice| {
        let mut parts = choice.split(';').map(str::trim);
        let gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = parts.find_map(|p| p.strip_prefix("q=")).map(str::parse::<f32>);
        gzip && !matches!(weight, Some(Ok(0.0) | Err(_)))
    })
}

/// For the rare client that takes no compression.
fn unpack(packed: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    GzDecoder::new(packed).take(PAGE_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}
