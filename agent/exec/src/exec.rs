//! The executor's handle: takes orders, keeps units running, answers how they are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::Method;
use qb_drivers::config::NodeServiceConfig;
use qb_drivers::host_step::{HostUnit, NetworkMember};
use qb_drivers::{PathError, RelPath, StandIn};
use qb_model::action::NodeRole;
use qb_model::agent_order::{self, AgentFloor, AgentGrounds, AgentOrder, VerifiedAgentOrder};
use qb_model::assignment::{self, Assignment, Grounds, VerifiedAssignment};
use qb_model::grant::UsedGrants;
use qb_model::ids::{Digest, Generation, Name, NodeId, PublicKey, SealKey, SiteId};
use qb_model::statement::{SealKeyRecord, SignedBytes};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::dir::Dir;
use crate::errors::{ExecError, NodeError, OrderError};
use crate::floor::{self, Floor};
use crate::host::network;
use crate::host::runner::{Helpers, Runner};
use crate::join::{self, MintError, MintRequest, Recipient};
use crate::progress::{StageDone, StageError, StepError, StepProgress};
use crate::seal::{SealSecret, SealedSecret};
use crate::site::{Binding, SiteError, SiteSource};
use crate::stage::{self, Run};
use crate::standin::wire::NodeList;
use crate::steps::units::read_record;
use crate::supervisor::{Supervisor, UnitHealth, UnitKey, UnitRecord, Units};
use crate::unpack;
use crate::upkeep::Troubles;

/// How long an API server may take to say who joined.
const NODES_LIMIT: Duration = Duration::from_secs(2);
/// Bytes of a configuration or a certificate.
const FILE_BYTES: u64 = 1 << 20;
/// Pause before an init system that did not answer is asked again.
const AGAIN: Duration = Duration::from_secs(2);
const CLUSTERS: &str = "clusters";

/// Where the executor works and who it is.
pub struct ExecConfig {
    /// Its directory: only the executor writes there.
    pub root: PathBuf,
    /// While this file exists no step runs.
    pub hold: PathBuf,
    /// This node, where the agent's own process asks; none where it is known by proof only.
    pub node: Option<NodeId>,
    /// From where the executor knows its site.
    pub site: SiteSource,
    /// Opens what is sealed to this node.
    pub seal_secret: SealSecret,
    /// The executable that contains the stand-ins: the caller's own.
    pub stand_in: PathBuf,
    /// Who keeps units running.
    pub units: Units,
}

/// What an order needs besides itself. Nothing of it is believed: the bundle is verified against the
/// publishers of the verified trust log, the secret against the order.
#[derive(Debug, Clone, Default)]
pub struct Supplies {
    /// The bundle's file, if this node has it and the stage unpacks it.
    pub bundle: Option<Arc<File>>,
    /// The join secret for this order, if it came.
    pub join: Option<SealedSecret>,
}

/// A node that a cluster's API server knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterNode {
    /// The node.
    pub node: NodeId,
    /// Its host name.
    pub host: String,
    /// Its role.
    pub role: NodeRole,
    /// Whether it was heard of lately.
    pub ready: bool,
}

/// A unit that an earlier life recorded, and where.
type Recorded = (UnitKey, Arc<Dir>, UnitRecord);

/// What everything here shares.
pub(crate) struct Inner {
    pub(crate) config: ExecConfig,
    pub(crate) root: Dir,
    pub(crate) supervisor: Supervisor,
    /// Held while an order is carried out.
    pub(crate) running: Arc<tokio::sync::Mutex<()>>,
    floor: Mutex<Floor>,
    site: Binding,
    waits: Mutex<String>,
    /// Who the members of real clusters are, as it was told last.
    pub(crate) peers: Mutex<BTreeMap<Name, Vec<NetworkMember>>>,
    /// Hands work on the host to helpers.
    pub(crate) runner: Runner,
    /// Digest of the join secret that was opened last.
    opened: Mutex<Option<Digest>>,
    /// Grants that certificates were signed for.
    used_grants: Mutex<UsedGrants>,
    /// What this node could not do by itself.
    pub(crate) troubles: Mutex<Troubles>,
}

