//! Replicas, the leader and the nodes.

use std::collections::{BTreeMap, BTreeSet};

use qb_model::action::{Action, KeyClass, Role};
use qb_model::assignment::{Assignment, NodeResult, Stage};
use qb_model::board::Board;
use qb_model::charter::{Charter, CharterBody};
use qb_model::command::{Command, Entry, Found, PreflightDone};
use qb_model::ids::{Digest, Generation, Millis, Name, NodeId, RaftId};
use qb_model::outcome::Outcome;
use qb_model::plan::{self, Effect};
use qb_model::preflight::Severity;
use qb_model::state::{Applied, SiteState};
use qb_model::statement::Statement as _;

use super::{Random, invariants};
use crate::support::site::{FIRST, done, finding, has_work, hello, node_command, report};
use crate::support::{HOUR, NOW, OLGA, OPAL, add, authorized, charter_body, key, new_key, node, sign};

/// Nodes that there are.
pub(super) const HOSTS: std::ops::RangeInclusive<u8> = FIRST..=FIRST + 9;
const REPLICAS: usize = 3;

/// A machine: what it persists.
#[derive(Default)]
struct Host {
    incarnation: u64,
    sequence: u64,
    greeted: bool,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) charter: Charter,
    pub(super) log: Vec<Vec<u8>>,
    pub(super) replicas: Vec<SiteState>,
    pub(super) now: Millis,
    pub(super) sent: Vec<Vec<u8>>,
    pub(super) made: u64,
    leader: usize,
    delayed: Vec<Command>,
    hosts: BTreeMap<u8, Host>,
    board: Board,
    reports: u64,
    /// Nodes that were really taken out of a cluster, each with the generation of its order to leave.
    pub(super) taken_out: BTreeSet<(NodeId, Generation)>,
    /// The same, as the log has it.
    pub(super) out: BTreeSet<(NodeId, Generation)>,
    /// Chain and trust heads after each entry, as the first replica saw them.
    heads: BTreeMap<u64, (Digest, Digest)>,
    pub(super) accepted: BTreeMap<Digest, u64>,
    pub(super) seats: BTreeMap<RaftId, NodeId>,
    pub(super) verified: BTreeSet<Digest>,
}

fn charter() -> Charter {
    let mut body: CharterBody = charter_body();
    body.founders.truncate(1);
    Charter::verify(&body.sign(&[&key(OLGA)]).to_bytes()).unwrap()
}

impl World {
    pub(super) fn founded(random: Random) -> Self {
        let charter = charter();
        let state = SiteState::new(charter.envelope()).unwrap();
        let mut world = Self {
            random,
            log: vec![],
            replicas: vec![state; REPLICAS],
            now: Millis(NOW),
            sent: vec![],
            made: 0,
            leader: 0,
            delayed: vec![],
            hosts: HOSTS.map(|n| (n, Host::default())).collect(),
            board: Board::default(),
            reports: 0,
            taken_out: BTreeSet::new(),
            out: BTreeSet::new(),
            heads: BTreeMap::new(),
            accepted: BTreeMap::new(),
            seats: BTreeMap::new(),
            verified: BTreeSet::new(),
            charter,
        };
        let intent = world.intent("olga", Action::SiteFound { nodes: vec![authorized(FIRST)] });
        let envelope = sign(&intent, &[OLGA]).to_bytes();
        let charter = world.charter.envelope().to_vec();
        world.append(Command::Found(Found { charter, envelope }));
        world.catch_up();
        world.order("olga", add("opal", Role::Operator, vec![new_key(OPAL, KeyClass::Cli)]), &[OLGA]);
        world.catch_up();
        world
    }

    pub(super) fn append(&mut self, command: Command) {
        self.now = self.now.plus(200);
        self.log.push(Entry { stamp: self.now, command }.encode().unwrap());
    }

    /// The newest state that somebody has.
    pub(super) fn newest(&self) -> &SiteState {
        self.replicas.iter().max_by_key(|r| r.applied()).unwrap()
    }

    fn leads(&self) -> &SiteState {
        &self.replicas[self.leader]
    }

