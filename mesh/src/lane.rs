//! The calling side of a lane: one stream, many requests on it, answers in any order.
//!
//! ```text
//!  request() --> queue --> writer ==stream==> peer          writer and reader are one task;
//!      ^                                       |            when either ends, every request
//!      +---- pending by id <----- reader <=====+            that still waits gets `Closed`
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Duration, Instant, timeout, timeout_at};

use crate::error::RequestError;
use crate::frame::{self, Frame, FrameError, Head};
use crate::handler::Lane;
use crate::limits::{FRAMES_QUEUED, LANE_IDLE, WRITE_STALL};
use crate::tasks::Tasks;

type Reply = oneshot::Sender<Result<Bytes, RequestError>>;

/// A lane with a stream of its own. Clones share the stream.
#[derive(Clone)]
pub(crate) struct LaneClient {
    queue: mpsc::Sender<Frame>,
    pending: Arc<Pending>,
    turns: Arc<Semaphore>,
}

/// What the caller asks, and by when.
pub(crate) struct Ask {
    pub(crate) kind: u8,
    pub(crate) body: Bytes,
    pub(crate) deadline: Duration,
    pub(crate) until: Instant,
}

impl LaneClient {
    /// Takes over a fresh stream.
    pub(crate) fn start<S>(stream: S, site: [u8; 32], lane: Lane, tasks: &Tasks) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (queue, frames) = mpsc::channel(FRAMES_QUEUED);
        let pending = Arc::new(Pending::default());
        let turns = Arc::new(Semaphore::new(lane.outstanding()));
        tasks.spawn(run(stream, site, lane, frames, pending.clone()));
        Self { queue, pending, turns }
    }

    /// Whether the stream still lives.
    pub(crate) fn is_open(&self) -> bool {
        self.pending.lock().is_some()
    }

    /// Asks and waits for the answer.
    pub(crate) async fn request(&self, ask: &Ask) -> Result<Bytes, RequestError> {
        let late = |_| RequestError::Deadline(ask.deadline);
        let _turn = timeout_at(ask.until, self.turns.acquire())
            .await
            .map_err(late)?
            .map_err(|_| RequestError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let id = self.pending.insert(reply).ok_or(RequestError::Closed)?;
        let _waiting = Waiting { lane: self, id };
        let left = ask.until.saturating_duration_since(Instant::now());
        let deadline_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1);
        let head = Head::Request { id, kind: ask.kind, deadline_ms };
        let frame = Frame { head, body: ask.body.clone() };
        timeout_at(ask.until, self.queue.send(frame))
            .await
            .map_err(late)?
            .map_err(|_| RequestError::Closed)?;
        let answer = timeout_at(ask.until, answer).await.map_err(late)?;
        answer.map_err(|_| RequestError::Closed)?
    }
}

/// Takes a request off the table when its caller has the answer or gave up; in the latter case
/// tells the peer, as far as the queue has room: the deadline ends the work there anyway.
struct Waiting<'a> {
    lane: &'a LaneClient,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.lane.pending.take(self.id).is_some() {
            let head = Head::Cancel { id: self.id };
            let _ = self.lane.queue.try_send(Frame { head, body: Bytes::new() });
        }
    }
}

/// Requests that wait, by number. `None` once the stream is gone.
struct Pending(Mutex<Option<Table>>);

#[derive(Default)]
struct Table {
    next: u64,
    waiting: HashMap<u64, Reply>,
}

impl Default for Pending {
    fn default() -> Self {
        Self(Mutex::new(Some(Table::default())))
    }
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, Option<Table>> {
        self.0.lock().expect("no code that holds the lock can panic")
    }

    fn insert(&self, reply: Reply) -> Option<u64> {
        let mut table = self.lock();
        let table = table.as_mut()?;
        table.next += 1;
        table.waiting.insert(table.next, reply);
        Some(table.next)
    }

    fn take(&self, id: u64) -> Option<Reply> {
        self.lock().as_mut()?.waiting.remove(&id)
    }

    /// Ends the table unless somebody waits. Whoever comes later opens a new stream.
    fn close_if_idle(&self) -> bool {
        let mut table = self.lock();
        let idle = table.as_ref().is_none_or(|t| t.waiting.is_empty());
        if idle {
            *table = None;
        }
        idle
    }
}

/// Ends the table when the task ends, in whatever way.
struct CloseOnDrop(Arc<Pending>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        *self.0.lock() = None; // Dropping the replies tells every caller.
    }
}

async fn run<S>(stream: S, site: [u8; 32], lane: Lane, frames: mpsc::Receiver<Frame>, pending: Arc<Pending>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _close = CloseOnDrop(pending.clone());
    let (reader, writer) = stream.split();
    // Neither is cancel safe; both end with the stream.
    let ended = tokio::select! {
        ended = read(reader, lane, &pending) => ended,
        ended = write(writer, site, frames, &pending) => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(?lane, %error, "lane ended");
    }
}

async fn read<R: AsyncRead + Unpin>(mut from: R, lane: Lane, pending: &Pending) -> Result<(), FrameError> {
    while let Some(Frame { head, body }) = frame::read_frame(&mut from, lane.max_body()).await? {
        let (id, answer) = match head {
            Head::Answer { id } => (id, Ok(body)),
            Head::Refusal { id } => {
                (id, Err(RequestError::Refused(String::from_utf8_lossy(&body).into_owned())))
            }
            Head::Hello { .. } | Head::Request { .. } | Head::Cancel { .. } => {
                return Err(FrameError::Malformed);
            }
        };
        if let Some(reply) = pending.take(id) {
            let _ = reply.send(answer); // Nobody waits any more: the answer came late.
        }
    }
    Ok(())
}

async fn write<W: AsyncWrite + Unpin>(
    mut to: W,
    site: [u8; 32],
    mut frames: mpsc::Receiver<Frame>,
    pending: &Pending,
) -> Result<(), FrameError> {
    let head = Head::Hello { version: frame::VERSION, site };
    let mut next = Some(Frame { head, body: Bytes::new() });
    loop {
        while let Some(frame) = next {
            write_in_time(&mut to, &frame).await?;
            next = frames.try_recv().ok();
        }
        flush_in_time(&mut to).await?;
        next = match timeout(LANE_IDLE, frames.recv()).await {
            Ok(Some(frame)) => Some(frame),
            Ok(None) => return Ok(()),
            Err(_) if pending.close_if_idle() => return Ok(()),
            Err(_) => None,
        };
    }
}

/// Writes a frame, or gives the stream up if the peer does not take it.
pub(crate) async fn write_in_time<W: AsyncWrite + Unpin>(
    to: &mut W,
    frame: &Frame,
) -> Result<(), FrameError> {
    timeout(WRITE_STALL, frame::write_frame(to, frame)).await.map_err(|_| stalled())?
}

/// Flushes, or gives the stream up if the peer does not take it.
pub(crate) async fn flush_in_time<W: AsyncWrite + Unpin>(to: &mut W) -> Result<(), FrameError> {
    Ok(timeout(WRITE_STALL, to.flush()).await.map_err(|_| stalled())??)
}

fn stalled() -> FrameError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "the peer takes no data").into()
}
