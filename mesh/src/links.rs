//! The connections that are up, by peer, and which of them carries what. Pure.
//!
//! A peer's oldest connection that is not for bulk carries the Raft and control lanes. A connection
//! is for bulk once this node dialled it for that, or once the peer opened a bulk stream on it. Lanes ride
//! the other kind's connection only while theirs cannot be had.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use libp2p::swarm::ConnectionId;
use qb_model::NodeId;
use tokio::time::Instant;

use crate::handler::PeerInfo;
use crate::limits::BULK_PINGS_MISSED;

/// One connection.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) id: ConnectionId,
    pub(crate) address: SocketAddr,
    pub(crate) dialled: bool,
    pub(crate) bulk: bool,
    /// Pings in a row that were told to have failed.
    pub(crate) missed: u32,
}

#[derive(Debug)]
struct Peer {
    session: u64,
    since: Instant,
    rtt: Option<Duration>,
    links: Vec<Link>,
}

impl Peer {
    fn primary(&self) -> Option<&Link> {
        self.links.iter().find(|link| !link.bulk).or(self.links.first())
    }
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Links {
    peers: BTreeMap<NodeId, Peer>,
    sessions: u64,
}

impl Links {
    /// A connection is up. Returns whether it is the peer's first.
    pub(crate) fn opened(&mut self, node: NodeId, link: Link, now: Instant) -> bool {
        let first = !self.peers.contains_key(&node);
        self.sessions += u64::from(first);
        let session = self.sessions;
        let fresh = || Peer { session, since: now, rtt: None, links: Vec::new() };
        self.peers.entry(node).or_insert_with(fresh).links.push(link);
        first
    }

    /// A connection closed. Returns whether it was the peer's last.
    pub(crate) fn closed(&mut self, node: NodeId, id: ConnectionId) -> bool {
        let Some(peer) = self.peers.get_mut(&node) else {
            return false;
        };
        peer.links.retain(|link| link.id != id);
        let last = peer.links.is_empty();
        if last {
            self.peers.remove(&node);
        }
        last
    }

    /// The connection that requests ride, if need be that for bulk.
    pub(crate) fn primary(&self, node: NodeId) -> Option<ConnectionId> {
        self.peers.get(&node)?.primary().map(|link| link.id)
    }

    /// The oldest connection of a kind, for bulk or for the rest, if there is one.
    pub(crate) fn of_kind(&self, node: NodeId, bulk: bool) -> Option<ConnectionId> {
        self.peers.get(&node)?.links.iter().find(|link| link.bulk == bulk).map(|link| link.id)
    }

    /// The peer uses that connection for bulk. Ignored for its only one: then there is no choice.
    pub(crate) fn mark_bulk(&mut self, node: NodeId, id: ConnectionId) {
        if let Some(peer) = self.peers.get_mut(&node)
            && peer.links.iter().any(|link| link.id != id && !link.bulk)
            && let Some(link) = peer.links.iter_mut().find(|link| link.id == id)
        {
            link.bulk = true;
        }
    }

    /// A ping came back. Its time counts for the connection that requests ride.
    pub(crate) fn measured(&mut self, node: NodeId, id: ConnectionId, rtt: Duration) {
        let rides = self.primary(node) == Some(id);
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if rides {
            peer.rtt = Some(rtt);
        }
        peer.links.iter_mut().filter(|link| link.id == id).for_each(|link| link.missed = 0);
    }

    /// A ping failed. Returns whether its connection counts as dead: one for bulk beside another has more
    /// time, since nobody but bulk waits for it.
    pub(crate) fn missed(&mut self, node: NodeId, id: ConnectionId) -> bool {
        let Some(peer) = self.peers.get_mut(&node) else { return true };
        let alone = peer.links.iter().all(|link| link.bulk);
        let Some(link) = peer.links.iter_mut().find(|link| link.id == id) else { return true };
        link.missed += 1;
        alone || !link.bulk || link.missed >= BULK_PINGS_MISSED
    }

    /// Who is connected.
    pub(crate) fn connected(&self) -> BTreeSet<NodeId> {
        self.peers.keys().copied().collect()
    }

    /// What is known of every connected peer.
    pub(crate) fn infos(&self) -> BTreeMap<NodeId, PeerInfo> {
        let info = |peer: &Peer| {
            let link = peer.primary()?;
            Some(PeerInfo {
                connected_since: peer.since,
                rtt: peer.rtt,
                address: link.address,
                connections: peer.links.len(),
                dialled: link.dialled,
                session: peer.session,
            })
        };
        self.peers.iter().filter_map(|(node, peer)| Some((*node, info(peer)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId([1; 32]);

    fn link(id: usize, bulk: bool) -> Link {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        Link { id: ConnectionId::new_unchecked(id), address, dialled: true, bulk, missed: 0 }
    }
    fn id(n: usize) -> Option<ConnectionId> {
        Some(ConnectionId::new_unchecked(n))
    }

    #[test]
    fn lanes_keep_to_their_connections() {
        let mut links = Links::default();
        let now = Instant::now();
        assert!(links.opened(A, link(1, false), now));
        assert_eq!((links.primary(A), links.of_kind(A, true)), (id(1), None));
        links.mark_bulk(A, ConnectionId::new_unchecked(1));
        assert_eq!(links.of_kind(A, true), None, "an only connection carries all");
        assert!(!links.opened(A, link(2, true), now));
        assert!(!links.opened(A, link(3, false), now));
        assert_eq!((links.primary(A), links.of_kind(A, true)), (id(1), id(2)));
        assert!(!links.closed(A, ConnectionId::new_unchecked(1)));
        assert_eq!(links.primary(A), id(3));
        assert!(!links.closed(A, ConnectionId::new_unchecked(3)));
        assert_eq!(links.primary(A), id(2), "better the bulk connection than none");
        assert_eq!(links.of_kind(A, false), None, "but another is dialled");
        assert!(links.closed(A, ConnectionId::new_unchecked(2)));
        assert_eq!(links.primary(A), None);
        assert!(!links.closed(A, ConnectionId::new_unchecked(2)));
    }

    #[test]
    fn a_bulk_connection_has_more_time_to_answer_a_ping() {
        let mut links = Links::default();
        let (main, bulk) = (ConnectionId::new_unchecked(1), ConnectionId::new_unchecked(2));
        links.opened(A, link(2, true), Instant::now());
        assert!(links.missed(A, bulk), "the only one");
        links.measured(A, bulk, Duration::ZERO);
        links.opened(A, link(1, false), Instant::now());
        for _ in 0..3 {
            assert!((1..BULK_PINGS_MISSED).all(|_| !links.missed(A, bulk)));
            links.measured(A, bulk, Duration::ZERO);
        }
        assert!((1..BULK_PINGS_MISSED).all(|_| !links.missed(A, bulk)));
        assert!(links.missed(A, bulk) && links.missed(A, main));
    }

    #[test]
    fn a_peer_that_came_back_has_a_new_session() {
        let mut links = Links::default();
        links.opened(A, link(1, false), Instant::now());
        let first = links.infos()[&A].session;
        links.closed(A, ConnectionId::new_unchecked(1));
        links.opened(A, link(2, false), Instant::now());
        assert_ne!(links.infos()[&A].session, first);
    }
}
