//! The composition root: builds the parts, wires them, ends them in order.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use qb_consensus::{Consensus, ConsensusConfig, OpenError, Timing};
use qb_mesh::{Mesh, MeshConfig, MeshTask, SecretKey};
use qb_model::NodeId;
use qb_model::action::RevokeMode;
use qb_model::charter::Charter;
use qb_model::state::SiteState;
use qb_portal::door::{Access, DoorConfig};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::task::TaskTracker;

use crate::blobs::Blobs;
use crate::config::Config;
use crate::door::site::AgentSite;
use crate::door::tls;
use crate::enroll::Enrolment;
use crate::events::Events;
use crate::executor::Executor;
use crate::handler::MeshHandler;
use crate::identity::Identity;
use crate::knock::token::Held;
use crate::machine::SiteMachine;
use crate::member::{Membership, verify_admit};
use crate::node::{Node, Parts};
use crate::start::Prepared;
use crate::starts::Starts;
use crate::transport::MeshTransport;
use crate::{
    attest, balancer, bundles, enroll, executor, files, found, host, knock, leader, reconcile, report, said,
    seats, service, start, upgrade, uplink,
};

/// In a site of at most this many nodes everybody stays connected to everybody.
pub(crate) const SMALL_SITE: usize = 12;
/// Peers besides the voters that a node of a larger site stays connected to.
const PEERS: usize = 8;
/// How long parts may take to end.
const GRACE: Duration = Duration::from_secs(8);

/// How long the whole end may take: systemd kills what takes longer than the unit says.
const END: Duration = Duration::from_secs(20);

/// Runs an agent until `stop` is ready. Returns what it ended for.
///
/// # Errors
/// It cannot start, or must end for another reason than `stop`.
pub async fn run(prepared: Prepared, stop: impl Future<Output = ()>) -> Result<()> {
    tokio::pin!(stop);
    let (config, parts) = tokio::select! {
        found = prepared.with_address() => found?,
        () = &mut stop => return Ok(()),
    };
    ports_free(&config)?;
    let start::Parts { enrolment, identity, record, notices, lock: _lock } = parts;
    let node = build(config, Known { enrolment, identity, notices, starts: record.starts().clone() })?;
    let tasks = node.tasks.clone();
    let mesh = start_mesh(&node).await?;
    start_exec(&node).await?;
    start_consensus(&node).await?;
    restore_peers(&node);
    start_parts(&node, &tasks);
    open_doors(&node, &tasks).await?;
    service::first_words(&node);
    service::ready(&node).await?;
    tasks.spawn(service::run(node.clone()));
    tasks.spawn(service::watchdog(node.clone()));
    tasks.spawn(upgrade::run(node.clone()));
    tracing::info!(
        node = %node.id(),
        site = %node.enrolment.site,
        socket = %node.config.socket.display(),
        "agent is ready"
    );
    let ended = wait_for_end(&node, &mesh, stop).await;
    let why = ended.as_deref().unwrap_or("asked to");
    tracing::info!("ending: {why}");
    qb_service::stopping(&format!("ending: {why}"));
    if tokio::time::timeout(END, end(&node, mesh)).await.is_err() {
        tracing::warn!("some parts did not end in time");
    }
    match ended {
        None => {
            if let Err(e) = record.end() {
                tracing::warn!("this end is not noted as asked for: {e}");
            }
            Ok(())
        }
        Some(why) => bail!("{why}"),
    }
}

/// Ends the parts in order.
async fn end(node: &Node, mesh: MeshTask) {
    let tasks = &node.tasks;
    node.cancel.cancel();
    tasks.close();
    if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
        tracing::warn!("some tasks did not end in time");
    }
    if let Some(exec) = node.exec.get() {
        exec.close().await;
    }
    if let Some(consensus) = node.consensus.get() {
        consensus.shutdown().await;
    }
    mesh.shutdown().await;
}

