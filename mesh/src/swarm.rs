//! The loop of the mesh port: sole owner of its swarm. It does swarm work only; whatever calls the
//! handler runs on a task of its own. `open` dials and opens lanes, `inbound` takes what comes in.

mod inbound;
mod open;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::gossipsub::PublishError;
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{PeerId, Swarm};
use qb_model::NodeId;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::address_book::AddressBook;
use crate::admission;
use crate::behaviour::{MeshBehaviour, MeshBehaviourEvent};
use crate::dialer::Dialer;
use crate::error::MeshError;
use crate::events::Peers;
use crate::gossip::Topic;
use crate::handler::{Handler, Lane};
use crate::identity::{node_of, peer_of, to_socket};
use crate::links::{Link, Links};
use crate::streams::StreamReply;
use crate::tasks::Tasks;

use inbound::Bounds;
use open::Waiter;

/// How often changed round trip times are published; connections are published at once.
const PUBLISH_RTT: Duration = Duration::from_secs(1);

/// A set of nodes that is replaced as a whole.
pub(crate) type Nodes = Arc<BTreeSet<NodeId>>;

/// A gossiped fact on its way to the handler.
pub(crate) type Fact = (NodeId, Topic, Bytes);

/// What the handle and the loop share.
pub(crate) struct Shared {
    pub(crate) own: NodeId,
    pub(crate) site: [u8; 32],
    pub(crate) roster: watch::Sender<Nodes>,
    pub(crate) wanted: watch::Sender<Nodes>,
    book: Mutex<AddressBook>,
}

impl Shared {
    pub(crate) fn new(own: NodeId, site: [u8; 32]) -> Self {
        Self {
            own,
            site,
            roster: watch::Sender::default(),
            wanted: watch::Sender::default(),
            book: Mutex::default(),
        }
    }

    /// The address book. Never held across an await.
    pub(crate) fn book(&self) -> MutexGuard<'_, AddressBook> {
        self.book.lock().expect("no code that holds the lock can panic")
    }
}

/// An order to the loop.
pub(crate) enum Command {
    /// Opens a stream, connecting first if need be.
    Open { node: NodeId, lane: Lane, reply: StreamReply },
    /// Gossips a fact.
    Publish { topic: Topic, body: Bytes, reply: oneshot::Sender<Result<(), MeshError>> },
    /// The address book has news of that node.
    Learned(NodeId),
    /// Asks the loop for a sign of life.
    Alive(oneshot::Sender<()>),
}

/// The loop's way to everybody else.
pub(crate) struct Outlets {
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) tasks: Tasks,
    pub(crate) peers: watch::Sender<Peers>,
    pub(crate) gossip: mpsc::Sender<Fact>,
}

/// Owns the swarm.
pub(crate) struct SwarmTask {
    swarm: Swarm<MeshBehaviour>,
    shared: Arc<Shared>,
    out: Outlets,
    commands: mpsc::Receiver<Command>,
    roster: watch::Receiver<Nodes>,
    wanted: watch::Receiver<Nodes>,
    /// The roster that the swarm enforces.
    members: Nodes,
    links: Links,
    dialer: Dialer,
    waiters: BTreeMap<NodeId, Vec<Waiter>>,
    /// Dials of peers that have a connection, just not of this kind: whether for bulk.
    second_dials: HashMap<ConnectionId, (NodeId, bool)>,
    bounds: HashMap<NodeId, Bounds>,
    started: Instant,
    rtt_changed: bool,
}

impl SwarmTask {
    pub(crate) fn new(
        swarm: Swarm<MeshBehaviour>,
        shared: Arc<Shared>,
        out: Outlets,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        Self {
            swarm,
            roster: shared.roster.subscribe(),
            wanted: shared.wanted.subscribe(),
            shared,
            out,
            commands,
            members: Nodes::default(),
            links: Links::default(),
            dialer: Dialer::default(),
            waiters: BTreeMap::new(),
            second_dials: HashMap::new(),
            bounds: HashMap::new(),
            started: Instant::now(),
            rtt_changed: false,
        }
    }

