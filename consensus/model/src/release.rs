//! The first half of leaving: a control plane member that stays takes the node out of its cluster,
//! whether that node is well, dead or revoked. The second half is the node's own.

use serde::{Deserialize, Serialize};

use crate::action::{Action, NodeRole};
use crate::assignment::{Assignment, AssignmentError, Citation, Floor, Grounds, Member, Stage};
use crate::assignment::{cited, installs, trusted};
use crate::ids::{Digest, Generation, Millis, NodeId};

/// A node that leaves and is still in its cluster, as the state keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The node as the cluster knows it.
    pub member: Member,
    /// The detach or revoke intent.
    pub cites: Citation,
    /// Generation of its order to leave: what tells this release from an earlier one of the same node.
    pub generation: Generation,
    /// Since when, by log time.
    pub since: Millis,
    /// Whether it was revoked: then nothing follows.
    pub revoked: bool,
}

/// A node's way out that was verified. Only [`verify_release`] makes one, and the executor takes
/// nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedRelease {
    order: Assignment,
    member: Member,
}

impl VerifiedRelease {
    /// The leaving node's order.
    pub fn order(&self) -> &Assignment {
        &self.order
    }

    /// The node that leaves.
    pub fn member(&self) -> &Member {
        &self.member
    }
}

/// Verifies that signed intents make the node of an order leave, and that the asked node (the one of
/// `floor`) is a control plane member that stays. Returns it with the head of the trust log. The floor's
/// generation is not looked at: it counts the orders of another node.
///
/// # Errors
/// The first thing that does not stand.
pub fn verify_release(
    order: Assignment,
    grounds: &Grounds,
    floor: &Floor,
) -> Result<(VerifiedRelease, Digest), AssignmentError> {
    if order.site != floor.site || order.node == floor.node || order.stage != Stage::Leave {
        return Err(AssignmentError::NotForMe);
    }
    let trust = trusted(&grounds.charter, &grounds.trust_log, floor.site, &floor.trust_head)?;
    let leaves = cited("ordering", &grounds.order, &trust, &order.cites)?;
    let create = cited("creating", &grounds.create, &trust, &order.created_by)?;
    installs(&order, &create.action)?;
    releases(&order, &leaves.action, floor.node)?;
    let member = order.member().cloned();
    let member = member.ok_or(AssignmentError::NotImplied("the node is not among the members"))?;
    Ok((VerifiedRelease { order, member }, trust.head()))
}

/// Whether the intent makes the order's node leave a cluster in which `by` rules. Deleting a cluster
/// releases nobody: nothing stays that would have to be told.
pub(crate) fn releases(order: &Assignment, action: &Action, by: NodeId) -> Result<(), AssignmentError> {
    let fail = |why| Err(AssignmentError::NotImplied(why));
    let rules = |m: &Member| m.node == by && m.role == NodeRole::ControlPlane;
    if !order.members.iter().any(rules) {
        return fail("the node that is asked is no control plane member");
    }
    match action {
        Action::ClusterDetach { cluster, nodes } if *cluster == order.cluster => {
            if nodes.contains(&order.node) { Ok(()) } else { fail("the detach does not name the node") }
        }
        Action::NodeRevoke { node, .. } if *node == order.node => Ok(()),
        _ => fail("the intent is neither a detach nor a revoke of the node"),
    }
}
