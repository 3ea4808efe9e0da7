//! [`qb_portal::Site`] of an agent: reads its own copy of the state, asks the mesh for the rest.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use qb_drivers::bundle;
use qb_model::attest::Attestation;
use qb_model::chain::{AuditKind, AuditRecord};
use qb_model::document::{self, Login};
use qb_model::envelope::Envelope;
use qb_model::intent::Intent;
use qb_model::key::{KeyId, KeyKind};
use qb_model::outcome::Outcome;
use qb_model::{HostName, Name, NodeId, PublicKey, sentence};
use qb_portal::site::{Answer, IntentKey, LoginExpected, LoginOk, Site, SiteNames, Upload};
use qb_portal::tunnel::Upgrading;
use qb_portal::view::{
    AdminView, AlertView, AuditExport, AuditView, BundleView, ClusterView, DoorView, Event, Head,
    HistoryView, IntentView, NodeView, PlanRequest, PlanView, PreflightRequest, PreflightView, Problem,
    SiteView, TokenView,
};

use super::plan::Planner;
use super::views::Seen;
use super::{intents, metrics, views};
use crate::node::Node;
use crate::report;
use crate::rpc::{Waiting, kind};
use crate::uplink::Receipts;
use crate::{alerts, bundles, history};

/// Members that are asked who knocks at them.
const ASKED_FOR_KNOCKS: usize = 12;
/// Deadline of that question.
const KNOCKS_DEADLINE: Duration = Duration::from_millis(800);
/// Most intents in one list.
const MAX_LIST: usize = 100;

/// The door of one agent.
pub struct AgentSite {
    /// The node.
    pub node: Arc<Node>,
    /// Where intents that come in here are noted for a receipt: at the door of a link.
    pub over: Option<Arc<Receipts>>,
}

impl AgentSite {
    fn door(&self) -> DoorView {
        DoorView { node: self.node.id(), host: self.node.facts().host, agent: qb_exec::VERSION.to_owned() }
    }

    /// Who waits, as this door and its neighbours hear it.
    async fn waiting(&self) -> Vec<Waiting> {
        let node = &self.node;
        let state = node.site();
        let connected = node.mesh().map(qb_mesh::Mesh::connected).unwrap_or_default();
        let asks = connected
            .iter()
            .take(ASKED_FOR_KNOCKS)
            .map(|peer| node.ask::<(), Vec<Waiting>>(*peer, kind::KNOCKS, &(), KNOCKS_DEADLINE));
        let mut all: Vec<Waiting> =
            futures::future::join_all(asks).await.into_iter().flatten().flatten().collect();
        all.truncate(10_000);
        {
            let mut knocks = node.knocks();
            knocks.prune(node.site_now(), |n| !state.nodes().contains_key(n));
            all.extend(knocks.list());
        }
        if state.node(&node.id()).is_none() && !state.tombstones().contains_key(&node.id()) {
            all.push(self.myself());
        }
        all.retain(|w| state.node(&w.node).is_none());
        // The first knock that anybody heard, the latest word.
        all.sort_by_key(|w| (w.node, w.since));
        all.dedup_by(|later, first| {
            let same = later.node == first.node;
            if same && later.last > first.last {
                (first.last, first.knock) = (later.last, later.knock);
            }
            same
        });
        all
    }

    /// This very node, while it waits itself.
    fn myself(&self) -> Waiting {
        let facts = self.node.facts();
        let now = self.node.site_now();
        Waiting {
            node: self.node.id(),
            host: facts.host.clone(),
            knock: crate::knock::client::own_knock(&self.node),
            facts,
            since: self.node.started,
            last: now,
            mesh: Vec::new(),
        }
    }

