//! Streams inside one connection: yamux, driven by one future that its caller runs.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};
use yamux::{Config, Connection, ConnectionError, Mode};

use crate::limits::{STREAM_QUEUE, STREAMS, WINDOW_BYTES};

/// One stream of a link, as tokio reads and writes.
pub type Stream = Compat<yamux::Stream>;

/// Which end this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MuxEnd {
    /// The one that dialled.
    Agent,
    /// The one that answered.
    Relay,
}

/// Opens streams. Works as long as the driver runs; when all copies are gone, the link ends.
#[derive(Clone, Debug)]
pub struct Mux {
    opens: mpsc::Sender<oneshot::Sender<Stream>>,
}

impl Mux {
    /// Opens a stream. Cancel-safe: a stream that nobody takes is closed.
    ///
    /// # Errors
    /// The link is gone.
    pub async fn open(&self) -> io::Result<Stream> {
        let gone = || io::Error::new(io::ErrorKind::NotConnected, "the link is gone");
        let (give, take) = oneshot::channel();
        self.opens.send(give).await.map_err(|_| gone())?;
        take.await.map_err(|_| gone())
    }

    /// Whether the link is gone.
    pub fn is_gone(&self) -> bool {
        self.opens.is_closed()
    }
}

/// Streams over a connection: the handle, the streams that the other end opens, and the future that
/// moves the bytes until the link ends. A stream that finds no room in the queue is closed.
pub fn streams<S>(
    io: S,
    end: MuxEnd,
) -> (Mux, mpsc::Receiver<Stream>, impl Future<Output = Result<(), ConnectionError>> + Send)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut config = Config::default();
    // Each bound is checked against the other: fewer streams first.
    config.set_max_num_streams(STREAMS).set_max_connection_receive_window(Some(WINDOW_BYTES));
    let mode = match end {
        MuxEnd::Agent => Mode::Client,
        MuxEnd::Relay => Mode::Server,
    };
    let (opens, asked) = mpsc::channel(STREAM_QUEUE);
    let (came, incoming) = mpsc::channel(STREAM_QUEUE);
    let connection = Connection::new(io.compat(), config, mode);
    let mut driver = Driver { connection, asked, waiting: None, came, closing: false };
    (Mux { opens }, incoming, poll_fn(move |cx| driver.poll(cx)))
}

struct Driver<S> {
    connection: Connection<Compat<S>>,
    asked: mpsc::Receiver<oneshot::Sender<Stream>>,
    /// Who waits for the next stream.
    waiting: Option<oneshot::Sender<Stream>>,
    came: mpsc::Sender<Stream>,
    closing: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        loop {
            if self.closing {
                return self.connection.poll_close(cx);
            }
            if self.poll_opens(cx)? {
                continue;
            }
            match self.connection.poll_next_inbound(cx) {
                // Dropping a stream closes it: whoever floods gets nothing.
                Poll::Ready(Some(Ok(stream))) => drop(self.came.try_send(stream.compat())),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Opens what is asked for. True if there may be more to do at once.
    fn poll_opens(&mut self, cx: &mut Context<'_>) -> Result<bool, ConnectionError> {
        if self.waiting.is_none() {
            match self.asked.poll_recv(cx) {
                Poll::Ready(Some(asker)) => self.waiting = Some(asker),
                Poll::Ready(None) => {
                    self.closing = true;
                    return Ok(true);
                }
                Poll::Pending => return Ok(false),
            }
        }
        match self.connection.poll_new_outbound(cx) {
            Poll::Ready(stream) => {
                if let (Some(asker), stream) = (self.waiting.take(), stream?) {
                    // An asker that went away drops the stream, which closes it.
                    drop(asker.send(stream.compat()));
                }
                Ok(true)
            }
            Poll::Pending => Ok(false),
        }
    }
}
