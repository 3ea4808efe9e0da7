//! Who may speak on the mesh port. Pure.

use std::collections::BTreeSet;

use qb_model::NodeId;

/// Why a peer is not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It is not in the roster.
    Stranger,
    /// It bears this node's own key: a clone, or a dial that came back.
    Myself,
}

/// Whether a peer may speak.
pub(crate) fn admit(roster: &BTreeSet<NodeId>, own: NodeId, peer: NodeId) -> Result<(), Denied> {
    if peer == own {
        Err(Denied::Myself)
    } else if roster.contains(&peer) {
        Ok(())
    } else {
        Err(Denied::Stranger)
    }
}

/// What a new roster changes: whom to let in, and whom to put out at once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) admitted: Vec<NodeId>,
    pub(crate) removed: Vec<NodeId>,
}

/// The change from one roster to the next. The node itself is never part of it.
pub(crate) fn change(old: &BTreeSet<NodeId>, new: &BTreeSet<NodeId>, own: NodeId) -> Change {
    let others = |node: &&NodeId| **node != own;
    Change {
        admitted: new.difference(old).filter(others).copied().collect(),
        removed: old.difference(new).filter(others).copied().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: NodeId = NodeId([0; 32]);
    const A: NodeId = NodeId([1; 32]);
    const B: NodeId = NodeId([2; 32]);

    #[test]
    fn only_members_speak() {
        let roster = BTreeSet::from([OWN, A]);
        for (peer, want) in [(A, Ok(())), (B, Err(Denied::Stranger)), (OWN, Err(Denied::Myself))] {
            assert_eq!(admit(&roster, OWN, peer), want);
        }
        assert_eq!(admit(&BTreeSet::new(), OWN, A), Err(Denied::Stranger));
    }

    #[test]
    fn a_change_lists_both_directions_without_the_node_itself() {
        let got = change(&BTreeSet::from([OWN, A]), &BTreeSet::from([B]), OWN);
        assert_eq!(got, Change { admitted: vec![B], removed: vec![A] });
        let got = change(&BTreeSet::new(), &BTreeSet::from([OWN]), OWN);
        assert_eq!(got, Change { admitted: vec![], removed: vec![] });
    }
}