impl Inner {
    pub(crate) fn floor(&self) -> MutexGuard<'_, Floor> {
        // A floor is replaced as a whole, after it is on disk.
        self.floor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn used_grants(&self) -> MutexGuard<'_, UsedGrants> {
        // Each change of it is one insertion.
        self.used_grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node, once it is known.
    pub(crate) fn node(&self) -> Option<NodeId> {
        self.config.node.or_else(|| self.floor().node())
    }

    /// Starts units; returns those that could not be started.
    async fn try_recorded(&self, recorded: Vec<Recorded>) -> Vec<Recorded> {
        let (mut left, mut why) = (Vec::new(), String::new());
        for (key, dir, record) in recorded {
            if let Err(error) = self.supervisor.run(key.clone(), Arc::clone(&dir), record.clone()).await {
                why = format!("{}; {}", error.text, error.remedy);
                left.push((key, dir, record));
            }
        }
        self.set_waits(why);
        left
    }

    fn set_waits(&self, why: String) {
        let mut held = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        if *held != why && !why.is_empty() {
            tracing::warn!("units of an earlier life wait: {why}");
        }
        *held = why;
    }

    pub(crate) fn told_peers(&self) -> MutexGuard<'_, BTreeMap<Name, Vec<NetworkMember>>> {
        // Each change of it is one insertion or removal.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody holds this machine.
    pub(crate) fn free(&self) -> Result<(), StepError> {
        if !floor::is_held(&self.config.hold) {
            return Ok(());
        }
        let hold = self.config.hold.display();
        Err(StepError::new(
            format!("held on this machine: {hold} exists"),
            format!("remove it to go on: rm {hold}"),
        ))
    }

    /// Who starts helpers.
    ///
    /// # Errors
    /// Nobody: this process keeps units itself, without root.
    pub(crate) fn helpers(&self) -> Result<&dyn Helpers, StepError> {
        match self.supervisor.systemd() {
            Some(systemd) => Ok(systemd),
            None => Err(StepError::new(
                "driver kubeadm needs the packaged executor",
                "install the qb-agent package on this machine, or create the cluster with driver rehearsal",
            )),
        }
    }

    pub(crate) fn opened(&self, sealed: &SealedSecret) -> bool {
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) == Some(sealed.digest())
    }

    pub(crate) fn note_opened(&self, sealed: &SealedSecret) {
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(sealed.digest());
    }
}

/// The execution side of a node. Clones share everything.
#[derive(Clone)]
pub struct Exec(pub(crate) Arc<Inner>);

impl Exec {
    /// Opens the executor's directory and starts the units that are recorded there.
    ///
    /// # Errors
    /// If the directory or what it remembers cannot be used.
    pub async fn open(config: ExecConfig) -> Result<Self, ExecError> {
        let path = config.root.display().to_string();
        let error = |source| ExecError::Root { path: path.clone(), source };
        let clusters: RelPath = CLUSTERS.parse().map_err(|e: PathError| error(io::Error::other(e)))?;
        let root = Dir::create(&config.root).map_err(error)?;
        root.make_dirs(&clusters).map_err(error)?;
        let floor = Mutex::new(Floor::open(&root)?);
        let supervisor =
            Supervisor::start(config.units, config.stand_in.clone()).map_err(ExecError::Thread)?;
        let recorded = recorded(&root, &clusters).map_err(error)?;
        let (running, opened) = (Arc::default(), Mutex::new(None));
        let site = Binding::open(&config.site, &root);
        let (waits, used_grants, peers, troubles) = Default::default();
        let runner = Runner::open(&root).map_err(error)?;
        let inner = Inner {
            config,
            root,
            supervisor,
            running,
            floor,
            site,
            opened,
            waits,
            used_grants,
            troubles,
            peers,
            runner,
        };
        let exec = Self(Arc::new(inner));
        exec.start_recorded(recorded).await;
        exec.keep_networks();
        exec.keep_up();
        Ok(exec)
    }

