//! A site of nodes that fetch one bundle, with played time and lines.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::*;

const CHUNKS: u32 = 300;
/// Milliseconds of one step of played time.
const STEP: u64 = 20;
/// How often nodes ask one another what they have.
const LOOK: u64 = 200;

fn id(n: usize) -> NodeId {
    let mut id = [n as u8; 32];
    id[31] = (n >> 8) as u8;
    NodeId(id)
}

#[derive(Clone)]
struct Fetcher {
    have: Bitmap,
    asked: BTreeMap<u32, Source>,
    peers: BTreeMap<NodeId, Peer>,
    /// What arrives: when, which chunk, from whom.
    coming: Vec<(u64, u32, Source)>,
    moved: u64,
    starts: u64,
    looked: u64,
    dead: bool,
    done_at: u64,
}

/// Node 0 is the origin. Each chunk takes a node's line 10 ms each way.
struct Site {
    bundle: Digest,
    nodes: Vec<Fetcher>,
    /// When each node's line out is free again.
    line: Vec<u64>,
    served: Vec<u64>,
    mirror: Option<u64>,
    now: u64,
}

impl Site {
    fn new(count: usize, seed: u8, skew: u64) -> Self {
        let fetcher = |n: usize| Fetcher {
            have: if n == 0 { Bitmap::full(CHUNKS) } else { Bitmap::empty(CHUNKS) },
            asked: BTreeMap::new(),
            peers: BTreeMap::new(),
            coming: Vec::new(),
            moved: 0,
            starts: if n == 0 { 0 } else { (n as u64 * 7_919 + u64::from(seed) * 131) % skew.max(1) },
            looked: 0,
            dead: false,
            done_at: 0,
        };
        let nodes = (0..=count).map(fetcher).collect();
        let (line, served) = (vec![0; count + 1], vec![0; count + 1]);
        Self { bundle: Digest([seed; 32]), nodes, line, served, mirror: None, now: 0 }
    }

    fn wants(&self, n: usize) -> bool {
        n > 0 && self.now >= self.nodes[n].starts && self.nodes[n].have.count() < CHUNKS
    }

