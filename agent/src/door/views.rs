//! State and board as the API shows them: pure functions.

use std::collections::BTreeMap;

use qb_consensus::RaftView;
use qb_model::action::NodeRole;
use qb_model::alerts::Alert;
use qb_model::assignment::{KUBEADM, Stage};
use qb_model::board::{Board, Work};
use qb_model::history::{STEP_MS, Sample};
use qb_model::plan::why;
use qb_model::state::{Cluster, ClusterPhase, JoinToken, NodePhase, NodeRecord, SiteState};
use qb_model::waiting::WaitingOn;
use qb_model::words::{fingerprint, words};
use qb_model::{Generation, HostName, Millis, NodeId, PublicKey};
use qb_portal::view::{
    AdminKeyView, AdminView, AlertView, BackupView, ClusterState, ClusterView, Counts, DoorView, Head,
    HistoryView, LinkView, MemberView, NodeState, NodeView, RelayView, SampleView, SiteView, StageView,
    TokenView, UpkeepView, VoterView, WorkView,
};

use super::kept;
use super::upgrades;
use crate::rpc::Waiting;

/// How old a report may be for the links that it tells of to count: three reports.
const LINK_MS: u64 = 3_000;

/// Everything that a view is made of, as this door has it.
pub struct Seen<'a> {
    /// The state.
    pub state: &'a SiteState,
    /// The board.
    pub board: &'a Board,
    /// The Raft group.
    pub raft: &'a RaftView,
    /// Who knocks.
    pub waiting: &'a [Waiting],
    /// Who is connected to this door.
    pub connected: &'a std::collections::BTreeSet<NodeId>,
    /// Now.
    pub now: Millis,
}

/// Words as one text.
pub fn words_of(bytes: &[u8; 32]) -> String {
    words(bytes).join(" ")
}

fn work(work: &Work) -> WorkView {
    WorkView {
        stage: work.stage.word().to_owned(),
        step: work.step,
        steps: work.steps,
        title: work.title.clone(),
        state: work.state.word().to_owned(),
        since: work.since,
        error: work.error.as_ref().map(|(what, remedy)| format!("{what}: {remedy}")),
    }
}

