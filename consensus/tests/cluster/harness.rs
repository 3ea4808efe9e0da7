//! Nodes, a transport in memory with faults, and a machine that remembers what it applied.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use qb_consensus::{
    Consensus, ConsensusConfig, Machine, MachineError, OpenError, PeerTransport, ProposeError, RaftView,
    Role, RpcKind, Timing, TransportError, VoterChange,
};
use qb_model::{NodeId, RaftId};
use tempfile::TempDir;

/// Every wait ends by then, on the slowest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) const TAG: [u8; 32] = [7; 32];

pub(crate) fn node(n: u8) -> NodeId {
    NodeId([n; 32])
}

/// Commands with their indexes.
type Rows = Vec<(u64, Vec<u8>)>;

/// Remembers every command with its index.
#[derive(Clone, Default)]
pub(crate) struct Ledger(pub(crate) Arc<Mutex<Rows>>);

impl Ledger {
    pub(crate) fn commands(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().iter().map(|(_, c)| c.clone()).collect()
    }
}

impl Machine for Ledger {
    fn apply(&mut self, index: u64, command: &[u8]) -> Result<Vec<u8>, MachineError> {
        if command == b"poison" {
            return Err(MachineError("poisoned".into()));
        }
        let mut rows = self.0.lock().unwrap();
        assert!(rows.last().is_none_or(|(last, _)| *last < index), "applied twice or back");
        rows.push((index, command.to_vec()));
        Ok(rows.len().to_string().into_bytes())
    }
    fn snapshot(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (index, command) in self.0.lock().unwrap().iter() {
            out.extend(index.to_le_bytes());
            out.extend((command.len() as u32).to_le_bytes());
            out.extend(command);
        }
        out
    }
    fn install(&mut self, mut snapshot: &[u8]) -> Result<(), MachineError> {
        let mut rows = Vec::new();
        while !snapshot.is_empty() {
            let index = u64::from_le_bytes(snapshot[..8].try_into().unwrap());
            let len = u32::from_le_bytes(snapshot[8..12].try_into().unwrap()) as usize;
            rows.push((index, snapshot[12..12 + len].to_vec()));
            snapshot = &snapshot[12 + len..];
        }
        *self.0.lock().unwrap() = rows;
        Ok(())
    }
    fn applied_batch(&mut self, _last_index: u64) {}
}

#[derive(Default)]
struct Hub {
    nodes: Mutex<BTreeMap<NodeId, Consensus>>,
    /// Directed pairs that do not hear each other.
    cut: Mutex<BTreeSet<(NodeId, NodeId)>>,
}

struct Wire {
    hub: Arc<Hub>,
    me: NodeId,
}

#[async_trait]
impl PeerTransport for Wire {
    async fn request(
        &self,
        to: NodeId,
        kind: RpcKind,
        body: Bytes,
        _deadline: Duration,
    ) -> Result<Bytes, TransportError> {
        let is_cut = |a, b| self.hub.cut.lock().unwrap().contains(&(a, b));
        if is_cut(self.me, to) {
            return Err(TransportError::Unreachable("cut".into()));
        }
        let peer = self.hub.nodes.lock().unwrap().get(&to).cloned();
        let peer = peer.ok_or(TransportError::ConnectionRefused)?;
        let kind = RpcKind::try_from(u8::from(kind)).unwrap();
        let answer = peer.handle_rpc(self.me, kind, body).await.map_err(TransportError::Refused)?;
        if is_cut(to, self.me) {
            return Err(TransportError::Timeout);
        }
        Ok(answer)
    }
}

pub(crate) struct Node {
    pub(crate) consensus: Consensus,
    pub(crate) ledger: Ledger,
}

/// A site in a box.
pub(crate) struct Site {
    hub: Arc<Hub>,
    /// Each node's folder, in one that is removed in the end.
    dirs: BTreeMap<u8, (TempDir, PathBuf)>,
    pub(crate) nodes: BTreeMap<u8, Node>,
}

pub(crate) fn timing() -> Timing {
    Timing {
        heartbeat: Duration::from_millis(100),
        election_min: Duration::from_millis(400),
        election_max: Duration::from_millis(800),
    }
}

impl Site {
    pub(crate) fn new() -> Self {
        Self { hub: Arc::default(), dirs: BTreeMap::new(), nodes: BTreeMap::new() }
    }

    /// Starts node `n` on its directory, as what it was.
    pub(crate) async fn start(&mut self, n: u8) -> Consensus {
        self.try_start(n).await.unwrap()
    }

