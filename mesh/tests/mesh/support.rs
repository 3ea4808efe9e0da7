//! Nodes to test with: a handler that records what it is told, and waits that have a deadline.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use qb_mesh::{Handler, KnockStream, Lane, Mesh, MeshConfig, MeshTask, PeerEvent, SecretKey, Topic};
use qb_model::NodeId;
use tokio::sync::watch;

/// How long anything may take before a test fails. Generous: machines are shared.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Kinds of request that the test handler knows.
pub(crate) mod kind {
    /// Answers with lane, sender's first byte and the body.
    pub(crate) const ECHO: u8 = 0;
    /// Answers when the test says so.
    pub(crate) const POLL: u8 = 1;
    /// Refuses with the body as text.
    pub(crate) const REFUSE: u8 = 2;
    /// Answers with one byte more than the lane carries.
    pub(crate) const FLOOD: u8 = 3;
}

/// Records what the mesh tells, and answers requests.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) facts: watch::Sender<Vec<(NodeId, Topic, Bytes)>>,
    pub(crate) events: watch::Sender<Vec<PeerEvent>>,
    pub(crate) release: watch::Sender<bool>,
    pub(crate) polls: Arc<AtomicUsize>,
    pub(crate) knocks: Mutex<Vec<NodeId>>,
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Handler for Recorder {
    async fn request(&self, from: NodeId, lane: Lane, kind: u8, body: Bytes) -> Result<Bytes, String> {
        match kind {
            kind::ECHO => {
                let mut answer = vec![lane as u8, from.0[0]];
                answer.extend_from_slice(&body);
                Ok(answer.into())
            }
            kind::POLL => {
                self.polls.fetch_add(1, Ordering::SeqCst);
                let _running = Counted(self.polls.clone());
                let mut release = self.release.subscribe();
                release.wait_for(|go| *go).await.map_err(|_| "gone".to_owned())?;
                Ok(body)
            }
            kind::REFUSE => Err(String::from_utf8_lossy(&body).into_owned()),
            _ => Ok(vec![0; lane.max_body() + 1].into()),
        }
    }

    async fn gossip(&self, from: NodeId, topic: Topic, body: Bytes) {
        self.facts.send_modify(|facts| facts.push((from, topic, body)));
    }

    async fn peer(&self, event: PeerEvent) {
        self.events.send_modify(|events| events.push(event));
    }

    async fn knock(&self, from: NodeId, _: SocketAddr, mut stream: KnockStream) {
        self.knocks.lock().expect("a lock").push(from);
        let challenge = Bytes::from("challenge");
        if stream.send(challenge).await.is_err() {
            return;
        }
        if let Ok(said) = stream.recv().await {
            // Large answers show the asymmetric limits.
            let answer = vec![said.first().copied().unwrap_or(0); 3 << 20];
            let _ = stream.send(answer.into()).await;
            let _ = stream.close().await;
        }
    }
}

/// A running node.
pub(crate) struct Node {
    pub(crate) mesh: Mesh,
    pub(crate) task: MeshTask,
    pub(crate) seen: Arc<Recorder>,
}

impl Node {
    /// A node with this seed, on a free port of its own loopback address.
    pub(crate) async fn start(seed: u8) -> Self {
        Self::start_at(seed, SocketAddr::from(([127, 0, 7, seed], 0)), [5; 32]).await
    }

    pub(crate) async fn start_at(seed: u8, listen: SocketAddr, site_tag: [u8; 32]) -> Self {
        let seen = Arc::new(Recorder::default());
        let config = MeshConfig {
            secret_key: SecretKey::new([seed; 32]),
            listen,
            knock_listen: Some(SocketAddr::new(listen.ip(), 0)),
            site_tag,
        };
        let (mesh, task) = Mesh::start(config, seen.clone()).await.expect("the node starts");
        Self { mesh, task, seen }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.mesh.node_id()
    }

    pub(crate) async fn sees(&self, peer: NodeId) {
        let mut peers = self.mesh.watch_peers();
        soon("a connection", peers.wait_for(|peers| peers.contains_key(&peer))).await.expect("the mesh runs");
    }

    pub(crate) async fn misses(&self, peer: NodeId) {
        let mut peers = self.mesh.watch_peers();
        soon("a closed connection", peers.wait_for(|peers| !peers.contains_key(&peer)))
            .await
            .expect("the mesh runs");
    }

    pub(crate) async fn told(&self, event: PeerEvent) {
        let mut events = self.seen.events.subscribe();
        soon("a peer event", events.wait_for(|events| events.contains(&event)))
            .await
            .expect("the recorder lives");
    }

    pub(crate) async fn echo(&self, to: &Self, lane: Lane) -> Bytes {
        self.mesh.request(to.id(), lane, kind::ECHO, Bytes::from("hi"), PATIENCE).await.expect("an answer")
    }
}

/// Tells every node of every other: roster, addresses, and wanted if so asked.
pub(crate) fn introduce(nodes: &[&Node], wanted: bool) {
    let all: BTreeSet<NodeId> = nodes.iter().map(|node| node.id()).collect();
    for node in nodes {
        node.mesh.set_roster(all.clone());
        for other in nodes {
            node.mesh.learn_addresses(other.id(), vec![other.mesh.listen_address()]);
        }
        if wanted {
            node.mesh.set_wanted(all.clone());
        }
    }
}

/// Three nodes that all want one another, connected.
pub(crate) async fn three(first_seed: u8) -> [Node; 3] {
    let nodes =
        [Node::start(first_seed).await, Node::start(first_seed + 1).await, Node::start(first_seed + 2).await];
    introduce(&[&nodes[0], &nodes[1], &nodes[2]], true);
    for node in &nodes {
        for other in nodes.iter().filter(|other| other.id() != node.id()) {
            node.sees(other.id()).await;
        }
    }
    nodes
}

/// Waits for something that must happen.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not come within {PATIENCE:?}"),
    }
}

/// Polls a condition that nothing announces.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    soon(what, async {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        while !condition() {
            tick.tick().await;
        }
    })
    .await;
}
