//! A site as one replica sees it: a state, a log, and nodes that answer. Everything is made of fixed
//! seeds; time moves one second with every entry.

use std::collections::BTreeMap;

use qb_model::action::{Action, AuthorizedNode, KeyClass, Role};
use qb_model::assignment::{Assignment, NodeResult, Stage};
use qb_model::board::{Board, NodeReport};
use qb_model::command::{Command, Entry, Found, PreflightDone};
use qb_model::facts::Facts;
use qb_model::ids::{Digest, Generation, Millis, Name, NodeId, RaftId, SealKey, SiteId};
use qb_model::intent::{Anchor, Expect, Intent, ObjectRef};
use qb_model::outcome::Outcome;
use qb_model::plan::{self, Effect};
use qb_model::preflight::{Finding, Severity};
use qb_model::state::{
    AgentUpgrade, Applied, Cluster, LiveIntent, NodePhase, NodeRecord, Seat, SiteState, Tombstone,
};
use qb_model::statement::{NodeCommand, SealKeyRecord, Statement as _};
use qb_model::trust::{TrustState, required};

use super::{
    HOUR, MINUTE, NOW, OLGA, OPAL, OPAL_BROWSER, VERA, add, authorized, charter, key, name, new_key,
};
use super::{node, rejection, sign, ulid};

pub(crate) use super::actions::*;

/// The founding node.
pub(crate) const FIRST: u8 = 101;

#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) state: SiteState,
    pub(crate) board: Board,
    pub(crate) now: Millis,
    /// Whether control plane nodes do what they are asked to in [`Site::lead`].
    pub(crate) takes_out: bool,
    said: BTreeMap<NodeId, u64>,
    made: u64,
}

/// What an intent or a command may change, but for clock, audit, replay table and anchors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Picture {
    trust: TrustState,
    nodes: BTreeMap<NodeId, NodeRecord>,
    tombstones: BTreeMap<NodeId, Tombstone>,
    clusters: BTreeMap<Name, Cluster>,
    intents: BTreeMap<Digest, LiveIntent>,
    seats: BTreeMap<RaftId, Seat>,
    upgrade: Option<AgentUpgrade>,
    generations: Vec<u64>,
}

pub(crate) fn picture(state: &SiteState) -> Picture {
    let nodes = (90..=140).map(|n| ObjectRef::Node(node(n)));
    let clusters = ["blue", "green", "red"].map(super::cluster);
    let objects = nodes.chain(clusters);
    Picture {
        trust: state.trust().clone(),
        nodes: state.nodes().clone(),
        tombstones: state.tombstones().clone(),
        clusters: state.clusters().clone(),
        intents: state.intents().clone(),
        seats: state.seats().clone(),
        upgrade: state.agent_upgrade().cloned(),
        generations: objects.map(|o| state.generation(&o).0).collect(),
    }
}

impl Site {
    /// What the charter says, and nothing more.
    pub(crate) fn unfounded() -> Self {
        let state = SiteState::new(charter().envelope()).unwrap();
        Self {
            state,
            board: Board::default(),
            now: Millis(NOW),
            takes_out: true,
            said: BTreeMap::new(),
            made: 0,
        }
    }

    /// Founded on node 101, with an operator (a cli and a browser key) and a viewer.
    pub(crate) fn staffed() -> Self {
        let mut site = Self::unfounded();
        let intent = site.founding(vec![authorized(FIRST)]);
        let applied = site.found(&intent, &[OLGA]);
        assert!(matches!(applied, Applied::Intent { outcome: Outcome::Accepted { .. }, .. }), "{applied:?}");
        let opal = vec![new_key(OPAL, KeyClass::Cli), new_key(OPAL_BROWSER, KeyClass::Browser)];
        site.must("olga", add("opal", Role::Operator, opal), &[OLGA]);
        site.must("olga", add("vera", Role::Viewer, vec![new_key(VERA, KeyClass::Cli)]), &[OLGA]);
        site
    }

