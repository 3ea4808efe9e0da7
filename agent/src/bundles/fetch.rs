//! One bundle on its way here: asks who has what, asks for chunks, writes what is verified.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use qb_drivers::bundle::VerifiedHead;
use qb_mesh::Lane;
use qb_model::{Digest, NodeId};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::origin::Origin;
use super::{AGAIN, Fetching, Told, publishers};
use crate::blobs::Partial;
use crate::blobs::bitmap::Bitmap;
use crate::blobs::choose::{self, Peer, SETTLE_FROM, SETTLE_MS, SILENCE_MS, Source, View};
use crate::node::Node;
use crate::rpc::{BlobHave, BlobPart, BlobRequest, kind};

/// Deadline of a chunk or a head: 1 MiB at 1 Mbit/s, behind others.
const CHUNK: Duration = Duration::from_secs(30);
/// Deadline of the question what a node has.
const HAVE: Duration = Duration::from_secs(3);
/// Pause between two such questions: a node asks each of its peers, 250 bytes each.
const LOOK: Duration = Duration::from_millis(300);
/// Nodes that are asked what they have: any larger site has its bundle at most of its voters.
const ASKED: usize = 32;
/// How long a source that failed is left alone.
const REST_MS: u64 = 3_000;

/// What came of a question.
enum Came {
    Have(NodeId, Option<BlobHave>),
    Chunk(u32, Source, Result<BlobHave, String>),
}

/// Fetches a bundle until it is here.
pub(super) async fn run(node: &Arc<Node>, digest: &Digest, fetching: &Arc<Fetching>) {
    loop {
        let why = match try_fetch(node, digest, fetching).await {
            Ok(()) => return,
            Err(why) => why,
        };
        tracing::debug!(%digest, "bundle: {why}");
        fetching.said.send_replace(Some(why));
        tokio::time::sleep(AGAIN).await;
    }
}

async fn try_fetch(node: &Arc<Node>, digest: &Digest, fetching: &Arc<Fetching>) -> Result<(), String> {
    let origin = Origin::of(node, digest).await;
    let partial = partial(node, digest, &origin).await?;
    Fetch {
        node,
        digest,
        origin: origin.map(Arc::new),
        partial: Arc::clone(&partial),
        fetching,
        start: Instant::now(),
        peers: BTreeMap::new(),
        rests: BTreeMap::new(),
        asked: BTreeMap::new(),
        looks: 0,
        looked: false,
        moved: 0,
        running: JoinSet::new(),
    }
    .run()
    .await?;
    let (blobs, done) = (node.blobs.clone(), partial);
    let finished = tokio::task::spawn_blocking(move || blobs.finish(&done)).await;
    finished.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    super::arrived(node, digest);
    Ok(())
}

/// What is here of the bundle, else its head from whoever has it.
async fn partial(node: &Arc<Node>, digest: &Digest, origin: &Option<Origin>) -> Result<Arc<Partial>, String> {
    let (blobs, wanted, keys) = (node.blobs.clone(), *digest, publishers(node));
    let resumed = tokio::task::spawn_blocking(move || blobs.resume(&wanted, &keys)).await;
    if let Some(partial) = resumed.map_err(|e| e.to_string())? {
        return Ok(partial);
    }
    let (mut asked, mut why) = (0, String::new());
    for peer in connected(node) {
        asked += 1;
        let bytes = match ask(node, Lane::Blob, peer, digest, BlobPart::Head, CHUNK).await {
            Ok(answer) => answer.bytes,
            Err(_) => continue,
        };
        match take_head(node, digest, bytes).await {
            Ok(partial) => return Ok(partial),
            Err(error) => why = format!("; {} has one that is not taken: {error}", host(node, &peer)),
        }
    }
    if let Some(origin) = origin {
        return take_head(node, digest, origin.head().await?).await;
    }
    Err(format!("no node holds it: {asked} asked{why}"))
}

