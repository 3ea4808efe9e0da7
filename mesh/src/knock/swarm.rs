//! The loop of the knock swarm: lets strangers in for one talk each, and knocks elsewhere.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::identity::Keypair;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, NetworkBehaviour, Stream, StreamProtocol, SwarmEvent};
use libp2p::{PeerId, Swarm};
use qb_model::NodeId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::gate::Gate;
use super::{KnockStream, PROTOCOL, Side};
use crate::behaviour::swarm;
use crate::error::MeshError;
use crate::handler::Handler;
use crate::identity::{node_of, peer_of, to_multiaddr, to_socket};
use crate::limits::{KNOCK_IDLE, KNOCK_LIFE, KNOCK_YAMUX_STREAMS};
use crate::streams::{Inbound, Open, Streams};
use crate::tasks::Tasks;

/// What the knock port speaks: nothing but the knock.
#[derive(NetworkBehaviour)]
pub(crate) struct KnockBehaviour {
    gate: Gate,
    streams: Streams,
}

/// Who answered, and where its stream will come.
pub(crate) type Answered = (NodeId, oneshot::Receiver<Result<Stream, String>>);

/// The order to knock somewhere.
pub(crate) struct Knock {
    pub(crate) address: SocketAddr,
    pub(crate) expect: Option<NodeId>,
    pub(crate) reply: oneshot::Sender<Result<Answered, String>>,
}

/// Owns the knock swarm.
pub(crate) struct KnockTask {
    swarm: Swarm<KnockBehaviour>,
    orders: mpsc::Receiver<Knock>,
    handler: Arc<dyn Handler>,
    tasks: Tasks,
    /// Dials in progress.
    dials: HashMap<ConnectionId, Knock>,
    /// Strangers that have not opened their stream yet.
    silent: HashSet<ConnectionId>,
    addresses: HashMap<ConnectionId, SocketAddr>,
    /// When each connection is closed, in order, since all live equally long.
    ends: VecDeque<(Instant, ConnectionId)>,
}

/// Builds the swarm. Without a listener it still knocks elsewhere.
pub(crate) fn build(key: &Keypair, listens: bool) -> Result<Swarm<KnockBehaviour>, MeshError> {
    let accepts = listens.then(|| StreamProtocol::new(PROTOCOL));
    let behaviour = KnockBehaviour { gate: Gate::new(), streams: Streams::new(accepts) };
    swarm(key, behaviour, KNOCK_YAMUX_STREAMS, KNOCK_IDLE)
}

impl KnockTask {
    pub(crate) fn new(
        swarm: Swarm<KnockBehaviour>,
        orders: mpsc::Receiver<Knock>,
        handler: Arc<dyn Handler>,
        tasks: Tasks,
    ) -> Self {
        Self {
            swarm,
            orders,
            handler,
            tasks,
            dials: HashMap::new(),
            silent: HashSet::new(),
            addresses: HashMap::new(),
            ends: VecDeque::new(),
        }
    }

    /// Runs until every handle is gone.
    pub(crate) async fn run(mut self) {
        loop {
            let end = self.ends.front().map(|(at, _)| *at);
            // Each arm is cancel safe: a channel, a stream, a timer.
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => self.knock(order),
                    None => return,
                },
                event = self.swarm.select_next_some() => self.on_event(event),
                () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => {
                    if let Some((_, connection)) = self.ends.pop_front() {
                        self.swarm.close_connection(connection);
                    }
                }
            }
        }
    }

    fn knock(&mut self, order: Knock) {
        let address = to_multiaddr(order.address);
        let dial: DialOpts = match order.expect {
            Some(node) => DialOpts::peer_id(peer_of(node))
                .addresses(vec![address])
                .condition(PeerCondition::Always)
                .allocate_new_port()
                .build(),
            None => DialOpts::unknown_peer_id().address(address).allocate_new_port().build(),
        };
        let connection = dial.connection_id();
        match self.swarm.dial(dial) {
            Ok(()) => {
                self.dials.insert(connection, order);
            }
            Err(error) => {
                let _ = order.reply.send(Err(error.to_string()));
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<KnockBehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => {
                self.silent.remove(&connection_id);
                self.addresses.remove(&connection_id);
                self.ends.retain(|(_, id)| *id != connection_id);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some(order) = self.dials.remove(&connection_id) {
                    let _ = order.reply.send(Err(error.to_string()));
                }
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(from = %send_back_addr, %error, "knock refused");
            }
            SwarmEvent::Behaviour(KnockBehaviourEvent::Streams(inbound)) => {
                self.on_inbound(inbound);
            }
            _ => {}
        }
    }

    fn on_established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        self.ends.push_back((Instant::now() + KNOCK_LIFE, id));
        let (Some(node), Some(address)) = (node_of(&peer), to_socket(endpoint.get_remote_address())) else {
            self.swarm.close_connection(id);
            return;
        };
        match self.dials.remove(&id) {
            Some(order) => {
                let (reply, stream) = oneshot::channel();
                if order.reply.send(Ok((node, stream))).is_err() {
                    self.swarm.close_connection(id); // Whoever knocked gave up.
                    return;
                }
                let open = Open { protocol: StreamProtocol::new(PROTOCOL), reply };
                self.swarm.behaviour_mut().streams.open(peer, id, open);
            }
            None => {
                self.silent.insert(id);
                self.addresses.insert(id, address);
            }
        }
    }

    fn on_inbound(&mut self, inbound: Inbound) {
        // The second stream of a connection, or one on a connection that this node dialled.
        if !self.silent.remove(&inbound.connection) {
            return;
        }
        let address = self.addresses.get(&inbound.connection).copied();
        if let (Some(node), Some(address)) = (node_of(&inbound.peer), address) {
            tracing::debug!(%node, %address, "knock");
            let handler = self.handler.clone();
            let stream = KnockStream::new(inbound.stream, Side::Member);
            self.tasks.spawn(async move { handler.knock(node, address, stream).await });
        }
    }
}
