//! Tells the handler who came and went. The swarm's loop never waits for it: it publishes who is
//! connected, and this task compares. A peer that left and came back between two looks is told as
//! both, since its session number differs.

use std::collections::BTreeMap;
use std::sync::Arc;

use qb_model::NodeId;
use tokio::sync::watch;

use crate::handler::{Handler, PeerEvent, PeerInfo};

/// Who is connected.
pub(crate) type Peers = Arc<BTreeMap<NodeId, PeerInfo>>;

/// Calls the handler for every change, until the mesh stops.
pub(crate) async fn run(mut peers: watch::Receiver<Peers>, handler: Arc<dyn Handler>) {
    let mut told = Peers::default();
    while peers.changed().await.is_ok() {
        let now = peers.borrow_and_update().clone();
        for event in differences(&told, &now) {
            handler.peer(event).await;
        }
        told = now;
    }
}

/// The events between two looks: first who closed, then who connected.
fn differences(old: &BTreeMap<NodeId, PeerInfo>, new: &BTreeMap<NodeId, PeerInfo>) -> Vec<PeerEvent> {
    let missing = |from: &BTreeMap<NodeId, PeerInfo>, node: &NodeId, info: &PeerInfo| {
        from.get(node).is_none_or(|other| other.session != info.session)
    };
    let closed = old.iter().filter(|(node, info)| missing(new, node, info));
    let connected = new.iter().filter(|(node, info)| missing(old, node, info));
    closed
        .map(|(node, _)| PeerEvent::Closed(*node))
        .chain(connected.map(|(node, _)| PeerEvent::Connected(*node)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    fn peers(list: &[(u8, u64)]) -> BTreeMap<NodeId, PeerInfo> {
        let info = |session| PeerInfo {
            connected_since: Instant::now(),
            rtt: None,
            address: ([127, 0, 0, 1], 1).into(),
            connections: 1,
            dialled: true,
            session,
        };
        list.iter().map(|(node, session)| (NodeId([*node; 32]), info(*session))).collect()
    }

    #[test]
    fn a_return_between_two_looks_is_told_as_both() {
        use PeerEvent::{Closed, Connected};
        let [a, b, c] = [1, 2, 3].map(|n| NodeId([n; 32]));
        let got = differences(&peers(&[(1, 1), (2, 2)]), &peers(&[(2, 4), (3, 3)]));
        assert_eq!(got, [Closed(a), Closed(b), Connected(b), Connected(c)]);
        assert!(differences(&peers(&[(1, 1)]), &peers(&[(1, 1)])).is_empty());
    }
}
