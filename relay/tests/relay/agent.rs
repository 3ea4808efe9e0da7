//! Just enough of an agent: the uplink, a door over the site's state, receipts.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use qb_link::{
    Admission, DialConfig, Hints, LinkState, OuterTls, Source, Uplink, UplinkConfig, UplinkHandle,
};
use qb_model::dsse::Signer as _;
use qb_model::outcome::Outcome;
use qb_model::statement::{Knock, Receipt, SealKeyRecord, SignedBytes, Statement as _};
use qb_model::trust::TrustEntry;
use qb_model::*;
use qb_portal::view::*;
use qb_portal::{Access, Answer, DoorConfig, IntentKey, LoginExpected, LoginOk, Site, SiteNames, Upload};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::site::{FakeSite, key};
use crate::views;

/// An agent, running.
pub(crate) struct FakeAgent {
    pub(crate) door: Arc<Door>,
    pub(crate) link: UplinkHandle,
    stop: CancellationToken,
}

/// What an agent serves, and how it misbehaves.
pub(crate) struct Door {
    pub(crate) site: Arc<FakeSite>,
    pub(crate) number: u8,
    /// Whether it was let in when it started: one that waits has no copy of the site of its own.
    member: bool,
    /// Whether it signs receipts.
    pub(crate) honest: AtomicBool,
    /// Intents that came over the link.
    pub(crate) took: AtomicUsize,
    /// What the relay brought when it said that the node was let in.
    pub(crate) let_in: Mutex<Option<(Admission, Vec<TrustEntry>)>>,
    /// What the relay brought when it said that the node was revoked.
    pub(crate) put_out: Mutex<Option<(Vec<u8>, Vec<TrustEntry>)>>,
    link: OnceLock<UplinkHandle>,
}

impl FakeAgent {
    /// An agent of node `number` that dials a relay.
    pub(crate) fn start(site: &Arc<FakeSite>, number: u8, url: &str) -> Self {
        Self::with(site, (number, 1), url, site.relay, true)
    }

    pub(crate) fn with(
        site: &Arc<FakeSite>,
        (number, incarnation): (u8, u64),
        url: &str,
        relay: PublicKey,
        honest: bool,
    ) -> Self {
        let dial = DialConfig { url: url.to_owned(), proxy: None, outer: OuterTls::Any };
        Self::dialling(site, (number, incarnation), dial, relay, honest)
    }

    pub(crate) fn dialling(
        site: &Arc<FakeSite>,
        (number, incarnation): (u8, u64),
        dial: DialConfig,
        relay: PublicKey,
        honest: bool,
    ) -> Self {
        let member = site.lock().node(&site.node(number)).is_some();
        let door = Arc::new(Door {
            site: Arc::clone(site),
            number,
            member,
            honest: AtomicBool::new(honest),
            took: AtomicUsize::new(0),
            let_in: Mutex::default(),
            put_out: Mutex::default(),
            link: OnceLock::new(),
        });
        let config = UplinkConfig {
            dial,
            relay,
            site: site.id(),
            signer: Arc::new(key(site.base, number)),
            incarnation,
            source: door.clone(),
        };
        let (uplink, link) = Uplink::new(config).unwrap();
        door.link.set(link.clone()).ok().unwrap();
        let stop = CancellationToken::new();
        let (streams, listener) = mpsc::channel(16);
        let config = DoorConfig { access: Access::Local, server_key: key(site.base, number).public_key() };
        let router = qb_portal::api(door.clone(), config);
        tokio::spawn(qb_portal::serve(listener, router, stop.clone().cancelled_owned()));
        let ended = stop.clone().cancelled_owned();
        tokio::spawn(uplink.run(move |stream| drop(streams.try_send(stream)), ended));
        Self { door, link, stop }
    }

