//! One connection of a client: to which server it goes, and how it ends.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

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

    /// Whether nothing was noted for a while, of which the time before `since` does not count.
    fn is_quiet(&self, since: Instant, quiet: Duration) -> bool {
        let noted = self.began + Duration::from_millis(self.last.load(Ordering::Relaxed));
        noted.max(since).elapsed() >= quiet
    }
}

/// A server's stream: it is noted when bytes come.
struct Heard<'a> {
    stream: &'a mut TcpStream,
    /// Of this connection, and of the server.
    notes: [&'a Noted; 2],
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
            self.notes.iter().for_each(|noted| noted.note());
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
    let spoke = Noted::new(Instant::now());
    let end = {
        let mut from_server = Heard { stream: &mut server, notes: [&spoke, &*link.heard] };
        let copied = copy_bidirectional_with_sizes(&mut client, &mut from_server, BUFFER, BUFFER);
        tokio::select! {
            copied = copied => copied.map(|_| End::Own).map_err(drop),
            end = ended(link.verdict, &spoke) => Ok(end),
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
async fn ended(mut verdict: watch::Receiver<Verdict>, spoke: &Noted) -> End {
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
                // Only the server's bytes count: one that answers nothing would be asked on and on.
                if spoke.is_quiet(since, QUIET) || since.elapsed() >= DRAIN_LIMIT {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many virtual milliseconds a drained connection ends whose server speaks every 20 ms for
    /// so long.
    async fn drained_after(speaks: Duration) -> u128 {
        let began = Instant::now();
        let spoke = Noted::new(began);
        let (_verdict, told) = watch::channel(Verdict::Drain);
        let speaking = async {
            while began.elapsed() < speaks {
                sleep(Duration::from_millis(20)).await;
                spoke.note();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            end = ended(told, &spoke) => assert_eq!(end, End::Drained),
            () = speaking => {}
        }
        began.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn a_drained_connection_ends_when_its_server_is_silent_and_soon_in_any_case() {
        let (quiet, tick, limit) = (QUIET.as_millis(), TICK.as_millis(), DRAIN_LIMIT.as_millis());
        for (speaks, least, most) in [
            (Duration::ZERO, quiet, quiet + tick),
            (Duration::from_millis(300), 300 + quiet, 320 + quiet + tick),
            (2 * DRAIN_LIMIT, limit, limit + tick),
        ] {
            let after = drained_after(speaks).await;
            assert!((least..=most).contains(&after), "{speaks:?}: {after} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_verdict_that_is_gone_drains_and_one_that_cuts_stays() {
        let spoke = Noted::new(Instant::now());
        for (last, want) in
            [(Verdict::Keep, End::Drained), (Verdict::Drain, End::Drained), (Verdict::Cut, End::Cut)]
        {
            let told = watch::channel(last).1;
            assert_eq!(ended(told, &spoke).await, want, "{last:?}");
        }
    }
}
