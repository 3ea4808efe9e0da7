//! Upgrades of agents: orders, waves, halts, and what executors verify.

mod chance;
mod faults;
mod orders;
mod rolling;

use std::collections::{BTreeMap, BTreeSet};

use qb_model::action::Action;
use qb_model::agent_order::{AGENT_STAGE, AgentOrder};
use qb_model::assignment::NodeResult;
use qb_model::command::{AgentOrdered, Command};
use qb_model::ids::{Digest, Generation, Millis, NodeId, Version};
use qb_model::plan::upgrade::{self, Move, Scene, Wave, waiting_on, waves};
use qb_model::state::{AgentUpgrade, Applied};
use qb_model::statement::{NodeCommand, Statement as _};

use crate::support::site::{Site, sorted};
use crate::support::{OLGA, key, node};

const NEW: &str = "0.2.0";
const OLD: &str = "0.1.0";

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn upgrade_to(text: &str, first: &[u8], batch: u16) -> Action {
    Action::AgentUpgrade { bundle: Digest([9; 32]), version: version(text), first: sorted(first), batch }
}

/// A site whose agents come and go: what each runs, and the leader that sees it.
struct Fleet {
    site: Site,
    voters: Vec<u8>,
    leader: u8,
    watching: Millis,
    /// What each agent says of itself: version and incarnation.
    runs: BTreeMap<u8, (String, u64)>,
    down: BTreeSet<u8>,
    said: u64,
}

impl Fleet {
    /// Nodes 101 to `100 + count`, the first `voters` of which vote; 101 leads.
    fn new(count: u8, voters: u8) -> Self {
        let mut site = Site::with_pool(count - 1);
        for seed in 102..101 + voters {
            assert_eq!(site.propose(Command::Seat(node(seed))), Applied::Done);
        }
        let runs = (101..=100 + count).map(|s| (s, (OLD.to_owned(), 1))).collect();
        let watching = site.now;
        let voters = (101..101 + voters).collect();
        let mut fleet =
            Self { site, voters, leader: 101, watching, runs, down: BTreeSet::new(), said: 1_000 };
        fleet.hear();
        fleet
    }

    fn with_upgrade(count: u8, voters: u8, first: &[u8], batch: u16) -> Self {
        let mut fleet = Self::new(count, voters);
        fleet.site.must("olga", upgrade_to(NEW, first, batch), &[OLGA]);
        fleet.hear();
        fleet
    }

    fn upgrade(&self) -> &AgentUpgrade {
        self.site.state.agent_upgrade().unwrap()
    }

    /// A second passes, and everybody who is up reports.
    fn hear(&mut self) {
        self.site.now = self.site.now.plus(1_000);
        let applied = self.site.state.applied();
        for (seed, (runs, incarnation)) in self.runs.clone() {
            if !self.down.contains(&seed) && self.site.state.node(&node(seed)).is_some() {
                self.site.report(seed, |r| {
                    r.facts.agent = runs;
                    r.incarnation = incarnation;
                    r.applied = applied;
                });
            }
        }
    }

    fn seen<T>(&self, make: impl FnOnce(&Scene<'_>) -> T) -> T {
        let voters: BTreeSet<NodeId> = self.voters.iter().map(|v| node(*v)).collect();
        make(&Scene {
            state: &self.site.state,
            board: &self.site.board,
            leader: Some(node(self.leader)),
            voters: &voters,
            changing: false,
            watching: self.watching,
            now: self.site.now,
        })
    }

    fn moves(&self) -> Vec<Move> {
        self.seen(upgrade::next)
    }

    fn waits(&self) -> String {
        let cause = self.seen(waiting_on).unwrap();
        assert!(cause.text.chars().count() + cause.subject.len() < 90, "{cause:?}");
        let clears = cause.command.map_or_else(|| "by itself".to_owned(), |c| format!("> {c}"));
        let more = if cause.more > 0 { format!(" (+{})", cause.more) } else { String::new() };
        format!("{}: {} {}.{more} {clears}", cause.code, cause.subject, cause.text)
    }

    fn planned(&self, first: &[u8], batch: u16) -> Vec<Wave> {
        self.seen(|scene| waves(scene, &sorted(first), batch))
    }

    /// The leader does what the planner says; whom it ordered.
    fn lead(&mut self) -> Vec<u8> {
        let mut ordered = Vec::new();
        for step in self.moves() {
            match step {
                Move::Propose(command) => {
                    if let Command::AgentOrder(order) = &command {
                        ordered.push(seed_of(&order.node));
                    }
                    assert_eq!(self.site.propose(command.clone()), Applied::Done, "{command:?}");
                }
                Move::HandOver { to } => {
                    self.leader = seed_of(&to);
                    self.watching = self.site.now;
                }
            }
        }
        ordered
    }

    /// Lets time pass while everybody reports; the leader does nothing.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.hear();
        }
    }

    fn order_of(&self, seed: u8) -> AgentOrder {
        self.site.state.agent_order(&node(seed)).unwrap()
    }

    fn answer(&mut self, seed: u8, order: &AgentOrder, result: &NodeResult) -> Applied {
        self.said += 1;
        let incarnation = self.runs.get(&seed).map_or(1, |(_, incarnation)| *incarnation);
        let command = NodeCommand {
            v: 1,
            site: self.site.id(),
            epoch: 0,
            node: node(seed),
            incarnation,
            sequence: self.said,
            assignment: order.digest(),
            stage: AGENT_STAGE,
            result: postcard::to_stdvec(result).unwrap(),
        };
        self.site.propose(Command::Node(command.sign(&key(seed)).to_bytes()))
    }

    /// The node starts with the new version and says so.
    fn upgraded_at(&mut self, seed: u8, level: u32) -> Applied {
        let order = self.order_of(seed);
        let entry = self.runs.get_mut(&seed).unwrap();
        *entry = (order.version.to_string(), entry.1 + 1);
        let applied =
            self.answer(seed, &order, &NodeResult::AgentUpgraded { version: order.version.clone(), level });
        self.hear();
        applied
    }

    fn upgraded(&mut self, seed: u8) {
        assert_eq!(self.upgraded_at(seed, 1), Applied::Done);
    }

    fn returned(&mut self, seed: u8, why: &str) {
        let order = self.order_of(seed);
        let result = NodeResult::AgentReturned { version: version(OLD), why: why.into() };
        assert_eq!(self.answer(seed, &order, &result), Applied::Done);
    }

    /// Orders and answers until the upgrade ends; the waves as they were.
    fn roll(&mut self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for _ in 0..400 {
            if !self.upgrade().rolling() {
                return all;
            }
            let ordered = self.lead();
            for seed in &ordered {
                self.upgraded(*seed);
            }
            if !ordered.is_empty() {
                all.push(ordered);
            }
            self.hear();
        }
        panic!("does not end: {:#?}", self.upgrade());
    }

    /// What the leader orders if it does not ask the planner.
    fn ordered(&self, seed: u8) -> Command {
        let generation = self.site.state.node(&node(seed)).map_or(Generation(1), |n| n.agent_orders.next());
        Command::AgentOrder(AgentOrdered {
            upgrade: self.upgrade().cites.digest,
            node: node(seed),
            generation,
        })
    }
}

fn seed_of(id: &NodeId) -> u8 {
    (90..=140).find(|s| node(*s) == *id).unwrap()
}
