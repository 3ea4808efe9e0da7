//! Who may speak Raft to this node, and as whom. Pure: the library believes what it is told, so
//! what is not true must not reach it.

use qb_model::NodeId;

use crate::limits::MAX_TERM_JUMP;
use crate::wire::{RaftFrame, StoreUuid, WireMembership, WireVote};

/// What the judgement rests on.
pub(crate) struct Gate<'a> {
    pub(crate) tag: &'a [u8; 32],
    pub(crate) seat: u64,
    pub(crate) store: &'a StoreUuid,
    pub(crate) term: u64,
    pub(crate) membership: &'a WireMembership,
    /// Nodes that the agent knows as voters from elsewhere.
    pub(crate) hints: &'a [NodeId],
}

/// Why a request was not let through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("request of another site or epoch")]
    OtherSite,
    #[error("request for seat {0} on another storage: this seat was lost or is not the one meant")]
    OtherSeat(u64),
    #[error("seat {claimed} does not belong to the node that speaks for it")]
    NotTheSpeaker { claimed: u64 },
    #[error("seat {0} is not known here, and its node is not known as a voter")]
    Stranger(u64),
    #[error("term {got} is too far above {current}")]
    TermJump { got: u64, current: u64 },
}

impl Gate<'_> {
    /// Lets a request from the connected peer `from` through, or says why not.
    pub(crate) fn check(&self, from: NodeId, frame: &RaftFrame) -> Result<(), Refusal> {
        if frame.tag != *self.tag {
            return Err(Refusal::OtherSite);
        }
        if frame.to_seat != self.seat || frame.to_store != *self.store {
            return Err(Refusal::OtherSeat(frame.to_seat));
        }
        let WireVote { term, leader, .. } = *frame.request.vote();
        if term > self.term.saturating_add(MAX_TERM_JUMP) {
            return Err(Refusal::TermJump { got: term, current: self.term });
        }
        match self.membership.members.iter().find(|(id, _)| *id == leader) {
            Some((_, member)) if member.node() == from => Ok(()),
            Some(_) => Err(Refusal::NotTheSpeaker { claimed: leader }),
            // A member added since this node last heard of changes: a fresh learner knows nobody,
            // and a voter that was away may meet a leader it has never heard of.
            None if self.hints.contains(&from) => Ok(()),
            None => Err(Refusal::Stranger(leader)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{RaftRequest, WireMember};

    #[test]
    fn table() {
        let (a, b, c) = (NodeId([1; 32]), NodeId([2; 32]), NodeId([3; 32]));
        let member = |n: NodeId| WireMember { node: n.0, store: [0; 16] };
        let membership =
            WireMembership { configs: vec![vec![1, 2]], members: vec![(1, member(a)), (2, member(b))] };
        let hints = [c];
        let gate =
            Gate { tag: &[7; 32], seat: 2, store: &[9; 16], term: 5, membership: &membership, hints: &hints };
        let frame = |leader, term| RaftFrame {
            tag: [7; 32],
            to_seat: 2,
            to_store: [9; 16],
            request: RaftRequest::PreVote { vote: WireVote { term, leader, committed: false }, last: None },
        };
        assert_eq!(gate.check(a, &frame(1, 6)), Ok(()));
        assert_eq!(gate.check(a, &frame(2, 6)), Err(Refusal::NotTheSpeaker { claimed: 2 }));
        assert_eq!(gate.check(c, &frame(1, 6)), Err(Refusal::NotTheSpeaker { claimed: 1 }));
        assert_eq!(gate.check(c, &frame(3, 6)), Ok(()));
        assert_eq!(gate.check(a, &frame(3, 6)), Err(Refusal::Stranger(3)));
        assert_eq!(gate.check(a, &frame(1, 1_000_005)), Ok(()));
        let far = Refusal::TermJump { got: 1_000_006, current: 5 };
        assert_eq!(gate.check(a, &frame(1, 1_000_006)), Err(far));
        assert_eq!(gate.check(a, &RaftFrame { tag: [8; 32], ..frame(1, 6) }), Err(Refusal::OtherSite));
        assert_eq!(
            gate.check(a, &RaftFrame { to_store: [8; 16], ..frame(1, 6) }),
            Err(Refusal::OtherSeat(2))
        );
        assert_eq!(gate.check(a, &RaftFrame { to_seat: 1, ..frame(1, 6) }), Err(Refusal::OtherSeat(1)));
    }
}
