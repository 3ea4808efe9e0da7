//! One connection of a client: to which server it goes, and how it ends.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::health::Verdict;
use super::limits::{BUFFER, DRAIN_LIMIT, QUIET, TICK};

/// When something was last noted, in milliseconds since a beginning.
#[derive(Debug)]
pub(super) struct Noted {
    began: Instant,
    last: AtomicU64,
}

impl Noted {
    pub(super) fn new(began: Instant) -> Self {
        Self { began, last: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn note(&self) {
        self.last.fetch_max(self.now(), Ordering::Relaxed);
    }

    /// The last time in milliseconds since the beginning; none before the first.
    pub(super) fn last(&self) -> Option<u64> {
        Some(self.last.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }

    fn age_ms(&self) -> u64 {
        self.now().saturating_sub(self.last.load(Ordering::Relaxed))
    }
}

/// A stream that notes when bytes are read from it.
struct Heard<'a> {
    stream: &'a mut TcpStream,
    notes: [Option<&'a Noted>; 2],
}

impl AsyncRead for Heard<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = to.filled().len();
        let read = Pin::new(&mut *self.stream).poll_read(cx, to);
        if to.filled().len() > before {
            self.notes.iter().flatten().for_each(|noted| noted.note());
        }
        read
    }
}

impl AsyncWrite for Heard<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By one of its two ends.
    Own,
    /// It was drained.
    Drained,
    /// It was cut.
    Cut,
}

/// What a connection knows of its server.
pub(super) struct Link {
    /// What becomes of connections to it; who sends it is gone when the server is.
    pub(super) verdict: watch::Receiver<Verdict>,
    /// When the server's last byte came, on any connection.
    pub(super) heard: Arc<Noted>,
}

/// Closes a stream so that its other end is told by a reset.
pub(super) fn reset(stream: TcpStream) {
    // If it cannot be told so, it is closed all the same.
    let _ = stream.set_zero_linger();
    drop(stream);
}

/// Passes bytes on until an end closes, or the verdict ends it.
pub(super) async fn pass(mut client: TcpStream, mut server: TcpStream, link: Link) -> End {
    let moved = Noted::new(Instant::now());
    let end = {
        let mut from_client = Heard { stream: &mut client, notes: [Some(&moved), None] };
        let mut from_server = Heard { stream: &mut server, notes: [Some(&moved), Some(&*link.heard)] };
        let copied = copy_bidirectional_with_sizes(&mut from_client, &mut from_server, BUFFER, BUFFER);
        tokio::select! {
            copied = copied => copied.map(|_| End::Own).map_err(drop),
            end = ended(link.verdict, &moved) => Ok(end),
        }
    };
    match end {
        Ok(End::Own) => End::Own,
        Ok(End::Drained) => End::Drained,
        Ok(End::Cut) | Err(()) => {
            reset(client);
            reset(server);
            end.unwrap_or(End::Own)
        }
    }
}

/// Ready when the verdict ends a connection.
async fn ended(mut verdict: watch::Receiver<Verdict>, moved: &Noted) -> End {
    let quiet_ms = u64::try_from(QUIET.as_millis()).unwrap_or(u64::MAX);
    let mut drains: Option<Instant> = None;
    loop {
        let now = *verdict.borrow_and_update();
        // A server that left the list leaves a verdict behind that nobody changes any more.
        let now = if verdict.has_changed().is_err() && now == Verdict::Keep { Verdict::Drain } else { now };
        match now {
            Verdict::Cut => return End::Cut,
            Verdict::Keep => {
                drains = None;
                // An error says that the server is gone: the next round sees it.
                let _ = verdict.changed().await;
            }
            Verdict::Drain => {
                let since = *drains.get_or_insert_with(Instant::now);
                if moved.age_ms() >= quiet_ms || since.elapsed() >= DRAIN_LIMIT {
                    return End::Drained;
                }
                tokio::select! {
                    biased;
                    Ok(()) = verdict.changed() => {}
                    () = sleep(TICK) => {}
                }
            }
        }
    }
}
