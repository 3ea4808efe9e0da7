//! Whom to ask for which chunk of a bundle. Pure: who has what, who wants it, what was asked, and the time
//! go in, questions come out.
//!
//! ```text
//!   seeds (had it before)          nodes that want it
//!     origin ──chunk c──> its primary ──chunk c──> everybody else
//! ```
//!
//! Each chunk has a primary among the nodes that want the bundle and can reach a seed, by rendezvous
//! hashing: all agree on it without a word. The primary takes the chunk from a seed, the others take it from
//! whoever of the wanting has it. So a seed is read about once, however many nodes want the bundle, and the
//! rest of the way everybody serves everybody. A primary that is gone or silent is left out, and the chunk's
//! next node in the same order takes its place. Who got nothing new for a while asks anyone.

use std::collections::BTreeMap;

use qb_model::{Digest, NodeId};
use sha2::{Digest as _, Sha256};

use super::bitmap::Bitmap;

/// Chunks that are asked of seeds at a time: enough for a fast line, few enough that a slow one's are not
/// all in the air when their asker dies.
pub const OF_SEEDS: usize = 4;
/// Chunks that are asked of nodes that want it too.
pub const OF_PEERS: usize = 4;
/// Chunks that are asked of one node: one that comes, and one that is read meanwhile.
pub const OF_ONE: usize = 2;
/// A node without progress for this long, in milliseconds, is nobody's primary: a chunk takes 4 s at 2 Mbit/s.
pub const SILENCE_MS: u64 = 6_000;

/// Where to take a chunk from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A node.
    Peer(NodeId),
    /// The configured mirror.
    Mirror,
}

/// What is known of a connected node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// What it has.
    pub have: Bitmap,
    /// What it has asked of seeds: it will have that soon.
    pub coming: Bitmap,
    /// Whether it had it, and wanted nothing, when it was first heard of. Stays.
    pub seed: bool,
    /// Whether it is fetching.
    pub wants: bool,
    /// Whether it reaches a seed or a mirror by itself.
    pub reaches: bool,
    /// When it last had something new, in milliseconds of this node's clock.
    pub moved: u64,
}

/// Everything that the choice rests on.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// Which bundle.
    pub bundle: &'a Digest,
    /// This node.
    pub me: NodeId,
    /// Its chunks.
    pub chunks: u32,
    /// What is here.
    pub have: &'a Bitmap,
    /// What was asked and not answered.
    pub asked: &'a BTreeMap<u32, Source>,
    /// The connected nodes.
    pub peers: &'a BTreeMap<NodeId, Peer>,
    /// Whether a mirror answers.
    pub mirror: bool,
    /// When something new came here, in milliseconds.
    pub moved: u64,
    /// Now, by the same clock.
    pub now: u64,
}

/// Why a chunk may be asked for, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// This node is its primary: others wait for it.
    Primary,
    /// A node that wants the bundle has it.
    Shared,
    /// Nothing new came for too long: anyone will do.
    Late,
}

/// How long a node says that it wants a bundle before it asks seeds, in milliseconds: by then the others count
/// it in, and it knows what they have asked.
pub const SETTLE_MS: u64 = 500;
/// A bundle of fewer chunks is not worth that wait.
pub const SETTLE_FROM: u32 = 16;

/// Whether this node reaches a seed or a mirror by itself.
pub fn reaches(peers: &BTreeMap<NodeId, Peer>, mirror: bool) -> bool {
    mirror || peers.values().any(|peer| peer.seed)
}

/// What to ask for next, and whom.
pub fn next(view: &View<'_>) -> Vec<(u32, Source)> {
    let seeds: BTreeMap<NodeId, u64> =
        view.peers.keys().chain([&view.me]).map(|id| (*id, seed(view.bundle, id))).collect();
    let of = |id: &NodeId| seeds.get(id).copied().unwrap_or_default();
    let (ring, mine) = (ring(view).into_iter().map(|id| (of(&id), id)).collect::<Vec<_>>(), of(&view.me));
    let mut wanted: Vec<(Rank, u64, u32)> = (0..view.chunks)
        .filter(|chunk| !view.have.has(*chunk) && !view.asked.contains_key(chunk))
        .filter_map(|chunk| Some((rank(view, &ring, chunk)?, score(mine, chunk), chunk)))
        .collect();
    // By score: two nodes with the same needs do not ask in the same order.
    wanted.sort_unstable();
    let mut load = Load::of(view);
    let mut asks = Vec::new();
    for (rank, _, chunk) in wanted {
        if let Some(source) = source(view, (rank, chunk), &load, &of) {
            load.add(view, source);
            asks.push((chunk, source));
        }
    }
    asks
}

