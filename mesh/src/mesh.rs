//! The handle to a mesh, and how one is started.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use libp2p::Swarm;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use qb_model::NodeId;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::behaviour::mesh_swarm;
use crate::config::MeshConfig;
use crate::error::{MeshError, RequestError};
use crate::events::{self, Peers};
use crate::gossip::Topic;
use crate::handler::{Handler, Lane, PeerInfo};
use crate::identity::{node_of, to_multiaddr, to_socket};
use crate::knock::swarm::{self as knock_swarm, Knock, KnockTask};
use crate::knock::{KnockStream, Side};
use crate::lane::{Ask, LaneClient};
use crate::limits;
use crate::swarm::{Command, Outlets, Shared, SwarmTask};
use crate::tasks::{MeshTask, Tasks};

/// A lane's stream to one peer. The lock is held while it is being opened, so that callers who
/// come at once open one stream and not many.
type Slot = Arc<tokio::sync::Mutex<Option<LaneClient>>>;

/// A handle to the mesh. Clones are cheap and mean the same mesh.
#[derive(Clone)]
pub struct Mesh {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    knocks: mpsc::Sender<Knock>,
    peers: watch::Receiver<Peers>,
    slots: Mutex<HashMap<(NodeId, Lane), Slot>>,
    tasks: Tasks,
    listen: SocketAddr,
    knock_listen: Option<SocketAddr>,
}

impl Mesh {
    /// Opens the ports and starts the tasks. The roster is empty: nobody is let in yet.
    pub async fn start(config: MeshConfig, handler: Arc<dyn Handler>) -> Result<(Self, MeshTask), MeshError> {
        let key = config.secret_key.keypair();
        let mut swarm = mesh_swarm(&key, &config.site_tag)?;
        let own = node_of(swarm.local_peer_id()).ok_or_else(|| MeshError::Setup {
            part: "identity",
            reason: "the key is not an ed25519 key".to_owned(),
        })?;
        let listen = listen(&mut swarm, config.listen).await?;
        let mut knock = knock_swarm::build(&key, config.knock_listen.is_some())?;
        let knock_listen = match config.knock_listen {
            Some(address) => Some(self::listen(&mut knock, address).await?),
            None => None,
        };

        let tasks = Tasks::default();
        let task = MeshTask::new(tasks.clone());
        let shared = Arc::new(Shared::new(own, config.site_tag));
        let (commands, command_queue) = mpsc::channel(limits::COMMANDS_QUEUED);
        let (knocks, knock_queue) = mpsc::channel(limits::COMMANDS_QUEUED);
        let (peers_out, peers) = watch::channel(Peers::default());
        let (gossip, mut facts) = mpsc::channel(limits::GOSSIP_QUEUED);

        let outlets = Outlets { handler: handler.clone(), tasks: tasks.clone(), peers: peers_out, gossip };
        tasks.spawn_vital(SwarmTask::new(swarm, shared.clone(), outlets, command_queue).run());
        tasks.spawn_vital(KnockTask::new(knock, knock_queue, handler.clone(), tasks.clone()).run());
        tasks.spawn_vital(events::run(peers.clone(), handler.clone()));
        tasks.spawn_vital(async move {
            while let Some((from, topic, body)) = facts.recv().await {
                handler.gossip(from, topic, body).await;
            }
        });
        let slots = Mutex::default();
        let inner = Inner { shared, commands, knocks, peers, slots, tasks, listen, knock_listen };
        Ok((Self { inner: Arc::new(inner) }, task))
    }

    /// This node.
    pub fn node_id(&self) -> NodeId {
        self.inner.shared.own
    }

    /// The mesh port, with the port number that the system chose if it was 0.
    pub fn listen_address(&self) -> SocketAddr {
        self.inner.listen
    }

    /// The knock port, likewise.
    pub fn knock_address(&self) -> Option<SocketAddr> {
        self.inner.knock_listen
    }

    /// Replaces the set of nodes that may speak on the mesh port. Connections of a node that is
    /// no longer in it close at once.
    pub fn set_roster(&self, members: BTreeSet<NodeId>) {
        self.slots().retain(|(node, _), _| members.contains(node));
        self.inner.shared.roster.send_replace(Arc::new(members));
    }

    /// Notes where a node may be reached, best first. Addresses are hints, kept when a dial
    /// fails, bounded per node; those where it proved its key come first.
    pub fn learn_addresses(&self, node: NodeId, addresses: Vec<SocketAddr>) {
        let new = self.inner.shared.book().learn(node, &addresses);
        if new {
            // If the queue is full, the dialer comes to it within its backoff.
            let _ = self.inner.commands.try_send(Command::Learned(node));
        }
    }

    /// The address book, best address first.
    pub fn addresses(&self) -> BTreeMap<NodeId, Vec<SocketAddr>> {
        self.inner.shared.book().all()
    }

    /// Replaces the set of peers to which connections are kept up. The node itself is left out.
    pub fn set_wanted(&self, mut peers: BTreeSet<NodeId>) {
        peers.remove(&self.node_id());
        self.inner.shared.wanted.send_replace(Arc::new(peers));
    }

    /// The peers that are connected now, wanted or not.
    pub fn connected(&self) -> BTreeSet<NodeId> {
        self.inner.peers.borrow().keys().copied().collect()
    }

    /// The connected peers, as they change. Round trip times are refreshed once a second.
    pub fn watch_peers(&self) -> watch::Receiver<Arc<BTreeMap<NodeId, PeerInfo>>> {
        self.inner.peers.clone()
    }