async fn take_head(node: &Arc<Node>, digest: &Digest, bytes: Vec<u8>) -> Result<Arc<Partial>, String> {
    let (blobs, wanted, keys) = (node.blobs.clone(), *digest, publishers(node));
    let begun = tokio::task::spawn_blocking(move || {
        let head = VerifiedHead::verify(&bytes, &keys).map_err(|e| e.to_string())?;
        head.is(&wanted).map_err(|e| e.to_string())?;
        blobs.begin(Arc::new(head), &bytes).map_err(|e| e.to_string())
    });
    begun.await.map_err(|e| e.to_string())?
}

fn host(node: &Node, peer: &NodeId) -> String {
    node.site().node(peer).map_or_else(|| peer.to_string(), |record| record.host.to_string())
}

fn connected(node: &Node) -> Vec<NodeId> {
    node.mesh().map(qb_mesh::Mesh::connected).unwrap_or_default().into_iter().take(ASKED).collect()
}

async fn ask(
    node: &Node,
    lane: Lane,
    peer: NodeId,
    bundle: &Digest,
    part: BlobPart,
    deadline: Duration,
) -> Result<BlobHave, String> {
    let request = BlobRequest { bundle: *bundle, part };
    node.ask_on(lane, peer, kind::BLOB, &request, deadline).await.map_err(|e| e.to_string())
}

/// A bundle whose head is here.
struct Fetch<'a> {
    node: &'a Arc<Node>,
    digest: &'a Digest,
    origin: Option<Arc<Origin>>,
    partial: Arc<Partial>,
    fetching: &'a Arc<Fetching>,
    start: Instant,
    peers: BTreeMap<NodeId, Peer>,
    /// Until when a source that failed is left alone.
    rests: BTreeMap<Source, u64>,
    asked: BTreeMap<u32, Source>,
    /// Questions what a node has that are on their way.
    looks: usize,
    /// Whether all answered once.
    looked: bool,
    moved: u64,
    running: JoinSet<Came>,
}

