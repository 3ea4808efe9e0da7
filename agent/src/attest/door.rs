//! The document that a door of this node hands out.

use std::sync::Arc;
use std::time::Duration;

use qb_model::attest::{Attestation, Proof, reach};

use super::held::read;
use super::lead::roster;
use super::sign::learn;
use crate::node::Node;

/// Voters that are asked before the door shows what it has.
const ASKED: usize = 3;
/// How long the door's own copy may take to reach what voters signed.
const CATCH_UP: Duration = Duration::from_secs(1);

/// The newest that voters signed, with everything that verifies it, as this node can have it.
pub async fn document(node: &Arc<Node>) -> Attestation {
    let mut why = None;
    if !node.raft().is_leader() {
        let leader = node.raft().leader;
        let others = node.voters().into_iter().filter(|v| *v != node.id());
        why = Some("no voter answers this node".to_owned());
        // The leader is first; it has the newest.
        for voter in others.take(ASKED) {
            if let Err(error) = learn(node, voter, leader == Some(voter)).await {
                tracing::debug!(%voter, "attestation: {error}");
                continue;
            }
            why = None;
            break;
        }
        if leader.is_none() {
            why = Some("no leader is known: too few voters answer".to_owned());
        }
    }
    let checkpoint = node.attest.checkpoint();
    let shown = checkpoint.as_ref().and_then(read);
    if let Some(shown) = &shown {
        node.wait_state(CATCH_UP, |s| s.applied() >= shown.index).await;
    }
    let state = node.site();
    let reached = node.attest.reached();
    let (mut links, mut kept, mut founding, mut nodes) = (Vec::new(), Vec::new(), None, Vec::new());
    if let Some(reached) = reached {
        nodes = reached.set.nodes;
        links = reached.chain.links;
        (kept, founding) = (reached.chain.roster, Some(reached.chain.founding));
    }
    // A new set that has signed nothing yet: what is shown rests on the one before.
    let upto = shown.and_then(|c| usize::try_from(c.voters_seq).ok());
    if let (Some(upto), Some(founding)) = (upto.filter(|n| *n < links.len()), &founding) {
        links.truncate(upto);
        nodes = reach(state.trust(), founding, &links).map(|s| s.nodes).unwrap_or(nodes);
    }
    Attestation::from(&Proof {
        charter: node.enrolment.charter.clone(),
        trust: state.trust().log().to_vec(),
        founding,
        roster: roster(&state, &nodes, &kept),
        voters: links,
        checkpoint,
        why: why.or_else(|| node.attest.why()),
    })
}