    /// Starts what an earlier life recorded; what runs already is left alone. Where the init system
    /// does not answer it is asked again and again: everything else goes on meanwhile.
    async fn start_recorded(&self, recorded: Vec<Recorded>) {
        let mut left = self.0.try_recorded(recorded).await;
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            while !left.is_empty() {
                tokio::time::sleep(AGAIN).await;
                let Some(inner) = inner.upgrade() else { return };
                let _one = inner.running.lock().await;
                // An order may have stopped one meanwhile: what counts is what is recorded now.
                left.retain(|(key, dir, record)| {
                    matches!(read_record(dir, key.stand_in), Ok(Some(now)) if now == *record)
                });
                left = inner.try_recorded(left).await;
            }
        });
    }

    /// The key to which others seal for this node.
    pub fn seal_key(&self) -> SealKey {
        self.0.config.seal_secret.public()
    }

    /// The site whose orders are taken here.
    ///
    /// # Errors
    /// It is not known, or this machine is to be of two.
    pub fn site(&self) -> Result<SiteId, SiteError> {
        self.0.site.get(&self.0.root)
    }

    /// This machine's node, once it is known.
    pub fn node(&self) -> Option<NodeId> {
        self.0.node()
    }

    /// Whether somebody on this machine holds it.
    pub fn is_held(&self) -> bool {
        floor::is_held(&self.0.config.hold)
    }

    /// What this executor waits for before it can carry out anything; empty if nothing.
    pub fn waits(&self) -> String {
        self.0.waits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a caller for this machine's node: whoever signs that secrets for a node go to this very
    /// executor's key has that node's key.
    ///
    /// # Errors
    /// The record is not that, or this machine is another node.
    pub fn claim(&self, record: &SignedBytes) -> Result<NodeId, OrderError> {
        let wrong = |why: &str| NodeError::Record(why.to_owned());
        let record = record.open::<SealKeyRecord>().map_err(|e| NodeError::Record(e.to_string()))?;
        let record = record.value();
        if record.key != self.seal_key() {
            return Err(wrong("its record is of another seal key").into());
        }
        if record.site != self.site()? {
            return Err(wrong("its record is for another site").into());
        }
        self.is_not_another(record.node)?;
        Ok(record.node)
    }

    fn is_not_another(&self, node: NodeId) -> Result<(), NodeError> {
        match self.node() {
            Some(held) if held != node => Err(NodeError::Another {
                held: qb_model::words::fingerprint(&held.0),
                got: qb_model::words::fingerprint(&node.0),
            }),
            _ => Ok(()),
        }
    }

    /// Verifies an order for `node` against the signed intents that it rests on, and against what
    /// this machine remembers. Nothing else makes an order that [`Exec::run`] takes. From the first
    /// one on this machine is that node.
    ///
    /// # Errors
    /// The first thing that does not stand.
    pub fn verify(
        &self,
        node: NodeId,
        order: Assignment,
        grounds: &Grounds,
    ) -> Result<VerifiedAssignment, OrderError> {
        let site = self.site()?;
        self.is_not_another(node)?;
        let mut floor = self.0.floor();
        let (verified, head) = assignment::verify(order, grounds, &floor.for_verification(site, node))?;
        floor.saw(&self.0.root, site, head)?;
        floor.is_node(&self.0.root, node)?;
        Ok(verified)
    }

    /// Verifies an order to bring in another version of qb's own programs, for the node of the caller.
    /// `generation` is of the newest such order that was begun.
    pub(crate) fn verify_agent_order(
        &self,
        own: &SignedBytes,
        order: AgentOrder,
        grounds: &AgentGrounds,
        generation: Generation,
    ) -> Result<VerifiedAgentOrder, OrderError> {
        let (node, site) = (self.claim(own)?, self.site()?);
        let mut floor = self.0.floor();
        let trust_head = floor.for_verification(site, node).trust_head;
        let lowest = AgentFloor { site, node, generation, trust_head };
        let verified = agent_order::verify_agent_order(order, grounds, &lowest)?;
        floor.saw(&self.0.root, site, verified.trust_head())?;
        floor.is_node(&self.0.root, node)?;
        Ok(verified)
    }

    /// Carries out an order. Killed or given up at any point and run again, it converges. Giving
    /// up (dropping the future, or `cancel`) lets the step at hand come to a safe point.
    ///
    /// # Errors
    /// The step that did not succeed, why, and what to do.
    pub async fn run(
        &self,
        order: VerifiedAssignment,
        supplies: Supplies,
        progress: watch::Sender<Vec<StepProgress>>,
        cancel: &CancellationToken,
    ) -> Result<StageDone, StageError> {
        let cancel = cancel.child_token();
        let run = Run {
            order: order.assignment().clone(),
            publishers: order.publishers().to_vec(),
            backup: order.backup(),
            supplies,
            progress,
            cancel: cancel.clone(),
            #[cfg(test)]
            points_left: None,
        };
        self.run_order(run, cancel).await
    }

    pub(crate) async fn run_order(
        &self,
        run: Run,
        cancel: CancellationToken,
    ) -> Result<StageDone, StageError> {
        // Given up with this future; the task then ends at its next safe point, with the lock that
        // keeps the next run out until it has.
        let _give_up = cancel.drop_guard();
        tokio::spawn(stage::run(Arc::clone(&self.0), run)).await.unwrap_or_else(|error| {
            Err(StageError {
                step: 0,
                title: "run the order".to_owned(),
                text: format!("the executor stopped: {error}"),
                remedy: "it is run again; if it stays, `qb support bundle`".to_owned(),
                returned: false,
            })
        })
    }

    /// Makes a join secret for a member, on the node that holds the cluster's registry: only for the
    /// recipient of a signed order to join here, sealed to the key that this recipient signed. A new
    /// one replaces an unused one for the same member.
    ///
    /// # Errors
    /// What of that does not stand, this is not that node, or the cluster's directory is not as it
    /// should be.
    pub async fn mint_join(&self, request: MintRequest) -> Result<SealedSecret, MintError> {
        let recipient = self.recipient(request)?;
        self.mint_for(recipient).await
    }

    fn recipient(&self, request: MintRequest) -> Result<Recipient, MintError> {
        let site = self.site().map_err(OrderError::from)?;
        let me = self.node().ok_or(NodeError::Unknown).map_err(OrderError::from)?;
        let mut floor = self.0.floor();
        let lowest = floor.for_other(site, request.order.node);
        let (order, head) = assignment::verify(request.order, &request.grounds, &lowest)
            .map_err(|e| MintError::Order(e.into()))?;
        floor.saw(&self.0.root, site, head).map_err(OrderError::from)?;
        Recipient::of(order.assignment(), me, &request.seal)
    }

    pub(crate) async fn mint_for(&self, recipient: Recipient) -> Result<SealedSecret, MintError> {
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || join::mint(&inner, &recipient)).await.unwrap_or_else(|error| {
            Err(MintError::Step {
                text: format!("the executor stopped: {error}"),
                remedy: "it is tried again".to_owned(),
            })
        })
    }

    /// Whether the bundle of an order was unpacked on this machine, signed by one of these publishers.
    pub(crate) fn has_tree(&self, order: &Assignment, publishers: &[PublicKey]) -> bool {
        matches!(unpack::head_of(&self.0.root, order, publishers), Ok(Some(_)))
    }

    /// The executor's directory.
    pub(crate) fn root(&self) -> &Dir {
        &self.0.root
    }

    /// The clusters that lie on this machine.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn clusters(&self) -> io::Result<Vec<Name>> {
        clusters_below(self.0.root.path())
    }

    /// The units of a cluster on this node.
    pub async fn health(&self, cluster: &Name) -> Vec<UnitHealth> {
        if self.is_real(cluster)
            && let Some(systemd) = self.0.supervisor.systemd()
        {
            let units = [HostUnit::Containerd, HostUnit::Kubelet].map(HostUnit::name);
            return systemd.health(&units).await.unwrap_or_else(|error| {
                tracing::debug!(%cluster, "units: {error}");
                Vec::new()
            });
        }
        let units = self.0.supervisor.look(cluster).await.unwrap_or_else(|error| {
            tracing::debug!(%cluster, "units: {}", error.text);
            Vec::new()
        });
        units.into_iter().map(|(health, _)| health).collect()
    }

    /// Whether a real cluster lies here: its pod network is kept.
    pub(crate) fn is_real(&self, cluster: &Name) -> bool {
        let at = cluster_dir(cluster).and_then(|dir| dir.join(network::FILE));
        at.is_ok_and(|at| matches!(self.0.root.mode(&at), Ok(Some(_))))
    }

    /// Who joined a cluster, as its API server says to this member.
    ///
    /// # Errors
    /// Why the API server could not be asked, for the member's own state.
    pub async fn nodes(&self, cluster: &Name) -> Result<Vec<ClusterNode>, String> {
        if self.is_real(cluster) {
            // It knows its nodes by name alone, and its credential is for helpers: who rules asks it.
            return Err(format!("a real cluster tells its nodes itself: qb kubectl {cluster} -- get nodes"));
        }
        let client = self.client(cluster).map_err(|e| format!("{cluster}: {e}"))?;
        let answer = client.call(Method::GET, "/nodes", Vec::new(), NODES_LIMIT).await;
        let (status, body) = answer.map_err(|e| e.to_string())?;
        if !status.is_success() {
            return Err(format!("the API server of {cluster} answers {status}"));
        }
        let list: NodeList = serde_json::from_slice(&body).map_err(|e| e.to_string())?;
        let node = |n: crate::standin::wire::NodeLine| ClusterNode {
            node: n.node,
            host: n.host,
            role: n.role,
            ready: n.ready,
        };
        Ok(list.nodes.into_iter().map(node).collect())
    }

    fn client(&self, cluster: &Name) -> io::Result<Client> {
        let dir = self.0.root.sub(&cluster_dir(cluster).map_err(io::Error::other)?)?;
        let read = |at: &RelPath| dir.read(at, FILE_BYTES)?.ok_or(io::Error::from(io::ErrorKind::NotFound));
        let at = "config/node-service.json".parse().map_err(|e: PathError| io::Error::other(e))?;
        let config: NodeServiceConfig = serde_json::from_slice(&read(&at)?)?;
        let server: SocketAddr = config.server.parse().map_err(io::Error::other)?;
        Client::new(server, &read(&config.authority)?).map_err(io::Error::other)
    }

    /// Stops all units and ends. They are started again by the next [`Exec::open`].
    pub async fn close(&self) {
        let _running = self.0.running.lock().await;
        self.0.supervisor.close().await;
    }
}

/// The clusters that lie in an executor's directory.
pub(crate) fn clusters_below(root: &Path) -> io::Result<Vec<Name>> {
    let names = match Dir::open(&root.join(CLUSTERS)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        dir => dir?.names()?,
    };
    Ok(names.iter().filter_map(|name| name.as_str().parse().ok()).collect())
}

/// Where a cluster lies.
pub(crate) fn cluster_dir(cluster: &Name) -> Result<RelPath, PathError> {
    format!("{CLUSTERS}/{cluster}").parse()
}

/// The units that an earlier life recorded.
fn recorded(root: &Dir, clusters: &RelPath) -> io::Result<Vec<Recorded>> {
    let mut all = Vec::new();
    for name in root.sub(clusters)?.names()? {
        let Ok(cluster) = name.as_str().parse::<Name>() else {
            continue;
        };
        let dir = Arc::new(root.sub(&cluster_dir(&cluster).map_err(io::Error::other)?)?);
        for stand_in in [StandIn::ApiServer, StandIn::NodeService] {
            if let Some(record) = read_record(&dir, stand_in)? {
                all.push((UnitKey { cluster: cluster.clone(), stand_in }, Arc::clone(&dir), record));
            }
        }
    }
    Ok(all)
}
