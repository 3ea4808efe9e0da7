//! Doors, requests, and what is read of the answers.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qb_portal::{Access, DoorConfig, api};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::stub::{Stub, server_key};

pub const ORIGIN: &str = "https://10.0.0.1:8443";
pub const HOST: &str = "10.0.0.1:8443";
pub const SITE: &str = "/v1/sites/lyon";

/// The local socket.
pub fn local(site: &Arc<Stub>) -> Router {
    let door = DoorConfig { access: Access::Local, server_key: server_key() };
    api(Arc::clone(site) as _, door)
}

pub fn network_config() -> DoorConfig {
    let (origins, hosts) = (vec![ORIGIN.into()], vec![HOST.into(), "N1.example:8443".into()]);
    DoorConfig { access: Access::Network { origins, hosts }, server_key: server_key() }
}

/// A network door.
pub fn network(site: &Arc<Stub>) -> Router {
    api(Arc::clone(site) as _, network_config())
}

/// An answer, read whole.
pub struct Got {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The answer must be a problem; checks the form, answers with status, code and detail.
    pub fn problem(&self) -> (u16, String, String) {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{:?}", self.text());
        let problem: qb_portal::view::Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.status, self.status.as_u16());
        assert!(problem.remedy.is_some_and(|r| !r.is_empty()));
        assert!(!problem.title.is_empty());
        (problem.status, problem.code, problem.detail)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A request that is not yet sent.
pub struct Ask(axum::http::request::Builder, Body);

pub fn ask(method: Method, path: impl AsRef<str>) -> Ask {
    Ask(Request::builder().method(method).uri(path.as_ref()), Body::empty())
}

pub fn get(path: impl AsRef<str>) -> Ask {
    ask(Method::GET, path)
}

/// A POST of JSON.
pub fn post(path: impl AsRef<str>, body: impl Into<Body>) -> Ask {
    Ask(ask(Method::POST, path).0, body.into()).with("content-type", "application/json")
}

impl Ask {
    pub fn with(self, name: &str, value: impl AsRef<str>) -> Self {
        Self(self.0.header(name, value.as_ref()), self.1)
    }

    pub fn typed(mut self, kind: &str) -> Self {
        self.0.headers_mut().unwrap().insert("content-type", kind.parse().unwrap());
        self
    }

    /// To the network door's host.
    pub fn host(self) -> Self {
        self.with("host", HOST)
    }

    pub fn bearer(self, token: &str) -> Self {
        self.host().with("authorization", format!("Bearer {token}"))
    }

    pub async fn open(self, router: &Router) -> Response {
        router.clone().oneshot(self.0.body(self.1).unwrap()).await.unwrap()
    }

    pub async fn send(self, router: &Router) -> Got {
        let (parts, body) = self.open(router).await.into_parts();
        let body = to_bytes(body, 1 << 24).await.unwrap().to_vec();
        Got { status: parts.status, headers: parts.headers, body }
    }
}

/// A login's envelope.
pub fn envelope(payload: &Value) -> String {
    let payload = STANDARD.encode(payload.to_string());
    let kind = "application/vnd.qb.login.v1+json";
    json!({ "payload": payload, "payloadType": kind, "signatures": [] }).to_string()
}

/// Logs in with a key and answers with the token.
pub async fn log_in(router: &Router, key: u8) -> String {
    let challenge = get("/v1/login").host().send(router).await.json();
    let payload = json!({
        "origin": ORIGIN, "nonce": challenge["nonce"], "server_key": challenge["server_key"], "key": key,
    });
    let got = post("/v1/login", envelope(&payload)).host().send(router).await;
    assert_eq!(got.status, 200, "{}", got.text());
    got.json()["token"].as_str().unwrap().to_owned()
}
