//! Consensus over the mesh: which lane carries what.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use qb_consensus::{PeerTransport, RpcKind, TransportError};
use qb_mesh::{Lane, Mesh, RequestError};
use qb_model::NodeId;

/// The mesh, once it runs.
pub type MeshSlot = Arc<OnceLock<Mesh>>;

/// The lane of a kind of request: bulk must not delay votes.
pub fn lane_of(kind: RpcKind) -> Lane {
    match kind {
        RpcKind::Snapshot | RpcKind::Log => Lane::Bulk,
        _ => Lane::Raft,
    }
}

/// [`PeerTransport`] over the mesh.
pub struct MeshTransport {
    /// The mesh.
    pub mesh: MeshSlot,
}

#[async_trait]
impl PeerTransport for MeshTransport {
    async fn request(
        &self,
        to: NodeId,
        kind: RpcKind,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, TransportError> {
        let mesh =
            self.mesh.get().ok_or_else(|| TransportError::Unreachable("the mesh is not up yet".into()))?;
        mesh.request(to, lane_of(kind), u8::from(kind), body, deadline).await.map_err(|e| match e {
            RequestError::Deadline(_) => TransportError::Timeout,
            RequestError::Refused(text) => TransportError::Refused(text),
            RequestError::NotConnected { reason, .. } if reason.contains("refused") => {
                TransportError::ConnectionRefused
            }
            other => TransportError::Unreachable(other.to_string()),
        })
    }
}
