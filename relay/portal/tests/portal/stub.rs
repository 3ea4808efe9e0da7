//! A site in memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::stream::{self, BoxStream, StreamExt as _};
use qb_model::action::{KeyClass, NodeRole, Role};
use qb_model::attest::Attestation;
use qb_model::facts::Facts;
use qb_model::preflight::{Finding, Severity};
use qb_model::waiting::WaitingOn;
use qb_model::{Digest, Generation, Millis, NodeId, PublicKey, SiteId};
use qb_portal::view::*;
use qb_portal::{Answer, IntentKey, LoginExpected, LoginOk, Site, SiteNames, Upload};
use serde_json::Value;

/// What [`Stub`] was asked to do.
#[derive(Debug, PartialEq)]
pub enum Asked {
    Submit(Bytes, Duration),
    Intent(IntentKey, Duration),
    Audit(u64, u32),
    Events(Option<u64>),
    Push(usize),
}

pub struct Stub {
    /// Whether it belongs to a site.
    pub joined: bool,
    pub asked: Mutex<Vec<Asked>>,
    pub state: Mutex<IntentState>,
    pub role: Role,
    /// Whether sessions still hold.
    pub alive: AtomicBool,
}

impl Stub {
    pub fn new() -> Arc<Self> {
        Self::with(true, Role::Owner)
    }

    pub fn with(joined: bool, role: Role) -> Arc<Self> {
        Arc::new(Self {
            joined,
            asked: Mutex::default(),
            state: Mutex::new(IntentState::Done),
            role,
            alive: AtomicBool::new(true),
        })
    }

