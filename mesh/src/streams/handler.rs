//! The connection's half of [`Streams`](super::Streams): negotiates protocols, nothing more.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, SubstreamProtocol};

use super::{Open, StreamReply};
use crate::limits::STREAM_NEGOTIATION;

/// Offers or accepts protocols and yields the bare stream.
#[derive(Debug, Clone)]
pub(crate) struct Negotiate(Vec<StreamProtocol>);

impl UpgradeInfo for Negotiate {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Negotiate {
    type Output = (StreamProtocol, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((protocol, stream)))
    }
}

impl OutboundUpgrade<Stream> for Negotiate {
    type Output = (StreamProtocol, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((protocol, stream)))
    }
}

/// Streams of one connection that are asked for or have come in.
pub(crate) struct StreamHandler {
    accepts: Arc<[StreamProtocol]>,
    asked: VecDeque<Open>,
    arrived: VecDeque<(StreamProtocol, Stream)>,
    waker: Option<Waker>,
}

impl StreamHandler {
    pub(super) fn new(accepts: Arc<[StreamProtocol]>) -> Self {
        Self { accepts, asked: VecDeque::new(), arrived: VecDeque::new(), waker: None }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl ConnectionHandler for StreamHandler {
    type FromBehaviour = Open;
    type ToBehaviour = (StreamProtocol, Stream);
    type InboundProtocol = Negotiate;
    type OutboundProtocol = Negotiate;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = StreamReply;

    fn listen_protocol(&self) -> SubstreamProtocol<Negotiate, ()> {
        SubstreamProtocol::new(Negotiate(self.accepts.to_vec()), ()).with_timeout(STREAM_NEGOTIATION)
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Negotiate, StreamReply, Self::ToBehaviour>> {
        if let Some(arrived) = self.arrived.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(arrived));
        }
        while let Some(Open { protocol, reply }) = self.asked.pop_front() {
            if reply.is_closed() {
                continue; // Whoever asked gave up.
            }
            let protocol =
                SubstreamProtocol::new(Negotiate(vec![protocol]), reply).with_timeout(STREAM_NEGOTIATION);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, open: Open) {
        self.asked.push_back(open);
        self.wake();
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Negotiate, Negotiate, (), StreamReply>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                self.arrived.push_back(protocol);
                self.wake();
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (_, stream),
                info: reply,
            }) => {
                // Nobody waits any more: the stream is dropped, which resets it.
                let _ = reply.send(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: reply, error }) => {
                let _ = reply.send(Err(error.to_string()));
            }
            _ => {}
        }
    }
}
