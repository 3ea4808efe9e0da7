//! Bundles between nodes: each is verified before it is kept, and kept by more nodes than the one
//! that it was pushed to.

use std::sync::Arc;
use std::time::Duration;

use qb_mesh::Lane;
use qb_model::{Digest, NodeId};

use crate::daemon::SMALL_SITE;
use crate::node::Node;
use crate::rpc::{BlobPart, BlobRequest, kind};

/// Deadline of one part of a bundle.
const PART: Duration = Duration::from_secs(10);
/// Pause before a bundle that nobody had is asked for again.
const AGAIN: Duration = Duration::from_secs(2);

/// The bundle, from this node or from any connected one that holds it.
pub async fn get(node: &Arc<Node>, digest: &Digest) -> Result<Vec<u8>, String> {
    if let Some(bytes) = node.blobs.read(digest).map_err(|e| e.to_string())? {
        return Ok(bytes);
    }
    let peers = node.mesh().map(qb_mesh::Mesh::connected).unwrap_or_default();
    let count = peers.len();
    for peer in peers {
        let Ok(bytes) = download(node, peer, digest).await else { continue };
        let keys: Vec<_> = node.site().trust().publishers().keys().copied().collect();
        let verified = qb_drivers::bundle::verify_bundle(&bytes, &keys).is_ok_and(|v| v.digest() == *digest);
        if verified {
            node.blobs.write(digest, &bytes).map_err(|e| e.to_string())?;
            return Ok(bytes);
        }
        tracing::warn!(%peer, "a peer sent a bundle that is not the one asked for");
    }
    Err(format!("no node holds it: {count} asked"))
}

async fn download(node: &Arc<Node>, peer: NodeId, digest: &Digest) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    loop {
        let request = BlobRequest { digest: *digest, offset: bytes.len() as u64 };
        let part: BlobPart =
            node.ask_on(Lane::Bulk, peer, kind::BLOB, &request, PART).await.map_err(|e| e.to_string())?;
        if part.total > crate::blobs::MAX_BUNDLE {
            return Err("too large".into());
        }
        bytes.extend_from_slice(&part.bytes);
        if bytes.len() as u64 >= part.total || part.bytes.is_empty() {
            return Ok(bytes);
        }
    }
}

/// Fetches the bundles of all clusters and of an upgrade of agents ahead of need, so that the death of the node that one was
/// pushed to strands nobody: every node of a small site, the voters of a larger one.
pub async fn keep(node: Arc<Node>) {
    let mut state = node.state.clone();
    loop {
        let site = node.site();
        let votes = node.raft().raft_id.is_some();
        let mut missing = false;
        if site.nodes().contains_key(&node.id()) && (votes || site.nodes().len() <= SMALL_SITE) {
            let held = node.blobs.list();
            let wanted = site.clusters().values().map(|c| (c.name.as_str(), c.bundle));
            let agents = site.agent_upgrade().filter(|u| u.rolling()).map(|u| ("agents", u.bundle));
            for (what, bundle) in wanted.chain(agents).filter(|(_, bundle)| !held.contains(bundle)) {
                if let Err(why) = get(&node, &bundle).await {
                    tracing::debug!(what, "bundle: {why}");
                    missing = true;
                }
            }
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN), if missing => {}
            () = node.cancel.cancelled() => return,
        }
    }
}
