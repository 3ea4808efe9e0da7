//! Tunnels of admins to the API servers of clusters.
//!
//! ```text
//!  qb ── door of any agent, or a relay's link ──> mod.rs: does a tunnel end here?
//!                                                   yes: end.rs: Noise, grant, streams to one address
//!                                                   no:  forward.rs: over the mesh to a node where it does
//! ```
//! A tunnel ends at a control plane node that serves: it has the cluster's authority, and the one address
//! that streams go to. Doors on the way move bytes that they cannot read. What came of every grant is told
//! (`said.rs`).

pub mod end;
pub mod forward;
pub mod said;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use qb_link::noise::StaticKey;
use qb_model::action::NodeRole;
use qb_model::grant::{AccessRecord, UsedGrants};
use qb_model::state::SiteState;
use qb_model::{Name, NodeId};
use qb_portal::site::Answer;
use qb_portal::tunnel::Upgrading;
use qb_portal::view::Problem;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::node::Node;

/// Where the balancer of this agent answers for the cluster of its node.
const API_SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6444);
/// The driver whose API servers are stand-ins, each on its node's own address.
const REHEARSAL: &str = "rehearsal";
/// Tunnels at a node, those on their way to another one too: a few people with a few windows each.
const TUNNELS: usize = 64;
/// Of these of one admin.
const TUNNELS_ADMIN: usize = 16;
/// How long a connection may take to become a tunnel once its request was answered.
const UPGRADE: Duration = Duration::from_secs(10);

/// What a node keeps of its tunnels.
pub struct Tunnels {
    noise: OnceLock<StaticKey>,
    room: Arc<Semaphore>,
    open: Mutex<BTreeMap<Name, usize>>,
    used: Mutex<UsedGrants>,
    carried: Mutex<forward::Table>,
    records: Mutex<Vec<AccessRecord>>,
    news: Notify,
}

impl Default for Tunnels {
    fn default() -> Self {
        Self {
            noise: OnceLock::new(),
            room: Arc::new(Semaphore::new(TUNNELS)),
            open: Mutex::default(),
            used: Mutex::default(),
            carried: Mutex::default(),
            records: Mutex::default(),
            news: Notify::new(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tunnels {
    /// The Noise key of this process.
    fn noise(&self) -> std::io::Result<StaticKey> {
        if let Some(key) = self.noise.get() {
            return Ok(key.clone());
        }
        let key = StaticKey::generate()?;
        Ok(self.noise.get_or_init(|| key).clone())
    }

    fn room(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_owned().ok()
    }

    /// Room for one more tunnel of an admin; given back when dropped.
    fn enter(&self, admin: &Name) -> Option<Inside<'_>> {
        let mut open = lock(&self.open);
        let count = open.entry(admin.clone()).or_default();
        if *count >= TUNNELS_ADMIN {
            return None;
        }
        *count += 1;
        Some(Inside { tunnels: self, admin: admin.clone() })
    }
}

/// One open tunnel of an admin.
struct Inside<'a> {
    tunnels: &'a Tunnels,
    admin: Name,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let mut open = lock(&self.tunnels.open);
        if let Some(count) = open.get_mut(&self.admin) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.admin);
            }
        }
    }
}

/// The nodes where a tunnel to a cluster can end, `me` first: control plane nodes that serve, and in a
/// rehearsal only the first one, which has the authority.
pub fn ends(state: &SiteState, cluster: &Name, me: NodeId) -> Vec<NodeId> {
    let Some(record) = state.cluster(cluster) else { return Vec::new() };
    let rehearsal = record.driver.as_str() == REHEARSAL;
    let members = state.members(cluster).filter(|n| {
        let control = n.phase.role() == Some(NodeRole::ControlPlane) && n.phase.serves();
        control && (!rehearsal || record.first == Some(n.node))
    });
    let mut nodes: Vec<NodeId> = members.map(|n| n.node).collect();
    nodes.sort_by_key(|node| (*node != me, *node));
    nodes
}

/// The one place that a tunnel's streams go to at this node. Nothing from outside has a say in it.
pub fn target(state: &SiteState, cluster: &Name, me: NodeId) -> Option<SocketAddr> {
    let record = state.cluster(cluster)?;
    if record.driver.as_str() != REHEARSAL {
        return Some(API_SERVER);
    }
    let own: IpAddr = state.node(&me)?.address.as_deref()?.parse().ok()?;
    Some(SocketAddr::new(own, qb_drivers::API_SERVER_PORT))
}

/// Takes a connection as a tunnel: ends it here, or carries it to where it ends.
///
/// # Errors
/// There is no such cluster, nobody serves it yet, or there are too many.
pub async fn take(node: &Arc<Node>, cluster: &Name, io: Upgrading) -> Answer<()> {
    let state = node.site();
    if state.cluster(cluster).is_none() {
        let known: Vec<&str> = state.clusters().keys().map(Name::as_str).collect();
        return Err(Problem::not_found("cluster", cluster.as_str(), &known, "qb cluster list"));
    }
    let ends = ends(&state, cluster, node.id());
    let room = node.tunnels.room().ok_or_else(|| Problem::busy("tunnels", TUNNELS))?;
    let what = format!("A tunnel to {cluster}");
    let remedy = format!("qb cluster show {cluster} --watch");
    if ends.is_empty() {
        return Err(Problem::unavailable(&what, "no control plane node of it serves yet", &remedy));
    }
    let (here, name) = (Arc::clone(node), cluster.clone());
    if ends.first() == Some(&node.id()) {
        node.tasks.spawn(async move {
            if let Ok(Ok(io)) = tokio::time::timeout(UPGRADE, io).await {
                end::serve(&here, &name, io, room).await;
            }
        });
        return Ok(());
    }
    let (member, id) =
        forward::open(node, cluster, &ends).await.map_err(|why| Problem::unavailable(&what, why, &remedy))?;
    node.tasks.spawn(async move {
        let _room = room;
        match tokio::time::timeout(UPGRADE, io).await {
            Ok(Ok(io)) => forward::carry(&here, member, id, io).await,
            _ => forward::give_up(&here, member, id).await,
        }
    });
    Ok(())
}
