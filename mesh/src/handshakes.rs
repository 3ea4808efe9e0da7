//! The first behaviour of the mesh port: bounds the handshakes in progress per source address,
//! so that one stranger who holds connections open in silence does not keep members out.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::ListenFailure;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

use crate::identity::ip_of;
use crate::limits::PENDING_PER_SOURCE;

/// A source address has too many handshakes in progress.
#[derive(Debug, thiserror::Error)]
#[error("too many handshakes from this address at once")]
struct TooMany;

/// Handshakes in progress, by source.
#[derive(Debug, Default)]
pub(crate) struct Handshakes {
    sources: HashMap<ConnectionId, IpAddr>,
}

impl Handshakes {
    /// Notes a handshake, unless its source has too many. The whole is bounded by the limit on
    /// pending connections, so counting is cheap.
    fn enter(&mut self, connection: ConnectionId, source: IpAddr) -> Result<(), TooMany> {
        if self.sources.values().filter(|other| **other == source).count() >= PENDING_PER_SOURCE {
            return Err(TooMany);
        }
        self.sources.insert(connection, source);
        Ok(())
    }

    fn leave(&mut self, connection: ConnectionId) {
        self.sources.remove(&connection);
    }
}

impl NetworkBehaviour for Handshakes {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let source = ip_of(remote).ok_or_else(|| ConnectionDenied::new(TooMany))?;
        self.enter(connection, source).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.leave(connection);
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        if let FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) = event {
            self.leave(connection_id);
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_is_bounded_and_others_are_not() {
        let mut handshakes = Handshakes::default();
        let [loud, quiet] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        let id = ConnectionId::new_unchecked;
        for n in 0..PENDING_PER_SOURCE {
            assert!(handshakes.enter(id(n), loud).is_ok());
        }
        assert!(handshakes.enter(id(1000), loud).is_err());
        assert!(handshakes.enter(id(1001), quiet).is_ok());
        handshakes.leave(id(0));
        assert!(handshakes.enter(id(1002), loud).is_ok());
    }
}
