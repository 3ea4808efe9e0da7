//! A network behaviour that opens streams on the connection it is told to, and hands on the ones
//! that come in. The swarm's loop chooses the connection, so bulk can have one of its own; an
//! inbound stream becomes an event, so a burst of them loses none.

mod handler;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, Stream, StreamProtocol,
    THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;

pub(crate) use handler::StreamHandler;

/// Where an opened stream goes; the text says why there is none.
pub(crate) type StreamReply = oneshot::Sender<Result<Stream, String>>;

/// The order to open a stream on a connection.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) protocol: StreamProtocol,
    pub(crate) reply: StreamReply,
}

/// A stream that the other side opened.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) peer: PeerId,
    pub(crate) connection: ConnectionId,
    pub(crate) protocol: StreamProtocol,
    pub(crate) stream: Stream,
}

/// The behaviour. Its queue is bounded by its callers: one stream per lane and peer is asked for
/// at a time, and inbound streams are bounded by the multiplexer.
pub(crate) struct Streams {
    accepts: Arc<[StreamProtocol]>,
    queue: VecDeque<ToSwarm<Inbound, Open>>,
    waker: Option<Waker>,
}

impl Streams {
    /// Accepts these protocols from the other side; any may be asked for.
    pub(crate) fn new(accepts: impl IntoIterator<Item = StreamProtocol>) -> Self {
        Self { accepts: accepts.into_iter().collect(), queue: VecDeque::new(), waker: None }
    }

    /// Opens a stream on that connection. If the connection closes first, the reply is dropped.
    pub(crate) fn open(&mut self, peer_id: PeerId, connection: ConnectionId, open: Open) {
        let handler = NotifyHandler::One(connection);
        self.queue.push_back(ToSwarm::NotifyHandler { peer_id, handler, event: open });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = StreamHandler;
    type ToSwarm = Inbound;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(StreamHandler::new(self.accepts.clone()))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(StreamHandler::new(self.accepts.clone()))
    }

    fn on_swarm_event(&mut self, _: FromSwarm) {}

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        (protocol, stream): THandlerOutEvent<Self>,
    ) {
        let inbound = Inbound { peer, connection, protocol, stream };
        self.queue.push_back(ToSwarm::GenerateEvent(inbound));
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(next) = self.queue.pop_front() {
            return Poll::Ready(next);
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
