//! Dials peers and opens lanes to them.

use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, StreamProtocol};
use qb_model::NodeId;

use super::SwarmTask;
use crate::handler::Lane;
use crate::identity::{peer_of, to_multiaddr};
use crate::streams::{Open, StreamReply};

/// Somebody who waits for a connection. Callers ask for one stream per lane at a time, so there
/// are at most as many as lanes that still wait for a peer.
pub(super) struct Waiter {
    pub(super) lane: Lane,
    pub(super) reply: StreamReply,
}

/// Spreads delays. Without randomness they are merely not spread.
pub(super) fn random() -> u64 {
    getrandom::u64().unwrap_or(0)
}

impl SwarmTask {
    /// Dials the wanted peers whose time has come.
    pub(super) fn dial_due(&mut self) {
        let now = self.now();
        for node in self.dialer.take_due(now) {
            if let Err(reason) = self.dial(node, PeerCondition::DisconnectedAndNotDialing) {
                tracing::debug!(%node, reason, "cannot dial");
                self.dialer.failed(node, now, random());
            }
        }
    }

    /// Opens a lane, now or once there is a connection.
    pub(super) fn open(&mut self, node: NodeId, waiter: Waiter) {
        let waiting = self.waiters.entry(node).or_default();
        waiting.retain(|waiter| !waiter.reply.is_closed());
        waiting.push(waiter);
        if self.links.primary(node).is_some() {
            self.serve_waiters(node);
        } else if let Some(rest) = self.dialer.resting(&node, self.now()) {
            let reason = format!("the last dials failed; the next is in {} ms", rest.as_millis());
            self.fail_waiters(node, &reason);
        } else if let Err(reason) = self.dial(node, PeerCondition::DisconnectedAndNotDialing) {
            self.fail_waiters(node, &reason);
        }
    }

    /// Opens the lanes that waited for a connection to that peer.
    pub(super) fn serve_waiters(&mut self, node: NodeId) {
        let Some(primary) = self.links.primary(node) else {
            return;
        };
        let waiting = self.waiters.remove(&node).unwrap_or_default();
        let mut later = Vec::new();
        for waiter in waiting {
            match self.connection_for(node, primary, waiter.lane.is_bulk()) {
                Some(connection) => self.open_on(node, connection, waiter),
                None => later.push(waiter),
            }
        }
        if !later.is_empty() {
            self.waiters.insert(node, later);
        }
    }

    /// The connection for bulk, or for the rest: its own if it is up, none while it is being dialled, and
    /// the peer's only one if it cannot be dialled. So what is urgent gets a new connection when its own
    /// broke, and does not stay behind bulk.
    fn connection_for(&mut self, node: NodeId, primary: ConnectionId, bulk: bool) -> Option<ConnectionId> {
        if let Some(own) = self.links.of_kind(node, bulk) {
            return Some(own);
        }
        if self.second_dials.values().any(|dialled| *dialled == (node, bulk)) {
            return None;
        }
        match self.dial(node, PeerCondition::Always) {
            Ok(Some(connection)) => {
                self.second_dials.insert(connection, (node, bulk));
                None
            }
            Ok(None) | Err(_) => Some(primary),
        }
    }

    fn open_on(&mut self, node: NodeId, connection: ConnectionId, waiter: Waiter) {
        let protocol = StreamProtocol::new(waiter.lane.protocol());
        let open = Open { protocol, reply: waiter.reply };
        self.swarm.behaviour_mut().streams.open(peer_of(node), connection, open);
    }

    pub(super) fn fail_waiters(&mut self, node: NodeId, reason: &str) {
        for waiter in self.waiters.remove(&node).unwrap_or_default() {
            let _ = waiter.reply.send(Err(reason.to_owned()));
        }
    }

    /// Dials a node at every address in the book. `Ok(None)`: a dial is under way already.
    fn dial(&mut self, node: NodeId, condition: PeerCondition) -> Result<Option<ConnectionId>, String> {
        let addresses = self.shared.book().of(node);
        if addresses.is_empty() {
            return Err("no address of it is known yet".to_owned());
        }
        let dial = DialOpts::peer_id(peer_of(node))
            .addresses(addresses.into_iter().map(to_multiaddr).collect())
            .condition(condition)
            .allocate_new_port()
            .build();
        let connection = dial.connection_id();
        match self.swarm.dial(dial) {
            Ok(()) => Ok(Some(connection)),
            Err(DialError::DialPeerConditionFalse(_)) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(super) fn on_dial_failed(&mut self, node: NodeId, id: ConnectionId, reason: &str) {
        tracing::debug!(%node, reason, "dial failed");
        if let Some((_, bulk)) = self.second_dials.remove(&id) {
            self.open_on_any(node, bulk);
            return;
        }
        let now = self.now();
        self.dialer.failed(node, now, random());
        if self.links.primary(node).is_none() {
            self.fail_waiters(node, reason);
        }
    }

    /// Lanes had to have a connection of their own, and cannot: better one for all than none for these.
    fn open_on_any(&mut self, node: NodeId, bulk: bool) {
        let Some(primary) = self.links.primary(node) else {
            self.fail_waiters(node, "the connection closed");
            return;
        };
        let waiting = self.waiters.remove(&node).unwrap_or_default();
        let (now, later): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|w| w.lane.is_bulk() == bulk);
        if !later.is_empty() {
            self.waiters.insert(node, later);
        }
        for waiter in now {
            self.open_on(node, primary, waiter);
        }
    }
}