    fn note(&self, asked: Asked) {
        self.asked.lock().unwrap().push(asked);
    }

    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

pub fn site_id() -> SiteId {
    SiteId(Digest([1; 32]))
}

pub fn server_key() -> PublicKey {
    PublicKey([9; 32])
}

pub fn digest() -> Digest {
    Digest([7; 32])
}

pub fn waiting() -> WaitingOn {
    let text = "waits for an administrator to authorize it";
    let way = ("operator", "qb node authorize n1".to_owned());
    WaitingOn::person("node.authorize", "n1", text, Millis(5), way)
}

pub fn facts() -> Facts {
    Facts {
        host: "n1".parse().unwrap(),
        addresses: vec!["10.0.0.1:7000".into()],
        cores: 4,
        memory_bytes: 1,
        disk_bytes: 2,
        disk_free_bytes: 1,
        os: "Debian".into(),
        kernel: "6.1".into(),
        arch: "x86_64".into(),
        agent: "0.1.0".into(),
        zone: String::new(),
    }
}

pub fn finding() -> Finding {
    Finding {
        code: "NET-REFUSED".into(),
        severity: Severity::Error,
        subject: "n1 > n2".into(),
        text: "10.0.0.2:6443 refuses".into(),
        remedy: "ss -ltn".into(),
    }
}

pub fn attestation() -> Attestation {
    Attestation {
        v: 1,
        charter: "{}".into(),
        trust: vec![],
        founding: Some("{}".into()),
        roster: vec![],
        voters: vec![],
        checkpoint: None,
        why: Some("nobody signed yet".into()),
    }
}

pub fn head() -> Head {
    Head { index: 4, hash: digest(), trust: digest(), log_time: Millis(10) }
}

pub fn site_view() -> SiteView {
    SiteView {
        v: 1,
        id: site_id(),
        words: "one two three".into(),
        name: "lyon".parse().unwrap(),
        founded: true,
        trust: "settled".into(),
        door: DoorView { node: NodeId([9; 32]), host: "n1".parse().unwrap(), agent: "0.1.0".into() },
        head: head(),
        voters: vec![],
        leader: None,
        term: 1,
        may_fail: 0,
        relays: vec![],
        counts: Counts::default(),
        clusters: 0,
        agent_upgrade: Some(AgentUpgradeView {
            intent: Digest([1; 32]),
            bundle: Digest([2; 32]),
            version: "0.2.0".parse().unwrap(),
            first: Vec::new(),
            batch: 1,
            state: AgentUpgradeState::Rolling,
            since: Millis(5),
            done: 0,
            nodes: 1,
            waiting_on: None,
        }),
        waiting_on: vec![waiting()],
    }
}

pub fn node_view() -> NodeView {
    NodeView {
        v: 1,
        id: NodeId([9; 32]),
        name: "lyon-r1-01".parse().unwrap(),
        words: "a b".into(),
        fingerprint: "k7mq".into(),
        state: NodeState::Pool,
        since: Millis(1),
        generation: Generation(1),
        knock: None,
        cluster: None,
        role: Some(NodeRole::Worker),
        rehearsal: false,
        roles: vec![],
        probation: false,
        labels: vec![],
        facts: Some(facts()),
        report_age_ms: None,
        load_milli: None,
        memory_used_bytes: None,
        disk_bytes: None,
        disk_free_bytes: None,
        uptime_s: None,
        work: None,
        agent_upgrade: Some(NodeUpgradeView { state: NodeUpgradeState::Waits, since: None, why: None }),
        waiting_on: None,
    }
}

pub fn sample_view() -> SampleView {
    let (load_milli, memory_used_bytes, disk_used_bytes) = (250, 3 << 30, 5 << 30);
    SampleView { at: Millis(15_000), nodes: 1, load_milli, memory_used_bytes, disk_used_bytes }
}

pub fn history_view(node: Option<qb_model::HostName>) -> HistoryView {
    HistoryView { v: 1, node, step_ms: 15_000, samples: vec![sample_view()] }
}

pub fn token_view() -> TokenView {
    TokenView {
        v: 1,
        token: PublicKey([7; 32]),
        fingerprint: "k7mq".into(),
        by: "mira".parse().unwrap(),
        intent: digest(),
        minted: Millis(1),
        expires: Millis(2),
        uses: 3,
        left: 2,
        host: Some("web-*".into()),
        addresses: vec!["10.0.0.0/8".into()],
        labels: vec!["rack=r7".into()],
        held: false,
    }
}

pub fn alert_view() -> AlertView {
    AlertView {
        rule: "node-silent".into(),
        severity: "critical".into(),
        layer: "host".into(),
        subject: "lyon-r1-01".into(),
        text: "is silent: no report for 41 s".into(),
        since: Millis(1),
        resolved: Some(Millis(2)),
        remedy: Some("on lyon-r1-01: systemctl status qb-agent".into()),
    }
}

fn cluster_view() -> ClusterView {
    ClusterView {
        v: 1,
        name: "clus100".parse().unwrap(),
        state: ClusterState::Empty,
        since: Millis(1),
        generation: Generation(1),
        driver: "rehearsal".parse().unwrap(),
        rehearsal: true,
        version: "1.36.2".parse().unwrap(),
        bundle: digest(),
        members: vec![],
        endpoint: None,
        settings: None,
        findings: vec![finding()],
        upgrade: None,
        addons: Vec::new(),
        stages: vec![],
        waiting_on: None,
    }
}

fn intent_view(state: IntentState) -> IntentView {
    IntentView {
        v: 1,
        digest: digest(),
        id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
        by: "mira".parse().unwrap(),
        action: "cluster.create".into(),
        sentence: "create clus100".into(),
        state,
        index: Some(4),
        generation: Some(Generation(1)),
        reason: None,
        detail: None,
        remedy: None,
        duplicate: false,
        at: None,
        waiting_on: None,
        says: None,
        receipt: None,
    }
}

pub fn event(seq: u64) -> Event {
    // The last one tries to be two.
    let kind = if seq == 9 { "node\nid: 666" } else { "node" };
    let (kind, subject) = (kind.into(), "n1".into());
    Event { seq, at: Millis(seq), kind, subject, text: format!("event {seq}") }
}

fn bundle_view() -> BundleView {
    BundleView {
        digest: digest(),
        name: "rehearsal".parse().unwrap(),
        version: "1.36.2".parse().unwrap(),
        size: 3,
        publisher: None,
    }
}

#[async_trait]
impl Site for Stub {
    fn names(&self) -> Option<SiteNames> {
        let names = SiteNames { id: site_id(), name: "lyon".parse().unwrap() };
        self.joined.then_some(names)
    }
    async fn sites(&self) -> Answer<Vec<SiteView>> {
        Ok(self.joined.then(site_view).into_iter().collect())
    }
    async fn site(&self) -> Answer<SiteView> {
        Ok(site_view())
    }
    async fn nodes(&self) -> Answer<Vec<NodeView>> {
        Ok(vec![node_view()])
    }
    async fn node(&self, name: &str) -> Answer<NodeView> {
        match name {
            "lyon-r1-01" => Ok(node_view()),
            "lyon" => Err(Problem::ambiguous("node", name, &["lyon-a", "lyon-b", "lyon-c", "lyon-d"])),
            _ => Err(Problem::not_found("node", name, &["lyon-r1-01", "paris-1"], "qb node list")),
        }
    }
    async fn clusters(&self) -> Answer<Vec<ClusterView>> {
        Ok(vec![cluster_view()])
    }
    async fn cluster(&self, name: &qb_model::Name) -> Answer<ClusterView> {
        assert_eq!(name.as_str(), "clus100");
        Ok(cluster_view())
    }
    async fn admins(&self) -> Answer<Vec<AdminView>> {
        let (key, fingerprint) = (server_key(), "k".into());
        let key = AdminKeyView { key, fingerprint, class: KeyClass::AgentOrigin, expires: None };
        let (admin, name) = ("mira".parse().unwrap(), "Mira".into());
        let generation = Generation(1);
        Ok(vec![AdminView { admin, name, role: Role::Owner, generation, keys: vec![key] }])
    }
    async fn bundles(&self) -> Answer<Vec<BundleView>> {
        Ok(vec![bundle_view()])
    }
    async fn head(&self) -> Answer<Head> {
        Ok(head())
    }
    async fn attestation(&self) -> Answer<Attestation> {
        Ok(attestation())
    }
    async fn charter(&self) -> Answer<String> {
        Ok(r#"{"payload":""}"#.into())
    }
    async fn submit(&self, envelope: Bytes, wait: Duration) -> Answer<IntentView> {
        self.note(Asked::Submit(envelope, wait));
        Ok(intent_view(*self.state.lock().unwrap()))
    }
    async fn intent(&self, key: IntentKey, wait: Duration) -> Answer<IntentView> {
        self.note(Asked::Intent(key, wait));
        Ok(intent_view(*self.state.lock().unwrap()))
    }
    async fn intents(&self) -> Answer<Vec<IntentView>> {
        Ok(vec![intent_view(IntentState::Rejected)])
    }
    async fn plan(&self, request: PlanRequest) -> Answer<PlanView> {
        Ok(PlanView {
            v: 1,
            sentence: request.payload,
            changes: vec![],
            nodes: vec![],
            rehearsal: true,
            findings: vec![],
            rejected: None,
            digest: digest(),
            head: head(),
        })
    }
    async fn preflight(&self, request: PreflightRequest) -> Answer<PreflightView> {
        let hosts = request.nodes.len() as u32;
        Ok(PreflightView { findings: vec![finding()], hosts, pairs: 0, probes: 0, ms: 1 })
    }
    async fn bundle_file(&self, _: Digest) -> Answer<Upload> {
        Ok(Upload { length: Some(3), body: stream::iter([Ok("qbb".into())]).boxed() })
    }
    async fn push_bundle(&self, mut upload: Upload) -> Answer<BundleView> {
        let mut had = 0;
        while let Some(piece) = upload.body.next().await {
            had += piece?.len();
        }
        self.note(Asked::Push(had));
        Ok(bundle_view())
    }
    async fn events(&self, after: Option<u64>) -> Answer<BoxStream<'static, Event>> {
        self.note(Asked::Events(after));
        let known = after.map_or(10, |n| n + 1)..10;
        Ok(stream::iter(known.map(event)).chain(stream::pending()).boxed())
    }
    async fn audit(&self, from: u64, limit: u32) -> Answer<AuditExport> {
        self.note(Asked::Audit(from, limit));
        let (site, charter) = (site_id(), String::new());
        Ok(AuditExport { v: 1, site, charter, records: vec![], head: digest() })
    }
    async fn tokens(&self) -> Answer<Vec<TokenView>> {
        Ok(vec![token_view()])
    }
    async fn alerts(&self) -> Answer<Vec<AlertView>> {
        Err(Problem::unavailable("Alerts", "no leader is known", "qb site status"))
    }
    async fn node_history(&self, name: &str) -> Answer<HistoryView> {
        self.node(name).await.map(|node| history_view(Some(node.name)))
    }
    async fn history(&self) -> Answer<HistoryView> {
        Ok(history_view(None))
    }
    async fn metrics(&self) -> Answer<String> {
        Ok("qb_up 1\n".into())
    }
    async fn verify_login(&self, envelope: Bytes, expected: LoginExpected) -> Answer<LoginOk> {
        let outer: Value = serde_json::from_slice(&envelope).unwrap();
        let payload = STANDARD.decode(outer["payload"].as_str().unwrap()).unwrap();
        let payload: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(payload["origin"], expected.origin);
        assert_eq!(payload["nonce"], expected.nonce.to_string());
        if payload["server_key"] != expected.server_key.to_string() {
            return Err(Problem::refused("login_server", "For another node.", "log in there"));
        }
        let key = payload["key"].as_u64().unwrap_or_default() as u8;
        Ok(LoginOk { admin: "mira".parse().unwrap(), role: self.role, key: PublicKey([key; 32]) })
    }
    fn session_alive(&self, _login: &LoginOk) -> bool {
        self.alive.load(Ordering::SeqCst)
    }
}