    fn look(&mut self, n: usize) {
        let heard: Vec<(usize, Peer)> = (0..self.nodes.len())
            .filter(|m| *m != n && !self.nodes[*m].dead)
            .filter(|m| self.wants(*m) || !self.nodes[*m].have.is_empty())
            .map(|m| {
                let other = &self.nodes[m];
                let wants = self.wants(m);
                // Before it has looked it says so, too: it will see.
                let reaches = other.looked == 0 || reaches(&other.peers, self.mirror.is_some());
                let mut coming = Bitmap::empty(CHUNKS);
                for (chunk, source) in &other.asked {
                    let shared =
                        matches!(source, Source::Peer(p) if other.peers.get(p).is_some_and(|p| !p.seed));
                    if !shared {
                        coming.set(*chunk);
                    }
                }
                (m, Peer { have: other.have.clone(), coming, seed: !wants, wants, reaches, moved: self.now })
            })
            .collect();
        let live: BTreeSet<NodeId> = heard.iter().map(|(m, _)| id(*m)).collect();
        let peers = &mut self.nodes[n].peers;
        peers.retain(|peer, _| live.contains(peer));
        for (m, now) in heard {
            match peers.get_mut(&id(m)) {
                None => drop(peers.insert(id(m), now)),
                Some(before) => {
                    let moved = if before.have == now.have { before.moved } else { now.moved };
                    let seed = before.seed;
                    *before = Peer { moved, seed, ..now };
                }
            }
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        for n in 1..self.nodes.len() {
            if self.nodes[n].dead || !self.wants(n) {
                continue;
            }
            if self.now >= self.nodes[n].looked + LOOK {
                self.look(n);
                self.nodes[n].looked = self.now;
            }
            self.arrive(n);
            if self.now >= self.nodes[n].starts + SETTLE_MS {
                self.ask(n);
            }
        }
    }

    fn arrive(&mut self, n: usize) {
        let now = self.now;
        let (come, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.nodes[n].coming).into_iter().partition(|(at, ..)| *at <= now);
        self.nodes[n].coming = later;
        for (_, chunk, source) in come {
            self.nodes[n].asked.remove(&chunk);
            // A node that died on the way answers nothing.
            let lost = matches!(source, Source::Peer(peer) if (0..self.nodes.len()).any(|m| id(m) == peer && self.nodes[m].dead));
            if !lost {
                self.nodes[n].have.set(chunk);
                self.nodes[n].moved = now;
            }
        }
        if self.nodes[n].have.count() == CHUNKS {
            self.nodes[n].done_at = now;
        }
    }

    fn ask(&mut self, n: usize) {
        let fetcher = &self.nodes[n];
        let asks = next(&View {
            bundle: &self.bundle,
            me: id(n),
            chunks: CHUNKS,
            have: &fetcher.have,
            asked: &fetcher.asked,
            peers: &fetcher.peers,
            mirror: self.mirror.is_some(),
            moved: fetcher.moved.max(fetcher.starts),
            now: self.now,
        });
        for (chunk, source) in asks {
            let at = match source {
                Source::Mirror => {
                    *self.mirror.as_mut().unwrap() += 1;
                    self.now + 30
                }
                Source::Peer(peer) => {
                    let m = (0..self.nodes.len()).find(|m| id(*m) == peer).unwrap();
                    assert!(self.nodes[m].have.has(chunk), "nobody is asked for what it does not have");
                    self.served[m] += 1;
                    self.line[m] = self.line[m].max(self.now) + 10;
                    self.line[m] + 10
                }
            };
            assert!(self.nodes[n].asked.insert(chunk, source).is_none(), "nothing is asked for twice");
            self.nodes[n].coming.push((at, chunk, source));
        }
    }

    fn run(&mut self, mut each: impl FnMut(&mut Self)) {
        while (1..self.nodes.len()).any(|n| !self.nodes[n].dead && self.nodes[n].have.count() < CHUNKS) {
            self.step();
            each(self);
            assert!(
                self.now < 600_000,
                "it comes to an end: {:?}",
                self.nodes.iter().map(|n| n.have.count()).collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn the_origin_is_read_about_once_however_many_want_it() {
    for (count, seed, skew) in [(8, 1, 1), (8, 2, 500), (8, 3, 2_000), (3, 4, 300), (24, 5, 500), (1, 6, 1)] {
        let mut site = Site::new(count, seed, skew);
        site.run(|_| {});
        let times = site.served[0] as f64 / f64::from(CHUNKS);
        assert!(times <= 1.02, "{count} nodes, skew {skew}: the origin was read {times} times");
        // One node alone would have its line busy for this long.
        let one = 10 * u64::from(CHUNKS);
        let last = site.nodes.iter().map(|n| n.done_at).max().unwrap();
        assert!(last <= one * 2 + skew + 1_000, "{count} nodes were done after {last} ms, one in {one} ms");
    }
}

#[test]
fn a_node_that_dies_in_the_middle_costs_little() {
    for (seed, at) in [(1, 40), (2, 100), (3, 200)] {
        let mut site = Site::new(8, seed, 300);
        site.run(|site| {
            if site.nodes[3].have.count() >= at {
                site.nodes[3].dead = true;
            }
        });
        assert!(site.nodes[3].dead);
        let times = site.served[0] as f64 / f64::from(CHUNKS);
        assert!(times <= 1.10, "died at {at}: the origin was read {times} times");
    }
}

#[test]
fn a_node_that_falls_silent_stops_nobody() {
    let mut site = Site::new(8, 9, 1);
    // It says that it wants the bundle, and takes nothing.
    site.nodes[5].starts = 0;
    let mut steps = 0;
    site.run(|site| {
        steps += 1;
        site.nodes[5].coming.clear();
        if steps * STEP > 20_000 {
            site.nodes[5].dead = true;
        }
    });
    let times = site.served[0] as f64 / f64::from(CHUNKS);
    assert!(times <= 1.25, "the origin was read {times} times");
}

#[test]
fn without_the_origin_the_rest_comes_from_a_mirror_or_not_at_all() {
    let mut site = Site::new(4, 7, 1);
    site.mirror = Some(0);
    site.run(|site| {
        if site.nodes[1].have.count() >= 50 {
            site.nodes[0].dead = true;
        }
    });
    let mirrored = site.mirror.unwrap();
    assert!(mirrored > 0 && site.served[0] + mirrored <= u64::from(CHUNKS) * 11 / 10, "{mirrored}");
}

#[test]
fn everybody_agrees_on_primaries_and_they_spread() {
    let bundle = Digest([4; 32]);
    let mut count = BTreeMap::new();
    for chunk in 0..2_000 {
        let primary = (1..=8).max_by_key(|n| score(seed(&bundle, &id(*n)), chunk)).unwrap();
        *count.entry(primary).or_insert(0) += 1;
        // Without that one, only its own chunks move.
        let other = (1..=8).filter(|n| *n != 3).max_by_key(|n| score(seed(&bundle, &id(*n)), chunk)).unwrap();
        assert!(primary == 3 || primary == other);
    }
    assert!(count.len() == 8 && count.values().all(|n| (180..320).contains(n)), "{count:?}");
}
