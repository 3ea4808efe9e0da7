//! Join secrets: minted by the cluster's first node for one recipient, sealed to its key, offered in
//! the log by hash alone, handed over node to node, held in memory only.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use qb_exec::{MintRequest, SealedSecret};
use qb_model::NodeId;
use qb_model::assignment::{Assignment, NodeResult, Stage};
use qb_model::dsse::Purpose;
use qb_model::statement::{SealKeyRecord, SignedBytes, Statement as _};

use crate::knock::client::seal_record;
use crate::node::Node;
use crate::reconcile;
use crate::rpc::{self, SecretRequest, kind};
use crate::said;

/// How long this node waits for its own copy of the state to show an order or an offer.
const CATCH_UP: Duration = Duration::from_secs(5);
/// Deadline of asking for a secret: minting and the log are in it.
const ASK: Duration = Duration::from_secs(10);
/// A secret that ends sooner is minted again, in milliseconds.
const FRESH_MS: u64 = 60_000;

/// The first node's side: mints, offers, hands over.
pub async fn hand_out(node: &Arc<Node>, to: NodeId, request: SecretRequest) -> Result<Bytes, String> {
    let ordered = |s: &qb_model::state::SiteState| {
        s.node(&to)
            .and_then(|n| n.assignment.as_ref())
            .is_some_and(|a| a.stage == Stage::Join && a.digest() == request.assignment)
    };
    if !node.wait_state(CATCH_UP, ordered).await {
        return Err("this node knows no such order to join".into());
    }
    // One at a time: two secrets for one recipient would leave the one that the log does not name.
    let _one = node.minting.lock().await;
    let held = node.minted().get(&(to, request.assignment)).cloned();
    if let Some(held) = held
        && fresh(node, &held)
    {
        return Ok(held);
    }
    let (sealed, bytes) = mint(node, to, &request).await?;
    let offer = NodeResult::SecretOffered {
        to,
        purpose: "join".to_owned(),
        ciphertext: sealed.digest(),
        expires_ms: sealed.context.expires_ms,
    };
    said::say(node, None, &offer).await?;
    let mut minted = node.minted();
    minted.retain(|(who, _), _| *who != to);
    minted.insert((to, request.assignment), bytes.clone());
    Ok(bytes)
}

fn fresh(node: &Node, held: &Bytes) -> bool {
    let now = node.site_now();
    rpc::decode::<SealedSecret>(held).is_ok_and(|s| s.context.expires_ms > now.plus(FRESH_MS))
}

async fn mint(
    node: &Arc<Node>,
    to: NodeId,
    request: &SecretRequest,
) -> Result<(SealedSecret, Bytes), String> {
    let state = node.site();
    let exec = node.exec.get().ok_or("the executor is not up yet")?;
    let record = state.node(&to).ok_or("not on the roster")?;
    let assignment = record.assignment.as_ref().ok_or("has no order")?;
    let known = record.seal.ok_or("has no seal key on record")?;
    let seal = SignedBytes::from_bytes(Purpose::SealKey, &request.seal, SealKeyRecord::MAX)
        .map_err(|e| e.to_string())?;
    // The executor verifies it; the log says whether it is the newest.
    let is = seal.open::<SealKeyRecord>().map_err(|e| e.to_string())?;
    if (is.value().key, is.value().seq) != known {
        return Err("its seal key is not the one on record yet".into());
    }
    let grounds = reconcile::grounds(&state, assignment)?;
    let sealed = exec.mint_join(MintRequest { order: assignment.clone(), grounds, seal }).await?;
    let bytes = rpc::encode(&sealed).map_err(|e| e.to_string())?;
    Ok((sealed, bytes))
}

/// The joiner's side: asks the first node, and takes only what the log names.
pub async fn fetch(node: &Arc<Node>, order: &Assignment) -> Result<SealedSecret, String> {
    let seal = seal_record(node).ok_or("the executor did not tell its key yet")?.to_bytes();
    let request = SecretRequest { cluster: order.cluster.clone(), assignment: order.digest(), seal };
    let sealed: SealedSecret =
        node.ask(order.first, kind::SECRET, &request, ASK).await.map_err(|e| e.to_string())?;
    let hash = sealed.digest();
    let me = node.id();
    let offered = |s: &qb_model::state::SiteState| {
        s.cluster(&order.cluster)
            .and_then(|c| c.offers.get(&me))
            .is_some_and(|o| o.ciphertext == hash && o.from == order.first)
    };
    if node.wait_state(CATCH_UP, offered).await {
        Ok(sealed)
    } else {
        Err("the secret is not the one that the log names".into())
    }
}
