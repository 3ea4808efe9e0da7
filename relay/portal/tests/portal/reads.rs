//! Every route that shows, and what is refused on the way.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use qb_model::attest::Attestation;
use qb_portal::view::*;
use qb_portal::{IntentKey, paths};
use serde::de::DeserializeOwned;

use crate::ask::{SITE, ask, get, local};
use crate::stub::{Asked, Stub, attestation, digest, history_view, node_view, site_id, site_view};

/// The answer as its view.
async fn read<T: DeserializeOwned>(path: String) -> T {
    let got = get(&path).send(&local(&Stub::new())).await;
    assert_eq!(got.status, 200, "{path}: {}", got.text());
    assert_eq!(got.headers["content-type"], "application/json");
    serde_json::from_slice(&got.body).unwrap()
}

#[tokio::test]
async fn every_view_is_shown() {
    assert_eq!(read::<Vec<SiteView>>(paths::SITES.into()).await, [site_view()]);
    assert_eq!(read::<SiteView>(paths::site("lyon")).await, site_view());
    assert_eq!(read::<SiteView>(paths::site(&site_id().to_string())).await, site_view());
    assert_eq!(read::<Vec<NodeView>>(paths::nodes("lyon")).await, [node_view()]);
    assert_eq!(read::<NodeView>(paths::node("lyon", "lyon-r1-01")).await, node_view());
    assert_eq!(read::<Vec<ClusterView>>(paths::clusters("lyon")).await.len(), 1);
    assert_eq!(read::<HistoryView>(paths::history("lyon")).await, history_view(None));
    let name = Some(node_view().name);
    assert_eq!(read::<HistoryView>(paths::node_history("lyon", "lyon-r1-01")).await, history_view(name));
    let cluster: ClusterView = read(paths::cluster("lyon", "clus100")).await;
    assert_eq!(cluster.name.as_str(), "clus100");
    assert_eq!(read::<Vec<AdminView>>(paths::admins("lyon")).await.len(), 1);
    assert_eq!(read::<Vec<BundleView>>(paths::bundles("lyon")).await.len(), 1);
    assert_eq!(read::<Vec<IntentView>>(paths::intents("lyon")).await.len(), 1);
    assert_eq!(read::<Head>(paths::head("lyon")).await.index, 4);
    assert_eq!(read::<AuditExport>(paths::audit("lyon", 1, 5)).await.site, site_id());
    assert_eq!(read::<Attestation>(paths::attestation("lyon")).await, attestation());
    let charter: serde_json::Value = read(paths::charter("lyon")).await;
    assert_eq!(charter["payload"], "");
}