/// A port that another program has is told before anything is opened, with who has it.
fn ports_free(config: &Config) -> Result<()> {
    let ports = [(config.mesh(), "mesh_port"), (config.knock(), "knock_port"), (config.api(), "api_port")];
    for (at, key) in ports {
        if let Some(holder) = host::port_holder(at) {
            let option = key.replace('_', "-");
            bail!(
                "port {at} is taken by {holder}: stop that, or write another {key} into {} (--{option})",
                crate::config::FILE
            );
        }
    }
    Ok(())
}

/// What is known of the node before it is built.
struct Known {
    enrolment: Enrolment,
    identity: Identity,
    starts: Starts,
    notices: Vec<String>,
}

fn build(config: Config, known: Known) -> Result<Arc<Node>> {
    let Known { enrolment, identity, starts, notices } = known;
    let charter = Charter::verify(&enrolment.charter)?;
    let facts = host::facts(&config)?;
    let way = uplink::Way::open(&config)?;
    let events = Arc::new(Events::default());
    let beginning = SiteState::new(&enrolment.charter)?;
    let (machine, state) = SiteMachine::new(beginning, events.clone());
    let membership = Membership::read(&config.state.join("membership"))?;
    let membership = membership.filter(|held| match &held.admit {
        None => true,
        Some(admit) => match verify_admit(admit, &enrolment.charter, identity.node) {
            Ok(()) => true,
            Err(e) => {
                tracing::warn!("{e}: knocking again");
                false
            }
        },
    });
    let token = join_token(&config, &enrolment, membership.as_ref())?;
    let blobs = Blobs::open(config.state.join("blobs"))?;
    let attest = attest::Attest::open(&config.state, &enrolment.charter, machine.captures())?;
    let node = Node::new(Parts {
        config,
        identity,
        enrolment,
        token,
        way,
        state,
        attest,
        blobs,
        events,
        membership,
        facts,
        starts,
        notices,
        charter_issued: charter.body().issued_ms,
    });
    *node.machine() = Some(machine);
    Ok(node)
}

/// The join token of a machine that is not in yet. One that is in needs none: what is left of it goes.
fn join_token(config: &Config, enrolment: &Enrolment, member: Option<&Membership>) -> Result<Option<Held>> {
    let given = config.join_token.as_deref();
    if member.is_some_and(|m| m.admit.is_some() || m.founding.is_some()) {
        knock::token::erase(given, &config.state);
        return Ok(None);
    }
    let held = Held::read(given, &config.state, enrolment.site)?;
    if let Some(held) = &held {
        tracing::info!(path = %held.path().display(), "knocks with join token {}", held.name());
    }
    Ok(held)
}

async fn start_mesh(node: &Arc<Node>) -> Result<MeshTask> {
    let config = MeshConfig {
        secret_key: SecretKey::new(*node.identity.seed),
        listen: node.config.mesh(),
        knock_listen: Some(node.config.knock()),
        site_tag: node.enrolment.site.0.0,
    };
    let (mesh, task) = Mesh::start(config, Arc::new(MeshHandler { node: node.clone() })).await?;
    // The slot was made empty with the node, and this is called once.
    let _ = node.mesh.set(mesh);
    Ok(task)
}

async fn start_exec(node: &Arc<Node>) -> Result<()> {
    let exec = match &node.config.exec_socket {
        Some(socket) => Executor::apart(socket.clone()),
        None => Executor::inside(node).await?,
    };
    let _ = node.exec.set(exec);
    Ok(())
}

async fn start_consensus(node: &Arc<Node>) -> Result<()> {
    let machine = node.machine().take().context("consensus is started once")?;
    let config = ConsensusConfig {
        dir: node.config.state.join("raft"),
        node: node.id(),
        site_epoch_tag: node.enrolment.site.0.0,
        timing: Timing::default(),
    };
    let transport = Arc::new(MeshTransport { mesh: node.mesh.clone() });
    let consensus = match Consensus::open(config, Box::new(machine), transport).await {
        Ok(consensus) => consensus,
        Err(OpenError::Seat(e)) if e.is_lost() => {
            // The seat's storage is gone: it must never vote again under that number.
            bail!(
                "{e}; this voter's storage is lost: move {}/raft away and start again, the site gives it a new seat",
                node.config.state.display()
            )
        }
        Err(e) => return Err(e.into()),
    };
    let _ = node.consensus.set(consensus);
    Ok(())
}