    pub(crate) async fn try_start(&mut self, n: u8) -> Result<Consensus, OpenError> {
        let (_, dir) = self.dirs.entry(n).or_insert_with(|| {
            let temp = TempDir::new().unwrap();
            let dir = temp.path().join("raft");
            (temp, dir)
        });
        std::fs::create_dir_all(&*dir).unwrap();
        let config =
            ConsensusConfig { dir: dir.clone(), node: node(n), site_epoch_tag: TAG, timing: timing() };
        let ledger = Ledger::default();
        let transport = Arc::new(Wire { hub: self.hub.clone(), me: node(n) });
        let consensus = Consensus::open(config, Box::new(ledger.clone()), transport).await?;
        self.hub.nodes.lock().unwrap().insert(node(n), consensus.clone());
        self.nodes.insert(n, Node { consensus: consensus.clone(), ledger });
        self.hint();
        Ok(consensus)
    }

    /// Tells all nodes of all others, as gossip would.
    pub(crate) fn hint(&self) {
        let all: Vec<NodeId> = self.nodes.keys().map(|n| node(*n)).collect();
        for n in self.nodes.values() {
            n.consensus.set_voter_hints(all.clone());
        }
    }

    /// Node `n` is gone for its peers at once, then stops.
    pub(crate) async fn stop(&mut self, n: u8) {
        self.hub.nodes.lock().unwrap().remove(&node(n));
        if let Some(gone) = self.nodes.remove(&n) {
            gone.consensus.shutdown().await;
        }
    }

    pub(crate) fn dir(&self, n: u8) -> &Path {
        &self.dirs[&n].1
    }

    /// Cuts or heals both directions between two nodes.
    pub(crate) fn cut(&self, a: u8, b: u8, cut: bool) {
        let mut pairs = self.hub.cut.lock().unwrap();
        for pair in [(node(a), node(b)), (node(b), node(a))] {
            if cut {
                pairs.insert(pair);
            } else {
                pairs.remove(&pair);
            }
        }
    }

    pub(crate) fn view(&self, n: u8) -> Arc<RaftView> {
        self.nodes[&n].consensus.metrics().borrow().clone()
    }

    /// A group of `n` voters with seats 1 to `n` on nodes 1 to `n`.
    pub(crate) async fn voters(n: u8) -> Self {
        let mut site = Self::new();
        site.start(1).await.found(RaftId(1)).await.unwrap();
        site.write(b"founded").await;
        for k in 2..=n {
            site.start(k).await;
            site.add_voter(k, RaftId(k.into())).await;
        }
        site
    }

    /// Promotes node `k` from follower to voter on `seat`.
    pub(crate) async fn add_voter(&self, k: u8, seat: RaftId) {
        self.nodes[&k].consensus.promote(seat).await.unwrap();
        let leader = self.leader().await;
        self.nodes[&leader].consensus.add_learner(seat, node(k)).await.unwrap();
        let change = VoterChange { promote: BTreeSet::from([seat]), remove: BTreeSet::new() };
        eventually("the learner is promoted", async || {
            self.nodes[&leader].consensus.change_voters(change.clone()).await.ok()
        })
        .await;
    }

    /// The node that all nodes with a seat hold for the leader, itself included.
    pub(crate) async fn leader(&self) -> u8 {
        eventually("a leader", async || {
            let leads = |(n, _): &(&u8, &Node)| self.view(**n).role == Role::Leader;
            let mut leaders: Vec<_> = self.nodes.iter().filter(leads).map(|(n, _)| *n).collect();
            leaders.sort_by_key(|n| self.view(*n).term);
            leaders.pop()
        })
        .await
    }

    /// Writes through whoever leads until it is acknowledged; `Unknown` is asked again, so use
    /// commands that may repeat.
    pub(crate) async fn write(&self, command: &[u8]) -> Vec<u8> {
        eventually("a write", async || {
            let leader = self.leader().await;
            let consensus = &self.nodes[&leader].consensus;
            match consensus.propose(command.to_vec(), Duration::from_secs(5)).await {
                Ok(outcome) => Some(outcome),
                Err(ProposeError::TooLarge(n)) => panic!("too large: {n}"),
                Err(_) => None,
            }
        })
        .await
    }

    pub(crate) async fn all_have(&self, command: &[u8]) {
        for n in self.nodes.keys() {
            self.has(*n, command).await;
        }
    }

    pub(crate) async fn has(&self, n: u8, command: &[u8]) {
        let ledger = &self.nodes[&n].ledger;
        let what = format!("node {n} has {}", String::from_utf8_lossy(command));
        eventually(&what, async || ledger.commands().iter().any(|c| c == command).then_some(())).await;
    }

    pub(crate) async fn stop_all(&mut self) {
        let all: Vec<u8> = self.nodes.keys().copied().collect();
        for n in all {
            self.stop(n).await;
        }
    }
}

/// Tries until there is an answer, or fails after [`PATIENCE`].
pub(crate) async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = attempt().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
