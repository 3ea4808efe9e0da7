//! One question to a site over a link: an HTTP/1.1 request on a stream of its own.

use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{Method, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use qb_portal::Answer;
use qb_portal::view::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::ANSWER_BYTES;
use crate::link::Link;
use crate::site::LiveSite;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("the stream failed: {0}")]
    Io(#[from] std::io::Error),
    #[error("the request failed: {0}")]
    Http(#[from] hyper::Error),
    #[error("the answer is over 8 MiB or was cut off: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("the request cannot be made: {0}")]
    Request(#[from] axum::http::Error),
    #[error("no answer came in time")]
    Slow,
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    method: Method,
    path: String,
    kind: Option<&'static str>,
    body: Bytes,
}

impl Question {
    pub(crate) fn new(method: Method, path: String) -> Self {
        Self { method, path, kind: None, body: Bytes::new() }
    }

    pub(crate) fn get(path: String) -> Self {
        Self::new(Method::GET, path)
    }

    /// A POST of bytes as they are.
    pub(crate) fn post(path: String, kind: &'static str, body: Bytes) -> Self {
        Self { method: Method::POST, path, kind: Some(kind), body }
    }

    /// A POST of JSON.
    pub(crate) fn json<T: Serialize>(path: String, value: &T) -> Self {
        // Views always become JSON.
        let body = serde_json::to_vec(value).unwrap_or_default();
        Self::post(path, "application/json", body.into())
    }
}

/// An answer, whatever it says.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Asks over one link. Dropping it closes the stream.
pub(crate) async fn ask(link: &Link, question: Question, deadline: Duration) -> Result<Said, AskError> {
    tokio::time::timeout(deadline, exchange(link, question)).await.map_err(|_| AskError::Slow)?
}

async fn exchange(link: &Link, question: Question) -> Result<Said, AskError> {
    let stream = link.mux.open().await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::builder().method(question.method).uri(question.path).header(HOST, "site");
    if let Some(kind) = question.kind {
        request = request.header(CONTENT_TYPE, kind);
    }
    let request = request.body(Full::new(question.body))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body =
            Limited::new(response.into_body(), ANSWER_BYTES).collect().await.map_err(AskError::Body)?;
        Ok(Said { status, body: body.to_bytes() })
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        // The other end may close the stream right after the last byte of its answer.
        ended = connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(error.into()),
        },
    }
}

/// What a question to a site came to.
pub(crate) enum Heard {
    /// The gateway answered.
    Said(Said),
    /// Nobody did: there is no link, or none that answers.
    Nobody(String),
}

/// Asks the gateway, then the standby.
pub(crate) async fn ask_site(site: &LiveSite, question: &Question, deadline: Duration) -> Heard {
    let mut why = "there is no link to the site".to_owned();
    for link in site.links.live() {
        match ask(&link, question.clone(), deadline).await {
            Ok(said) => return Heard::Said(said),
            Err(error) => {
                tracing::debug!(site = %site.name, node = %link.peer.node, "{error}");
                why = error.to_string();
            }
        }
    }
    Heard::Nobody(why)
}

/// Asks for JSON, now or never.
pub(crate) async fn answer<T: DeserializeOwned>(
    site: &LiveSite,
    question: Question,
    deadline: Duration,
) -> Answer<T> {
    match ask_site(site, &question, deadline).await {
        Heard::Said(said) => read(&said),
        Heard::Nobody(why) => {
            let remedy = "ask at a node of the site, or try again when the link is back";
            Err(Problem::unavailable("The site cannot be asked through the relay", why, remedy))
        }
    }
}

/// Reads an answer.
pub(crate) fn read<T: DeserializeOwned>(said: &Said) -> Answer<T> {
    let unreadable = |e: serde_json::Error| {
        let remedy = "relay and agent may be of too different age: install the newer one on both";
        Problem::unavailable("The site's answer cannot be read", e, remedy)
    };
    if said.status.is_success() {
        serde_json::from_slice(&said.body).map_err(unreadable)
    } else {
        Err(serde_json::from_slice::<Problem>(&said.body).unwrap_or_else(unreadable))
    }
}