    /// Staffed, with nodes 102 to `101 + count` in the pool, all of which said hello.
    pub(crate) fn with_pool(count: u8) -> Self {
        let mut site = Self::staffed();
        let nodes: Vec<u8> = (FIRST + 1..=FIRST + count).collect();
        if !nodes.is_empty() {
            site.must("opal", authorize(&nodes), &[OPAL]);
        }
        for seed in std::iter::once(FIRST).chain(nodes) {
            site.hello(seed);
        }
        site
    }

    /// With a cluster `blue` of these nodes, explicit, ready.
    pub(crate) fn with_blue(pool: u8, control: &[u8], workers: &[u8]) -> Self {
        let mut site = Self::with_pool(pool);
        site.must("opal", create("blue"), &[OPAL]);
        site.must("opal", attach_explicit("blue", control, workers), &[OPAL]);
        site.settle();
        assert_eq!(site.blue().phase.word(), "ready");
        site
    }

    pub(crate) fn id(&self) -> SiteId {
        self.state.site()
    }

    pub(crate) fn blue(&self) -> &Cluster {
        self.state.cluster(&name("blue")).unwrap()
    }

    pub(crate) fn record(&self, seed: u8) -> &NodeRecord {
        self.state.node(&node(seed)).unwrap()
    }

    pub(crate) fn order_of(&self, seed: u8) -> Assignment {
        self.record(seed).assignment.clone().unwrap()
    }

    pub(crate) fn in_pool(&self, seed: u8) -> bool {
        self.record(seed).phase == NodePhase::Pool
    }

    pub(crate) fn founding(&mut self, nodes: Vec<AuthorizedNode>) -> Intent {
        let mut intent = self.intent("olga", Action::SiteFound { nodes });
        intent.issued_ms = Millis(NOW - MINUTE);
        intent.expires_ms = Millis(NOW + HOUR);
        intent
    }

    pub(crate) fn found(&mut self, intent: &Intent, seeds: &[u8]) -> Applied {
        let found =
            Found { charter: charter().envelope().to_vec(), envelope: sign(intent, seeds).to_bytes() };
        self.propose(Command::Found(found))
    }

    /// Appends and applies a command, one second later.
    pub(crate) fn propose(&mut self, command: Command) -> Applied {
        self.now = self.now.plus(1_000);
        let bytes = Entry { stamp: self.now, command }.encode().unwrap();
        self.state.apply(self.state.applied() + 1, &bytes).unwrap().0
    }

    /// Asks that a command is ignored and that nothing whatever changes.
    pub(crate) fn ignored(&self, command: Command) -> String {
        let before = self.state.clone();
        let bytes = Entry { stamp: before.log_time(), command: command.clone() }.encode().unwrap();
        let mut after = before.clone();
        match after.apply(before.applied(), &bytes).unwrap().0 {
            Applied::Ignored(why) => {
                assert!(after == before, "ignored ({why}), but the state changed: {command:?}");
                why
            }
            other => panic!("{command:?} is {other:?}"),
        }
    }

    /// Lets time pass.
    pub(crate) fn wait(&mut self, ms: u64) {
        self.now = self.now.plus(ms);
        self.propose(Command::Tick(self.now.0.to_be_bytes().to_vec()));
    }

    pub(crate) fn intent(&mut self, by: &str, action: Action) -> Intent {
        self.made += 1;
        let founding = matches!(action, Action::SiteFound { .. });
        let trust = Expect::Trust { hash: self.state.trust().head() };
        let (index, hash) = self.state.chain_head();
        Intent {
            v: 1,
            site: self.id(),
            id: ulid(self.made),
            by: name(by),
            issued_ms: self.now,
            expires_ms: self.now.plus(HOUR),
            anchor: if founding { Anchor::founding(self.id()) } else { Anchor { index, hash } },
            after: None,
            expect: if required(&action).names_trust { vec![trust] } else { vec![] },
            action,
            note: None,
        }
    }

