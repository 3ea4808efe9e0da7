//! Join secrets: minted by a control plane node for one recipient, sealed to its key, offered in the
//! log by hash alone, handed over node to node, held in memory only.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use qb_exec::{MintRequest, SealedSecret};
use qb_model::NodeId;
use qb_model::action::NodeRole;
use qb_model::assignment::{Assignment, KUBEADM, NodeResult, Stage};
use qb_model::dsse::Purpose;
use qb_model::state::{NodeRecord, SiteState};
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

/// A control plane node's side: mints, offers, hands over.
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
        && fresh(node, to, &held)
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

/// Whether a secret still has some life, and is the one that the log names: another node may have
/// offered one since.
fn fresh(node: &Node, to: NodeId, held: &Bytes) -> bool {
    let now = node.site_now();
    let Ok(sealed) = rpc::decode::<SealedSecret>(held) else { return false };
    sealed.context.expires_ms > now.plus(FRESH_MS) && names(&node.site(), node.id(), to, &sealed)
}

/// Whether the log names this secret of `from` for `to`.
fn names(state: &SiteState, from: NodeId, to: NodeId, sealed: &SealedSecret) -> bool {
    let offer = state.cluster(&sealed.context.cluster).and_then(|c| c.offers.get(&to));
    offer.is_some_and(|o| o.ciphertext == sealed.digest() && o.from == from)
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

/// The joiner's side: asks those who may have one, one after the other, and takes only what the log
/// names.
///
/// # Errors
/// What each of them said.
pub async fn fetch(node: &Arc<Node>, order: &Assignment) -> Result<SealedSecret, String> {
    let seal = seal_record(node).ok_or("the executor did not tell its key yet")?.to_bytes();
    let request = SecretRequest { cluster: order.cluster.clone(), assignment: order.digest(), seal };
    let state = node.site();
    let connected = node.mesh().map(qb_mesh::Mesh::connected).unwrap_or_default();
    let mut refused = Vec::new();
    for from in sources(&state, order, |n| connected.contains(n)) {
        match fetch_from(node, order, from, &request).await {
            Ok(sealed) => return Ok(sealed),
            Err(why) => {
                let host = state.node(&from).map(|n| n.host.to_string()).unwrap_or_default();
                refused.push(format!("from {host}: {why}"));
            }
        }
    }
    Err(refused.join("; "))
}

/// Who may have a secret for this order: the first node, then, where any control plane node can make
/// one, the others that serve. Those that are connected come first.
fn sources(state: &SiteState, order: &Assignment, connected: impl Fn(&NodeId) -> bool) -> Vec<NodeId> {
    let mut all = vec![order.first];
    if order.driver.as_str() == KUBEADM {
        let serves = |n: &&NodeRecord| {
            n.phase.serves() && n.phase.role() == Some(NodeRole::ControlPlane) && n.node != order.first
        };
        all.extend(state.members(&order.cluster).filter(serves).map(|n| n.node));
    }
    all.sort_by_key(|n| !connected(n));
    all
}

async fn fetch_from(
    node: &Arc<Node>,
    order: &Assignment,
    from: NodeId,
    request: &SecretRequest,
) -> Result<SealedSecret, String> {
    let sealed: SealedSecret = node.ask(from, kind::SECRET, request, ASK).await.map_err(|e| e.to_string())?;
    let me = node.id();
    if sealed.context.cluster == order.cluster
        && node.wait_state(CATCH_UP, |s| names(s, from, me, &sealed)).await
    {
        Ok(sealed)
    } else {
        Err("the secret is not the one that the log names".into())
    }
}
