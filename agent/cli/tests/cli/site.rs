//! A made-up site behind the real API: it checks signatures and applies intents in the simplest way
//! that lets a cluster come up over a few looks.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _};
use qb_cli::out::text::now;
use qb_model::action::{Action, NodeRole, Placement, Role};
use qb_model::charter::Charter;
use qb_model::dsse::{Purpose, verify};
use qb_model::envelope::Envelope;
use qb_model::intent::Intent;
use qb_model::{Digest, Generation, Millis, Name, NodeId, PublicKey};
use qb_portal::site::{Answer, IntentKey, LoginExpected, LoginOk, Site, SiteNames, Upload};
use qb_portal::view::*;

use crate::made;

/// What the site knows.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) nodes: Vec<NodeView>,
    pub(crate) clusters: Vec<ClusterView>,
    pub(crate) bundles: Vec<BundleView>,
    pub(crate) publishers: Vec<PublicKey>,
    pub(crate) files: std::collections::BTreeMap<Digest, Vec<u8>>,
    pub(crate) intents: Vec<(Intent, IntentView)>,
    pub(crate) proof: Option<qb_model::attest::Attestation>,
    pub(crate) looks: u32,
    pub(crate) refuse: Option<(&'static str, &'static str)>,
    pub(crate) logins: u32,
    /// The real state machine, where a test needs one.
    pub(crate) log: Option<crate::log::Log>,
    /// How it answers for intents.
    pub(crate) mode: crate::log::Mode,
}

/// The site.
pub(crate) struct FakeSite {
    pub(crate) charter: Charter,
    pub(crate) state: Mutex<State>,
}

