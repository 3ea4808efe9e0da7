//! Placement: which pool nodes an attach takes, and who is control plane.

use std::collections::BTreeMap;

use crate::action::{NodeRole, PlacedNode, Placement};
use crate::board::Board;
use crate::ids::{Name, NodeId};
use crate::outcome::Reason;
use crate::state::{NodePhase, NodeRecord, SiteState};

/// Control plane nodes that a cluster of `total` nodes gets by itself: 1 up to two nodes, 3 up to
/// nine, 5 from ten on. An even number survives no more than the odd one below it.
pub fn automatic_control_plane(total: usize) -> usize {
    match total {
        0 => 0,
        1..=2 => 1,
        3..=9 => 3,
        _ => 5,
    }
}

/// Chooses nodes and roles for a placement.
///
/// # Errors
/// [`Reason::NotEnoughNodes`] if the pool is too small, or the reason why a named node does not fit.
pub fn choose(
    state: &SiteState,
    board: &Board,
    cluster: &Name,
    placement: &Placement,
) -> Result<Vec<PlacedNode>, Reason> {
    let placed = candidates(state, board, cluster, placement)?;
    // What apply would refuse is not proposed: the reason is shown instead.
    state.check_placed(cluster, &placed)?;
    Ok(placed)
}

fn candidates(
    state: &SiteState,
    board: &Board,
    cluster: &Name,
    placement: &Placement,
) -> Result<Vec<PlacedNode>, Reason> {
    match placement {
        Placement::Explicit { nodes } => Ok(nodes.clone()),
        Placement::Named { nodes, control_plane } => {
            let mut records = Vec::new();
            for node in nodes {
                records.push(state.in_pool(node)?);
            }
            Ok(roles(state, board, cluster, &records, *control_plane))
        }
        Placement::Auto { count, control_plane } => {
            let mut free: Vec<&NodeRecord> =
                state.nodes().values().filter(|n| n.phase == NodePhase::Pool && n.present()).collect();
            let want = usize::from(*count);
            if free.len() < want {
                return Err(Reason::NotEnoughNodes { want: u32::from(*count), have: free.len() as u32 });
            }
            // Voters last: whoever runs workloads owns the node's keys, so voters stay free where
            // the pool allows it. Then spread over zones, then by host name.
            free.sort_by_key(|n| (n.seat.is_some(), n.host.clone(), n.node));
            let mut taken = spread(&free, board, want);
            let missing = missing_control_plane(state, cluster, &free, want, *control_plane);
            prefer_fit(&mut taken, &free, board, missing);
            Ok(roles(state, board, cluster, &taken, *control_plane))
        }
    }
}

/// Control plane nodes that the cluster lacks after `taken` more nodes came, as far as `from` has fit
/// ones: 1, 3 or 5 in all.
fn missing_control_plane(
    state: &SiteState,
    cluster: &Name,
    from: &[&NodeRecord],
    taken: usize,
    wanted: u8,
) -> usize {
    let have = state.control_plane(cluster);
    let total = state.members(cluster).count() + taken;
    let target = if wanted == 0 { automatic_control_plane(total).max(have) } else { usize::from(wanted) };
    let fit = from.iter().filter(|n| !n.probation).count().min(taken);
    let missing = target.saturating_sub(have).min(fit);
    // Rather one fewer than an even number; one more where a loss left an even number.
    match (have + missing).is_multiple_of(2) {
        false => missing,
        true if missing > 0 => missing - 1,
        true => fit.min(1),
    }
}

/// Where too few of those taken may be control plane (the others are on probation), takes others.
fn prefer_fit<'a>(taken: &mut [&'a NodeRecord], free: &[&'a NodeRecord], board: &Board, missing: usize) {
    let fit = taken.iter().filter(|n| !n.probation).count();
    let others: Vec<&NodeRecord> =
        free.iter().copied().filter(|n| !n.probation && taken.iter().all(|t| t.node != n.node)).collect();
    let instead = spread(&others, board, missing.saturating_sub(fit));
    for (place, record) in taken.iter_mut().rev().filter(|n| n.probation).zip(instead) {
        *place = record;
    }
}

/// Takes `want` records, one zone after the other.
fn spread<'a>(sorted: &[&'a NodeRecord], board: &Board, want: usize) -> Vec<&'a NodeRecord> {
    let mut zones: BTreeMap<String, Vec<&NodeRecord>> = BTreeMap::new();
    for record in sorted {
        zones.entry(zone(board, &record.node)).or_default().push(record);
    }
    let mut taken = Vec::new();
    let mut round = 0;
    while taken.len() < want && round < sorted.len() {
        for members in zones.values() {
            if let Some(record) = members.get(round)
                && taken.len() < want
            {
                taken.push(*record);
            }
        }
        round += 1;
    }
    taken
}

fn zone(board: &Board, node: &NodeId) -> String {
    board.get(node).map(|h| h.report.facts.zone.clone()).unwrap_or_default()
}

/// Gives roles: control plane until the wanted number is reached, spread over zones; never to a
/// node on probation.
fn roles(
    state: &SiteState,
    board: &Board,
    cluster: &Name,
    taken: &[&NodeRecord],
    wanted: u8,
) -> Vec<PlacedNode> {
    let missing = missing_control_plane(state, cluster, taken, taken.len(), wanted);
    let mut fit: Vec<&NodeRecord> = taken.iter().copied().filter(|n| !n.probation).collect();
    fit.sort_by_key(|n| (n.host.clone(), n.node));
    let control: Vec<NodeId> = spread(&fit, board, missing).iter().map(|n| n.node).collect();
    let mut placed: Vec<PlacedNode> = taken
        .iter()
        .map(|n| PlacedNode {
            node: n.node,
            role: if control.contains(&n.node) { NodeRole::ControlPlane } else { NodeRole::Worker },
        })
        .collect();
    placed.sort_by_key(|p| p.node);
    placed
}

#[cfg(test)]
mod tests {
    use super::automatic_control_plane;

    #[test]
    fn control_plane_is_one_three_or_five() {
        let got: Vec<usize> = [1, 2, 3, 5, 9, 10, 400].into_iter().map(automatic_control_plane).collect();
        assert_eq!(got, [1, 1, 3, 3, 3, 5, 5]);
    }
}
