//! Server-sent events: `id:`, `event:` and `data:` lines, an empty line ends an event.

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use qb_portal::view::Event;

use crate::error::CliError;

/// Longest event in bytes; longer ones are dropped.
const MAX: usize = 64 * 1024;

/// Takes a stream apart into events.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    data: Vec<u8>,
    over: bool,
}

impl Parser {
    /// The data of the events that end in these bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' => out.extend(self.end_line()),
                b'\r' => {}
                _ if self.line.len() + self.data.len() >= MAX => self.over = true,
                _ => self.line.push(*byte),
            }
        }
        out
    }

    fn end_line(&mut self) -> Option<Vec<u8>> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            let over = std::mem::take(&mut self.over);
            return (!data.is_empty() && !over).then_some(data);
        }
        if let Some(rest) = line.strip_prefix(b"data:") {
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(rest.strip_prefix(b" ").unwrap_or(rest));
        }
        None
    }
}

/// The events of an open stream.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    parser: Parser,
    ready: std::collections::VecDeque<Event>,
}

impl Events {
    /// Over a body.
    pub fn new(body: Incoming) -> Self {
        Self { body, parser: Parser::default(), ready: std::collections::VecDeque::new() }
    }

    /// The next event; none when the door ended the stream. Cancelling loses nothing.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next(&mut self) -> Result<Option<Event>, CliError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame =
                frame.map_err(|e| CliError::unreachable(format!("The stream of events breaks off: {e}.")))?;
            let Some(bytes) = frame.data_ref() else { continue };
            for data in self.parser.push(bytes) {
                // Kinds of events that are newer than this program are left out.
                self.ready.extend(serde_json::from_slice::<Event>(&data));
            }
        }
    }
}
