//! Somebody with a key at the relay's door.

use std::time::Duration;

use axum::http::{HeaderMap, Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use qb_model::document::{Document as _, Login};
use qb_model::{Millis, Nonce, PublicKey};
use qb_portal::view::{IntentView, LoginChallenge, LoginView};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::site::{key, now, public};
use crate::world::World;

#[derive(Clone)]
pub(crate) struct Client {
    address: String,
    authority: String,
    token: Option<String>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    headers: HeaderMap,
}

impl Got {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn read<T: DeserializeOwned>(&self) -> T {
        assert!(self.status.is_success(), "{} {}", self.status, self.text());
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// A header as text; empty without it.
    pub(crate) fn header(&self, name: &str) -> String {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
    }

    pub(crate) fn code(&self) -> String {
        self.json()["type"].as_str().unwrap_or_default().to_owned()
    }
}

impl Client {
    pub(crate) fn stranger(authority: &str) -> Self {
        Self::stranger_as(authority, authority)
    }

    /// At an address, for what has another name.
    pub(crate) fn stranger_as(address: &str, authority: &str) -> Self {
        Self { address: address.to_owned(), authority: authority.to_owned(), token: None }
    }

    /// Logs in with a key.
    pub(crate) async fn log_in(world: &World, base: u8, number: u8) -> Self {
        let mut client = Self::stranger(&world.authority);
        let got = client.try_log_in(&world.url, base, number).await;
        client.token = Some(got.read::<LoginView>().token);
        client
    }

    pub(crate) async fn try_log_in(&self, origin: &str, base: u8, number: u8) -> Got {
        let challenge: LoginChallenge = self.get("/v1/login").await.read();
        self.answer(challenge.nonce, origin, challenge.server_key, base, number).await
    }

    /// A login for whatever door.
    pub(crate) async fn answer(
        &self,
        nonce: Nonce,
        origin: &str,
        server_key: PublicKey,
        base: u8,
        number: u8,
    ) -> Got {
        let login = Login {
            origin: origin.to_owned(),
            server_key,
            nonce,
            issued_ms: Millis(now()),
            expires_ms: Millis(now() + 60_000),
            session_key: public(base, 99),
        };
        let envelope = login.sign(&[&key(base, number)]).to_bytes();
        self.post("/v1/login", envelope).await
    }

    pub(crate) async fn get(&self, path: impl AsRef<str>) -> Got {
        self.ask(Method::GET, path.as_ref(), Bytes::new()).await
    }

    pub(crate) async fn post(&self, path: impl AsRef<str>, body: impl Into<Bytes>) -> Got {
        self.ask(Method::POST, path.as_ref(), body.into()).await
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, body: Bytes) -> Got {
        let io = TcpStream::connect(&self.address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", &self.authority);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.header("content-type", "application/json").body(Full::new(body)).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status();
        let headers = response.headers().clone();
        Got { status, headers, body: response.into_body().collect().await.unwrap().to_bytes() }
    }

    pub(crate) fn token(&self) -> &str {
        self.token.as_deref().unwrap()
    }

    pub(crate) async fn submit(&self, site: &str, envelope: Vec<u8>, wait: &str) -> IntentView {
        self.post(format!("/v1/sites/{site}/intents?wait={wait}"), envelope).await.read()
    }
}

/// Asks again until it is so.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let asking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), asking).await.unwrap_or_else(|_| panic!("never: {what}"))
}
