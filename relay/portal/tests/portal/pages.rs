//! The web UI's files as the doors serve them.

use std::io::Read as _;
use std::sync::Arc;

use axum::Router;
use axum::http::Method;
use flate2::read::GzDecoder;
use qb_portal::{api_with_pages, assets, has_pages, pages, stored_bytes};

use crate::ask::{ask, get, network_config};
use crate::doors::filled;
use crate::stub::Stub;
use qb_portal::router::{OPEN_ROUTES, ROUTES};

/// What every agent carries at most.
const BUDGET: usize = 200_000;

fn door() -> Router {
    api_with_pages(Stub::new() as Arc<_>, network_config(), pages())
}

#[tokio::test]
async fn every_depth_of_address_is_the_page() {
    let door = door();
    let depths = ["/", "/lyon", "/lyon/nodes", "/lyon/nodes/lyon-r1-01", "/lyon/clusters/clus101/progress"];
    for path in depths.into_iter().chain(["/lyon/nodes?state=waiting&zone=rack-1", "/v10/sites"]) {
        let got = get(path).host().send(&door).await;
        let policy = got.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("script-src 'self'") && !policy.contains("unsafe"), "{path}");
        assert_eq!(got.headers["cache-control"], "no-cache", "{path}");
        assert_eq!(got.headers["x-content-type-options"], "nosniff", "{path}");
        let kind = got.headers["content-type"].to_str().unwrap();
        if has_pages() {
            assert_eq!((got.status.as_u16(), kind), (200, "text/html; charset=utf-8"), "{path}");
            assert!(got.text().starts_with("<!doctype html>"));
        } else {
            assert_eq!((got.status.as_u16(), kind), (503, "text/plain; charset=utf-8"), "{path}");
            assert!(got.text().contains("just web"));
        }
    }
}

#[tokio::test]
async fn paths_of_the_api_are_never_a_page() {
    let door = door();
    for path in ["/v1", "/v1/nope", "/v1/sites/lyon/nope", "/enroll", "/healthz/x", "/assets", "/assets/x/y"]
    {
        for method in [Method::GET, Method::HEAD, Method::POST] {
            let got = ask(method.clone(), path).host().send(&door).await;
            assert_eq!(got.status, 404, "{method} {path}");
            let policy = got.headers["content-security-policy"].to_str().unwrap();
            assert!(!policy.contains("'self'"), "{path}");
        }
    }
    assert_eq!(get("/lyon/nodes/a/b/c").host().send(&door).await.problem().1, "no_route");
    assert_eq!(ask(Method::POST, "/lyon").host().send(&door).await.problem().1, "method_not_allowed");
    for (method, path) in OPEN_ROUTES.iter().chain(ROUTES) {
        let method = method.to_uppercase().parse().unwrap();
        let got = ask(method, filled(path)).host().send(&door).await;
        assert_ne!(got.headers["content-type"], "text/html; charset=utf-8", "{path}");
    }
}

#[tokio::test]
async fn pages_are_for_the_right_host_only() {
    assert_eq!(get("/").with("host", "evil.test").send(&door()).await.problem().0, 421);
    assert_eq!(get("/assets/x.js").send(&door()).await.problem().0, 421);
}

#[tokio::test]
async fn assets_have_their_type_and_are_kept() {
    let door = door();
    for path in assets() {
        let got = get(&path).host().with("accept-encoding", "br;q=1, GZIP;q=0.5").send(&door).await;
        assert_eq!(got.status, 200, "{path}");
        assert_eq!(got.headers["cache-control"], "public, max-age=31536000, immutable");
        assert_eq!(got.headers["vary"], "accept-encoding");
        let ext = path.rsplit('.').next().unwrap();
        let (kind, packed) = match ext {
            "js" => ("text/javascript; charset=utf-8", true),
            "css" => ("text/css; charset=utf-8", true),
            "svg" => ("image/svg+xml", false),
            "woff2" => ("font/woff2", false),
            other => panic!("no type for {other}"),
        };
        assert_eq!(got.headers["content-type"], kind, "{path}");
        assert_eq!(got.headers.contains_key("content-encoding"), packed, "{path}");
        let head = ask(Method::HEAD, &path).host().with("accept-encoding", "gzip").send(&door).await;
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0), "{path}");
        assert_eq!(head.headers["content-length"], got.body.len().to_string().as_str(), "{path}");
        for refusal in ["", "identity", "gzip;q=0", "xgzip"] {
            let plain = get(&path).host().with("accept-encoding", refusal).send(&door).await;
            assert!(!plain.headers.contains_key("content-encoding"), "{path}");
            let mut unpacked = Vec::new();
            match packed {
                true => drop(GzDecoder::new(&got.body[..]).read_to_end(&mut unpacked).unwrap()),
                false => unpacked.clone_from(&got.body),
            }
            assert!(plain.body == unpacked, "{path}");
        }
        if packed {
            assert_eq!(get(format!("{path}.gz")).host().send(&door).await.status, 404, "{path}");
        }
    }
}

#[tokio::test]
async fn the_page_names_files_that_are_served() {
    let door = door();
    if !has_pages() {
        assert_eq!(assets().count(), 0);
        return;
    }
    let page = get("/").host().send(&door).await.text();
    let named: Vec<&str> = page.split('"').filter(|part| part.starts_with("/assets/")).collect();
    assert!(named.len() >= 4, "{page}");
    for path in named {
        assert_eq!(get(path).host().send(&door).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn an_unknown_file_is_404() {
    for name in ["app.0000000000.js", "app.js.gz", "..%2findex.html", "index.html", ".gitignore", "%00"] {
        let got = get(format!("/assets/{name}")).host().send(&door()).await;
        assert_eq!(got.problem().0, 404, "{name}");
    }
}

#[test]
fn all_pages_fit_their_budget() {
    assert!(stored_bytes() < BUDGET, "{} bytes", stored_bytes());
}