    /// Asks a peer and waits for its answer, at most for `deadline` in all. Connects first if need
    /// be. Dropping the future cancels the request at the peer.
    pub async fn request(
        &self,
        to: NodeId,
        lane: Lane,
        kind: u8,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, RequestError> {
        let (size, limit) = (body.len(), lane.max_body());
        if size > limit {
            return Err(RequestError::TooLarge { size, limit });
        }
        let deadline = deadline.min(limits::REQUEST_DEADLINE);
        let ask = Ask { kind, body, deadline, until: Instant::now() + deadline };
        let client = timeout_at(ask.until, self.lane(to, lane))
            .await
            .map_err(|_| RequestError::Deadline(deadline))??;
        client.request(&ask).await
    }

    /// Publishes a small fact to every member, signed by this node. That nobody is connected is
    /// no error: every fact has a pull besides. The same bytes on the same topic are one fact and
    /// travel once in 15 seconds: put an epoch or a time into what should be heard again.
    pub async fn publish(&self, topic: Topic, body: Bytes) -> Result<(), MeshError> {
        let (size, limit) = (body.len(), limits::GOSSIP_BODY);
        if size > limit {
            let reason = format!("{size} bytes are over the limit of {limit}");
            return Err(MeshError::Publish { topic: topic.name(), reason });
        }
        let (reply, answer) = oneshot::channel();
        let command = Command::Publish { topic, body, reply };
        self.inner.commands.send(command).await.map_err(|_| MeshError::Stopped)?;
        answer.await.map_err(|_| MeshError::Stopped)?
    }

    /// Returns when the loop of the mesh has come to this question: a sign of life, for a watchdog.
    ///
    /// # Errors
    /// The mesh has stopped.
    pub async fn alive(&self) -> Result<(), MeshError> {
        let (reply, answer) = oneshot::channel();
        self.inner.commands.send(Command::Alive(reply)).await.map_err(|_| MeshError::Stopped)?;
        answer.await.map_err(|_| MeshError::Stopped)
    }

    /// Knocks at another node's knock port. Returns who answered, proved by the handshake, and the
    /// talk with it. If `expect` is given and another node answers, that is an error.
    pub async fn knock(
        &self,
        address: SocketAddr,
        expect: Option<NodeId>,
    ) -> Result<(NodeId, KnockStream), MeshError> {
        let failed = |reason: String| MeshError::Knock { address, reason };
        let (reply, answer) = oneshot::channel();
        let order = Knock { address, expect, reply };
        self.inner.knocks.send(order).await.map_err(|_| MeshError::Stopped)?;
        let talk = async {
            let (node, stream) = answer.await.map_err(|_| MeshError::Stopped)?.map_err(failed)?;
            let closed = || failed("it closed the connection; it may be busy".to_owned());
            let stream = stream.await.map_err(|_| closed())?.map_err(failed)?;
            Ok((node, KnockStream::new(stream, Side::Knocker)))
        };
        let late = || failed(format!("no answer within {:?}", limits::KNOCK_LIFE));
        timeout(limits::KNOCK_LIFE, talk).await.map_err(|_| late())?
    }

    /// The lane's stream to a peer, opened if there is none.
    async fn lane(&self, node: NodeId, lane: Lane) -> Result<LaneClient, RequestError> {
        let absent = |reason: &str| RequestError::NotConnected { node, reason: reason.to_owned() };
        if self.inner.tasks.stopped() {
            return Err(RequestError::Stopped);
        }
        if node == self.node_id() {
            return Err(absent("it is this node"));
        }
        if !self.inner.shared.roster.borrow().contains(&node) {
            return Err(absent("it is not in the roster"));
        }
        let slot = self.slots().entry((node, lane)).or_default().clone();
        let mut slot = slot.lock().await;
        if let Some(client) = slot.as_ref().filter(|client| client.is_open()) {
            return Ok(client.clone());
        }
        let (reply, answer) = oneshot::channel();
        let command = Command::Open { node, lane, reply };
        self.inner.commands.send(command).await.map_err(|_| RequestError::Stopped)?;
        let stream = answer
            .await
            .map_err(|_| absent("the connection closed while the stream was opened"))?
            .map_err(|reason| absent(&reason))?;
        let client = LaneClient::start(stream, self.inner.shared.site, lane, &self.inner.tasks);
        *slot = Some(client.clone());
        Ok(client)
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<(NodeId, Lane), Slot>> {
        self.inner.slots.lock().expect("no code that holds the lock can panic")
    }
}

/// Opens a port and returns it with its number.
async fn listen<B: NetworkBehaviour>(
    swarm: &mut Swarm<B>,
    address: SocketAddr,
) -> Result<SocketAddr, MeshError> {
    let failed = |reason: String| MeshError::Listen { address, reason };
    if address.port() != 0 {
        // The swarm's sockets share ports (SO_REUSEPORT): without this look, a second agent on
        // the same address would start and take half of the connections.
        drop(TcpListener::bind(address).map_err(|error| failed(error.to_string()))?);
    }
    let listener = swarm.listen_on(to_multiaddr(address)).map_err(|error| failed(error.to_string()))?;
    let opened = async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, address: opened } if listener_id == listener => {
                    let port = to_socket(&opened).map_or(address.port(), |opened| opened.port());
                    return Ok(SocketAddr::new(address.ip(), port));
                }
                SwarmEvent::ListenerClosed { listener_id, reason, .. } if listener_id == listener => {
                    return Err(failed(format!("{reason:?}")));
                }
                _ => {}
            }
        }
    };
    let late = |_| failed("the port did not open in time".to_owned());
    timeout(limits::HANDSHAKE, opened).await.map_err(late)?
}
