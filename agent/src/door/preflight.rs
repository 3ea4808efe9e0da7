//! Preflight on demand: the same checks as an attach makes, changing nothing.

use std::sync::Arc;

use qb_model::action::{NodeRole, PlacedNode};
use qb_model::state::NodePhase;
use qb_portal::view::{PreflightRequest, PreflightView, Problem};

use crate::node::Node;

/// Most nodes of one run.
const MAX_NODES: usize = 100;

/// Checks nodes, or the pool if none is named, as if all were control plane.
pub async fn on_demand(node: &Arc<Node>, request: PreflightRequest) -> Result<PreflightView, Problem> {
    let driver = qb_drivers::driver(&request.driver).ok_or_else(|| {
        Problem::not_found("driver", request.driver.as_str(), qb_drivers::names(), "qb bundle list")
    })?;
    let state = node.site();
    let named = if request.nodes.is_empty() {
        state.nodes().values().filter(|n| n.phase == NodePhase::Pool).map(|n| n.node).collect()
    } else {
        request.nodes
    };
    if named.len() > MAX_NODES {
        return Err(Problem::bad_field("nodes", &named.len().to_string(), "at most 100", "name fewer nodes"));
    }
    let mut placed = Vec::new();
    for id in named {
        let Some(record) = state.node(&id) else {
            return Err(Problem::not_found::<&str>("node", &id.to_string(), &[], "qb node list"));
        };
        if record.phase != NodePhase::Pool {
            let detail = format!("{} is {}: its ports are rightly taken.", record.host, record.phase.word());
            return Err(Problem::refused("not_in_pool", detail, "name nodes of the pool: qb node list"));
        }
        if record.present() {
            placed.push(PlacedNode { node: id, role: NodeRole::ControlPlane });
        }
    }
    let run = crate::preflight::run(node, driver, &placed, None).await;
    Ok(PreflightView {
        findings: run.findings,
        hosts: run.hosts,
        pairs: run.pairs,
        probes: run.probes,
        ms: run.took.as_millis() as u64,
    })
}
