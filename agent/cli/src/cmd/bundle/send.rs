//! Sends a bundle's file to the site as it is read: nothing of it is held but a piece.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use qb_drivers::bundle::{HEAD_BYTES, Manifest, peek};
use qb_model::Digest;
use qb_portal::view::BundleView;

use crate::client::Outgoing;
use crate::ctx::Session;
use crate::error::{CliError, sentence};
use crate::out::Out;
use crate::out::text::bytes;

/// Bytes that are read and sent at a time.
const PIECE: usize = 256 * 1024;
/// How long the door has to refuse the manifest before the rest is sent, as `Expect: 100-continue` would have
/// it: an answer that comes while much is on its way can be lost with the connection.
const JUDGE: Duration = Duration::from_millis(700);
/// Pause between two drawings of the bar.
const DRAW: Duration = Duration::from_millis(100);
/// Cells of the bar.
const BAR: usize = 24;

/// A bar on a terminal, for bytes.
pub(super) struct Bar {
    out: Out,
    what: String,
    of: u64,
    had: u64,
    drawn: Option<Instant>,
}

impl Bar {
    /// For so many bytes; nothing is drawn where nobody looks.
    pub(super) fn new(out: &Out, what: impl Into<String>, of: u64) -> Self {
        Self { out: out.clone(), what: what.into(), of, had: 0, drawn: None }
    }

    /// So many more.
    pub(super) fn add(&mut self, count: u64) {
        self.had += count;
        let due = self.drawn.is_none_or(|at| at.elapsed() >= DRAW) || self.had >= self.of;
        if due && self.shown() {
            self.drawn = Some(Instant::now());
            let bar = self.out.err.bar(self.had, self.of, BAR);
            eprint!("\r{} {bar} {} of {}\x1b[K", self.what, bytes(self.had), bytes(self.of));
        }
    }

    fn shown(&self) -> bool {
        self.out.live && !self.out.quiet && !self.out.documents()
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

/// Pushes a bundle that lies in a file.
///
/// # Errors
/// It is none, cannot be read, or the site does not take it.
pub async fn push(session: &Session<'_>, path: &Path) -> Result<BundleView, CliError> {
    let fail = |e: io::Error| CliError::file("read", path, &e);
    let mut file = File::open(path).map_err(fail)?;
    let size = file.metadata().map_err(fail)?.len();
    let mut head = Vec::new();
    (&mut file).take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(fail)?;
    let (_, manifest) = peek(&head).map_err(|e| CliError::usage(sentence(&e.to_string())))?;
    let what = format!("{} {}", manifest.name, manifest.version);
    let bar = Bar::new(&session.ctx.out, what, size);
    session.api.push_bundle((size, body(file, head, bar))).await
}

/// Digest and manifest of a bundle that lies in a file; nobody has judged who signed it.
///
/// # Errors
/// It is none, or cannot be read.
pub fn peek_file(path: &Path) -> Result<(Digest, Manifest), CliError> {
    let fail = |e: io::Error| CliError::file("read", path, &e);
    let mut head = Vec::new();
    File::open(path).map_err(fail)?.take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(fail)?;
    peek(&head).map_err(|e| CliError::usage(sentence(&e.to_string())))
}

/// Pushes a small bundle that is in memory.
///
/// # Errors
/// The site does not take it.
pub async fn push_bytes(session: &Session<'_>, file: Vec<u8>) -> Result<BundleView, CliError> {
    let size = file.len() as u64;
    let body = http_body_util::Full::new(Bytes::from(file)).map_err(|never| match never {}).boxed_unsync();
    session.api.push_bundle((size, body)).await
}

fn body(file: File, head: Vec<u8>, bar: Bar) -> Outgoing {
    let start = Some((Arc::new(file), bar, Some(head)));
    StreamBody::new(stream::unfold(start, |state| async move {
        let (file, mut bar, head) = state?;
        if let Some(head) = head {
            bar.add(head.len() as u64);
            return Some((Ok(Frame::data(Bytes::from(head))), Some((file, bar, None))));
        }
        if bar.had <= HEAD_BYTES as u64 && bar.had < bar.of {
            tokio::time::sleep(JUDGE).await;
        }
        let from = Arc::clone(&file);
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; PIECE];
            let read = (&*from).read(&mut piece)?;
            piece.truncate(read);
            Ok::<_, io::Error>(piece)
        });
        match read.await.unwrap_or_else(|e| Err(io::Error::other(e))) {
            Ok(piece) if piece.is_empty() => None,
            Ok(piece) => {
                bar.add(piece.len() as u64);
                Some((Ok(Frame::data(Bytes::from(piece))), Some((file, bar, None))))
            }
            Err(error) => Some((Err(error), None)),
        }
    }))
    .boxed_unsync()
}