    pub(crate) fn send(&mut self, intent: &Intent, seeds: &[u8]) -> Outcome {
        match self.propose(Command::Intent(sign(intent, seeds).to_bytes())) {
            Applied::Intent { outcome, .. } => outcome,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn must(&mut self, by: &str, action: Action, seeds: &[u8]) -> Intent {
        let intent = self.intent(by, action);
        let outcome = self.send(&intent, seeds);
        assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
        intent
    }

    /// Asks that an order is rejected with this code and that it changes nothing.
    pub(crate) fn must_not(&mut self, by: &str, action: Action, seeds: &[u8], code: &str) {
        let before = picture(&self.state);
        let intent = self.intent(by, action);
        let outcome = self.send(&intent, seeds);
        assert_eq!(rejection(&outcome), Some(code), "{outcome:?}");
        assert!(picture(&self.state) == before, "rejected with {code}, but the state changed");
    }

    /// The next signed command of a node.
    pub(crate) fn command(
        &mut self,
        seed: u8,
        order: Option<&Assignment>,
        result: &NodeResult,
    ) -> NodeCommand {
        let sequence = self.said.entry(node(seed)).or_default();
        *sequence += 1;
        node_command(self.state.site(), seed, (1, *sequence), order, result)
    }

    pub(crate) fn say(&mut self, seed: u8, order: Option<&Assignment>, result: &NodeResult) -> Applied {
        let command = self.command(seed, order, result);
        self.propose(Command::Node(command.sign(&key(seed)).to_bytes()))
    }

    pub(crate) fn hello(&mut self, seed: u8) {
        let said = hello(self.id(), seed, 1);
        assert_eq!(self.say(seed, None, &said), Applied::Done);
    }

    /// The node is through its order.
    pub(crate) fn done(&mut self, seed: u8) {
        let order = self.order_of(seed);
        assert_eq!(self.say(seed, Some(&order), &done(seed)), Applied::Done);
    }

    /// What the planner wants now.
    pub(crate) fn plan(&self) -> Vec<Effect> {
        plan::next(&self.state, &self.board, self.now)
    }

    /// Nodes of clusters that nobody heard yet report, where somebody is to be taken out or upgraded: only
    /// who answers can do that.
    fn hear_rulers(&mut self) {
        let all = self.state.clusters().values().filter(|c| !c.releases.is_empty() || c.upgrades());
        let members = all.flat_map(|c| self.state.members(&c.name)).map(|n| n.node).collect::<Vec<_>>();
        let seeds = (FIRST..=140).filter(|n| members.contains(&node(*n)));
        for seed in seeds.filter(|n| self.board.get(&node(*n)).is_none()).collect::<Vec<_>>() {
            self.report(seed, |_| {});
        }
    }

    /// A control plane member says that a node is out.
    pub(crate) fn released(&mut self, by: u8, node_seed: u8) -> Applied {
        let cluster = self.record(by).phase.cluster().cloned().unwrap();
        let release = self.state.cluster(&cluster).and_then(|c| c.releases.get(&node(node_seed)));
        let generation = release.map_or(Generation(0), |r| r.generation);
        self.say(by, None, &NodeResult::Released { node: node(node_seed), generation })
    }

    /// Does what the planner wants, once; preflight finds `findings`. Returns how much it wanted.
    pub(crate) fn lead(&mut self, findings: &[Finding]) -> usize {
        self.hear_rulers();
        let effects = self.plan();
        let wanted = effects.len();
        for effect in effects {
            // Two attaches may choose the same node in one round: the second one chooses again.
            let may_fail = matches!(effect, Effect::Propose(Command::Place(_)));
            let applied = match effect {
                Effect::Propose(command) => self.propose(command),
                Effect::Preflight { cluster, intent, .. } => {
                    let findings = findings.to_vec();
                    self.propose(Command::Preflight(PreflightDone { cluster, intent, findings }))
                }
                Effect::Release { .. } if !self.takes_out => continue,
                Effect::Release { node: leaving, by, .. } => {
                    let seed = |id| (FIRST..=140).find(|n| node(*n) == id).unwrap();
                    self.released(seed(by), seed(leaving))
                }
            };
            assert!(applied == Applied::Done || may_fail, "{applied:?}");
        }
        wanted
    }

    /// Nodes that have an order that is not done.
    pub(crate) fn busy(&self) -> Vec<u8> {
        let works = |n: &u8| self.state.node(&node(*n)).is_some_and(|r| has_work(&self.state, r));
        (FIRST..=140).filter(works).collect()
    }

    /// Planner and nodes work until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        for _ in 0..50 {
            let wanted = self.lead(&[]);
            let busy = self.busy();
            if wanted == 0 && busy.is_empty() {
                return;
            }
            for seed in busy {
                self.done(seed);
            }
        }
        panic!("does not settle: {:#?}", self.plan());
    }

