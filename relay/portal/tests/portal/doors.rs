//! Two doors: who may come in, from which page, under which host; the headers of every answer.

use std::sync::Arc;

use axum::Router;
use axum::routing;
use qb_model::action::Role;
use qb_portal::api_with_pages;
use qb_portal::router::{OPEN_ROUTES, ROUTES};

use crate::ask::{HOST, ORIGIN, SITE, ask, get, local, log_in, network, network_config, post};
use crate::stub::{Stub, site_id};

/// A route's path with its holes filled.
pub fn filled(path: &str) -> String {
    let path = path.replace("{site}", "lyon").replace("{node}", "lyon-r1-01");
    let path = path.replace("{digest}", &"A".repeat(43));
    path.replace("{name}", "clus100").replace("{id}", "01ARZ3NDEKTSV4RRFFQ69G5FAV")
}

#[tokio::test]
async fn a_network_needs_a_session_for_everything_but_the_login() {
    let door = network(&Stub::new());
    for (method, path) in ROUTES {
        let method = method.to_uppercase().parse().unwrap();
        let got = ask(method, filled(path)).host().send(&door).await;
        assert_eq!(got.headers["www-authenticate"], "Bearer", "{path}");
        let (status, code, _) = got.problem();
        assert_eq!((status, code.as_str()), (401, "unauthorized"), "{path}");
    }
    for (method, path) in OPEN_ROUTES {
        let method = method.to_uppercase().parse().unwrap();
        let got = ask(method, *path).host().send(&door).await;
        assert_ne!(got.status, 401, "{path}");
    }
}

#[tokio::test]
async fn a_session_opens_the_network_door() {
    let door = network(&Stub::new());
    let token = log_in(&door, 1).await;
    for (method, path) in ROUTES.iter().filter(|(m, p)| *m == "get" && !p.ends_with("events")) {
        let method = method.to_uppercase().parse().unwrap();
        let got = ask(method, filled(path)).bearer(&token).send(&door).await;
        // A tunnel is more than a session: it asks for an upgrade.
        let upgrade = path.ends_with("tunnel") && got.status == 426;
        assert!(got.status == 200 || upgrade || path.ends_with("alerts"), "{path}: {}", got.text());
    }
    for bad in ["", "x", &"A".repeat(43), &format!("{token}A"), &token.to_lowercase()] {
        let got = get("/v1/sites").bearer(bad).send(&door).await;
        assert_eq!(got.problem().0, 401);
    }
    let twice = get("/v1/sites").bearer(&token).with("authorization", "Bearer x");
    assert_eq!(twice.send(&door).await.status, 401);
    let basic = get("/v1/sites").host().with("authorization", format!("Basic {token}"));
    assert_eq!(basic.send(&door).await.status, 401);
}

#[tokio::test]
async fn the_local_door_needs_no_session() {
    let door = local(&Stub::new());
    assert_eq!(get("/v1/sites").send(&door).await.status, 200);
    assert_eq!(post(format!("{SITE}/intents"), "{}").send(&door).await.status, 200);
    assert_eq!(get("/v1/login").send(&door).await.problem().1, "no_login");
}

#[tokio::test]
async fn a_session_of_one_door_is_unknown_at_another() {
    let site = Stub::new();
    let (first, second) = (network(&site), network(&site));
    let token = log_in(&first, 1).await;
    assert_eq!(get("/v1/sites").bearer(&token).send(&first).await.status, 200);
    assert_eq!(get("/v1/sites").bearer(&token).send(&second).await.status, 401);
}

#[tokio::test]
async fn other_hosts_are_421() {
    let door = network(&Stub::new());
    for host in ["evil.test", "10.0.0.1", "10.0.0.1:8443.evil.test", "10.0.0.1:8443 ", "", "10.0.0.1:80"] {
        for path in ["/healthz", "/v1/login", "/v1/sites", "/nope"] {
            let got = get(path).with("host", host).send(&door).await;
            assert_eq!(got.problem().0, 421, "{host} {path}");
        }
    }
    assert_eq!(get("/healthz").send(&door).await.problem().1, "host");
    let twice = get("/healthz").host().with("host", "evil.test");
    assert_eq!(twice.send(&door).await.status, 421);
    let target = get("http://evil.test/healthz").host();
    assert_eq!(target.send(&door).await.status, 421);
    assert_eq!(get("/healthz").with("host", "n1.EXAMPLE:8443").send(&door).await.status, 200);
    assert_eq!(get(format!("https://{HOST}/healthz")).host().send(&door).await.status, 200);
}

