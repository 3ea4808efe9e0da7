//! The links of one site: its gateway, its standby, and those that have proven nothing yet.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qb_link::{AgentPeer, Mux};
use qb_model::NodeId;
use tokio_util::sync::CancellationToken;

use crate::limits::{LINKS_SITE, UNPROVEN_SITE, WAITING_SITE};
use crate::site::now;
use crate::trust::Roster;

/// Numbers of links, in the order of their arrival.
static SERIAL: AtomicU64 = AtomicU64::new(1);

/// A link that is up.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) serial: u64,
    pub(crate) peer: AgentPeer,
    pub(crate) mux: Mux,
    /// Ends the link.
    pub(crate) close: CancellationToken,
}

impl Link {
    pub(crate) fn new(peer: AgentPeer, mux: Mux, close: CancellationToken) -> Arc<Self> {
        Arc::new(Self { serial: SERIAL.fetch_add(1, Ordering::Relaxed), peer, mux, close })
    }
}

/// What stands against a link.
#[derive(Debug)]
pub(crate) enum Place {
    /// Nothing: it is in.
    Taken,
    /// There are as many as may be.
    Full,
    /// The node has a link already: of this process, or perhaps of another one.
    Twice(Arc<Link>),
}

#[derive(Default)]
struct Table {
    proven: Vec<Arc<Link>>,
    unproven: usize,
    /// Links of nodes that wait to be let in.
    waiting: BTreeMap<NodeId, Arc<Link>>,
    /// When the last proven link ended, or the site's views were last read before the start.
    last_seen: u64,
}

/// The links of a site.
pub(crate) struct Links {
    table: Mutex<Table>,
}

impl Links {
    pub(crate) fn new(last_seen: u64) -> Self {
        Self { table: Mutex::new(Table { last_seen, ..Table::default() }) }
    }

    /// The gateway, and the standby after it.
    pub(crate) fn live(&self) -> Vec<Arc<Link>> {
        self.lock().proven.iter().filter(|link| !link.mux.is_gone()).cloned().collect()
    }

    pub(crate) fn gateway(&self) -> Option<Arc<Link>> {
        self.live().into_iter().next()
    }

    /// Since when there is no link; none while there is one.
    pub(crate) fn down_since(&self) -> Option<u64> {
        let table = self.lock();
        table.proven.is_empty().then_some(table.last_seen)
    }

    /// Puts a link of a node of the roster in.
    pub(crate) fn prove(&self, link: &Arc<Link>) -> Place {
        let mut table = self.lock();
        if let Some(other) = table.proven.iter().find(|other| other.peer.node == link.peer.node) {
            return Place::Twice(Arc::clone(other));
        }
        if table.proven.len() >= LINKS_SITE {
            return Place::Full;
        }
        table.proven.push(Arc::clone(link));
        Place::Taken
    }

    /// Notes the link of a node that waits. False if there are too many.
    pub(crate) fn wait(&self, link: &Arc<Link>) -> bool {
        let mut table = self.lock();
        let room = table.waiting.len() < WAITING_SITE || table.waiting.contains_key(&link.peer.node);
        if room {
            table.waiting.insert(link.peer.node, Arc::clone(link));
        }
        room
    }

    /// The link of a node that waits.
    pub(crate) fn waiting(&self, node: &NodeId) -> Option<Arc<Link>> {
        self.lock().waiting.get(node).filter(|link| !link.mux.is_gone()).cloned()
    }

    /// Takes a link out.
    pub(crate) fn remove(&self, link: &Link) {
        let mut table = self.lock();
        let before = table.proven.len();
        table.proven.retain(|other| other.serial != link.serial);
        table.waiting.retain(|_, other| other.serial != link.serial);
        if before > 0 && table.proven.is_empty() {
            table.last_seen = now();
        }
    }

    /// Room for a link that has proven nothing; given back when dropped.
    pub(crate) fn unproven(&self) -> Option<Unproven<'_>> {
        let mut table = self.lock();
        if table.unproven >= UNPROVEN_SITE {
            return None;
        }
        table.unproven += 1;
        Some(Unproven { links: self })
    }

    pub(crate) fn close_revoked(&self, roster: &Roster) {
        let gone = |node: &NodeId| roster.is_revoked(node);
        self.lock().proven.iter().filter(|link| gone(&link.peer.node)).for_each(|link| link.close.cancel());
    }

    pub(crate) fn close_all(&self) {
        self.lock().proven.iter().for_each(|link| link.close.cancel());
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for one link that has proven nothing.
pub(crate) struct Unproven<'a> {
    links: &'a Links,
}

impl Drop for Unproven<'_> {
    fn drop(&mut self) {
        self.links.lock().unproven -= 1;
    }
}