    /// Hears a report of a node that is well.
    pub(crate) fn report(&mut self, seed: u8, change: impl FnOnce(&mut NodeReport)) {
        let mut said = report(seed, self.now.0);
        change(&mut said);
        assert!(self.board.hear(said, self.now));
    }
}

/// Whether a node has an order that it has not carried out.
pub(crate) fn has_work(state: &SiteState, record: &NodeRecord) -> bool {
    let Some(order) = &record.assignment else { return false };
    if order.stage == Stage::Upgrade {
        return matches!(record.phase, NodePhase::Attached { .. }) && state.upgrade_open(order);
    }
    if order.stage == Stage::Restore {
        return matches!(record.phase, NodePhase::Attached { .. }) && state.restore_open(order);
    }
    match &record.phase {
        NodePhase::Pool => false,
        NodePhase::Attached { done, .. } => done.is_none_or(|d| d < order.stage),
        NodePhase::Detaching { .. } => order.stage == Stage::Leave,
    }
}

pub(crate) fn node_command(
    site: SiteId,
    seed: u8,
    (incarnation, sequence): (u64, u64),
    order: Option<&Assignment>,
    result: &NodeResult,
) -> NodeCommand {
    NodeCommand {
        v: 1,
        site,
        epoch: 0,
        node: node(seed),
        incarnation,
        sequence,
        assignment: order.map_or(Digest([0; 32]), Assignment::digest),
        stage: order.map_or(0, |a| a.stage as u8),
        result: postcard::to_stdvec(result).unwrap(),
    }
}

pub(crate) fn hello(site: SiteId, seed: u8, seq: u64) -> NodeResult {
    let record = SealKeyRecord {
        v: 1,
        site,
        node: node(seed),
        key: SealKey([seed; 32]),
        seq,
        not_after: Millis(NOW + 30 * 24 * HOUR),
    };
    NodeResult::Hello { seal_key: record.sign(&key(seed)).to_bytes(), address: format!("10.0.0.{seed}") }
}

pub(crate) fn done(seed: u8) -> NodeResult {
    NodeResult::Done { public: format!("CA of {seed}").into_bytes() }
}

pub(crate) fn report(seed: u8, sequence: u64) -> NodeReport {
    let facts = Facts {
        host: authorized(seed).host,
        addresses: vec![format!("10.0.0.{seed}")],
        cores: 4,
        memory_bytes: 8 << 30,
        disk_bytes: 1 << 40,
        disk_free_bytes: 1 << 39,
        os: "Debian 13".into(),
        kernel: "6.12".into(),
        arch: "x86_64".into(),
        agent: "0.1.0".into(),
        zone: String::new(),
    };
    NodeReport {
        v: 1,
        node: node(seed),
        incarnation: 1,
        sequence,
        facts,
        mesh: vec![],
        load_milli: 100,
        memory_used_bytes: 1 << 30,
        uptime_s: 86_400,
        started: Millis(NOW),
        work: None,
        releasing: vec![],
        keeping: vec![],
        units: vec![],
        applied: 0,
        uplinks: Vec::new(),
        restarts: 0,
        upkeep: None,
        lost_seat: None,
    }
}

pub(crate) fn finding(severity: Severity) -> Finding {
    Finding {
        code: "NET-REFUSED".into(),
        severity,
        subject: "host-103 > host-102".into(),
        text: "tcp/6443 refused".into(),
        remedy: "on host-102: ss -ltnp 'sport = :6443'".into(),
    }
}