    async fn seen<T>(&self, with_waiting: bool, make: impl FnOnce(&Seen<'_>) -> T) -> T {
        let waiting = if with_waiting { self.waiting().await } else { Vec::new() };
        let board = report::board(&self.node).await;
        let state = self.node.site();
        let raft = self.node.raft();
        let connected = self.node.mesh().map(qb_mesh::Mesh::connected).unwrap_or_default();
        make(&Seen {
            state: &state,
            board: &board,
            raft: &raft,
            waiting: &waiting,
            connected: &connected,
            now: self.node.site_now(),
        })
    }

    /// The last hour of a node or of the site.
    async fn past(&self, of: Option<(NodeId, HostName)>) -> Answer<HistoryView> {
        let (id, name) = of.unzip();
        let samples = history::of(&self.node, id).await.ok_or_else(|| {
            let why = "none of the voters, who keep it, answers this node";
            Problem::unavailable("The last hour", why, "qb site status shows who votes and who answers")
        })?;
        Ok(views::history(name, samples))
    }

    fn key_of(&self, envelope: &Envelope) -> Option<(KeyKind, PublicKey, Name, qb_model::action::Role)> {
        let state = self.node.site();
        envelope.signatures().iter().find_map(|line| {
            let keyid: KeyId = line.keyid.parse().ok()?;
            let who = state.trust().signatory(&keyid.key, state.log_time())?;
            Some((KeyKind::of(who.class), keyid.key, who.admin, who.role))
        })
    }
}

#[async_trait]
impl Site for AgentSite {
    fn names(&self) -> Option<SiteNames> {
        let state = self.node.site();
        Some(SiteNames { id: state.site(), name: state.name().clone() })
    }

    async fn sites(&self) -> Answer<Vec<SiteView>> {
        Ok(vec![self.site().await?])
    }

    async fn site(&self) -> Answer<SiteView> {
        let door = self.door();
        let elsewhere = self.node.founded_elsewhere().is_some();
        let mut view = self.seen(true, |seen| seen.site(door)).await;
        view.founded |= elsewhere;
        view.waiting_on.extend(self.node.uplinks.waiting_on());
        Ok(view)
    }

    async fn nodes(&self) -> Answer<Vec<NodeView>> {
        Ok(self.seen(true, |seen| seen.nodes()).await)
    }

    async fn node(&self, name: &str) -> Answer<NodeView> {
        find_node(self.nodes().await?, name)
    }

    async fn clusters(&self) -> Answer<Vec<ClusterView>> {
        Ok(self.seen(false, |seen| seen.clusters()).await)
    }

    async fn cluster(&self, name: &Name) -> Answer<ClusterView> {
        let found = self.seen(false, |seen| seen.state.cluster(name).map(|c| seen.cluster(c))).await;
        found.ok_or_else(|| {
            let state = self.node.site();
            let known: Vec<&str> = state.clusters().keys().map(Name::as_str).collect();
            Problem::not_found("cluster", name.as_str(), &known, "qb cluster list")
        })
    }

    async fn admins(&self) -> Answer<Vec<AdminView>> {
        Ok(self.seen(false, |seen| seen.admins()).await)
    }

    async fn tokens(&self) -> Answer<Vec<TokenView>> {
        Ok(self.seen(false, |seen| seen.tokens()).await)
    }

    async fn bundles(&self) -> Answer<Vec<BundleView>> {
        let state = self.node.site();
        let keys: Vec<PublicKey> = state.trust().publishers().keys().copied().collect();
        let mut all = Vec::new();
        for digest in self.node.blobs.list() {
            if let Ok(Some((head, size))) = self.node.blobs.head(&digest) {
                all.extend(bundle_view(&head, size, &keys, &state));
            }
        }
        Ok(all)
    }

    async fn bundle_file(&self, digest: qb_model::Digest) -> Answer<Upload> {
        bundles::push::give(&self.node, &digest).await
    }

    async fn head(&self) -> Answer<Head> {
        Ok(self.seen(false, |seen| seen.head()).await)
    }

    async fn attestation(&self) -> Answer<Attestation> {
        Ok(crate::attest::document(&self.node).await)
    }

    async fn charter(&self) -> Answer<String> {
        String::from_utf8(self.node.enrolment.charter.clone())
            .map_err(|_| Problem::internal("the charter is not text"))
    }

    async fn submit(&self, envelope: Bytes, wait: Duration) -> Answer<IntentView> {
        if let Some(receipts) = &self.over {
            receipts.expect(&envelope);
        }
        // On a task of its own: a client that goes away takes nothing back that was taken.
        let node = self.node.clone();
        let task = tokio::spawn(async move { intents::submit(&node, envelope.to_vec(), wait).await });
        task.await.unwrap_or_else(|_| Err(Problem::internal("taking the intent was cut short")))
    }