    /// Waits for the link.
    pub(crate) async fn up(self) -> Self {
        let mut state = self.link.state();
        let up = state.wait_for(|state| matches!(state, LinkState::Up { .. }));
        tokio::time::timeout(Duration::from_secs(10), up).await.unwrap().unwrap();
        self
    }

    /// Why there is no link, once that is known.
    pub(crate) async fn down(&self) -> String {
        let mut state = self.link.state();
        let down = state.wait_for(|state| matches!(state, LinkState::Down { .. }));
        let state = tokio::time::timeout(Duration::from_secs(10), down).await.unwrap().unwrap().clone();
        let LinkState::Down { why, .. } = state else { unreachable!("it was waited for") };
        why
    }

    pub(crate) fn took(&self) -> usize {
        self.door.took.load(Ordering::SeqCst)
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Door {
    pub(crate) fn receipt(&self, intent: Digest, outcome: Outcome, index: u64) -> SignedBytes {
        let node = self.site.node(self.number);
        let receipt =
            Receipt { v: 1, site: self.site.id(), node, intent, outcome, index, head: Digest([3; 32]) };
        receipt.sign(&key(self.site.base, self.number))
    }
}

impl Source for Door {
    fn log_time(&self) -> Millis {
        self.site.lock().log_time()
    }

    fn epoch(&self) -> u64 {
        1
    }

    fn trust_after(&self, head: &Digest) -> Vec<TrustEntry> {
        let state = self.site.lock();
        let log = state.trust().log();
        let from = if state.trust().head() == *head {
            log.len()
        } else {
            log.iter().position(|entry| entry.parent == *head).unwrap_or(0)
        };
        log[from..].to_vec()
    }

    fn roster_after(&self, index: u64) -> Vec<qb_link::RosterEntry> {
        self.site.roster_after(index)
    }

    fn knock(&self, relay: PublicKey, nonce: Nonce) -> Option<SignedBytes> {
        let (site, node) = (self.site.id(), self.site.node(self.number));
        if self.site.lock().node(&node).is_some() {
            return None;
        }
        let own = key(self.site.base, self.number);
        let not_after = Millis(u64::MAX >> 12);
        let seal = SealKeyRecord { v: 1, site, node, key: SealKey([7; 32]), seq: 1, not_after };
        let knock = Knock {
            v: 1,
            site,
            node,
            listener: NodeId(relay.0),
            nonce,
            seal_key: seal.sign(&own),
            machine: Digest([4; 32]),
            host: FakeSite::host(self.number),
            facts: postcard::to_stdvec(&views::facts(self.number)).unwrap(),
            agent_version: "0.1.0".into(),
            addresses: vec![],
            token_use: None,
        };
        Some(knock.sign(&own))
    }

    fn hints(&self) -> Option<Hints> {
        let members = vec![(self.site.node(self.number), vec![format!("127.0.0.{}:7443", self.number)])];
        self.member.then_some(Hints { members, voters: vec![self.site.node(101)] })
    }

    fn admitted(&self, admission: Admission, trust: Vec<TrustEntry>) {
        *self.let_in.lock().unwrap() = Some((admission, trust));
    }

    fn revoked(&self, envelope: Vec<u8>, trust: Vec<TrustEntry>) {
        *self.put_out.lock().unwrap() = Some((envelope, trust));
    }
}

#[async_trait]
impl Site for Door {
    fn names(&self) -> Option<SiteNames> {
        Some(SiteNames { id: self.site.id(), name: self.site.name.clone() })
    }
    async fn sites(&self) -> Answer<Vec<SiteView>> {
        Ok(vec![views::site(&self.site, self.number)])
    }
    async fn site(&self) -> Answer<SiteView> {
        Ok(views::site(&self.site, self.number))
    }
    async fn nodes(&self) -> Answer<Vec<NodeView>> {
        Ok(views::nodes(&self.site))
    }
    async fn node(&self, _: &str) -> Answer<NodeView> {
        Err(Problem::internal("not asked here"))
    }
    async fn clusters(&self) -> Answer<Vec<ClusterView>> {
        Ok(vec![])
    }
    async fn cluster(&self, _: &Name) -> Answer<ClusterView> {
        Err(Problem::internal("not asked here"))
    }
    async fn admins(&self) -> Answer<Vec<AdminView>> {
        Ok(vec![])
    }
    async fn bundles(&self) -> Answer<Vec<BundleView>> {
        Ok(vec![])
    }
    async fn head(&self) -> Answer<Head> {
        Ok(views::head(&self.site))
    }
    async fn attestation(&self) -> Answer<qb_model::attest::Attestation> {
        let state = self.site.lock();
        Ok(qb_model::attest::Attestation::from(&qb_model::attest::Proof {
            charter: state.charter().to_vec(),
            trust: state.trust().log().to_vec(),
            founding: state.audit().first().map(|r| r.body.clone()),
            roster: vec![],
            voters: vec![],
            checkpoint: None,
            why: None,
        }))
    }
    async fn charter(&self) -> Answer<String> {
        Ok(String::from_utf8(self.site.lock().charter().to_vec()).unwrap())
    }
    async fn submit(&self, envelope: Bytes, _: Duration) -> Answer<IntentView> {
        self.took.fetch_add(1, Ordering::SeqCst);
        let (digest, outcome, index) =
            self.site.judge(envelope.to_vec()).map_err(|why| Problem::refused("unsigned", why, "sign it"))?;
        if self.honest.load(Ordering::SeqCst) {
            self.link.get().unwrap().receipt(self.receipt(digest, outcome, index));
        }
        self.link.get().unwrap().changed();
        Ok(views::intent(&self.site, &digest).unwrap())
    }
    async fn intent(&self, key: IntentKey, _: Duration) -> Answer<IntentView> {
        let IntentKey::Digest(digest) = key else { return Err(Problem::internal("not asked here")) };
        views::intent(&self.site, &digest)
            .ok_or_else(|| Problem::not_found::<&str>("intent", &digest.to_string(), &[], "qb intent list"))
    }
    async fn intents(&self) -> Answer<Vec<IntentView>> {
        Ok(views::intents(&self.site))
    }
    async fn plan(&self, request: PlanRequest) -> Answer<PlanView> {
        Err(Problem::refused("plan", request.payload, "none"))
    }
    async fn preflight(&self, _: PreflightRequest) -> Answer<PreflightView> {
        Ok(PreflightView { findings: vec![], hosts: 2, pairs: 2, probes: 4, ms: 1 })
    }
    async fn push_bundle(&self, _: Upload) -> Answer<BundleView> {
        Err(Problem::internal("not asked here"))
    }
    async fn events(&self, _: Option<u64>) -> Answer<BoxStream<'static, Event>> {
        Ok(stream::pending().boxed())
    }
    async fn audit(&self, _: u64, _: u32) -> Answer<AuditExport> {
        let (site, charter) = (self.site.id(), String::new());
        let head = self.site.lock().chain_head().1;
        Ok(AuditExport { v: 1, site, charter, records: vec![], head })
    }
    async fn alerts(&self) -> Answer<Vec<AlertView>> {
        Ok(vec![])
    }
    async fn node_history(&self, name: &str) -> Answer<HistoryView> {
        let node = self.node(name).await?;
        Ok(HistoryView { v: 1, node: Some(node.name), step_ms: 15_000, samples: vec![] })
    }
    async fn history(&self) -> Answer<HistoryView> {
        Ok(HistoryView { v: 1, node: None, step_ms: 15_000, samples: vec![] })
    }
    async fn metrics(&self) -> Answer<String> {
        Ok("qb_up 1\n".into())
    }
    async fn verify_login(&self, _: Bytes, _: LoginExpected) -> Answer<LoginOk> {
        Err(Problem::internal("no login here"))
    }
    fn session_alive(&self, _: &LoginOk) -> bool {
        true
    }
}