    /// One replica applies up to `count` entries.
    fn apply(&mut self, which: usize, count: usize) {
        for _ in 0..count {
            let at = self.replicas[which].applied();
            let Some(entry) = self.log.get(usize::try_from(at).unwrap()) else { return };
            let first = self.heads.get(&(at + 1)).copied();
            let before = first.is_none().then(|| self.replicas[which].clone());
            let state = &mut self.replicas[which];
            let (applied, _) = state.apply(at + 1, entry).unwrap();
            let heads = (state.chain_head().1, state.trust().head());
            assert!(first.is_none_or(|f| f == heads), "replicas differ at {}", at + 1);
            let Some(before) = before else { continue };
            self.heads.insert(at + 1, heads);
            if let Applied::Intent { digest, outcome: Outcome::Accepted { .. }, index } = applied {
                let again = self.accepted.insert(digest, index);
                assert!(again.is_none(), "the intent {digest} has two effects");
            }
            let state = &self.replicas[which];
            invariants::after_entry(&before, state);
            invariants::nobody_leaves_before_it_is_out(&self.taken_out, &mut self.out, &before, state);
            invariants::seats_are_new(&mut self.seats, &before, state);
            invariants::orders_verify(&mut self.verified, &self.charter, &before, state);
        }
    }

    pub(super) fn catch_up(&mut self) {
        for which in 0..REPLICAS {
            self.apply(which, usize::MAX);
        }
    }

    pub(super) fn step(&mut self) {
        match self.random.below(100) {
            0..=27 => self.admin(),
            28..=52 => drop(self.lead(true)),
            53..=76 => self.node_works(),
            77..=80 => self.leader_changes(),
            81..=83 => self.restore(),
            84..=87 => self.time_passes(),
            88..=89 => self.seat(),
            _ => {
                if let Some(command) = self.delayed.pop() {
                    self.append(command);
                }
            }
        }
        let (which, count) = (self.random.below(REPLICAS), self.random.below(12));
        self.apply(which, count);
        if self.random.one_in(40) {
            self.catch_up();
            invariants::replicas_are_equal(self);
        }
    }

    fn leader_changes(&mut self) {
        self.leader = self.random.below(REPLICAS);
        let leader = self.leader;
        // A leader has applied what is committed before it plans; a new one may plan a moment early.
        if !self.random.one_in(4) {
            self.apply(leader, usize::MAX);
        }
    }

    fn restore(&mut self) {
        let (to, from) = (self.random.below(REPLICAS), self.random.below(REPLICAS));
        let bytes = self.replicas[from].to_snapshot();
        if to == from {
            self.replicas[to] = SiteState::from_own_snapshot(&bytes).unwrap();
        } else if self.replicas[from].applied() > self.replicas[to].applied() {
            self.replicas[to] = SiteState::from_snapshot(&bytes, &self.replicas[to]).unwrap();
        }
    }

    fn time_passes(&mut self) {
        let ms = if self.random.one_in(6) { 3 * HOUR } else { 20_000 };
        self.now = self.now.plus(ms);
        self.append(Command::Tick(self.now.0.to_be_bytes().to_vec()));
    }

    fn seat(&mut self) {
        let n = FIRST + u8::try_from(self.random.below(10)).unwrap();
        let seats: Vec<RaftId> = self.newest().seats().keys().copied().collect();
        match self.random.pick(&seats) {
            Some(id) if self.random.one_in(3) => self.append(Command::Unseat(id)),
            _ => self.append(Command::Seat(node(n))),
        }
    }

    /// The leader proposes what the planner wants; faults drop, double or delay it.
    fn lead(&mut self, faults: bool) -> usize {
        let leader = self.leader;
        self.apply(leader, 30);
        self.report(faults);
        let effects = plan::next(self.leads(), &self.board, self.now);
        let wanted = effects.len();
        for effect in effects {
            let command = match effect {
                Effect::Propose(command) => command,
                Effect::Release { cluster, node, by } => match self.take_out(&cluster, &node, &by, faults) {
                    Some(said) => said,
                    None => continue,
                },
                Effect::Preflight { cluster, intent, .. } => {
                    let bad = faults && self.random.one_in(5);
                    let findings = if bad { vec![finding(Severity::Error)] } else { vec![] };
                    Command::Preflight(PreflightDone { cluster, intent, findings })
                }
            };
            match if faults { self.random.below(10) } else { 9 } {
                0 => {}
                1 => self.delayed.push(command),
                2 => {
                    self.append(command.clone());
                    self.delayed.push(command);
                }
                3 => {
                    self.append(command.clone());
                    self.append(command);
                }
                _ => self.append(command),
            }
        }
        wanted
    }

    /// The leader hears of everybody, but for one or two that are silent.
    fn report(&mut self, faults: bool) {
        for n in HOSTS {
            self.reports += 1;
            if !(faults && self.random.one_in(6)) {
                self.board.hear(report(n, self.reports), self.now);
            }
        }
    }

