//! Serving a door on a listener: bounded connections, deadlines on every phase, a clean end.
//!
//! ```text
//!   accept -- room? of this address? -- TLS (10 s) -- head (10 s) -- handler (guard.rs) -- write (30 s per stall)
//!                |      '-- no: closed at once, whoever else is there is served
//!                '-- no: the next connection waits in the system's queue
//! ```

use std::future::Future;
use std::io;
use std::net::IpAddr;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::limits::{
    ACCEPT_PAUSE, CONNECTIONS, CONNECTIONS_ADDRESS, GRACE, HEAD_BYTES, HEAD_DEADLINE, HEADERS, TLS_DEADLINE,
    WRITE_STALL,
};
use crate::room::{Room, Rooms};
use crate::stall::Stall;

/// Whatever yields connections. `accept` must be safe to cancel: no connection is lost.
pub trait Listener: Send {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Io>> + Send;

    /// The address at the other end, whose connections are counted; none where it has no meaning.
    fn peer(_io: &Self::Io) -> Option<IpAddr> {
        None
    }
}

impl Listener for UnixListener {
    type Io = tokio::net::UnixStream;

    async fn accept(&mut self) -> io::Result<Self::Io> {
        UnixListener::accept(self).await.map(|(io, _)| io)
    }
}

impl Listener for TcpListener {
    type Io = tokio::net::TcpStream;

    async fn accept(&mut self) -> io::Result<Self::Io> {
        let (io, _) = TcpListener::accept(self).await?;
        // Answers are small and whole: waiting to fill a packet only costs time.
        io.set_nodelay(true)?;
        Ok(io)
    }

    fn peer(io: &Self::Io) -> Option<IpAddr> {
        io.peer_addr().ok().map(|address| address.ip())
    }
}

/// The address at the other end of the connection that a request came over, as an extension of the
/// request; none where it has no meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub Option<IpAddr>);

/// Connections that come through a channel: streams inside another connection.
impl<Io> Listener for mpsc::Receiver<Io>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Io = Io;

    async fn accept(&mut self) -> io::Result<Io> {
        match self.recv().await {
            Some(io) => Ok(io),
            // Nobody sends any more: the door stays open for those that are served.
            None => std::future::pending().await,
        }
    }
}

/// Serves plain connections until `shutdown` is ready and connections have finished, or had
/// [`GRACE`] to. Cancel-safe in so far as dropping it closes everything at once.
pub async fn serve<L: Listener>(listener: L, router: Router, shutdown: impl Future<Output = ()>) {
    run(listener, router, shutdown, |io| std::future::ready(Ok(io))).await;
}

/// Serves TLS connections; otherwise as [`serve`]. A handshake takes room, but holds nobody up.
pub async fn serve_tls<L: Listener>(
    listener: L,
    tls: TlsAcceptor,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let greet = move |io| {
        let handshake = tls.accept(io);
        async move { tokio::time::timeout(TLS_DEADLINE, handshake).await? }
    };
    run(listener, router, shutdown, greet).await;
}

async fn run<L, G, F, O>(mut listener: L, router: Router, shutdown: impl Future<Output = ()>, greet: G)
where
    L: Listener,
    G: Fn(L::Io) -> F,
    F: Future<Output = io::Result<O>> + Send + 'static,
    O: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let rooms = Rooms::new(CONNECTIONS, CONNECTIONS_ADDRESS);
    let (stop, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        // Every arm is cancel-safe: `next` holds nothing but room, `join_next` loses no result.
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (io, room) = next(&mut listener, &rooms) => {
                // Closed by being dropped: an answer would cost more than the connection.
                let peer = L::peer(&io);
                let Some(room) = rooms.admit(room, peer) else { continue };
                let task = connection(greet(io), (router.clone(), Peer(peer)), stopped.clone(), room);
                connections.spawn(task);
            }
        }
    }
    drop(listener);
    // Nobody listens only if no connection is left.
    let _ = stop.send(true);
    let rest = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, rest).await.is_err() {
        tracing::debug!("closing connections that did not finish");
    }
}

/// The next connection, once there is room for it. A failed accept is pause and another try: it
/// is lack of file descriptors, or a client that went away at once.
async fn next<L: Listener>(listener: &mut L, rooms: &Rooms) -> (L::Io, Room) {
    let room = rooms.wait().await;
    loop {
        match listener.accept().await {
            Ok(io) => return (io, room),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection, trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection<O>(
    greeted: impl Future<Output = io::Result<O>>,
    (router, peer): (Router, Peer),
    mut stopped: watch::Receiver<bool>,
    _room: Room,
) where
    O: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = match greeted.await {
        Ok(io) => TokioIo::new(Stall::new(io, WRITE_STALL)),
        Err(error) => {
            return tracing::debug!(%error, "a connection did not get through its handshake");
        }
    };
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.call(request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(io, service)
        // A handler that takes a connection over bounds it itself from then on.
        .with_upgrades();
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        _ = stopped.changed() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}
