//! What all parts of the agent share: who the node is, what it knows, how it reaches others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use qb_consensus::{Consensus, RaftView};
use qb_mesh::{Lane, Mesh};
use qb_model::board::{Board, NodeReport, Upkeep, Work};
use qb_model::facts::Facts;
use qb_model::state::SiteState;
use qb_model::{Digest, Millis, NodeId, RaftId};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::attest::Attest;
use crate::balancer::Backends;
use crate::blobs::Blobs;
use crate::bundles::Fetches;
use crate::config::Config;
use crate::enroll::Enrolment;
use crate::events::{self, Events};
use crate::executor::Executor;
use crate::files::FileError;
use crate::host::clock::{Known, SiteClock};
use crate::identity::Identity;
use crate::knock::table::KnockTable;
use crate::machine::SiteMachine;
use crate::member::Membership;
use crate::preflight::OpenRuns;
use crate::rpc::{self, RpcError};
use crate::seats::Health;
use crate::starts::Starts;
use crate::transport::MeshSlot;
use crate::uplink::{Uplinks, Way};

/// Why a question to another member has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The mesh is not up.
    #[error("the mesh is not up yet: try again in a moment")]
    NoMesh,
    /// The mesh could not carry it.
    #[error(transparent)]
    Request(#[from] qb_mesh::RequestError),
    /// The answer is not understood.
    #[error(transparent)]
    Answer(#[from] RpcError),
}

/// Secrets that this node minted and others have not fetched, by recipient and assignment.
type Minted = BTreeMap<(NodeId, Digest), Bytes>;

/// The node.
pub struct Node {
    /// What it was told at its start.
    pub config: Config,
    /// Who it is.
    pub identity: Identity,
    /// What it knows of its site from the enrolment file.
    pub enrolment: Enrolment,
    /// Its join token, while it needs one.
    pub token: Option<crate::knock::token::Held>,
    /// How this machine reaches relays.
    pub way: Way,
    /// The mesh, once it runs.
    pub mesh: MeshSlot,
    /// Consensus, once it runs.
    pub consensus: OnceLock<Consensus>,
    /// The executor: in this process once it runs, or apart.
    pub exec: OnceLock<Executor>,
    /// The replicated state as this node has it.
    pub state: watch::Receiver<Arc<SiteState>>,
    /// What voters signed of it.
    pub attest: Attest,
    /// Bundles here.
    pub blobs: Blobs,
    /// Bundles on their way here.
    pub fetches: Fetches,
    /// What happened.
    pub events: Arc<Events>,
    /// What it is doing for its cluster.
    pub work: watch::Sender<Option<Work>>,
    /// True once it was let in or founded the site.
    pub admitted: watch::Sender<bool>,
    /// This node's links to relays, and who else holds some.
    pub uplinks: Uplinks,
    /// The API servers of this node's cluster, as its own copy of the state has them; none in the pool.
    pub api_servers: watch::Sender<Option<Backends>>,
    /// How the way to them is.
    pub api: watch::Sender<crate::balancer::View>,
    /// Nodes that this one takes out of its cluster.
    pub releases: crate::releasing::Releases,
    /// What its executor does for its cluster's control plane by itself.
    pub upkeep: watch::Sender<Option<Upkeep>>,
    /// What this node keeps inside its cluster.
    pub keeps: crate::keeping::Keeps,
    /// Asks for a report at once.
    pub report_now: Notify,
    /// Ends everything.
    pub cancel: CancellationToken,
    /// Every task of the agent.
    pub tasks: TaskTracker,
    /// Ports that are open for preflight.
    pub open_runs: OpenRuns,
    /// Who is healthy and since when, as this node sees it while it leads.
    pub health: Mutex<Health>,
    /// Held while a secret is minted and offered.
    pub minting: tokio::sync::Mutex<()>,
    /// What is wrong at the site, as this node knows it.
    pub watch: crate::alerts::Watch,
    /// The last hour of every node that this one heard.
    pub recorder: crate::history::Recorder,
    /// When the agent started, by its clock.
    pub started: Millis,
    /// When it started before, and how it ended.
    pub starts: Starts,
    /// What people should know of this start.
    pub notices: Vec<String>,
    /// When the site's charter was signed: no clock is right that is earlier.
    pub charter_issued: Millis,
    /// Tunnels of admins.
    pub tunnels: crate::tunnel::Tunnels,
    /// True once this node learned that it was revoked.
    pub revoked: watch::Sender<bool>,
    /// Why the agent must end, once it must.
    pub ending: watch::Sender<Option<String>>,
    clock: Mutex<SiteClock>,
    board: Mutex<Board>,
    knocks: Mutex<KnockTable>,
    membership: Mutex<Membership>,
    facts: Mutex<Facts>,
    minted: Mutex<Minted>,
    machine: Mutex<Option<SiteMachine>>,
    founded_at: Mutex<Option<SocketAddr>>,
    said: AtomicU64,
    unseated: AtomicU32,
    lost_seat: Mutex<Option<RaftId>>,
    /// What a voter had applied when it answered last; 0 before that.
    voter_applied: AtomicU64,
}

/// What a [`Node`] is made of.
pub struct Parts {
    /// What it was told at its start.
    pub config: Config,
    /// Who it is.
    pub identity: Identity,
    /// Its site.
    pub enrolment: Enrolment,
    /// Its join token, while it needs one.
    pub token: Option<crate::knock::token::Held>,
    /// How this machine reaches relays.
    pub way: Way,
    /// The state as it is applied.
    pub state: watch::Receiver<Arc<SiteState>>,
    /// What voters signed of it.
    pub attest: Attest,
    /// Its bundles.
    pub blobs: Blobs,
    /// Its events.
    pub events: Arc<Events>,
    /// What it kept of its admission.
    pub membership: Option<Membership>,
    /// What the host is.
    pub facts: Facts,
    /// Its starts, this one too.
    pub starts: Starts,
    /// What people should know of this start.
    pub notices: Vec<String>,
    /// When the site's charter was signed.
    pub charter_issued: Millis,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no code that holds the lock can panic")
}

impl Node {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Arc<Self> {
        let known = parts.membership.as_ref().is_some_and(|m| m.admit.is_some());
        let membership = parts.membership.unwrap_or(Membership {
            v: 1,
            admit: None,
            founding: None,
            addresses: Vec::new(),
            voters: Vec::new(),
        });
        Arc::new(Self {
            config: parts.config,
            identity: parts.identity,
            enrolment: parts.enrolment,
            token: parts.token,
            way: parts.way,
            mesh: MeshSlot::default(),
            consensus: OnceLock::new(),
            exec: OnceLock::new(),
            state: parts.state,
            attest: parts.attest,
            blobs: parts.blobs,
            fetches: Fetches::default(),
            events: parts.events,
            work: watch::channel(None).0,
            admitted: watch::channel(known).0,
            uplinks: Uplinks::default(),
            api_servers: watch::channel(None).0,
            api: watch::channel(crate::balancer::View::default()).0,
            releases: crate::releasing::Releases::default(),
            upkeep: watch::channel(None).0,
            keeps: crate::keeping::Keeps::default(),
            report_now: Notify::new(),
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
            open_runs: OpenRuns::default(),
            health: Mutex::default(),
            minting: tokio::sync::Mutex::new(()),
            watch: crate::alerts::Watch::default(),
            recorder: crate::history::Recorder::default(),
            started: events::now(),
            starts: parts.starts,
            notices: parts.notices,
            charter_issued: parts.charter_issued,
            tunnels: crate::tunnel::Tunnels::default(),
            revoked: watch::channel(false).0,
            ending: watch::channel(None).0,
            clock: Mutex::new(SiteClock::new(Instant::now())),
            board: Mutex::default(),
            knocks: Mutex::default(),
            membership: Mutex::new(membership),
            facts: Mutex::new(parts.facts),
            minted: Mutex::default(),
            machine: Mutex::default(),
            founded_at: Mutex::default(),
            said: AtomicU64::new(0),
            unseated: AtomicU32::new(0),
            lost_seat: Mutex::default(),
            voter_applied: AtomicU64::new(0),
        })
    }

    /// This node's key.
    pub fn id(&self) -> NodeId {
        self.identity.node
    }

    /// The state as this node has it now.
    pub fn site(&self) -> Arc<SiteState> {
        self.state.borrow().clone()
    }

    /// What is known of the time besides this machine's clock.
    pub fn known_time(&self) -> Known {
        Known { charter: self.charter_issued, log: self.site().log_time() }
    }

    /// The site's time: this machine's clock, never before what has passed, and not far ahead of it.
    pub fn site_now(&self) -> Millis {
        let known = self.known_time();
        lock(&self.clock).read(events::now(), Instant::now(), known)
    }

    /// The Raft group as this node sees it. A leader that it has no connection to is none: consensus
    /// names the last one until another is elected.
    pub fn raft(&self) -> Arc<RaftView> {
        let Some(consensus) = self.consensus.get() else { return Arc::new(RaftView::default()) };
        let view = consensus.metrics().borrow().clone();
        let here = |leader: &NodeId| {
            *leader == self.id() || self.mesh().is_some_and(|m| m.watch_peers().borrow().contains_key(leader))
        };
        match &view.leader {
            Some(leader) if !here(leader) => Arc::new(RaftView { leader: None, ..(*view).clone() }),
            _ => view,
        }
    }

    /// The mesh.
    pub fn mesh(&self) -> Option<&Mesh> {
        self.mesh.get()
    }

    /// The board, locked.
    pub fn board(&self) -> MutexGuard<'_, Board> {
        lock(&self.board)
    }

    /// Who knocks here, locked.
    pub fn knocks(&self) -> MutexGuard<'_, KnockTable> {
        lock(&self.knocks)
    }

    /// The state machine, until consensus takes it.
    pub fn machine(&self) -> MutexGuard<'_, Option<SiteMachine>> {
        lock(&self.machine)
    }

    /// Notes that a member answered at this knock port: the site is founded, though this node is not
    /// let in yet.
    pub fn note_founded(&self, at: SocketAddr) {
        lock(&self.founded_at).get_or_insert(at);
    }

    /// Where a member of the founded site answered, while this node is not let in.
    pub fn founded_elsewhere(&self) -> Option<SocketAddr> {
        if *self.admitted.borrow() { None } else { *lock(&self.founded_at) }
    }

    /// What the host is.
    pub fn facts(&self) -> Facts {
        lock(&self.facts).clone()
    }

    /// Notes fresh facts.
    pub fn set_facts(&self, facts: Facts) {
        *lock(&self.facts) = facts;
    }

    /// Secrets that wait, locked.
    pub fn minted(&self) -> MutexGuard<'_, Minted> {
        lock(&self.minted)
    }

    /// The next number of a signed command of this start.
    pub fn next_said(&self) -> u64 {
        self.said.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes whether a voter still knows this node's seat.
    pub fn note_seat(&self, known: bool) {
        if known {
            self.unseated.store(0, Ordering::Relaxed);
        } else {
            self.unseated.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes what a voter has applied.
    pub fn note_voter_applied(&self, index: u64) {
        self.voter_applied.fetch_max(index, Ordering::Relaxed);
    }

    /// The furthest that a voter was heard to have applied in this start; none before one answered.
    pub fn voter_applied(&self) -> Option<u64> {
        Some(self.voter_applied.load(Ordering::Relaxed)).filter(|index| *index > 0)
    }

    /// How many times in a row voters did not know this node's seat.
    pub fn unseated(&self) -> u32 {
        self.unseated.load(Ordering::Relaxed)
    }

    /// Notes that the state gives this node a seat that it held before, and whose log is gone. True if that is
    /// news.
    pub fn note_lost_seat(&self, seat: RaftId) -> bool {
        lock(&self.lost_seat).replace(seat) != Some(seat)
    }

    /// The seat that it cannot take.
    pub fn lost_seat(&self) -> Option<RaftId> {
        *lock(&self.lost_seat)
    }

    /// What is kept of the admission.
    pub fn membership(&self) -> Membership {
        lock(&self.membership).clone()
    }

    /// Changes what is kept of the admission and writes it down.
    pub fn keep(&self, change: impl FnOnce(&mut Membership)) -> Result<(), FileError> {
        let mut held = lock(&self.membership);
        let before = postcard::to_stdvec(&*held).unwrap_or_default();
        change(&mut held);
        if postcard::to_stdvec(&*held).unwrap_or_default() != before {
            held.write(&self.membership_path())?;
        }
        Ok(())
    }

    /// Where it is kept.
    pub fn membership_path(&self) -> PathBuf {
        self.config.state.join("membership")
    }

    /// The node's own address on the mesh.
    pub fn mesh_address(&self) -> SocketAddr {
        self.config.mesh()
    }

    /// Members as far as known: the roster, or what the admission named.
    pub fn members(&self) -> BTreeSet<NodeId> {
        let state = self.site();
        if state.founded() {
            state.nodes().keys().copied().collect()
        } else {
            let held = self.membership();
            let named = held.admit.iter().flat_map(|a| a.members.iter().map(|(n, _)| *n));
            named.chain(held.addresses.iter().map(|(n, _)| *n)).collect()
        }
    }

    /// Who votes, as far as known; best first.
    pub fn voters(&self) -> Vec<NodeId> {
        let view = self.raft();
        let mut voters: Vec<NodeId> = view.leader.into_iter().collect();
        let more = view.voters.values().copied().chain(self.membership().voters);
        for node in more {
            if !voters.contains(&node) {
                voters.push(node);
            }
        }
        voters
    }

    /// Asks a member on the control lane.
    pub async fn ask<Q: serde::Serialize, A: serde::de::DeserializeOwned>(
        &self,
        to: NodeId,
        kind: u8,
        question: &Q,
        deadline: Duration,
    ) -> Result<A, AskError> {
        self.ask_on(Lane::Control, to, kind, question, deadline).await
    }

    /// Asks a member on a lane.
    pub async fn ask_on<Q: serde::Serialize, A: serde::de::DeserializeOwned>(
        &self,
        lane: Lane,
        to: NodeId,
        kind: u8,
        question: &Q,
        deadline: Duration,
    ) -> Result<A, AskError> {
        let mesh = self.mesh().ok_or(AskError::NoMesh)?;
        let body = rpc::encode(question)?;
        let answer = mesh.request(to, lane, kind, body, deadline).await?;
        Ok(rpc::decode(&answer)?)
    }

    /// Waits until the state fulfils `reached`, at most for `deadline`.
    pub async fn wait_state(&self, deadline: Duration, reached: impl Fn(&SiteState) -> bool) -> bool {
        let mut state = self.state.clone();
        let wait = state.wait_for(|s| reached(s));
        matches!(tokio::time::timeout(deadline, wait).await, Ok(Ok(_)))
    }

    /// Takes a member's report in.
    pub fn hear(&self, report: NodeReport) {
        if let Some(mesh) = self.mesh() {
            let addresses = report.mesh.iter().filter_map(|a| a.parse().ok()).collect();
            mesh.learn_addresses(report.node, addresses);
        }
        let now = self.site_now();
        self.recorder.hear(&report, now);
        self.board().hear(report, now);
    }
}