    /// Runs until every handle is gone.
    pub(crate) async fn run(mut self) {
        let mut tick = interval(PUBLISH_RTT);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Set before the loop ran: nothing would say that they changed.
        self.apply_roster();
        self.apply_wanted();
        loop {
            self.dial_due();
            let due = self.dialer.next_due().map(|at| self.started + at);
            // Each arm is cancel safe: channels, a stream, timers.
            tokio::select! {
                changed = self.roster.changed() => if changed.is_ok() { self.apply_roster() },
                changed = self.wanted.changed() => if changed.is_ok() { self.apply_wanted() },
                command = self.commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => return,
                },
                event = self.swarm.select_next_some() => self.on_event(event),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                _ = tick.tick(), if self.rtt_changed => self.publish_peers(),
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Lets new members in and puts old ones out; their connections close at once.
    fn apply_roster(&mut self) {
        let roster = self.roster.borrow_and_update().clone();
        let change = admission::change(&self.members, &roster, self.shared.own);
        self.members = roster;
        let now = self.now();
        for node in change.admitted {
            self.swarm.behaviour_mut().allowed.allow_peer(peer_of(node));
            self.dialer.nudge(node, now);
        }
        for node in change.removed {
            tracing::info!(%node, "no longer a member: connections closed");
            self.swarm.behaviour_mut().allowed.disallow_peer(peer_of(node));
            self.bounds.remove(&node);
            self.fail_waiters(node, "it is not in the roster");
        }
    }

    fn apply_wanted(&mut self) {
        let wanted = self.wanted.borrow_and_update().clone();
        let (connected, now) = (self.links.connected(), self.now());
        self.dialer.set_wanted(&wanted, &connected, now);
    }

    fn on_command(&mut self, command: Command) {
        // A command may rest on a set that was replaced just before it.
        if self.roster.has_changed().unwrap_or(false) {
            self.apply_roster();
        }
        match command {
            Command::Open { node, lane, reply } => self.open(node, Waiter { lane, reply }),
            Command::Publish { topic, body, reply } => {
                let _ = reply.send(self.publish(topic, body));
            }
            // Who asked may have stopped waiting.
            Command::Alive(reply) => drop(reply.send(())),
            Command::Learned(node) => {
                let now = self.now();
                self.dialer.nudge(node, now);
            }
        }
    }

    fn publish(&mut self, topic: Topic, body: Bytes) -> Result<(), MeshError> {
        let name = topic.of_site(&self.shared.site);
        match self.swarm.behaviour_mut().gossip.publish(name, body) {
            Ok(_) => Ok(()),
            // Nobody is there to hear it, or everybody has: the pull serves the rest.
            Err(PublishError::NoPeersSubscribedToTopic | PublishError::Duplicate) => Ok(()),
            Err(error) => Err(MeshError::Publish { topic: topic.name(), reason: error.to_string() }),
        }
    }

    fn on_event(&mut self, event: SwarmEvent<MeshBehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                if let Some(node) = node_of(&peer_id) {
                    tracing::debug!(%node, ?cause, "connection closed");
                    self.on_closed(node, connection_id);
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id, connection_id, error, .. } => {
                if let Some(node) = peer_id.as_ref().and_then(node_of) {
                    self.on_dial_failed(node, connection_id, &error.to_string());
                }
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(from = %send_back_addr, %error, "connection refused");
            }
            SwarmEvent::ListenerClosed { reason, addresses, .. } => {
                tracing::error!(?addresses, ?reason, "the mesh port closed");
            }
            SwarmEvent::Behaviour(MeshBehaviourEvent::Streams(inbound)) => self.on_stream(inbound),
            SwarmEvent::Behaviour(MeshBehaviourEvent::Gossip(event)) => self.on_gossip(event),
            SwarmEvent::Behaviour(MeshBehaviourEvent::Ping(event)) => self.on_ping(event),
            _ => {}
        }
    }

    fn on_established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let address = to_socket(endpoint.get_remote_address());
        let (Some(node), Some(address)) = (node_of(&peer), address) else {
            self.swarm.close_connection(id);
            return;
        };
        let dialled = endpoint.is_dialer();
        if dialled {
            self.shared.book().confirm(node, address);
        }
        let bulk = self.second_dials.remove(&id).is_some_and(|(_, bulk)| bulk);
        let link = Link { id, address, dialled, bulk, missed: 0 };
        if self.links.opened(node, link, Instant::now()) {
            let now = self.now();
            self.dialer.connected(node, now);
            tracing::info!(%node, %address, dialled, "peer connected");
        }
        self.publish_peers();
        self.serve_waiters(node);
    }

    fn on_closed(&mut self, node: NodeId, id: ConnectionId) {
        let last = self.links.closed(node, id);
        self.publish_peers();
        if last {
            let (now, random) = (self.now(), open::random());
            self.dialer.closed(node, now, random);
            tracing::info!(%node, "peer closed");
        }
    }

    fn on_ping(&mut self, event: libp2p::ping::Event) {
        let Some(node) = node_of(&event.peer) else {
            return;
        };
        match event.result {
            Ok(rtt) => {
                self.links.measured(node, event.connection, rtt);
                self.rtt_changed = true;
            }
            Err(error) if self.links.missed(node, event.connection) => {
                tracing::warn!(%node, %error, "ping failed: connection closed");
                self.swarm.close_connection(event.connection);
            }
            Err(error) => tracing::debug!(%node, %error, "ping failed on a bulk connection"),
        }
    }

    fn publish_peers(&mut self) {
        self.rtt_changed = false;
        self.out.peers.send_replace(Arc::new(self.links.infos()));
    }
}