/// Those that take chunks from seeds.
fn ring(view: &View<'_>) -> Vec<NodeId> {
    let mine = reaches(view.peers, view.mirror).then_some(view.me);
    let takes = |peer: &Peer| peer.wants && !peer.seed && peer.reaches && live(view, peer);
    mine.into_iter().chain(view.peers.iter().filter(|(_, p)| takes(p)).map(|(id, _)| *id)).collect()
}

/// Whether something new came to a node lately.
fn live(view: &View<'_>, peer: &Peer) -> bool {
    view.now.saturating_sub(peer.moved) < SILENCE_MS
}

fn rank(view: &View<'_>, ring: &[(u64, NodeId)], chunk: u32) -> Option<Rank> {
    if view.peers.values().any(|peer| !peer.seed && peer.have.has(chunk)) {
        return Some(Rank::Shared);
    }
    let late = (view.now.saturating_sub(view.moved) >= SILENCE_MS).then_some(Rank::Late);
    let coming = |peer: &Peer| !peer.seed && peer.coming.has(chunk) && live(view, peer);
    if view.peers.values().any(coming) {
        return late;
    }
    let primary = ring.iter().max_by_key(|(seed, id)| (score(*seed, chunk), *id));
    if primary.is_some_and(|(_, id)| *id == view.me) {
        return Some(Rank::Primary);
    }
    late
}

/// The least loaded source that may be asked; ties go by the chunk, so that load spreads.
fn source(
    view: &View<'_>,
    (rank, chunk): (Rank, u32),
    load: &Load,
    of: &dyn Fn(&NodeId) -> u64,
) -> Option<Source> {
    let seeds = rank != Rank::Shared;
    if if seeds { load.seeds >= OF_SEEDS } else { load.peers >= OF_PEERS } {
        return None;
    }
    let holders = view.peers.iter().filter(|(_, peer)| peer.seed == seeds && peer.have.has(chunk));
    let best =
        holders.map(|(id, _)| (load.at(&Source::Peer(*id)), score(of(id), chunk), Source::Peer(*id))).min();
    match best {
        Some((load, _, source)) => (load < OF_ONE).then_some(source),
        None => (seeds && view.mirror && load.at(&Source::Mirror) < OF_ONE).then_some(Source::Mirror),
    }
}

/// What was asked of whom.
struct Load {
    by: BTreeMap<Source, usize>,
    seeds: usize,
    peers: usize,
}

impl Load {
    fn of(view: &View<'_>) -> Self {
        let mut load = Self { by: BTreeMap::new(), seeds: 0, peers: 0 };
        view.asked.values().for_each(|source| load.add(view, *source));
        load
    }

    fn add(&mut self, view: &View<'_>, source: Source) {
        *self.by.entry(source).or_default() += 1;
        let shared = matches!(&source, Source::Peer(id) if view.peers.get(id).is_some_and(|p| !p.seed));
        if shared { self.peers += 1 } else { self.seeds += 1 }
    }

    fn at(&self, source: &Source) -> usize {
        self.by.get(source).copied().unwrap_or_default()
    }
}

/// What a node's scores for a bundle come of: nobody chooses it.
fn seed(bundle: &Digest, node: &NodeId) -> u64 {
    let mut hash = Sha256::new();
    hash.update(b"qb/blob/1\0");
    hash.update(bundle.as_bytes());
    hash.update(node.0);
    let hash: [u8; 32] = hash.finalize().into();
    hash.first_chunk::<8>().map_or(0, |first| u64::from_be_bytes(*first))
}

/// Rendezvous hashing: of all nodes the one with the highest score is a chunk's primary. One multiplication
/// chain (that of splitmix64) for each chunk and node: they are many.
fn score(seed: u64, chunk: u32) -> u64 {
    let mut z = seed.wrapping_add((u64::from(chunk) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