#[tokio::test]
async fn texts_have_their_types() {
    let door = local(&Stub::new());
    let metrics = get(paths::metrics("lyon")).send(&door).await;
    assert_eq!(metrics.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(metrics.text(), "qb_up 1\n");
    assert_eq!(get("/healthz").send(&door).await.text(), "ok\n");
}

#[tokio::test]
async fn an_intent_is_found_by_digest_and_by_id() {
    let site = Stub::new();
    let door = local(&site);
    let (digest, id) = (digest(), "01ARZ3NDEKTSV4RRFFQ69G5FAV");
    let waits = [("500ms", 500), ("10s", 10_000), ("1m", 60_000), ("60s", 60_000)];
    for (text, ms) in waits {
        let path = format!("{SITE}/intents/{digest}?wait={text}");
        assert_eq!(get(path).send(&door).await.status, 200);
        let key = IntentKey::Digest(digest);
        assert_eq!(site.asked(), [Asked::Intent(key, Duration::from_millis(ms))]);
    }
    get(paths::intent("lyon", id, Duration::from_millis(1_500))).send(&door).await;
    let key = IntentKey::Id(id.parse().unwrap());
    assert_eq!(site.asked(), [Asked::Intent(key, Duration::from_millis(1_500))]);
}

#[tokio::test]
async fn bad_parameters_are_named() {
    let site = Stub::new();
    let door = local(&site);
    let id = digest().to_string();
    let cases = [
        (format!("intents/{id}?wait=61s"), "wait is \"61s\""),
        (format!("intents/{id}?wait=10"), "wait is \"10\""),
        (format!("intents/{id}?wait=-1s"), "wait is \"-1s\""),
        (format!("intents/{id}?wait=99999999999999999999s"), "wait is \"9999"),
        (format!("intents/{id}?wait=1h"), "wait is \"1h\""),
        (format!("intents/{id}?wiat=1s"), "wiat"),
        ("intents/abc".into(), "id is \"abc\""),
        ("intents/%E2%80%AEabc".into(), "id is \"\\u{202e}abc\""),
        ("clusters/Clus".into(), "name is \"Clus\""),
        ("nodes/a%20b".into(), "node is \"a b\""),
        (format!("nodes/{}", "a".repeat(65)), "node is"),
        ("nodes/%FF".into(), "The path"),
        ("audit?from=x".into(), "from is \"x\""),
        ("audit?from=+1".into(), "from is"),
        ("audit?from=0".into(), "from=0"),
        ("audit?limit=501".into(), "limit=501"),
        ("audit?limit=0".into(), "limit=0"),
        ("events?after=-1".into(), "after is \"-1\""),
    ];
    for (path, words) in cases {
        let (status, code, detail) = get(format!("{SITE}/{path}")).send(&door).await.problem();
        assert_eq!((status, code.as_str()), (400, "bad_field"), "{path}: {detail}");
        assert!(detail.contains(words), "{path}: {detail}");
    }
    assert_eq!(site.asked(), []);
}

#[tokio::test]
async fn audit_passes_its_range_on() {
    let site = Stub::new();
    let door = local(&site);
    get(format!("{SITE}/audit")).send(&door).await;
    get(paths::audit("lyon", 9, 500)).send(&door).await;
    assert_eq!(site.asked(), [Asked::Audit(1, 200), Asked::Audit(9, 500)]);
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let door = local(&Stub::new());
    let cases = [
        ("/v1/sites/lyo/nodes", "not_found", "There is no site here called \"lyo\". Close to it: lyon."),
        ("/v1/sites/lyon/nodes/lyon-r1-02", "not_found", "Close to it: lyon-r1-01."),
        ("/v1/sites/lyon/nodes/zzz", "not_found", "There is no node \"zzz\"."),
        ("/v1/sites/lyon/nope", "no_route", "/v1/sites/lyon/nope"),
        ("/", "no_route", "\"/\""),
        ("/v1/sites/", "no_route", "/v1/sites/"),
    ];
    for (path, code, words) in cases {
        let got = get(path).send(&door).await.problem();
        assert_eq!((got.0, got.1.as_str()), (404, code), "{path}");
        assert!(got.2.contains(words), "{path}: {}", got.2);
    }
    let (status, code, detail) = get("/v1/sites/lyon/nodes/lyon").send(&door).await.problem();
    assert_eq!((status, code.as_str()), (409, "ambiguous"));
    assert_eq!(detail, "\"lyon\" names 4 nodes: lyon-a, lyon-b, lyon-c and 1 more.");
    let (status, code, detail) = get(paths::alerts("lyon")).send(&door).await.problem();
    assert_eq!((status, code.as_str()), (503, "unavailable"));
    assert_eq!(detail, "Alerts: no leader is known.");
}

#[tokio::test]
async fn a_node_without_a_site_says_so() {
    let door = local(&Stub::with(false, qb_model::action::Role::Owner));
    assert_eq!(get("/v1/sites").send(&door).await.json(), serde_json::json!([]));
    let (status, _, detail) = get("/v1/sites/lyon").send(&door).await.problem();
    assert_eq!((status, detail.as_str()), (404, "This node belongs to no site yet."));
}

#[tokio::test]
async fn wrong_methods_are_405() {
    let door = local(&Stub::new());
    for (method, path) in [
        (Method::POST, "/v1/sites"),
        (Method::DELETE, "/v1/sites/lyon/nodes"),
        (Method::PUT, "/v1/sites/lyon/intents"),
        (Method::GET, "/v1/sites/lyon/plan"),
        (Method::POST, "/healthz"),
        (Method::OPTIONS, "/v1/sites/lyon/intents"),
    ] {
        let got = ask(method, path).send(&door).await;
        assert_eq!(got.problem().1, "method_not_allowed");
        assert_eq!(got.status, StatusCode::METHOD_NOT_ALLOWED);
        assert!(got.headers.keys().all(|k| !k.as_str().starts_with("access-control")));
    }
}

#[test]
fn a_text_never_leaves_its_segment() {
    assert_eq!(paths::node("lyon", "../admins?x#y"), "/v1/sites/lyon/nodes/..%2Fadmins%3Fx%23y");
    assert_eq!(paths::node("lyon", ".."), "/v1/sites/lyon/nodes/%2E%2E");
    assert_eq!(paths::node_history("lyon", "a/b"), "/v1/sites/lyon/nodes/a%2Fb/history");
    assert_eq!(paths::node("lyon", "a.b"), "/v1/sites/lyon/nodes/a.b");
    assert_eq!(paths::submit("lyon", Duration::from_secs(10)), "/v1/sites/lyon/intents?wait=10s");
    assert_eq!(paths::events("lyon", Some(3)), "/v1/sites/lyon/events?after=3");
}