    /// A control plane member is asked to take a node out: it may die before, in the middle, or after it
    /// did it and before it said so. Whoever is asked goes by its own copy of the state.
    fn take_out(&mut self, cluster: &Name, of: &NodeId, by: &NodeId, faults: bool) -> Option<Command> {
        let n = HOSTS.clone().find(|n| node(*n) == *by).unwrap();
        let view = if faults { self.random.below(REPLICAS) } else { self.leader };
        let order = self.replicas[view].release_order(cluster, of, by)?;
        if !self.hosts[&n].greeted || (faults && self.random.one_in(4)) {
            return None;
        }
        self.taken_out.insert((*of, order.generation));
        if faults && self.random.one_in(4) {
            self.hosts.get_mut(&n).unwrap().greeted = false;
            return None;
        }
        let host = self.hosts.get_mut(&n).unwrap();
        host.sequence += 1;
        let result = NodeResult::Released { node: *of, generation: order.generation };
        let said = node_command(self.charter.site_id(), n, (host.incarnation, host.sequence), None, &result);
        Some(Command::Node(said.sign(&key(n)).to_bytes()))
    }

    fn node_works(&mut self) {
        let n = FIRST + u8::try_from(self.random.below(10)).unwrap();
        let view = self.random.below(REPLICAS);
        self.apply(view, 20);
        let Some(record) = self.replicas[view].node(&node(n)) else { return };
        let order = record.assignment.clone().filter(|_| has_work(&self.replicas[view], record));
        if self.hosts[&n].greeted && !self.random.one_in(8) {
            if let Some(order) = order {
                self.carry_out(n, &order, true);
            }
        } else {
            self.greet(n);
        }
    }

    fn greet(&mut self, n: u8) {
        let site = self.charter.site_id();
        let host = self.hosts.get_mut(&n).unwrap();
        host.incarnation += 1;
        host.sequence = 1;
        host.greeted = true;
        let said = hello(site, n, 1);
        let command = node_command(site, n, (host.incarnation, 1), None, &said);
        self.append(Command::Node(command.sign(&key(n)).to_bytes()));
    }

    /// A stage, possibly with a crash before it is said: it is done again.
    fn carry_out(&mut self, n: u8, order: &Assignment, faults: bool) {
        if faults && self.random.one_in(4) {
            self.hosts.get_mut(&n).unwrap().greeted = false;
            return;
        }
        let host = self.hosts.get_mut(&n).unwrap();
        host.sequence += 1;
        let returns = faults && order.stage == Stage::Upgrade && self.random.one_in(8);
        let host = self.hosts.get_mut(&n).unwrap();
        let result = if returns { NodeResult::UpgradeReturned { why: "gate".into() } } else { done(n) };
        let said =
            node_command(self.charter.site_id(), n, (host.incarnation, host.sequence), Some(order), &result);
        let command = Command::Node(said.sign(&key(n)).to_bytes());
        if faults && self.random.one_in(6) {
            self.delayed.push(command.clone());
        }
        self.append(command);
    }

    /// Faults and admins stop; planner and nodes go on until nothing changes.
    pub(super) fn heal(&mut self) {
        self.delayed.clear();
        self.catch_up();
        let nodes: Vec<u8> = HOSTS.filter(|n| self.newest().node(&node(*n)).is_some()).collect();
        for n in &nodes {
            self.greet(*n);
        }
        self.catch_up();
        for _ in 0..60 {
            self.now = self.now.plus(plan::PREFLIGHT_AGAIN_MS);
            let wanted = self.lead(false);
            self.catch_up();
            let busy: Vec<(u8, Assignment)> = nodes
                .iter()
                .filter_map(|n| {
                    Some((*n, self.newest().node(&node(*n)).filter(|r| has_work(self.newest(), r))?))
                })
                .filter_map(|(n, record)| Some((n, record.assignment.clone()?)))
                .collect();
            if wanted == 0 && busy.is_empty() {
                invariants::replicas_are_equal(self);
                return;
            }
            for (n, order) in busy {
                // A held order is not begun; one that is begun is finished.
                self.carry_out(n, &order, false);
            }
            self.catch_up();
        }
        panic!("no fixed point: {:#?}", plan::next(self.newest(), &self.board, self.now));
    }

    pub(super) fn board(&self) -> &Board {
        &self.board
    }
}