/// Tells mesh and consensus where members were last seen.
fn restore_peers(node: &Node) {
    let held = node.membership();
    if let Some(mesh) = node.mesh() {
        for (peer, addresses) in held.known() {
            if peer != node.id() {
                mesh.learn_addresses(peer, addresses);
            }
        }
    }
    connect(node);
}

fn start_parts(node: &Arc<Node>, tasks: &TaskTracker) {
    tasks.spawn(members(node.clone()));
    tasks.spawn(admission(node.clone()));
    tasks.spawn(knock::client::ask_when_lonely(node.clone()));
    tasks.spawn(report::run(node.clone()));
    tasks.spawn(uplink::run(node.clone()));
    tasks.spawn(crate::alerts::run(node.clone()));
    tasks.spawn(bundles::keep(node.clone()));
    tasks.spawn(said::hello(node.clone()));
    tasks.spawn(seats::follow(node.clone()));
    tasks.spawn(leader::run(node.clone()));
    tasks.spawn(attest::run(node.clone()));
    tasks.spawn(balancer::run(node.clone()));
    tasks.spawn(reconcile::run(node.clone()));
    tasks.spawn(crate::peers::run(node.clone()));
    tasks.spawn(crate::bindings::run(node.clone()));
    tasks.spawn(crate::upkeep::run(node.clone()));
    tasks.spawn(crate::keeping::run(node.clone()));
    tasks.spawn(executor::watch(node.clone()));
    tasks.spawn(crate::tunnel::said::run(node.clone()));
}

/// Knocks until let in, and goes on with a founding that was cut short.
async fn admission(node: Arc<Node>) {
    if node.membership().founding.is_some() {
        if let Err(e) = found::go_on(&node).await {
            tracing::warn!("{e}");
        }
        return;
    }
    if !*node.admitted.borrow() {
        tracing::info!(
            "waiting for an administrator to authorize this node: qb node authorize {}, its words: {}",
            node.facts().host,
            crate::door::views::words_of(&node.id().0)
        );
        knock::client::run(node).await;
    }
}

/// Keeps the mesh's roster and wanted peers as the state says.
async fn members(node: Arc<Node>) {
    let Some(consensus) = node.consensus.get() else { return };
    let mut state = node.state.clone();
    let mut raft = consensus.metrics();
    let mut admitted = node.admitted.subscribe();
    loop {
        connect(&node);
        if let Some(tomb) = node.site().tombstones().get(&node.id()) {
            node.put_out(tomb.mode);
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            changed = raft.changed() => if changed.is_err() { return },
            changed = admitted.changed() => if changed.is_err() { return },
            () = node.cancel.cancelled() => return,
        }
    }
}

fn connect(node: &Node) {
    let Some(mesh) = node.mesh() else { return };
    if *node.revoked.borrow() {
        mesh.set_roster(BTreeSet::new());
        mesh.set_wanted(BTreeSet::new());
        return;
    }
    let me = node.id();
    let admission = node.membership();
    if let Some(admit) = &admission.admit {
        for (peer, addresses) in crate::member::parse_addresses(&admit.members) {
            if peer != me && !mesh.addresses().contains_key(&peer) {
                mesh.learn_addresses(peer, addresses);
            }
        }
    }
    let members = node.members();
    let voters = node.voters();
    let mut wanted: BTreeSet<NodeId> = voters.iter().copied().collect();
    if members.len() <= SMALL_SITE {
        wanted.extend(&members);
    } else {
        // The peers that follow this node in the order of keys: everybody is somebody's.
        let after = members.range(me..).chain(members.iter()).filter(|n| **n != me);
        wanted.extend(after.take(PEERS));
    }
    wanted.remove(&me);
    mesh.set_roster(members);
    mesh.set_wanted(wanted);
    if let Some(consensus) = node.consensus.get() {
        consensus.set_voter_hints(voters.into_iter().filter(|v| *v != me).collect());
    }
}

