//! The answering side of a lane's stream. Requests run at once, each on a task of its own, so a
//! long poll holds up nobody; a peer that has too many running is refused the next.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite};
use qb_model::NodeId;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Duration, timeout};
use tokio_util::sync::CancellationToken;

use crate::frame::{self, Frame, FrameError, Head};
use crate::handler::{Handler, Lane};
use crate::lane::{flush_in_time, write_in_time};
use crate::limits::{FRAMES_QUEUED, HELLO_DEADLINE, REFUSAL_CHARS, REQUEST_DEADLINE};

/// Everything that answering a peer's stream takes.
pub(crate) struct Server {
    pub(crate) from: NodeId,
    pub(crate) lane: Lane,
    pub(crate) site: [u8; 32],
    pub(crate) handler: Arc<dyn Handler>,
    /// Requests of this peer that may still start on this lane.
    pub(crate) turns: Arc<Semaphore>,
    /// Ends the stream, and says that it has ended.
    pub(crate) place: CancellationToken,
}

impl Server {
    /// Serves the stream until it ends. What still runs then is aborted.
    pub(crate) async fn run<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S) {
        let _left = self.place.clone().drop_guard();
        let (answers, frames) = mpsc::channel(FRAMES_QUEUED);
        let (reader, writer) = stream.split();
        // Neither is cancel safe; all end with the stream.
        let ended = tokio::select! {
            ended = self.read(reader, answers) => ended,
            ended = write(writer, frames) => ended,
            () = self.place.cancelled() => {
                tracing::debug!(from = %self.from, lane = ?self.lane, "stream ended: the peer has newer ones");
                return;
            }
        };
        if let Err(error) = ended {
            tracing::debug!(from = %self.from, lane = ?self.lane, %error, "stream ended");
        }
    }

    async fn read<R: AsyncRead + Unpin>(
        &self,
        mut from: R,
        answers: mpsc::Sender<Frame>,
    ) -> Result<(), FrameError> {
        self.expect_hello(&mut from).await?;
        let mut running = Running::new(self.lane.inbound());
        while let Some(frame) = frame::read_frame(&mut from, self.lane.max_body()).await? {
            match frame.head {
                Head::Request { id, kind, deadline_ms } => {
                    let Ok(turn) = self.turns.clone().try_acquire_owned() else {
                        let most = self.lane.inbound();
                        let text = format!("busy: {most} of your requests are running on this lane");
                        let _ = answers.send(refusal(id, &text)).await;
                        continue;
                    };
                    let deadline = Duration::from_millis(u64::from(deadline_ms)).min(REQUEST_DEADLINE);
                    let work = self.handle(id, kind, frame.body);
                    let answers = answers.clone();
                    running.start(id, async move {
                        let _turn = turn;
                        if let Ok(answer) = timeout(deadline, work).await {
                            let _ = answers.send(answer).await; // Fails only with the stream.
                        }
                    });
                }
                Head::Cancel { id } => running.cancel(id),
                Head::Hello { .. } | Head::Answer { .. } | Head::Refusal { .. } => {
                    return Err(FrameError::Malformed);
                }
            }
        }
        Ok(())
    }

    async fn expect_hello<R: AsyncRead + Unpin>(&self, from: &mut R) -> Result<(), FrameError> {
        let hello = timeout(HELLO_DEADLINE, frame::read_frame(from, 0)).await;
        let hello = hello.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        match hello.map(|frame| frame.head) {
            Some(Head::Hello { version: frame::VERSION, site }) if site == self.site => Ok(()),
            other => {
                tracing::warn!(from = %self.from, ?other, "hello of another site or version");
                Err(FrameError::Malformed)
            }
        }
    }

    fn handle(&self, id: u64, kind: u8, body: Bytes) -> impl Future<Output = Frame> + Send + 'static {
        let (handler, from, lane) = (self.handler.clone(), self.from, self.lane);
        async move {
            match handler.request(from, lane, kind, body).await {
                Ok(body) if body.len() <= lane.max_body() => Frame { head: Head::Answer { id }, body },
                Ok(body) => {
                    let (size, limit) = (body.len(), lane.max_body());
                    refusal(id, &format!("an answer of {size} bytes is over the limit of {limit}"))
                }
                Err(text) => refusal(id, &text),
            }
        }
    }
}

/// Requests that run, so that they can be cancelled. Aborted when dropped.
struct Running {
    tasks: JoinSet<()>,
    by_id: HashMap<u64, AbortHandle>,
    /// How many may run at most.
    most: usize,
}

impl Running {
    fn new(most: usize) -> Self {
        Self { tasks: JoinSet::new(), by_id: HashMap::new(), most }
    }

    fn start(&mut self, id: u64, work: impl Future<Output = ()> + Send + 'static) {
        while let Some(ended) = self.tasks.try_join_next() {
            if ended.is_err_and(|error| error.is_panic()) {
                tracing::error!("a request's handler panicked; its caller runs into the deadline");
            }
        }
        if self.by_id.len() >= 2 * self.most {
            self.by_id.retain(|_, task| !task.is_finished());
        }
        self.by_id.insert(id, self.tasks.spawn(work));
    }

