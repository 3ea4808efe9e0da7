//! The way to the API servers of this node's cluster: a balancer of TCP connections on 127.0.0.1:6444,
//! which kubelets, kubeadm and tunnels use as the cluster's endpoint.
//!
//! ```text
//!  state ── Backends ──> shell.rs ── opens the port, hands each connection to connection.rs
//!                           v
//!                       shared.rs ── for each server probe.rs looks (TCP) and asks (/readyz)
//!                           v
//!            choose.rs (servers) of health.rs (one server) ── order of a new connection
//!                           └── verdict of those there are: keep, drain, cut ── View, /metrics
//! ```
//!
//! | files | what |
//! |---|---|
//! | `health` `choose` | what is known of servers, what follows from it: pure |
//! | `simulation` | both in virtual time, with faults and clients (tests) |
//! | `shell` `shared` `probe` `connection` | the port, the tasks and what they share, sockets |
//! | `view` | what people see |
//! | `limits` | every bound with its reason |
//!
//! Invariants: a connection goes to no server that is not in the list; no new connection is refused
//! because servers seem bad; only a server that takes no connections has its own cut; nothing but the
//! cluster's own authority makes a server ready; bytes of clients are passed on, never looked at.
//!
//! A virtual address, or a load balancer that the customer has, would be the list: [`Backends`] with that
//! one address, and everything here stays as it is, since nodes go on to speak to 127.0.0.1. The address
//! must then be in the servers' certificates (`certSANs`), or nobody is ever ready there.

pub mod choose;
mod connection;
pub mod health;
pub mod limits;
mod probe;
mod shared;
mod shell;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod view;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use qb_model::Name;

pub use shell::{Balancer, balance};
pub use view::{ServerView, View, metrics};

use crate::events;
use crate::node::Node;

/// The port on 127.0.0.1 on which every node of a cluster of driver `kubeadm` finds an API server.
pub const PORT: u16 = 6444;

/// The API servers of a cluster that this node is a member of. Sent anew when the state changes;
/// none while the node is no member, and the port is closed then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backends {
    /// The cluster. Another name means other servers, even at the same addresses.
    pub cluster: Name,
    /// The cluster's public authority as PEM, as the state has it: empty before the first node is
    /// initialized. Without it nobody's readiness is asked, since the answer could be anybody's.
    pub authority_pem: Vec<u8>,
    /// Where API servers are or will be: every control plane member that is not on its way out, done or
    /// not, each once. What leaves must be gone from every node's list before it is reset.
    pub backends: Vec<SocketAddr>,
    /// This node's own one of them, if it is a control plane.
    pub own: Option<SocketAddr>,
}

/// How long a step waits for the port: opening it takes a moment after the list came.
const OPENS: Duration = Duration::from_secs(2);

/// Waits until the port is open, where this node's cluster needs one: kubeadm and the kubelet that it
/// starts go through it from their first moment on.
///
/// # Errors
/// It is not open, and why.
pub async fn is_open(node: &Node) -> Result<(), String> {
    if node.api_servers.borrow().is_none() {
        return Ok(());
    }
    let mut view = node.api.subscribe();
    let opened = tokio::time::timeout(OPENS, view.wait_for(|view| view.listens.is_some())).await;
    if matches!(opened, Ok(Ok(_))) {
        return Ok(());
    }
    let why = node.api.borrow().waits.clone();
    Err(why.unwrap_or_else(|| format!("port {PORT} on 127.0.0.1 is not open yet")))
}

/// Balances for as long as the agent runs.
pub async fn run(node: Arc<Node>) {
    // Nodes begin with different servers. A key is even in all its bytes.
    let seed = usize::from(u16::from_le_bytes([node.id().0[0], node.id().0[1]]));
    let host = node.facts().host;
    let teller = node.clone();
    let balancer = Balancer {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)),
        seed,
        backends: node.api_servers.subscribe(),
        connections: limits::CONNECTIONS,
        view: node.api.clone(),
        say: Box::new(move |text| teller.events.say(events::now(), "api", host.as_str(), text)),
        cancel: node.cancel.clone(),
    };
    balance(balancer).await;
}