impl Seen<'_> {
    /// Where the site stands.
    pub fn head(&self) -> Head {
        let (index, hash) = self.state.chain_head();
        Head { index, hash, trust: self.state.trust().head(), log_time: self.state.log_time() }
    }

    /// The site.
    pub fn site(&self, door: DoorView) -> SiteView {
        let state = self.state;
        let voters: Vec<VoterView> = self
            .raft
            .voters
            .iter()
            .map(|(id, node)| VoterView {
                node: *node,
                host: self.host(node),
                raft_id: id.0,
                leader: self.raft.leader == Some(*node),
                connected: *node == door.node || self.connected.contains(node),
            })
            .collect();
        let alive = voters.iter().filter(|v| v.connected).count();
        let quorum = voters.len() / 2 + 1;
        let mut waiting_on: Vec<WaitingOn> = self.nodes().into_iter().filter_map(|n| n.waiting_on).collect();
        waiting_on.extend(self.clusters().into_iter().filter_map(|c| c.waiting_on));
        waiting_on.extend(self.leaderless(alive, voters.len()));
        let agent_upgrade = upgrades::of_site(self);
        waiting_on.extend(agent_upgrade.as_ref().and_then(|u| u.waiting_on.clone()));
        waiting_on.sort_by_key(|w| {
            (w.code != "site.leader", w.clears != qb_model::waiting::Clears::Person, w.since)
        });
        SiteView {
            v: 1,
            id: state.site(),
            words: words_of(&state.site().0.0),
            name: state.name().clone(),
            founded: state.founded(),
            trust: if state.trust().is_provisional() { "provisional" } else { "settled" }.to_owned(),
            door,
            head: self.head(),
            may_fail: alive.saturating_sub(quorum) as u32,
            relays: self.relays(),
            voters,
            leader: self.raft.leader,
            term: self.raft.term,
            counts: self.counts(),
            clusters: state.clusters().len() as u32,
            agent_upgrade,
            waiting_on,
        }
    }

    /// The relays, and who says that it holds a link.
    fn relays(&self) -> Vec<RelayView> {
        let fresh = |heard: &&qb_model::board::Heard| self.now.since(heard.at) <= LINK_MS;
        let holds = |key: &PublicKey| {
            let said = self.board.iter().filter(fresh).filter(|heard| heard.report.uplinks.contains(key));
            said.map(|heard| heard.report.node).collect::<Vec<_>>()
        };
        let relays = self.state.trust().relays().iter();
        relays
            .map(|(key, relay)| RelayView {
                url: relay.url.clone(),
                key: *key,
                links: holds(key).into_iter().map(|node| LinkView { node, host: self.host(&node) }).collect(),
            })
            .collect()
    }

    fn leaderless(&self, alive: usize, voters: usize) -> Option<WaitingOn> {
        let quorum = voters / 2 + 1;
        if !self.state.founded() || (self.raft.leader.is_some() && alive >= quorum) || voters == 0 {
            return None;
        }
        let text = format!("waits for a leader: {alive} of {voters} voters answer, {quorum} must");
        Some(WaitingOn::itself("site.leader", self.state.name().as_str(), text, self.now))
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts { waiting: self.waiting.len() as u32, ..Counts::default() };
        for node in self.state.nodes().values() {
            match node.phase {
                NodePhase::Pool => counts.pool += 1,
                NodePhase::Attached { .. } => counts.attached += 1,
                NodePhase::Detaching { .. } => counts.detaching += 1,
            }
        }
        counts
    }

    pub(super) fn host(&self, node: &NodeId) -> qb_model::HostName {
        match self.state.node(node) {
            Some(record) => record.host.clone(),
            // A key's fingerprint is a host name in form: letters, digits and dashes.
            None => fingerprint(&node.0)
                .parse()
                .unwrap_or_else(|_| self.state.name().as_str().parse().expect("a name is a host name")),
        }
    }

    /// All nodes by name: waiting, in the pool, attached, detaching, revoked.
    pub fn nodes(&self) -> Vec<NodeView> {
        let mut all: Vec<NodeView> = self.state.nodes().values().map(|n| self.node(n)).collect();
        all.extend(
            self.waiting.iter().filter(|w| self.state.node(&w.node).is_none()).map(|w| self.waiting(w)),
        );
        all.extend(self.revoked());
        all.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        all
    }

    fn blank(&self, id: NodeId, name: qb_model::HostName, state: NodeState, since: Millis) -> NodeView {
        NodeView {
            v: 1,
            id,
            name,
            words: words_of(&id.0),
            fingerprint: fingerprint(&id.0),
            state,
            since,
            generation: Generation(0),
            knock: None,
            cluster: None,
            role: None,
            rehearsal: false,
            roles: Vec::new(),
            probation: false,
            labels: Vec::new(),
            facts: None,
            report_age_ms: None,
            load_milli: None,
            memory_used_bytes: None,
            disk_bytes: None,
            disk_free_bytes: None,
            uptime_s: None,
            work: None,
            agent_upgrade: None,
            waiting_on: None,
        }
    }

    fn waiting(&self, w: &Waiting) -> NodeView {
        NodeView {
            knock: Some(w.knock),
            facts: Some(w.facts.clone()),
            report_age_ms: Some(self.now.since(w.last)),
            waiting_on: Some(why::of_waiting_node(w.host.as_str(), w.since)),
            ..self.blank(w.node, w.host.clone(), NodeState::Waiting, w.since)
        }
    }

    fn revoked(&self) -> impl Iterator<Item = NodeView> {
        self.state
            .tombstones()
            .iter()
            .map(|(id, tomb)| self.blank(*id, tomb.host.clone(), NodeState::Revoked, tomb.at))
    }

    fn node(&self, record: &NodeRecord) -> NodeView {
        let heard = self.board.get(&record.node);
        let state = match record.phase {
            NodePhase::Pool => NodeState::Pool,
            NodePhase::Attached { .. } => NodeState::Attached,
            NodePhase::Detaching { .. } => NodeState::Detaching,
        };
        let cluster = record.phase.cluster().and_then(|c| self.state.cluster(c));
        let mut roles = Vec::new();
        if self.raft.voters.values().any(|v| *v == record.node) {
            roles.push("voter".to_owned());
        }
        if self.raft.leader == Some(record.node) {
            roles.push("leader".to_owned());
        }
        NodeView {
            generation: self.state.generation(&qb_model::intent::ObjectRef::Node(record.node)),
            cluster: record.phase.cluster().cloned(),
            role: record.phase.role(),
            rehearsal: cluster.is_some_and(rehearsal),
            roles,
            probation: record.probation,
            labels: record.labels.iter().map(|l| format!("{}={}", l.key, l.value)).collect(),
            facts: heard.map(|h| h.report.facts.clone()),
            report_age_ms: heard.map(|h| self.now.since(h.at)),
            load_milli: heard.map(|h| h.report.load_milli),
            memory_used_bytes: heard.map(|h| h.report.memory_used_bytes),
            disk_bytes: heard.map(|h| h.report.facts.disk_bytes),
            disk_free_bytes: heard.map(|h| h.report.facts.disk_free_bytes),
            uptime_s: heard.map(|h| h.report.uptime_s),
            work: self.work(record),
            agent_upgrade: upgrades::of_node(self.state, &record.node),
            waiting_on: why::of_node(self.state, self.board, record, self.now),
            ..self.blank(record.node, record.host.clone(), state, record.since)
        }
    }

    /// What a node is doing: its report, if it speaks of its current order.
    fn work(&self, record: &NodeRecord) -> Option<WorkView> {
        let assignment = record.assignment.as_ref()?;
        let said = self.board.get(&record.node)?.report.work.as_ref()?;
        (said.generation == assignment.generation).then(|| work(said))
    }

    /// The join tokens that have not ended, by their end.
    pub fn tokens(&self) -> Vec<TokenView> {
        let view = |(key, token): (&PublicKey, &JoinToken)| {
            let live = self.state.intents().get(&token.cites.digest)?;
            let terms = self.state.terms(token)?;
            Some(TokenView {
                v: 1,
                token: *key,
                fingerprint: fingerprint(&key.0),
                by: live.by.clone(),
                intent: token.cites.digest,
                minted: token.at,
                expires: token.expires,
                uses: token.uses,
                left: token.left,
                host: terms.host.map(|h| h.to_string()),
                addresses: terms.addresses.iter().map(ToString::to_string).collect(),
                labels: terms.labels.iter().map(|l| format!("{}={}", l.key, l.value)).collect(),
                held: live.held,
            })
        };
        let mut all: Vec<TokenView> = self.state.tokens().iter().filter_map(view).collect();
        all.sort_by_key(|t| (t.expires, t.token));
        all
    }

    /// All clusters, by name.
    pub fn clusters(&self) -> Vec<ClusterView> {
        self.state.clusters().values().map(|c| self.cluster(c)).collect()
    }

    /// A cluster.
    pub fn cluster(&self, cluster: &Cluster) -> ClusterView {
        let mut members: Vec<MemberView> =
            self.state.members(&cluster.name).map(|n| self.member(n)).collect();
        members.sort_by(|a, b| (a.role, &a.host).cmp(&(b.role, &b.host)));
        let degraded = cluster.phase == ClusterPhase::Ready
            && self
                .state
                .members(&cluster.name)
                .any(|n| joined(n) && why::unwell(self.state, self.board, n, self.now).is_some());
        let state = match cluster.phase {
            ClusterPhase::Empty => ClusterState::Empty,
            ClusterPhase::Preflight => ClusterState::Preflight,
            ClusterPhase::Initializing => ClusterState::Initializing,
            ClusterPhase::Ready if cluster.upgrades() => ClusterState::Upgrading,
            ClusterPhase::Ready if degraded => ClusterState::Degraded,
            ClusterPhase::Ready => ClusterState::Ready,
            ClusterPhase::Deleting => ClusterState::Deleting,
        };
        let serves = matches!(cluster.phase, ClusterPhase::Ready);
        ClusterView {
            v: 1,
            name: cluster.name.clone(),
            state,
            since: cluster.since,
            generation: self.state.generation(&qb_model::intent::ObjectRef::Cluster(cluster.name.clone())),
            driver: cluster.driver.clone(),
            rehearsal: rehearsal(cluster),
            version: cluster.version.clone(),
            bundle: cluster.bundle,
            members,
            endpoint: serves.then(|| self.endpoint(cluster)).flatten(),
            settings: (cluster.driver.as_str() == KUBEADM).then(|| cluster.settings.clone()),
            findings: cluster.attach.as_ref().map(|a| a.findings.clone()).unwrap_or_default(),
            upgrade: upgrades::of_cluster(self.state, cluster),
            addons: kept::addons(self.state, self.board, cluster),
            stages: self.stages(cluster),
            waiting_on: why::of_cluster(self.state, self.board, cluster, self.now),
        }
    }

    fn member(&self, record: &NodeRecord) -> MemberView {
        let done = match &record.phase {
            NodePhase::Attached { done: Some(done), .. } => done.word(),
            _ => "none",
        };
        let unwell = self
            .board
            .get(&record.node)
            .map(|h| {
                let units = h.report.units.iter().filter(|u| !u.well);
                units.map(|u| format!("{}: {}", u.name, u.state)).collect()
            })
            .unwrap_or_default();
        MemberView {
            node: record.node,
            host: record.host.clone(),
            role: record.phase.role().unwrap_or(NodeRole::Worker),
            done: done.to_owned(),
            work: self.work(record),
            unwell,
            labels: kept::labels(self.state, record),
            taints: kept::taints(self.state, record),
            waiting_on: why::of_node(self.state, self.board, record, self.now),
            upkeep: self.upkeep(record),
        }
    }

    fn upkeep(&self, record: &NodeRecord) -> Option<UpkeepView> {
        let upkeep = self.board.get(&record.node)?.report.upkeep.clone()?;
        // What it did for another cluster is nobody's business here.
        if Some(&upkeep.cluster) != record.phase.cluster() {
            return None;
        }
        let (trouble, remedy) = upkeep.trouble;
        let backups = upkeep.backups.into_iter().map(|b| BackupView {
            taken: b.taken,
            digest: b.digest,
            bytes: b.bytes,
            revision: b.revision,
            asked: b.asked,
        });
        let backups = backups.collect();
        Some(UpkeepView { certificate: upkeep.certificate, ends: upkeep.ends, backups, trouble, remedy })
    }

    fn endpoint(&self, cluster: &Cluster) -> Option<String> {
        let first = self.state.node(&cluster.first?)?;
        Some(format!("https://{}:6443", first.address.as_ref()?))
    }

    fn stages(&self, cluster: &Cluster) -> Vec<StageView> {
        let attaching: Vec<&NodeRecord> = match &cluster.attach {
            Some(attach) => attach.nodes.iter().filter_map(|n| self.state.node(n)).collect(),
            None => self.state.members(&cluster.name).collect(),
        };
        let upgrade = cluster.upgrade.as_ref();
        let upgraded =
            attaching.iter().filter(|n| upgrade.is_some_and(|u| u.is_done(&n.node))).count() as u32;
        let reached = |stage: Stage| attaching.iter().filter(|n| reached(n, stage)).count() as u32;
        let of = attaching.len() as u32;
        let counts: BTreeMap<&str, (u32, u32)> = BTreeMap::from([
            ("prepare", (reached(Stage::Prepare), of)),
            ("initialize", (u32::from(reached(Stage::Initialize) > 0), 1)),
            ("upgrade", (upgraded, of)),
            ("join", (attaching.iter().filter(|n| joined(n)).count() as u32, of)),
        ]);
        cluster
            .stages
            .iter()
            .map(|s| {
                let (done, of) = counts.get(s.word.as_str()).copied().unwrap_or((0, of));
                // An upgrade that was halted ended before all were through.
                let done = if s.ended.is_some() && s.word != "upgrade" { of } else { done };
                StageView { word: s.word.clone(), done, of, began: Some(s.began), ended: s.ended }
            })
            .collect()
    }

    /// All admins.
    pub fn admins(&self) -> Vec<AdminView> {
        let admins = self.state.trust().admins().iter();
        admins
            .map(|(id, admin)| AdminView {
                admin: id.clone(),
                name: admin.name.clone(),
                role: admin.role,
                generation: admin.generation,
                keys: admin
                    .keys
                    .iter()
                    .map(|(key, held)| AdminKeyView {
                        key: *key,
                        fingerprint: fingerprint(&key.0),
                        class: held.class,
                        expires: held.expires,
                    })
                    .collect(),
            })
            .collect()
    }
}

