//! The API servers of a cluster and their health: where a new connection goes, and which connections
//! end. Pure: time is given.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::health::{Asked, At, Health, Look, Others, Rank, Verdict};
use super::limits::BACKENDS;

/// See the module.
#[derive(Debug, Clone)]
pub struct Pool {
    healths: BTreeMap<SocketAddr, Health>,
    own: Option<SocketAddr>,
    /// Whose turn it is; rises with each connection.
    turn: usize,
}

impl Pool {
    /// No servers. Nodes with different seeds begin with different servers.
    pub fn new(seed: usize) -> Self {
        Self { healths: BTreeMap::new(), own: None, turn: seed }
    }

    /// Takes the list over, at most [`BACKENDS`] of it. What is known of those that stay, stays. Those
    /// that are new, and those that are gone, whose connections are to be drained now.
    pub fn set(
        &mut self,
        list: &[SocketAddr],
        own: Option<SocketAddr>,
    ) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
        self.own = own;
        let listed: BTreeSet<SocketAddr> = list.iter().take(BACKENDS).copied().collect();
        let gone = self.healths.keys().filter(|at| !listed.contains(at)).copied().collect();
        let new = listed.iter().filter(|at| !self.healths.contains_key(at)).copied().collect::<Vec<_>>();
        self.healths.retain(|at, _| listed.contains(at));
        self.healths.extend(new.iter().map(|at| (*at, Health::default())));
        (new, gone)
    }

    /// Whether a server is in the list.
    pub fn has(&self, at: &SocketAddr) -> bool {
        self.healths.contains_key(at)
    }

    /// The servers and what is known of each.
    pub fn healths(&self) -> impl Iterator<Item = (&SocketAddr, &Health)> {
        self.healths.iter()
    }

    /// Takes in what a look at a server came to. Of those that are gone nothing is kept.
    pub fn looked(&mut self, at: &SocketAddr, look: Look) {
        if let Some(health) = self.healths.get_mut(at) {
            health.looked(look);
        }
    }

    /// Takes in what a server said of its readiness.
    pub fn asked(&mut self, at: &SocketAddr, asked: Asked, now: At) {
        if let Some(health) = self.healths.get_mut(at) {
            health.asked(asked, now);
        }
    }

    /// What servers said of their readiness counts no more: they are asked anew, or nobody asks.
    pub fn forget_readiness(&mut self) {
        self.healths.values_mut().for_each(Health::forget_readiness);
    }

    /// A connection for a client failed.
    pub fn failed(&mut self, at: &SocketAddr, now: At) {
        if let Some(health) = self.healths.get_mut(at) {
            health.failed(now);
        }
    }

    /// A byte of a server came.
    pub fn heard(&mut self, at: &SocketAddr, when: At) {
        if let Some(health) = self.healths.get_mut(at) {
            health.heard(when);
        }
    }

    /// The servers in the order in which a new connection tries them: all of them, since who is thought
    /// dead may be back. Among those that stand equally well it is one's turn after the other: clients
    /// of Kubernetes stay on a connection for hours, so it is spread when it is made or never. This
    /// node's own server is first while nothing speaks against it: it costs no network, and whoever
    /// loses it with its node is lost with that node, too.
    pub fn order(&mut self) -> Vec<SocketAddr> {
        let turn = self.turn;
        self.turn = turn.wrapping_add(1);
        let mut ranks: BTreeMap<Rank, Vec<SocketAddr>> = BTreeMap::new();
        for (at, health) in &self.healths {
            ranks.entry(health.rank()).or_default().push(*at);
        }
        let mut order = Vec::with_capacity(self.healths.len());
        for (rank, mut servers) in ranks {
            let first = turn % servers.len();
            servers.rotate_left(first);
            if rank <= Rank::Unknown
                && let Some(own) = servers.iter().position(|at| Some(*at) == self.own)
            {
                servers[..=own].rotate_right(1);
            }
            order.append(&mut servers);
        }
        order
    }

    /// What becomes of the connections to a server. To one that is not in the list: they are drained.
    pub fn verdict(&self, at: &SocketAddr, now: At) -> Verdict {
        let Some(health) = self.healths.get(at) else { return Verdict::Drain };
        let others = || self.healths.iter().filter(|(other, _)| *other != at).map(|(_, health)| health);
        let others = Others {
            alive: others().any(Health::alive),
            ready: others().any(|other| other.rank() == Rank::Ready),
        };
        health.verdict(others, now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 6443))
    }

    fn ms(at: u64) -> At {
        At::from_millis(at)
    }

    fn pool(own: Option<u8>, ranks: &[(u8, Rank)]) -> Pool {
        let mut pool = Pool::new(0);
        pool.set(&ranks.iter().map(|(n, _)| at(*n)).collect::<Vec<_>>(), own.map(at));
        for (n, rank) in ranks {
            let n = at(*n);
            pool.looked(&n, Look { began: ms(0), answered: *rank != Rank::Dead });
            match rank {
                Rank::Ready => pool.asked(&n, Asked::Ready, ms(0)),
                Rank::Unknown => {}
                Rank::Suspect => pool.failed(&n, ms(1)),
                Rank::NotReady => pool.asked(&n, Asked::Not(String::new()), ms(0)),
                Rank::Dead => pool.looked(&n, Look { began: ms(0), answered: false }),
            }
        }
        pool
    }

    #[test]
    fn the_best_come_first_and_the_dead_are_tried_last() {
        use Rank::{Dead, NotReady, Ready, Suspect, Unknown};
        for (own, ranks, turns) in [
            (
                None,
                vec![(1, Ready), (2, Ready), (3, Ready)],
                vec![[1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 2, 3]],
            ),
            (Some(2), vec![(1, Ready), (2, Ready), (3, Ready)], vec![[2, 1, 3], [2, 3, 1], [2, 3, 1]]),
            (Some(2), vec![(1, Ready), (2, NotReady), (3, Ready)], vec![[1, 3, 2], [3, 1, 2]]),
            (Some(3), vec![(1, Dead), (2, Suspect), (3, Unknown)], vec![[3, 2, 1], [3, 2, 1]]),
            (Some(1), vec![(1, Dead), (2, Dead), (3, Dead)], vec![[1, 2, 3], [2, 3, 1]]),
            (None, vec![(1, NotReady), (2, NotReady), (3, Dead)], vec![[1, 2, 3], [2, 1, 3]]),
            (None, vec![(1, Unknown), (2, Ready), (3, Suspect)], vec![[2, 1, 3], [2, 1, 3]]),
        ] {
            let mut pool = pool(own, &ranks);
            for want in turns {
                assert_eq!(pool.order(), want.map(at), "{own:?} {ranks:?}");
            }
        }
        assert!(Pool::new(7).order().is_empty());
    }

    #[test]
    fn the_list_changes_while_what_is_known_stays() {
        let mut pool = pool(None, &[(1, Rank::Ready), (2, Rank::Dead)]);
        assert_eq!(pool.set(&[at(2), at(3), at(3)], Some(at(3))), (vec![at(3)], vec![at(1)]));
        assert_eq!(pool.verdict(&at(1), ms(0)), Verdict::Drain);
        assert_eq!(pool.order(), [at(3), at(2)]);
        // What comes late of one that is gone brings it back nowhere.
        pool.asked(&at(1), Asked::Ready, ms(1));
        assert!(!pool.has(&at(1)));
        let many: Vec<_> = (0..=u8::MAX).map(at).collect();
        pool.set(&many, None);
        assert_eq!(pool.order().len(), BACKENDS);
    }

    #[derive(Debug, Clone)]
    enum Event {
        List(Vec<u8>),
        Look(u8, bool),
        Asked(u8, bool),
        Failed(u8),
        Heard(u8),
    }

    fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
        let event = prop_oneof![
            1 => proptest::collection::vec(1u8..6, 0..6).prop_map(Event::List),
            8 => (1u8..6, any::<bool>()).prop_map(|(n, ok)| Event::Look(n, ok)),
            4 => (1u8..6, any::<bool>()).prop_map(|(n, ok)| Event::Asked(n, ok)),
            1 => (1u8..6).prop_map(Event::Failed),
            1 => (1u8..6).prop_map(Event::Heard),
        ];
        proptest::collection::vec((0u64..600, event), 1..120)
    }

    proptest! {
        /// Every listed server is tried and no other, the best first; nobody is cut who answered the last
        /// look, nor drained who was ready at the last question or where nobody else is ready; of several
        /// servers one always keeps its connections or all have been dead for long.
        #[test]
        fn whatever_comes(events in events(), own in proptest::option::of(1u8..6), seed in any::<usize>()) {
            let (mut pool, mut now, mut listed) = (Pool::new(seed), 0, Vec::new());
            let mut last = BTreeMap::new();
            for (later, event) in events {
                now += later;
                match event {
                    Event::List(list) => {
                        listed = list.iter().copied().map(at).collect();
                        listed.sort();
                        listed.dedup();
                        let (_, gone) = pool.set(&list.iter().copied().map(at).collect::<Vec<_>>(), own.map(at));
                        for n in gone {
                            prop_assert!(!listed.contains(&n));
                            last.remove(&n);
                        }
                    }
                    Event::Look(n, ok) => {
                        pool.looked(&at(n), Look { began: ms(now), answered: ok });
                        last.entry(at(n)).or_insert((true, true)).0 = ok;
                    }
                    Event::Asked(n, ok) => {
                        let asked = if ok { Asked::Ready } else { Asked::Not(String::new()) };
                        pool.asked(&at(n), asked, ms(now));
                        last.entry(at(n)).or_insert((true, true)).1 = ok;
                    }
                    Event::Failed(n) => pool.failed(&at(n), ms(now)),
                    Event::Heard(n) => pool.heard(&at(n), ms(now)),
                }
                last.retain(|n, _| listed.contains(n));
                let order = pool.order();
                let mut sorted = order.clone();
                sorted.sort();
                prop_assert_eq!(&sorted, &listed);
                let ranks: Vec<Rank> = order.iter().map(|n| pool.healths[n].rank()).collect();
                prop_assert!(ranks.is_sorted());
                for n in &listed {
                    let verdict = pool.verdict(n, ms(now));
                    let (answered, ready) = last.get(n).copied().unwrap_or((true, true));
                    prop_assert!(!(answered && verdict == Verdict::Cut), "{} answers and is cut", n);
                    prop_assert!(!(ready && verdict == Verdict::Drain), "{} is ready and drained", n);
                    if verdict == Verdict::Drain {
                        prop_assert!(listed.iter().any(|o| o != n && pool.healths[o].rank() == Rank::Ready));
                    }
                }
            }
        }

        /// Whoever is equally good gets equally many of the connections.
        #[test]
        fn connections_are_spread(count in 1u8..8, rounds in 1usize..5, seed in any::<usize>()) {
            let ranks: Vec<(u8, Rank)> = (0..count).map(|n| (n, Rank::Ready)).collect();
            let mut pool = Pool { turn: seed, ..pool(None, &ranks) };
            let mut firsts = BTreeMap::new();
            for _ in 0..usize::from(count) * rounds {
                *firsts.entry(pool.order()[0]).or_insert(0usize) += 1;
            }
            // Numbers of turns wrap around once in a life that nobody lives.
            prop_assume!(seed.checked_add(64).is_some());
            prop_assert!(firsts.len() == usize::from(count) && firsts.values().all(|n| *n == rounds));
        }
    }
}