#[tokio::test]
async fn other_origins_are_403() {
    let door = network(&Stub::new());
    let token = log_in(&door, 1).await;
    let foreign = ["https://evil.test", "null", "https://10.0.0.1:8443/", "http://10.0.0.1:8443", ""];
    for origin in foreign {
        let sent = post(format!("{SITE}/intents"), "{}").bearer(&token).with("origin", origin);
        assert_eq!(sent.send(&door).await.problem().1, "origin", "{origin}");
        let stream = get(format!("{SITE}/events")).bearer(&token).with("origin", origin);
        assert_eq!(stream.send(&door).await.problem().0, 403);
        let login = post("/v1/login", "{}").host().with("origin", origin);
        assert_eq!(login.send(&door).await.problem().0, 403);
    }
    for site in ["cross-site", "same-site", "x"] {
        let sent = get("/v1/sites").bearer(&token).with("sec-fetch-site", site);
        assert_eq!(sent.send(&door).await.problem().0, 403);
    }
    for site in ["same-origin", "none"] {
        let sent = get("/v1/sites").bearer(&token).with("sec-fetch-site", site);
        assert_eq!(sent.with("origin", ORIGIN).send(&door).await.status, 200);
    }
}

#[tokio::test]
async fn every_answer_has_the_security_headers() {
    let door = network(&Stub::new());
    let id = site_id();
    for path in ["/healthz", "/v1/sites", "/nope", "/v1/openapi.json", &format!("/v1/sites/{id}")] {
        for ask in [get(path).host(), get(path)] {
            let headers = ask.send(&door).await.headers;
            assert_eq!(headers["x-content-type-options"], "nosniff");
            assert_eq!(headers["cache-control"], "no-store");
            assert_eq!(headers["referrer-policy"], "no-referrer");
            assert_eq!(headers["cross-origin-opener-policy"], "same-origin");
            assert_eq!(headers["cross-origin-resource-policy"], "same-origin");
            let policy = headers["content-security-policy"].to_str().unwrap();
            assert!(policy.starts_with("default-src 'none'") && !policy.contains("script-src"));
            assert!(headers.keys().all(|k| !k.as_str().starts_with("access-control")));
            assert!(!headers.contains_key("set-cookie"));
        }
    }
}

#[tokio::test]
async fn pages_need_the_host_but_no_session() {
    let pages = Router::new().route("/", routing::get(|| async { "page" }));
    let door = api_with_pages(Stub::new() as Arc<_>, network_config(), pages);
    let got = get("/").host().with("sec-fetch-site", "cross-site").send(&door).await;
    assert_eq!((got.status.as_u16(), got.text().as_str()), (200, "page"));
    let policy = got.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("script-src 'self'") && policy.contains("require-trusted-types-for"));
    assert_eq!(get("/").send(&door).await.problem().0, 421);
    assert_eq!(get("/nope").host().send(&door).await.problem().1, "no_route");
    assert_eq!(get("/v1/sites").host().send(&door).await.problem().0, 401);
}

#[tokio::test]
async fn a_viewer_pushes_no_bundles() {
    let site = Stub::with(true, Role::Viewer);
    let door = network(&site);
    let token = log_in(&door, 1).await;
    let push = post(format!("{SITE}/bundles"), "x").typed("application/octet-stream");
    let got = push.bearer(&token).send(&door).await.problem();
    assert_eq!((got.0, got.1.as_str()), (403, "role"));
    assert_eq!(site.asked(), []);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_never_comes_is_504() {
    let never = Router::new().route("/never", routing::get(std::future::pending::<()>));
    let door = api_with_pages(Stub::new() as Arc<_>, network_config(), never);
    let got = get("/never").host().send(&door).await;
    assert_eq!(got.headers["x-content-type-options"], "nosniff");
    assert_eq!(got.problem().1, "timed_out");
}
