//! Who the members of this node's cluster are, told to its executor (the pod network) and to the
//! balancer of API servers, whenever that changes and after every start.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use qb_exec::Peers;
use qb_model::NodeId;
use qb_model::action::NodeRole;
use qb_model::assignment::{KUBEADM, Member};
use qb_model::state::{Cluster, NodePhase, SiteState};

use crate::balancer::Backends;
use crate::node::Node;

/// Port of an API server.
const API_PORT: u16 = 6443;
/// Pause before an executor that did not take it is told again.
const AGAIN: Duration = Duration::from_secs(2);

/// Tells for as long as the agent runs.
pub async fn run(node: Arc<Node>) {
    let Some(exec) = node.exec.get() else { return };
    let (mut state, mut link) = (node.state.clone(), exec.link());
    let mut told: Option<Peers> = None;
    loop {
        let site = node.site();
        let backends = backends(&site, &node.id());
        node.api_servers.send_if_modified(|held| {
            let news = *held != backends;
            *held = backends;
            news
        });
        let now = peers(&site, &node.id());
        let mut again = false;
        if told != now {
            again = match &now {
                Some(peers) => match exec.peers(peers.clone()).await {
                    Ok(()) => false,
                    Err(why) => {
                        tracing::debug!(cluster = %peers.cluster, "members of the cluster: {why}");
                        true
                    }
                },
                None => false,
            };
            if !again {
                told = now;
            }
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            // An executor that was started again knows nothing of it.
            changed = link.changed() => {
                if changed.is_err() { return }
                told = None;
            }
            () = tokio::time::sleep(AGAIN), if again => {}
            () = node.cancel.cancelled() => return,
        }
    }
}

/// The cluster of a node, if it is a real one.
fn cluster<'a>(state: &'a SiteState, me: &NodeId) -> Option<&'a Cluster> {
    let cluster = state.cluster(state.node(me)?.phase.cluster()?)?;
    (cluster.driver.as_str() == KUBEADM).then_some(cluster)
}

/// The members of this node's cluster, this node too, sorted by node. Those that leave are in it until
/// they are gone: their pods still have their addresses.
fn peers(state: &SiteState, me: &NodeId) -> Option<Peers> {
    let cluster = cluster(state, me)?;
    let members = state.cluster_members(&cluster.name);
    Some(Peers { cluster: cluster.name.clone(), members })
}

/// Where the API servers of this node's cluster are: the control plane members that stay.
fn backends(state: &SiteState, me: &NodeId) -> Option<Backends> {
    let cluster = cluster(state, me)?;
    let stays =
        |m: &Member| state.node(&m.node).is_some_and(|n| matches!(n.phase, NodePhase::Attached { .. }));
    let servers: Vec<(NodeId, SocketAddr)> = state
        .cluster_members(&cluster.name)
        .into_iter()
        .filter(|m| m.role == NodeRole::ControlPlane && stays(m))
        .filter_map(|m| Some((m.node, SocketAddr::new(m.address.parse::<IpAddr>().ok()?, API_PORT))))
        .collect();
    Some(Backends {
        cluster: cluster.name.clone(),
        authority_pem: cluster.public.clone(),
        own: servers.iter().find(|(node, _)| node == me).map(|(_, at)| *at),
        backends: servers.into_iter().map(|(_, at)| at).collect(),
    })
}
