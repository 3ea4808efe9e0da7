//! The API over an agent's socket, byte by byte: what a hostile client could send as well.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Longest wait for an answer: longer than any `?wait=` that is asked for.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A text member of the body; empty if there is none.
    pub fn text(&self, member: &str) -> String {
        self.json()[member].as_str().unwrap_or_default().to_owned()
    }
}

/// Asks for a document.
///
/// # Errors
/// No agent listens, or it answers with a problem.
pub fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T> {
    let answer = exchange(socket, "GET", path, &[])?;
    ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text("detail"));
    serde_json::from_slice(&answer.body).with_context(|| format!("{path} answers with something else"))
}

/// Sends a body as `application/json`.
///
/// # Errors
/// No agent listens, or it answers with no HTTP.
pub fn post(socket: &Path, path: &str, body: &[u8]) -> Result<Answer> {
    exchange(socket, "POST", path, body)
}

/// Reads a stream of events until `enough` holds for what came so far.
///
/// # Errors
/// No agent listens, the stream ends, or nothing comes for long.
pub fn events(socket: &Path, path: &str, enough: impl Fn(&str) -> bool) -> Result<String> {
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("nothing listens at {}", socket.display()))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
    let (mut text, mut bytes) = (String::new(), [0; 4096]);
    while !enough(&text) {
        let count = stream.read(&mut bytes).with_context(|| format!("after {text}"))?;
        ensure!(count > 0, "the stream ended: {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    Ok(text)
}

fn exchange(socket: &Path, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("nothing listens at {}", socket.display()))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    // A door that refuses by the head alone may close before the body is through.
    let sent = stream.write_all(body);
    let mut raw = Vec::new();
    let read = stream.read_to_end(&mut raw);
    if raw.is_empty() {
        sent?;
        read?;
    }
    parse(&raw)
}

/// Reads an answer.
///
/// # Errors
/// It is no HTTP, or comes in chunks.
pub fn parse(raw: &[u8]) -> Result<Answer> {
    let end = raw.windows(4).position(|w| w == b"\r\n\r\n").context("the answer has no head")?;
    let head = std::str::from_utf8(&raw[..end])?;
    if head.to_ascii_lowercase().contains("transfer-encoding") {
        bail!("the answer comes in chunks");
    }
    let status = head.split(' ').nth(1).context("the answer has no status")?.parse()?;
    Ok(Answer { status, body: raw[end + 4..].to_vec() })
}