impl FakeSite {
    /// A site of a charter with machines that knock.
    pub(crate) fn new(charter: Charter, machines: u8) -> Arc<Self> {
        let nodes = (1..=machines).map(made::waiting_node).collect();
        Arc::new(Self { charter, state: Mutex::new(State { nodes, ..State::default() }) })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn founders(&self) -> Vec<PublicKey> {
        self.charter.body().founders.iter().flat_map(|f| &f.keys).map(|k| k.key).collect()
    }

    fn head_of(&self, state: &State) -> Head {
        if let Some(log) = &state.log {
            return log.head();
        }
        let index = state.intents.iter().filter(|(_, v)| v.state != IntentState::Rejected).count() as u64;
        let hash = if index == 0 { self.charter.site_id().0 } else { Digest([index as u8; 32]) };
        Head { index, hash, trust: self.charter.site_id().0, log_time: now() }
    }

    fn check(&self, state: &State, intent: &Intent) -> Result<(), String> {
        let head = self.head_of(state);
        if intent.anchor.index > head.index {
            return Err("the anchor is not a head of this site".into());
        }
        let founded = head.index > 0;
        match &intent.action {
            Action::SiteFound { nodes }
                if !founded && nodes.len() == 1 && nodes[0].node == state.nodes[0].id =>
            {
                Ok(())
            }
            Action::SiteFound { .. } => Err("the site is founded already".into()),
            _ if !founded => Err("the site is not founded yet".into()),
            Action::ClusterCreate { bundle, .. } if !state.bundles.iter().any(|b| b.digest == *bundle) => {
                Err("no such bundle".into())
            }
            Action::ClusterAttach { placement: Placement::Auto { .. }, .. } => {
                Err("this test wants names".into())
            }
            _ => Ok(()),
        }
    }

    fn apply(state: &mut State, action: &Action) {
        match action {
            Action::SiteFound { nodes } | Action::NodeAuthorize { nodes } => {
                for node in state
                    .nodes
                    .iter_mut()
                    .filter(|n| nodes.iter().any(|a| a.node == n.id && Some(a.knock) == n.knock))
                {
                    node.state = NodeState::Pool;
                    node.generation = Generation(1);
                }
            }
            Action::PublisherAdd { key, .. } => state.publishers.push(*key),
            Action::ClusterCreate { cluster, driver, version, bundle, .. } => {
                state.clusters.push(made::cluster(cluster, driver, version, *bundle));
            }
            Action::ClusterAttach { cluster, placement: Placement::Explicit { nodes } } => {
                let members = nodes.iter().map(|p| made::member(&state.nodes, p)).collect();
                for node in state.nodes.iter_mut().filter(|n| nodes.iter().any(|p| p.node == n.id)) {
                    node.state = NodeState::Attached;
                    node.cluster = Some(cluster.clone());
                }
                if let Some(c) = state.clusters.iter_mut().find(|c| c.name == *cluster) {
                    c.members = members;
                    c.state = ClusterState::Preflight;
                }
                state.looks = 0;
            }
            Action::ClusterDelete { cluster } => state.clusters.retain(|c| c.name != *cluster),
            _ => {}
        }
    }
}

fn not_found(kind: &str, name: &str) -> Problem {
    Problem::not_found::<String>(kind, name, &[], "qb cluster list")
}

#[async_trait]
impl Site for FakeSite {
    fn names(&self) -> Option<SiteNames> {
        Some(SiteNames { id: self.charter.site_id(), name: self.charter.body().name.clone() })
    }
    async fn sites(&self) -> Answer<Vec<SiteView>> {
        Ok(vec![self.site().await?])
    }
    async fn site(&self) -> Answer<SiteView> {
        let state = self.lock();
        let first = &state.nodes[0];
        Ok(made::site(&self.charter, self.head_of(&state), first))
    }
    async fn attestation(&self) -> Answer<qb_model::attest::Attestation> {
        let none = || Problem::unavailable("The attestation", "nobody signed yet", "qb site status");
        self.lock().proof.clone().ok_or_else(none)
    }
    async fn nodes(&self) -> Answer<Vec<NodeView>> {
        Ok(self.lock().nodes.clone())
    }
    async fn node(&self, name: &str) -> Answer<NodeView> {
        self.lock()
            .nodes
            .iter()
            .find(|n| n.name.as_str() == name)
            .cloned()
            .ok_or_else(|| not_found("node", name))
    }
    async fn clusters(&self) -> Answer<Vec<ClusterView>> {
        Ok(self.lock().clusters.clone())
    }
    async fn cluster(&self, name: &Name) -> Answer<ClusterView> {
        let mut state = self.lock();
        state.looks += 1;
        let looks = state.looks;
        let cluster = state
            .clusters
            .iter_mut()
            .find(|c| c.name == *name)
            .ok_or_else(|| not_found("cluster", name.as_str()))?;
        made::advance(cluster, looks);
        Ok(cluster.clone())
    }
    async fn admins(&self) -> Answer<Vec<AdminView>> {
        let founder = &self.charter.body().founders[0];
        Ok(vec![made::admin(founder)])
    }
    async fn bundles(&self) -> Answer<Vec<BundleView>> {
        Ok(self.lock().bundles.clone())
    }
    async fn head(&self) -> Answer<Head> {
        Ok(self.head_of(&self.lock()))
    }
    async fn charter(&self) -> Answer<String> {
        Ok(String::from_utf8_lossy(self.charter.envelope()).into_owned())
    }
    async fn submit(&self, envelope: Bytes, _wait: Duration) -> Answer<IntentView> {
        let envelope = Envelope::parse(&envelope)
            .map_err(|e| Problem::refused("envelope", e.to_string(), "sign it again"))?;
        let intent = Intent::parse(envelope.payload())
            .map_err(|e| Problem::refused("intent", e.to_string(), "sign it again"))?;
        let sig = <[u8; 64]>::try_from(envelope.signatures()[0].sig.as_slice()).unwrap();
        let by = self.founders().into_iter().any(|k| verify(Purpose::Intent, envelope.payload(), &k, &sig));
        assert!(by && intent.site == self.charter.site_id(), "signed by the founder, for this site");
        let mut state = self.lock();
        if state.log.is_some() {
            let view = crate::log::answer(&mut state, &envelope, &intent);
            state.intents.push((intent, view.clone()));
            return Ok(view);
        }
        let verdict = match state.refuse {
            Some((reason, detail)) => Err((reason.to_owned(), detail.to_owned())),
            None => self.check(&state, &intent).map_err(|d| ("refused".to_owned(), d)),
        };
        let view = made::intent(envelope.digest(), &intent, verdict.clone().err());
        if verdict.is_ok() {
            Self::apply(&mut state, &intent.action);
        }
        state.intents.push((intent, view.clone()));
        Ok(view)
    }
    async fn intent(&self, key: IntentKey, _wait: Duration) -> Answer<IntentView> {
        let state = self.lock();
        let is = |v: &IntentView| match &key {
            IntentKey::Digest(digest) => v.digest == *digest,
            IntentKey::Id(id) => v.id == *id,
        };
        let found = state.intents.iter().rev().find(|(_, v)| is(v)).cloned();
        let (intent, mut view) = found.ok_or_else(|| not_found("intent", "that"))?;
        let busy = |c: &ClusterView| c.state != ClusterState::Ready;
        if matches!(&intent.action, Action::ClusterAttach { cluster, .. } if state.clusters.iter().any(|c| c.name == *cluster && busy(c)))
        {
            view.state = IntentState::Doing;
        }
        Ok(view)
    }
    async fn intents(&self) -> Answer<Vec<IntentView>> {
        Ok(self.lock().intents.iter().rev().map(|(_, v)| v.clone()).collect())
    }
    async fn plan(&self, request: PlanRequest) -> Answer<PlanView> {
        let intent = Intent::parse(request.payload.as_bytes())
            .map_err(|e| Problem::refused("intent", e.to_string(), "plan again"))?;
        let state = self.lock();
        Ok(made::plan(&state.nodes, &intent, self.head_of(&state)))
    }
    async fn preflight(&self, _request: PreflightRequest) -> Answer<PreflightView> {
        Ok(made::preflight())
    }
    async fn bundle_file(&self, digest: Digest) -> Answer<Upload> {
        let file = self.lock().files.get(&digest).cloned();
        let file = file.ok_or_else(|| Problem::internal("no such bundle"))?;
        let length = Some(file.len() as u64);
        Ok(Upload { length, body: futures::stream::iter([Ok(file.into())]).boxed() })
    }
    async fn push_bundle(&self, mut upload: Upload) -> Answer<BundleView> {
        let mut file = Vec::new();
        while let Some(piece) = upload.body.next().await {
            file.extend_from_slice(&piece?);
        }
        let mut state = self.lock();
        let bundle = qb_drivers::bundle::verify_bundle(&file, &state.publishers)
            .map_err(|e| Problem::refused("unknown_publisher", e.to_string(), "qb admin"))?;
        let view = BundleView {
            digest: bundle.digest(),
            name: bundle.manifest().name.clone(),
            version: bundle.manifest().version.clone(),
            size: file.len() as u64,
            publisher: Some("lyon-publisher".parse().unwrap()),
        };
        state.bundles.push(view.clone());
        state.files.insert(view.digest, file);
        Ok(view)
    }
    async fn events(&self, _after: Option<u64>) -> Answer<BoxStream<'static, Event>> {
        let event = |seq| Event {
            seq,
            at: Millis(0),
            kind: "node".into(),
            subject: "lyon-r1-01".into(),
            text: format!("event {seq}"),
        };
        Ok(futures::stream::iter((1..=3).map(event)).boxed())
    }
    async fn audit(&self, from: u64, _limit: u32) -> Answer<AuditExport> {
        let charter = String::from_utf8_lossy(self.charter.envelope()).into_owned();
        let site = self.charter.site_id();
        if let Some(log) = &self.lock().log {
            let (records, head) = (log.records(from), log.head().hash);
            return Ok(AuditExport { v: 1, site, charter, records, head });
        }
        Ok(AuditExport { v: 1, site, charter, records: Vec::new(), head: site.0 })
    }
    async fn alerts(&self) -> Answer<Vec<AlertView>> {
        Ok(Vec::new())
    }
    async fn node_history(&self, _name: &str) -> Answer<HistoryView> {
        Ok(HistoryView { v: 1, node: None, step_ms: 15_000, samples: Vec::new() })
    }
    async fn history(&self) -> Answer<HistoryView> {
        Ok(HistoryView { v: 1, node: None, step_ms: 15_000, samples: Vec::new() })
    }
    async fn metrics(&self) -> Answer<String> {
        Ok(String::new())
    }
    async fn verify_login(&self, envelope: Bytes, expected: LoginExpected) -> Answer<LoginOk> {
        use qb_model::document::{Login, open};
        let key = self.founders()[0];
        let (login, _) =
            open::<Login>(&envelope, qb_model::key::KeyKind::Ed25519, &key).expect("signed by the founder");
        assert_eq!(
            (login.origin, login.nonce, login.server_key),
            (expected.origin, expected.nonce, expected.server_key)
        );
        self.lock().logins += 1;
        Ok(LoginOk { admin: self.charter.body().founders[0].admin.clone(), role: Role::Owner, key })
    }
    fn session_alive(&self, _login: &LoginOk) -> bool {
        true
    }
}

/// Roles as an open placement gets them here: the first three are control plane.
pub(crate) fn role_at(at: usize) -> NodeRole {
    if at < 3 { NodeRole::ControlPlane } else { NodeRole::Worker }
}

/// The nodes that an open placement takes here.
pub(crate) fn taken(nodes: &[NodeView], placement: &Placement) -> Vec<(NodeId, NodeRole)> {
    match placement {
        Placement::Auto { count, .. } => {
            let pool = nodes.iter().filter(|n| n.state == NodeState::Pool);
            pool.take(usize::from(*count)).enumerate().map(|(at, n)| (n.id, role_at(at))).collect()
        }
        Placement::Named { nodes, .. } => nodes.iter().enumerate().map(|(at, n)| (*n, role_at(at))).collect(),
        Placement::Explicit { nodes } => nodes.iter().map(|p| (p.node, p.role)).collect(),
    }
}
