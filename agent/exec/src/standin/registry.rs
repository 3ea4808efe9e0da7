//! The API server's registry: who may join, who joined. One file, written in one piece.

use std::collections::BTreeMap;
use std::io;

use qb_drivers::RelPath;
use qb_model::action::NodeRole;
use qb_model::ids::{Digest, Millis, NodeId};
use serde::{Deserialize, Serialize};
use tokio::time::{Duration, Instant};

use super::FILE_BYTES;
use super::identity::{credential_digest, is_credential};
use super::wire::{JoinRequest, NodeLine, NodeRequest, Offer};
use crate::clock;
use crate::dir::Dir;

/// A node that was silent this long is not ready.
const SILENT: Duration = Duration::from_secs(5);
/// Nodes of a cluster: as many as one intent attaches.
const NODES: usize = 400;
/// Bytes of a host name in the registry.
const HOST_BYTES: usize = 63;

/// Why a node is not let in, or not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RegistryError {
    #[error("the credential is not the one offered to this node, or has been used")]
    Credential,
    #[error("the credential has expired: give the order again, which makes a new one")]
    Expired,
    #[error("the node has not joined")]
    Unknown,
    #[error("the cluster has 400 nodes: it takes no more")]
    Full,
    #[error("the registry cannot be written: check the disk of the first control plane node")]
    Disk,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    host: String,
    role: NodeRole,
    credential: Digest,
    joined_ms: Millis,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    v: u16,
    rehearsal: bool,
    nodes: BTreeMap<NodeId, Entry>,
}

/// See the module.
pub(crate) struct Registry {
    dir: Dir,
    file: RelPath,
    stored: Stored,
    heard: BTreeMap<NodeId, Instant>,
}

impl Registry {
    /// Reads the registry in `data`; a new cluster has an empty one.
    pub(crate) fn open(data: Dir) -> io::Result<Self> {
        let file: RelPath = "registry.json".parse().map_err(io::Error::other)?;
        let stored = match data.read(&file, FILE_BYTES)? {
            None => Stored { v: 1, rehearsal: true, nodes: BTreeMap::new() },
            Some(bytes) => serde_json::from_slice(&bytes)?,
        };
        Ok(Self { dir: data, file, stored, heard: BTreeMap::new() })
    }

    /// Lets a node in. The same request again gives the same answer.
    pub(crate) fn join(&mut self, request: &JoinRequest) -> Result<(), RegistryError> {
        if self.is_known(request.node, &request.credential) {
            self.heard.insert(request.node, Instant::now());
            return self.forget_offer(request.node);
        }
        self.check_offer(request)?;
        let is_new = !self.stored.nodes.contains_key(&request.node);
        if is_new && self.stored.nodes.len() >= NODES {
            return Err(RegistryError::Full);
        }
        let entry = Entry {
            host: request.host.chars().take(HOST_BYTES).collect(),
            role: request.role,
            credential: credential_digest(&request.credential),
            joined_ms: clock::now(),
        };
        self.stored.nodes.insert(request.node, entry);
        self.write()?;
        // Only now: a crash in between leaves an offer that its node alone can use, for itself.
        self.forget_offer(request.node)?;
        self.heard.insert(request.node, Instant::now());
        Ok(())
    }

    /// Notes that a node lives.
    pub(crate) fn heartbeat(&mut self, request: &NodeRequest) -> Result<(), RegistryError> {
        if !self.is_known(request.node, &request.credential) {
            return Err(RegistryError::Unknown);
        }
        self.heard.insert(request.node, Instant::now());
        Ok(())
    }

    /// Forgets a node.
    pub(crate) fn leave(&mut self, request: &NodeRequest) -> Result<(), RegistryError> {
        if !self.is_known(request.node, &request.credential) {
            return Err(RegistryError::Unknown);
        }
        self.stored.nodes.remove(&request.node);
        self.heard.remove(&request.node);
        self.write()
    }

    /// Who joined.
    pub(crate) fn nodes(&self) -> Vec<NodeLine> {
        let line = |(node, entry): (&NodeId, &Entry)| NodeLine {
            node: *node,
            host: entry.host.clone(),
            role: entry.role,
            ready: self.heard.get(node).is_some_and(|at| at.elapsed() < SILENT),
            joined_ms: entry.joined_ms,
        };
        self.stored.nodes.iter().map(line).collect()
    }

    fn is_known(&self, node: NodeId, credential: &str) -> bool {
        self.stored.nodes.get(&node).is_some_and(|entry| is_credential(credential, &entry.credential))
    }

    fn check_offer(&self, request: &JoinRequest) -> Result<(), RegistryError> {
        let at = offer_path(request.node).map_err(|_| RegistryError::Disk)?;
        let bytes = self.dir.read(&at, FILE_BYTES).map_err(|_| RegistryError::Disk)?;
        let offer: Offer =
            bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or(RegistryError::Credential)?;
        if offer.node != request.node || !is_credential(&request.bootstrap, &offer.credential) {
            return Err(RegistryError::Credential);
        }
        if offer.expires_ms <= clock::now() { Err(RegistryError::Expired) } else { Ok(()) }
    }

    fn forget_offer(&self, node: NodeId) -> Result<(), RegistryError> {
        let at = offer_path(node).map_err(|_| RegistryError::Disk)?;
        self.dir.remove(&at).map_err(|_| RegistryError::Disk)
    }

    fn write(&self) -> Result<(), RegistryError> {
        let bytes = serde_json::to_vec(&self.stored).map_err(|_| RegistryError::Disk)?;
        self.dir.write(&self.file, &bytes, 0o600).map_err(|_| RegistryError::Disk)
    }
}

/// Where the offer to a node lies, below the data directory. Node ids are base64url: a clean name,
/// but for a leading `-`, which no path minds.
pub(crate) fn offer_path(node: NodeId) -> Result<RelPath, qb_drivers::PathError> {
    format!("offers/{node}.json").parse()
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