    async fn intent(&self, key: IntentKey, wait: Duration) -> Answer<IntentView> {
        let find = |state: &qb_model::state::SiteState| match &key {
            IntentKey::Digest(digest) => state
                .replay()
                .get(digest)
                .map(|e| e.digest)
                .or_else(|| state.audit().iter().find(|r| r.digest == *digest).map(|r| r.digest)),
            IntentKey::Id(id) => {
                let mut entries: Vec<_> = state.replay().entries().filter(|e| e.id == *id).collect();
                entries.sort_by_key(|e| e.index);
                entries.last().map(|e| e.digest)
            }
        };
        self.node.wait_state(wait, |s| find(s).is_some()).await;
        let state = self.node.site();
        let board = report::board(&self.node).await;
        let shown = match &key {
            IntentKey::Digest(digest) => digest.to_string(),
            IntentKey::Id(id) => id.to_string(),
        };
        find(&state)
            .and_then(|digest| intents::of_digest(&self.node, &state, &board, &digest))
            .ok_or_else(|| Problem::not_found::<&str>("intent", &shown, &[], "qb intent list"))
    }

    async fn intents(&self) -> Answer<Vec<IntentView>> {
        let state = self.node.site();
        let board = report::board(&self.node).await;
        let now = self.node.site_now();
        let records = state.audit().iter().rev().filter(|r| r.kind == AuditKind::Intent);
        Ok(records.filter_map(|r| intents::of_record(&state, &board, r, now)).take(MAX_LIST).collect())
    }

    async fn plan(&self, request: PlanRequest) -> Answer<PlanView> {
        let intent = Intent::parse(request.payload.as_bytes())
            .map_err(|e| Problem::malformed("payload", e, "send the payload that `qb` would sign"))?;
        Ok(self
            .seen(false, |seen| {
                let (state, board, raft, now) = (seen.state, seen.board, seen.raft, seen.now);
                Planner { state, board, raft, head: seen.head(), now }.plan(&intent)
            })
            .await)
    }

    async fn preflight(&self, request: PreflightRequest) -> Answer<PreflightView> {
        super::preflight::on_demand(&self.node, request).await
    }

    async fn push_bundle(&self, upload: Upload) -> Answer<BundleView> {
        let digest = bundles::push::take(&self.node, upload).await?;
        let state = self.node.site();
        let keys = bundles::publishers(&self.node);
        let head = self.node.blobs.head(&digest).ok().flatten();
        head.and_then(|(head, size)| bundle_view(&head, size, &keys, &state))
            .ok_or_else(|| Problem::internal("the bundle cannot be read back"))
    }

    async fn events(&self, after: Option<u64>) -> Answer<BoxStream<'static, Event>> {
        let (kept, live) = self.node.events.listen(after);
        let live = futures::stream::unfold(live, |mut live| async move {
            live.recv().await.ok().map(|event| (event, live))
        });
        Ok(futures::stream::iter(kept).chain(live).boxed())
    }

    async fn audit(&self, from: u64, limit: u32) -> Answer<AuditExport> {
        let state = self.node.site();
        let records = state.audit().iter().filter(|r| r.index >= from).take(limit as usize);
        Ok(AuditExport {
            v: 1,
            site: state.site(),
            charter: self.charter().await?,
            records: records.map(|r| audit_view(&state, r)).collect(),
            head: state.chain_head().1,
        })
    }

    async fn alerts(&self) -> Answer<Vec<AlertView>> {
        Ok(alerts::list(&self.node).await.into_iter().map(views::alert).collect())
    }

    async fn node_history(&self, name: &str) -> Answer<HistoryView> {
        // Only members report: who knocks is not looked for.
        let node = find_node(self.seen(false, |seen| seen.nodes()).await, name)?;
        self.past(Some((node.id, node.name))).await
    }

    async fn history(&self) -> Answer<HistoryView> {
        self.past(None).await
    }

    async fn metrics(&self) -> Answer<String> {
        let alerts = self.alerts().await?;
        let api = crate::balancer::metrics(&self.node.api.borrow());
        Ok(self.seen(true, |seen| metrics::text(seen, &alerts)).await + &api)
    }