    fn cancel(&mut self, id: u64) {
        if let Some(task) = self.by_id.remove(&id) {
            task.abort();
        }
    }
}

/// A refusal with a text of bounded size.
fn refusal(id: u64, text: &str) -> Frame {
    let text: String = text.chars().take(REFUSAL_CHARS).collect();
    Frame { head: Head::Refusal { id }, body: Bytes::from(text) }
}

async fn write<W: AsyncWrite + Unpin>(
    mut to: W,
    mut frames: mpsc::Receiver<Frame>,
) -> Result<(), FrameError> {
    while let Some(first) = frames.recv().await {
        let mut next = Some(first);
        while let Some(frame) = next {
            write_in_time(&mut to, &frame).await?;
            next = frames.try_recv().ok();
        }
        flush_in_time(&mut to).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use async_trait::async_trait;
    use futures::AsyncWriteExt;
    use tokio::io::DuplexStream;
    use tokio::task::JoinHandle;
    use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

    use super::*;
    use crate::gossip::Topic;
    use crate::handler::PeerEvent;
    use crate::knock::KnockStream;
    use crate::limits::CONTROL_BODY;

    const SITE: [u8; 32] = [3; 32];
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Echoes kind 0, never answers kind 1.
    struct Echo;

    #[async_trait]
    impl Handler for Echo {
        async fn request(&self, _: NodeId, _: Lane, kind: u8, body: Bytes) -> Result<Bytes, String> {
            if kind == 1 {
                std::future::pending::<()>().await;
            }
            Ok(body)
        }
        async fn gossip(&self, _: NodeId, _: Topic, _: Bytes) {}
        async fn peer(&self, _: PeerEvent) {}
        async fn knock(&self, _: NodeId, _: SocketAddr, _: KnockStream) {}
    }

    /// A peer that writes frames by hand.
    struct Peer {
        stream: Compat<DuplexStream>,
        server: JoinHandle<()>,
    }

    impl Peer {
        fn start(turns: usize) -> Self {
            let (here, there) = tokio::io::duplex(1 << 16);
            let server = Server {
                from: NodeId([1; 32]),
                lane: Lane::Control,
                site: SITE,
                handler: Arc::new(Echo),
                turns: Arc::new(Semaphore::new(turns)),
                place: CancellationToken::new(),
            };
            let server = tokio::spawn(server.run(there.compat()));
            Self { stream: here.compat(), server }
        }

        async fn hello(turns: usize) -> Self {
            let mut peer = Self::start(turns);
            peer.send(Head::Hello { version: frame::VERSION, site: SITE }, "").await;
            peer
        }

        async fn send(&mut self, head: Head, body: &'static str) {
            let frame = Frame { head, body: Bytes::from(body) };
            frame::write_frame(&mut self.stream, &frame).await.expect("written");
        }

        async fn ask(&mut self, id: u64, kind: u8) {
            self.send(Head::Request { id, kind, deadline_ms: 60_000 }, "body").await;
        }

        async fn answer(&mut self) -> Option<Head> {
            let frame = frame::read_frame(&mut self.stream, CONTROL_BODY);
            let frame = timeout(PATIENCE, frame).await.expect("in time");
            frame.expect("a whole frame").map(|frame| frame.head)
        }

        async fn expect_end(mut self) {
            assert_eq!(self.answer().await, None);
            self.server.await.expect("no panic");
        }
    }

    #[tokio::test]
    async fn an_oversize_frame_ends_the_stream() {
        let mut peer = Peer::hello(4).await;
        let announced = u32::try_from(CONTROL_BODY + 65).expect("small").to_be_bytes();
        peer.stream.write_all(&announced).await.expect("written");
        peer.expect_end().await;
    }

    #[tokio::test]
    async fn a_stream_without_this_sites_hello_ends() {
        for head in [
            Head::Hello { version: frame::VERSION, site: [4; 32] },
            Head::Hello { version: 0, site: SITE },
            Head::Request { id: 1, kind: 0, deadline_ms: 1000 },
        ] {
            let mut peer = Peer::start(4);
            peer.send(head, "").await;
            peer.expect_end().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_ends() {
        Peer::start(4).expect_end().await;
    }

    #[tokio::test]
    async fn one_request_too_many_is_refused_and_a_cancel_makes_room() {
        let mut peer = Peer::hello(2).await;
        peer.ask(1, 1).await;
        peer.ask(2, 1).await;
        peer.ask(3, 0).await;
        assert_eq!(peer.answer().await, Some(Head::Refusal { id: 3 }));
        peer.send(Head::Cancel { id: 1 }, "").await;
        // The place is free once the cancelled task is gone.
        let mut id = 4;
        loop {
            peer.ask(id, 0).await;
            match peer.answer().await {
                Some(Head::Answer { id: answered }) => break assert_eq!(answered, id),
                other => assert_eq!(other, Some(Head::Refusal { id })),
            }
            id += 1;
        }
    }

    #[tokio::test]
    async fn answers_overtake() {
        let mut peer = Peer::hello(4).await;
        peer.ask(1, 1).await;
        peer.ask(2, 0).await;
        assert_eq!(peer.answer().await, Some(Head::Answer { id: 2 }));
    }
}