async fn open_doors(node: &Arc<Node>, tasks: &TaskTracker) -> Result<()> {
    let site = Arc::new(AgentSite { node: node.clone(), over: None });
    let server_key = node.id().public_key();
    let socket = open_socket(&node.config.socket)?;
    let door = DoorConfig { access: Access::Local, server_key };
    let local = qb_portal::api_with_pages(site.clone(), door, qb_portal::pages());
    tasks.spawn(qb_portal::serve(socket, local, node.cancel.clone().cancelled_owned()));

    let api = node.config.api();
    let listener = TcpListener::bind(api)
        .await
        .with_context(|| format!("cannot open the API's port {api}: is another agent running?"))?;
    let access = Access::Network { origins: vec![format!("https://{api}")], hosts: vec![api.to_string()] };
    let network = qb_portal::api_with_pages(site, DoorConfig { access, server_key }, qb_portal::pages());
    let acceptor = tokio_rustls::TlsAcceptor::from(tls::config(node)?);
    tasks.spawn(qb_portal::serve_tls(listener, acceptor, network, node.cancel.clone().cancelled_owned()));
    Ok(())
}

/// Opens the API's unix socket, for this user and its group.
fn open_socket(path: &Path) -> Result<UnixListener> {
    if let Some(dir) = path.parent() {
        files::make_dir(dir)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        bail!(
            "another agent answers at {}: stop it first, or give this one another --socket",
            path.display()
        );
    }
    // Left behind by a process that was killed.
    files::remove(path)?;
    let socket =
        UnixListener::bind(path).with_context(|| format!("cannot open the socket {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(socket)
}

async fn wait_for_end(node: &Arc<Node>, mesh: &MeshTask, stop: impl Future<Output = ()>) -> Option<String> {
    let mut ending = node.ending.subscribe();
    let consensus = node.consensus.get();
    let fatal = async {
        match consensus {
            Some(consensus) => consensus.fatal().await.to_string(),
            None => std::future::pending().await,
        }
    };
    let told = async {
        match ending.wait_for(Option::is_some).await {
            Ok(why) => why.clone(),
            Err(_) => None,
        }
    };
    tokio::select! {
        () = stop => None,
        why = fatal => Some(format!("consensus cannot go on: {why}{}", disk_remedy(&node.config.state))),
        why = told => why,
        () = mesh.stopped() => Some("the mesh ended".into()),
    }
}

/// What helps, where the state cannot be written.
fn disk_remedy(state: &Path) -> String {
    let probe = state.join("probe");
    let written = files::write_atomic(&probe, &[0; 4096], 0o600).and_then(|()| files::remove(&probe));
    match written {
        Err(files::FileError::Io { error, path, .. }) => files::remedy(&error, &path),
        _ => String::new(),
    }
}

impl Node {
    /// This node was revoked: it takes no more orders, and wipes itself if the intent says so.
    pub fn put_out(self: &Arc<Self>, mode: RevokeMode) {
        if self.revoked.send_replace(true) {
            return;
        }
        self.events.say(crate::events::now(), "node", self.facts().host.as_str(), "was revoked");
        match mode {
            // Its units go on; it speaks to no member any more and takes no order.
            RevokeMode::Isolate => {
                tracing::error!("this node was revoked: it takes no more orders; its workloads stay");
                connect(self);
            }
            RevokeMode::Wipe => {
                self.wipe();
                let why = "this node was revoked: its keys and state are deleted";
                self.ending.send_replace(Some(why.to_owned()));
            }
        }
    }

    /// Deletes the keys first: what is sealed to them is dead from then on.
    fn wipe(&self) {
        for part in ["identity", "membership", "exec", "blobs", "raft", attest::FILE, enroll::KEPT] {
            let path = self.config.state.join(part);
            let gone =
                if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            if let Err(e) = gone
                && e.kind() != std::io::ErrorKind::NotFound
            {
                tracing::error!(path = %path.display(), "cannot delete: {e}");
            }
        }
    }
}