    async fn tunnel(&self, cluster: &Name, _: Option<LoginOk>, io: Upgrading) -> Answer<()> {
        // Whose session this is does not matter: the grant inside says who, and is looked at again.
        crate::tunnel::take(&self.node, cluster, io).await
    }

    async fn verify_login(&self, envelope: Bytes, expected: LoginExpected) -> Answer<LoginOk> {
        let no = |why: String| {
            Problem::refused("login", why, "qb key list shows your keys, qb admin list the site's")
        };
        let parsed = Envelope::parse(&envelope).map_err(|e| no(e.to_string()))?;
        let (kind, key, admin, role) = self
            .key_of(&parsed)
            .ok_or_else(|| no("no signature is by a key of an admin of this site".into()))?;
        let (login, _) = document::open::<Login>(&envelope, kind, &key).map_err(|e| no(e.to_string()))?;
        let now = self.node.site_now();
        let fits = login.origin == expected.origin
            && login.server_key == expected.server_key
            && login.nonce == expected.nonce;
        if !fits {
            return Err(no("it was signed for another door or another challenge".into()));
        }
        // The two clocks may differ: what is old is told by the nonce, which lives two minutes here.
        tracing::debug!(%admin, skew = now.since(login.issued_ms), "login");
        Ok(LoginOk { admin, role, key })
    }

    fn session_alive(&self, login: &LoginOk) -> bool {
        let state = self.node.site();
        let who = state.trust().signatory(&login.key, state.log_time());
        who.is_some_and(|w| w.admin == login.admin && w.role == login.role)
    }
}

fn find_node(nodes: Vec<NodeView>, name: &str) -> Answer<NodeView> {
    let live = |n: &&NodeView| n.state != qb_portal::view::NodeState::Revoked;
    let exact = nodes.iter().find(|n| n.name.as_str() == name && live(n));
    if let Some(node) = exact {
        return Ok(node.clone());
    }
    let id = name.to_owned();
    let matches: Vec<&NodeView> = nodes
        .iter()
        .filter(|n| {
            n.name.as_str().starts_with(name)
                || n.fingerprint.starts_with(name)
                || n.id.to_string().starts_with(&id)
        })
        .collect();
    match matches.as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            let known: Vec<&str> = nodes.iter().map(|n| n.name.as_str()).collect();
            Err(Problem::not_found("node", name, &known, "qb node list"))
        }
        many => {
            let known: Vec<&str> = many.iter().map(|n| n.name.as_str()).collect();
            Err(Problem::ambiguous("node", name, &known))
        }
    }
}

/// A bundle that was verified when it was taken, by its beginning; its publisher, if the site accepts
/// it still.
fn bundle_view(
    head: &[u8],
    size: u64,
    keys: &[PublicKey],
    state: &qb_model::state::SiteState,
) -> Option<BundleView> {
    let (digest, manifest) = bundle::peek(head).ok()?;
    let publisher = bundle::signed_by(head, keys)
        .ok()
        .and_then(|key| state.trust().publishers().get(&key).map(|p| p.name.clone()));
    Some(BundleView {
        digest,
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        size,
        publisher,
    })
}

fn audit_view(state: &qb_model::state::SiteState, record: &AuditRecord) -> AuditView {
    let (by, text) = match record.kind {
        AuditKind::Intent | AuditKind::Approval => match intents::intent_of(record) {
            Some(intent) => (intent.by.to_string(), sentence::of(&intent.action, state)),
            None => (String::new(), "an intent that this agent cannot read".to_owned()),
        },
        AuditKind::NodeCommand => super::audit::of_command(state, record),
        AuditKind::TokenEntry => super::audit::of_entry(state, record),
        AuditKind::Tick => ("site".to_owned(), "time went on".to_owned()),
    };
    let outcome = match &record.outcome {
        None => String::new(),
        Some(Outcome::Accepted { .. }) => "accepted".to_owned(),
        Some(Outcome::Pending { have, need }) => format!("pending: {have} of {need}"),
        Some(Outcome::Rejected(reason)) => format!("rejected: {}", reason.code()),
        Some(Outcome::Duplicate { .. }) => "duplicate".to_owned(),
    };
    AuditView {
        number: record.index,
        index: record.index,
        at: record.log_time,
        by,
        sentence: text,
        outcome,
        digest: record.digest,
        head: record.head,
        record: super::audit::encode(record),
    }
}