impl Fetch<'_> {
    async fn run(mut self) -> Result<(), String> {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.partial.is_complete() {
            tokio::select! {
                _ = look.tick() => self.look()?,
                Some(came) = self.running.join_next() => self.hear(came.map_err(|e| e.to_string())?)?,
            }
            self.request();
        }
        Ok(())
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Asks everybody what they have, and tells how far this is.
    fn look(&mut self) -> Result<(), String> {
        let near = connected(self.node);
        self.peers.retain(|peer, _| near.contains(peer));
        self.say();
        let idle = self.now().saturating_sub(self.moved) > 5 * SILENCE_MS;
        if idle && self.asked.is_empty() {
            return Err(format!("{} and nobody has the rest: push it to a node", self.progress()));
        }
        if self.looks > 0 {
            return Ok(());
        }
        for peer in near {
            let (node, digest) = (self.node.clone(), *self.digest);
            self.looks += 1;
            self.running.spawn(async move {
                Came::Have(peer, ask(&node, Lane::Control, peer, &digest, BlobPart::Have, HAVE).await.ok())
            });
        }
        Ok(())
    }

    fn progress(&self) -> String {
        let (have, all) = (u64::from(self.partial.have().count()), u64::from(self.partial.head().chunks()));
        let from = self.peers.values().filter(|peer| !peer.have.is_empty()).count();
        format!("{have} of {all} MiB are here, {from} nodes have more")
    }

    fn tell(&self) {
        let mut coming = Bitmap::empty(self.partial.head().chunks());
        let of_seed = |source: &Source| match source {
            Source::Peer(peer) => self.peers.get(peer).is_some_and(|peer| peer.seed),
            Source::Mirror => true,
        };
        self.asked.iter().filter(|(_, source)| of_seed(source)).for_each(|(chunk, _)| coming.set(*chunk));
        let reaches = !self.looked || choose::reaches(&self.peers, self.origin.is_some());
        *self.fetching.told() = Told { reaches, coming };
    }

    fn say(&self) {
        self.fetching.said.send_replace(Some(self.progress()));
    }

    fn hear(&mut self, came: Came) -> Result<(), String> {
        match came {
            Came::Have(peer, answer) => {
                self.looks -= 1;
                self.looked |= self.looks == 0;
                match answer {
                    Some(answer) => self.heard(peer, answer),
                    None => drop(self.peers.remove(&peer)),
                }
            }
            Came::Chunk(chunk, source, answer) => {
                self.asked.remove(&chunk);
                let failed = match answer {
                    Ok(answer) if self.partial.have().has(chunk) => {
                        self.moved = self.now();
                        if let Source::Peer(peer) = source {
                            self.heard(peer, answer);
                        }
                        return Ok(());
                    }
                    Ok(_) => "the chunk was not kept".to_owned(),
                    Err(why) => why,
                };
                tracing::debug!(?source, chunk, "bundle: {failed}");
                self.rests.insert(source, self.now() + REST_MS);
            }
        }
        Ok(())
    }

    fn heard(&mut self, peer: NodeId, answer: BlobHave) {
        let now = self.now();
        let BlobHave { have, coming, wants, reaches, bytes: _ } = answer;
        if have.is_empty() && !wants {
            self.peers.remove(&peer);
            return;
        }
        match self.peers.get_mut(&peer) {
            None => {
                drop(
                    self.peers.insert(peer, Peer { have, coming, seed: !wants, wants, reaches, moved: now }),
                );
            }
            Some(held) => {
                let moved = if held.have == have { held.moved } else { now };
                *held = Peer { have, coming, seed: held.seed, wants, reaches, moved };
            }
        }
    }

    /// Asks for what is to be asked for now. Before that, everybody was asked what they have, and could hear
    /// that this node wants it.
    fn request(&mut self) {
        let now = self.now();
        let small = self.partial.head().chunks() < SETTLE_FROM;
        if !(self.looked || self.looks == 0 && self.peers.is_empty()) || now < SETTLE_MS && !small {
            return;
        }
        self.rests.retain(|_, until| *until > now);
        let rested = |source: &Source| !self.rests.contains_key(source);
        let peers: BTreeMap<NodeId, Peer> = self
            .peers
            .iter()
            .filter(|(id, _)| rested(&Source::Peer(**id)))
            .map(|(id, peer)| (*id, peer.clone()))
            .collect();
        let asks = choose::next(&View {
            bundle: self.digest,
            me: self.node.id(),
            chunks: self.partial.head().chunks(),
            have: &self.partial.have(),
            asked: &self.asked,
            peers: &peers,
            mirror: self.origin.is_some() && rested(&Source::Mirror),
            moved: self.moved,
            now,
        });
        self.asked.extend(asks.iter().copied());
        self.tell();
        for (chunk, source) in asks {
            let (node, digest) = (self.node.clone(), *self.digest);
            let (partial, origin) = (Arc::clone(&self.partial), self.origin.clone());
            self.running.spawn(async move {
                let answer = match (source, origin) {
                    (Source::Peer(peer), _) => {
                        ask(&node, Lane::Blob, peer, &digest, BlobPart::Chunk(chunk), CHUNK).await
                    }
                    (Source::Mirror, Some(origin)) => match partial.head().chunk(chunk) {
                        Some(range) => {
                            origin.read(range).await.map(|bytes| BlobHave { bytes, ..BlobHave::default() })
                        }
                        None => Err("there is no such chunk".to_owned()),
                    },
                    (Source::Mirror, None) => Err("there is no mirror".to_owned()),
                };
                Came::Chunk(chunk, source, keep(&node, partial, chunk, answer).await)
            });
        }
    }
}

/// Writes a chunk that came, once it is verified.
async fn keep(
    node: &Node,
    partial: Arc<Partial>,
    chunk: u32,
    answer: Result<BlobHave, String>,
) -> Result<BlobHave, String> {
    let mut answer = answer?;
    let bytes = std::mem::take(&mut answer.bytes);
    // It is never closed.
    let turn = node.fetches.writes.clone().acquire_owned().await;
    // Hashing and a disk: not on a thread that others wait for, and not on every processor.
    let put = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        partial.put(chunk, &bytes)
    });
    let put = put.await;
    put.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    Ok(answer)
}
