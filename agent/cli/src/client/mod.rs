//! The HTTP client: one connection to one door, bounded answers, errors as the API writes them.

pub mod api;
pub mod connect;
pub mod login;
pub mod memory;
pub mod sse;
pub mod tls;
pub mod webpki;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use qb_portal::view::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::door::Door;
use crate::error::CliError;
use crate::out::Out;
use crate::out::text::clean;
use connect::{Connection, Target};

/// Longest answer in bytes: 10,000 nodes of 3 KiB.
const ANSWER: usize = 32 << 20;
/// Longest pause between two pieces of a file.
const PIECE: Duration = Duration::from_secs(60);
/// Longest time for an answer: what doors allow, and a margin.
const DEADLINE: Duration = Duration::from_secs(240);

/// A request's body: in memory, or made while it is sent.
pub type Outgoing = UnsyncBoxBody<Bytes, std::io::Error>;

fn whole(bytes: Bytes) -> Outgoing {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A client of one door.
#[derive(Debug)]
pub struct Client {
    target: Target,
    sender: Mutex<Option<SendRequest<Outgoing>>>,
    token: Option<Zeroizing<String>>,
    out: Out,
}

impl Client {
    /// Over a connection that is open.
    pub fn new(target: Target, connection: Connection, out: Out) -> Self {
        Self { target, sender: Mutex::new(Some(connection.sender)), token: None, out }
    }

    /// Without a connection: the first request opens one.
    pub fn closed(target: Target, out: Out) -> Self {
        Self { target, sender: Mutex::new(None), token: None, out }
    }

    /// The door.
    pub fn door(&self) -> &Door {
        &self.target.door
    }

    /// Every request carries this session from now on.
    pub fn set_token(&mut self, token: Zeroizing<String>) {
        self.token = Some(token);
    }

    /// GET.
    ///
    /// # Errors
    /// The door does not answer, or answers with a problem.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        let response = self.call(Method::GET, path, "application/json", Bytes::new()).await?;
        parse(path, &body(response).await?)
    }

    /// GET of a document of at most `max` bytes.
    ///
    /// # Errors
    /// The door does not answer, answers with more, or with a problem.
    pub async fn get_bounded<T: DeserializeOwned>(&self, path: &str, max: usize) -> Result<T, CliError> {
        let response = self.call(Method::GET, path, "application/json", Bytes::new()).await?;
        let bytes = body(response).await?;
        if bytes.len() > max {
            return Err(CliError::failed(format!("The answer to {path} is longer than {max} bytes.")));
        }
        parse(path, &bytes)
    }

    /// GET of a file of at most `max` bytes.
    ///
    /// # Errors
    /// The door does not answer, answers with more, or with a problem.
    pub async fn download(&self, path: &str, max: usize) -> Result<Bytes, CliError> {
        let response = self.call(Method::GET, path, "application/octet-stream", Bytes::new()).await?;
        body_of(response, max).await
    }

    /// POST of a document.
    ///
    /// # Errors
    /// The door does not answer, or answers with a problem.
    pub async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        document: &B,
    ) -> Result<T, CliError> {
        let bytes =
            serde_json::to_vec(document).map_err(|e| CliError::failed(format!("Cannot write JSON: {e}.")))?;
        self.send(path, "application/json", bytes.into()).await
    }

    /// POST of bytes.
    ///
    /// # Errors
    /// The door does not answer, or answers with a problem.
    pub async fn send<T: DeserializeOwned>(
        &self,
        path: &str,
        kind: &str,
        bytes: Bytes,
    ) -> Result<T, CliError> {
        let response = self.call(Method::POST, path, kind, bytes).await?;
        parse(path, &body(response).await?)
    }

    /// A stream of events, over a connection of its own.
    ///
    /// # Errors
    /// The door does not answer, or answers with a problem.
    pub async fn stream(&self, path: &str) -> Result<Incoming, CliError> {
        let mut sender = self.connect().await?;
        let request = self.request(Method::GET, path, "text/event-stream", Bytes::new())?;
        let response = sender.send_request(request).await.map_err(|e| self.gone(&e))?;
        Ok(check(response).await?.into_body())
    }

    /// Passes a request on, over a connection of its own; whatever the door answers is the answer.
    ///
    /// # Errors
    /// The door does not answer.
    pub async fn forward(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        bytes: Bytes,
    ) -> Result<Response<Incoming>, CliError> {
        self.out.trace(&format!("{} {method} {path}", self.door()));
        let mut sender = self.connect().await?;
        let request = self.request(method, path, kind, bytes)?;
        sender.send_request(request).await.map_err(|e| self.gone(&e))
    }

    /// Has the door turn a connection of its own over to another protocol.
    ///
    /// # Errors
    /// The door does not answer, or answers with a problem.
    pub async fn upgrade(&self, path: &str, protocol: &'static str) -> Result<Upgraded, CliError> {
        self.out.trace(&format!("{} upgrade {path}", self.door()));
        let mut sender = self.connect().await?;
        let mut request = self.request(Method::GET, path, "application/json", Bytes::new())?;
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        request.headers_mut().insert(UPGRADE, HeaderValue::from_static(protocol));
        let answer = tokio::time::timeout(DEADLINE, sender.send_request(request)).await;
        let late = |_| CliError::unreachable(format!("{} gives no answer.", self.door())).remedy("qb doctor");
        let response = answer.map_err(late)?.map_err(|e| self.gone(&e))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            check(response).await?;
            return Err(CliError::failed("The door answers, and opens no tunnel: its agent may be older."));
        }
        hyper::upgrade::on(response).await.map_err(|e| self.gone(&e))
    }

    /// GET of a file of any size onto this computer's disk, over a connection of its own.
    ///
    /// # Errors
    /// The door does not answer, answers with a problem, breaks off, or the file cannot be written.
    pub async fn download_to(
        &self,
        path: &str,
        to: &std::path::Path,
        mut told: impl FnMut(u64),
    ) -> Result<(), CliError> {
        let fail = |e: std::io::Error| CliError::file("write", to, &e);
        let response = self.forward(Method::GET, path, "application/octet-stream", Bytes::new()).await?;
        let mut body = check(response).await?.into_body();
        let mut file = std::fs::File::create(to).map_err(fail)?;
        let stalls = || CliError::unreachable("The door's answer breaks off.").remedy("run it again");
        loop {
            let frame = tokio::time::timeout(PIECE, body.frame()).await.map_err(|_| stalls())?;
            let Some(frame) = frame else { break };
            let Ok(data) = frame.map_err(|_| stalls())?.into_data() else { continue };
            std::io::Write::write_all(&mut file, &data).map_err(fail)?;
            told(data.len() as u64);
        }
        file.sync_all().map_err(fail)
    }

    /// POST of a body that is made while it is sent, over a connection of its own. The answer may come before
    /// all of it was sent: then the rest is not. `within` is the longest time for all of it.
    ///
    /// # Errors
    /// The door does not answer, or answers with a problem.
    pub async fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        (length, body): (u64, Outgoing),
        within: Duration,
    ) -> Result<T, CliError> {
        self.out.trace(&format!("{} POST {path}, {length} bytes", self.door()));
        let mut sender = self.connect().await?;
        let mut request = self.request(Method::POST, path, "application/octet-stream", Bytes::new())?;
        *request.body_mut() = body;
        request.headers_mut().insert(CONTENT_LENGTH, length.into());
        let answer = tokio::time::timeout(within, sender.send_request(request)).await;
        let late = |_| {
            CliError::unreachable(format!("{} gives no answer within {} s.", self.door(), within.as_secs()))
        };
        let response = check(answer.map_err(late)?.map_err(|e| self.gone(&e))?).await?;
        parse(path, &self::body(response).await?)
    }

    async fn connect(&self) -> Result<SendRequest<Outgoing>, CliError> {
        let opened = connect::connect(&self.target).await;
        opened
            .map(|c| c.sender)
            .map_err(|cause| CliError::unreachable(format!("{}: {}.", self.door(), clean(&cause))))
    }

    fn gone(&self, error: &hyper::Error) -> CliError {
        CliError::unreachable(format!("{} does not answer any more: {error}.", self.door()))
            .remedy("qb doctor")
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        bytes: Bytes,
    ) -> Result<Request<Outgoing>, CliError> {
        let host = self.door().authority();
        let accept = if method == Method::GET { kind } else { "application/json" };
        let mut builder =
            Request::builder().method(method.clone()).uri(path).header(HOST, host).header(ACCEPT, accept);
        if method != Method::GET {
            builder = builder.header(CONTENT_TYPE, kind);
        }
        if let Some(token) = &self.token {
            builder = builder.header(AUTHORIZATION, format!("Bearer {}", token.as_str()));
        }
        builder.body(whole(bytes)).map_err(|e| CliError::usage(format!("This cannot be asked for: {e}.")))
    }

    /// One request. A kept connection that turns out to be closed is replaced once for a GET; a POST
    /// is not repeated blindly: intents are told apart by digest, but the caller should know.
    async fn call(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        bytes: Bytes,
    ) -> Result<Response<Incoming>, CliError> {
        self.out.trace(&format!("{} {method} {path}", self.door()));
        let mut kept = self.sender.lock().await;
        let mut fresh = false;
        loop {
            let ready = match kept.as_mut() {
                Some(sender) => sender.ready().await.is_ok(),
                None => false,
            };
            if !ready {
                *kept = Some(self.connect().await?);
                fresh = true;
            }
            let Some(sender) = kept.as_mut() else { continue };
            let request = self.request(method.clone(), path, kind, bytes.clone())?;
            let answer = tokio::time::timeout(DEADLINE, sender.send_request(request)).await;
            match answer {
                Ok(Ok(response)) => return check(response).await,
                Ok(Err(_)) if !fresh && method == Method::GET => *kept = None,
                Ok(Err(e)) => {
                    *kept = None;
                    return Err(self.gone(&e));
                }
                Err(_) => {
                    *kept = None;
                    let text = format!("{} gives no answer within {} s.", self.door(), DEADLINE.as_secs());
                    return Err(CliError::unreachable(text).remedy("qb doctor"));
                }
            }
        }
    }
}

async fn body(response: Response<Incoming>) -> Result<Bytes, CliError> {
    body_of(response, ANSWER).await
}

async fn body_of(response: Response<Incoming>, max: usize) -> Result<Bytes, CliError> {
    let collected = tokio::time::timeout(DEADLINE, Limited::new(response.into_body(), max).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(e)) => Err(CliError::unreachable(format!("The door's answer breaks off: {e}."))),
        Err(_) => Err(CliError::unreachable("The door's answer does not end.")),
    }
}

/// Turns everything but a success into an error.
async fn check(response: Response<Incoming>) -> Result<Response<Incoming>, CliError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let bytes = body(response).await?;
    Err(match serde_json::from_slice::<Problem>(&bytes) {
        Ok(problem) => CliError::from_problem(problem),
        Err(_) if status == StatusCode::NOT_FOUND => {
            CliError::failed("The door does not know this path: its agent may be older.")
        }
        Err(_) => CliError::failed(format!("The door answers with {status} and no reason.")),
    })
}

fn parse<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T, CliError> {
    serde_json::from_slice(bytes).map_err(|e| {
        CliError::failed(format!("The answer to {path} cannot be read: {e}."))
            .remedy("is this qb older than the agent?")
    })
}