fn reached(node: &NodeRecord, stage: Stage) -> bool {
    matches!(&node.phase, NodePhase::Attached { done: Some(done), .. } if *done >= stage)
}

fn joined(node: &NodeRecord) -> bool {
    reached(node, Stage::Initialize)
}

/// An alert.
pub fn alert(alert: Alert) -> AlertView {
    AlertView {
        rule: alert.rule.word().to_owned(),
        severity: alert.severity.word().to_owned(),
        layer: alert.rule.layer().word().to_owned(),
        remedy: Some(alert.rule.remedy(&alert.subject)),
        subject: alert.subject,
        text: alert.text,
        since: alert.since,
        resolved: alert.resolved,
    }
}

/// The last hour of a node, or of the site.
pub fn history(node: Option<HostName>, samples: Vec<Sample>) -> HistoryView {
    let sample = |s: Sample| SampleView {
        at: s.at,
        nodes: s.nodes,
        load_milli: s.load_milli,
        memory_used_bytes: s.memory_used_bytes,
        disk_used_bytes: s.disk_used_bytes,
    };
    HistoryView { v: 1, node, step_ms: STEP_MS, samples: samples.into_iter().map(sample).collect() }
}

/// Whether a cluster is a rehearsal.
pub fn rehearsal(cluster: &Cluster) -> bool {
    qb_drivers::driver(&cluster.driver).is_some_and(|d| d.label().is_some())
}
