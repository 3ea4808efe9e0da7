//! The order to one node to bring in another agent: what the leader plans, what the executor verifies.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::action::Action;
use crate::assignment::{AssignmentError, Citation, signed_intent, trusted};
use crate::ids::{Digest, Generation, Millis, NodeId, PublicKey, SiteId, Version};
use crate::trust::TrustEntry;

/// What a node's command says as its stage when it answers an agent order.
pub const AGENT_STAGE: u8 = 255;

/// The order to one node. Immutable; a newer one has a greater generation. Its generations are counted
/// apart from those of assignments, so that neither makes the other stale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentOrder {
    /// The site.
    pub site: SiteId,
    /// The node that is ordered.
    pub node: NodeId,
    /// Rises with every agent order of this node.
    pub generation: Generation,
    /// The manifest of the agent's bundle.
    pub bundle: Digest,
    /// The version that it brings.
    pub version: Version,
    /// The `agent.upgrade` intent.
    pub cites: Citation,
}

impl AgentOrder {
    /// SHA-256 over the postcard form, after a domain prefix: what the node's answer names.
    pub fn digest(&self) -> Digest {
        let bytes = postcard::to_stdvec(self).unwrap_or_default();
        let mut hash = Sha256::new();
        hash.update(b"qb/agent-order/1\0");
        hash.update(&bytes);
        Digest(hash.finalize().into())
    }
}

/// What an order rests on, as it is handed to the executor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentGrounds {
    /// The charter's envelope.
    pub charter: Vec<u8>,
    /// The trust log.
    pub trust_log: Vec<TrustEntry>,
    /// Envelope of the `agent.upgrade` intent, and when it was accepted.
    pub upgrade: (Vec<u8>, Millis),
}

/// What the executor remembers by itself: neither may go back. The trust head is the one that it keeps
/// for assignments; the generation is of agent orders alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentFloor {
    /// The site.
    pub site: SiteId,
    /// The node.
    pub node: NodeId,
    /// Generation of the newest agent order that was begun.
    pub generation: Generation,
    /// Head of the newest trust log seen.
    pub trust_head: Digest,
}

/// An order whose signed intent was verified. Only [`verify_agent_order`] makes one, and the executor
/// takes nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedAgentOrder {
    order: AgentOrder,
    publishers: Vec<PublicKey>,
    trust_head: Digest,
}

impl VerifiedAgentOrder {
    /// The order.
    pub fn order(&self) -> &AgentOrder {
        &self.order
    }

    /// The publishers whose bundles the site accepts now, by the trust log that was verified.
    pub fn publishers(&self) -> &[PublicKey] {
        &self.publishers
    }

    /// The head of that trust log: the executor's next floor.
    pub fn trust_head(&self) -> Digest {
        self.trust_head
    }
}

/// Verifies an order against the signed intent alone: nothing that the agent says is believed.
///
/// # Errors
/// The first thing that does not stand.
pub fn verify_agent_order(
    order: AgentOrder,
    grounds: &AgentGrounds,
    floor: &AgentFloor,
) -> Result<VerifiedAgentOrder, AssignmentError> {
    if order.site != floor.site || order.node != floor.node {
        return Err(AssignmentError::NotForMe);
    }
    if order.generation < floor.generation {
        let (got, floor) = (order.generation, floor.generation);
        return Err(AssignmentError::Stale { got, floor });
    }
    let trust = trusted(&grounds.charter, &grounds.trust_log, floor.site, &floor.trust_head)?;
    let (envelope, at) = &grounds.upgrade;
    let intent = signed_intent(envelope, &trust, &order.cites, *at)
        .map_err(|why| AssignmentError::Intent { what: "upgrading", why })?;
    implied(&order, &intent.action)?;
    let publishers = trust.publishers().keys().copied().collect();
    Ok(VerifiedAgentOrder { order, publishers, trust_head: trust.head() })
}

/// Whether the intent orders this. It names every node of the site by saying "all agents", so the
/// bundle and its version are what must agree.
pub(crate) fn implied(order: &AgentOrder, action: &Action) -> Result<(), AssignmentError> {
    match action {
        Action::AgentUpgrade { bundle, version, .. }
            if *bundle == order.bundle && *version == order.version =>
        {
            Ok(())
        }
        Action::AgentUpgrade { .. } => {
            Err(AssignmentError::NotImplied("the bundle or its version is not the one that was signed"))
        }
        _ => Err(AssignmentError::NotImplied("the order is not an upgrade of agents")),
    }
}
