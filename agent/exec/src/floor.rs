//! What this node will not do, whatever it is told: orders older than one that it took, and
//! anything at all while somebody on the machine holds it.

use std::io;
use std::path::Path;

use qb_drivers::RelPath;
use qb_model::assignment::Assignment;
use qb_model::ids::{Digest, Generation, NodeId, SiteId};
use serde::{Deserialize, Serialize};

use crate::dir::Dir;

/// Bytes of the file: a number and a digest.
const FILE_BYTES: u64 = 1024;
const FILE: &str = "floor.json";

/// Why an order is refused before its first step.
#[derive(Debug, thiserror::Error)]
pub enum FloorError {
    /// The node took a newer order before.
    #[error(
        "the order has generation {order}, this node took {floor} before: nothing to do, a newer order is on its way"
    )]
    Older {
        /// Of the order.
        order: Generation,
        /// What the node took.
        floor: Generation,
    },
    /// Another order with the same generation was taken.
    #[error(
        "another order with generation {0} was taken before: run `qb doctor` on this machine and `qb audit verify`"
    )]
    Another(Generation),
    /// The file cannot be read or written. Nothing runs without it.
    #[error("{FILE} in the executor's directory cannot be {0}: check the disk, then restart the agent")]
    Io(&'static str, #[source] io::Error),
}

/// The newest order that the node took, and the newest trust log that it saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    v: u16,
    /// The site whose orders it takes; none before the first.
    site: Option<SiteId>,
    /// The node that it is; none before the first order.
    #[serde(default)]
    node: Option<NodeId>,
    generation: Generation,
    order: Option<Digest>,
    trust_head: Option<Digest>,
}

/// The floor, as on disk.
#[derive(Debug)]
pub(crate) struct Floor(Stored);

impl Floor {
    /// Reads the floor; a node that never took an order gets one at 0.
    pub(crate) fn open(root: &Dir) -> Result<Self, FloorError> {
        match root.read(&path(), FILE_BYTES).map_err(|e| FloorError::Io("read", e))? {
            None => {
                let mut new = Self(Stored {
                    v: 1,
                    site: None,
                    node: None,
                    generation: Generation(0),
                    order: None,
                    trust_head: None,
                });
                new.set(root, new.0)?;
                Ok(new)
            }
            // A floor that cannot be read must not become 0.
            Some(bytes) => serde_json::from_slice(&bytes)
                .map(Self)
                .map_err(|e| FloorError::Io("understood", io::Error::other(e))),
        }
    }

    /// What the model's verification compares an order with.
    pub(crate) fn for_verification(&self, site: SiteId, node: NodeId) -> qb_model::assignment::Floor {
        qb_model::assignment::Floor {
            site: self.0.site.unwrap_or(site),
            node,
            generation: self.0.generation,
            trust_head: self.0.trust_head.unwrap_or(self.0.site.unwrap_or(site).0),
        }
    }

    /// The node whose orders were taken here; none before the first.
    pub(crate) fn node(&self) -> Option<NodeId> {
        self.0.node
    }

    /// Head of the newest trust log that was seen here; the site's own before the first.
    pub(crate) fn trust_head(&self, site: SiteId) -> Digest {
        self.0.trust_head.unwrap_or(self.0.site.unwrap_or(site).0)
    }

    /// What another node's order is compared with: the trust log must not be older here either, but
    /// its numbers are its own.
    pub(crate) fn for_other(&self, site: SiteId, node: NodeId) -> qb_model::assignment::Floor {
        qb_model::assignment::Floor { generation: Generation(0), ..self.for_verification(site, node) }
    }

    /// Remembers the trust log that an order was verified under: none that lacks it is believed
    /// again.
    pub(crate) fn saw(&mut self, root: &Dir, site: SiteId, trust_head: Digest) -> Result<(), FloorError> {
        self.change(root, Stored { site: Some(site), trust_head: Some(trust_head), ..self.0 })
    }

    /// Remembers who this node is.
    pub(crate) fn is_node(&mut self, root: &Dir, node: NodeId) -> Result<(), FloorError> {
        self.change(root, Stored { node: Some(node), ..self.0 })
    }

    fn change(&mut self, root: &Dir, next: Stored) -> Result<(), FloorError> {
        if next == self.0 { Ok(()) } else { self.set(root, next) }
    }

    /// Takes an order: the floor is on disk before this returns.
    pub(crate) fn take(&mut self, root: &Dir, order: &Assignment) -> Result<(), FloorError> {
        let (have, digest) = (self.0, order.digest());
        if order.generation < have.generation {
            return Err(FloorError::Older { order: order.generation, floor: have.generation });
        }
        match have.order {
            Some(taken) if order.generation == have.generation && taken == digest => Ok(()),
            Some(_) if order.generation == have.generation => Err(FloorError::Another(order.generation)),
            _ => self.set(root, Stored { generation: order.generation, order: Some(digest), ..have }),
        }
    }

    fn set(&mut self, root: &Dir, next: Stored) -> Result<(), FloorError> {
        let bytes = serde_json::to_vec(&next).map_err(|e| FloorError::Io("written", io::Error::other(e)))?;
        root.write(&path(), &bytes, 0o600).map_err(|e| FloorError::Io("written", e))?;
        self.0 = next;
        Ok(())
    }
}

/// The node whose orders were taken in an executor's directory, without opening it for writing.
pub(crate) fn node_below(root: &Path) -> io::Result<Option<NodeId>> {
    let dir = match Dir::open(root) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        dir => dir?,
    };
    let bytes = dir.read(&path(), FILE_BYTES)?;
    let stored = bytes.map(|bytes| serde_json::from_slice::<Stored>(&bytes)).transpose()?;
    Ok(stored.and_then(|stored| stored.node))
}

/// Whether somebody on this machine holds it. What cannot be looked at holds as well.
pub(crate) fn is_held(hold: &Path) -> bool {
    hold.try_exists().unwrap_or(true)
}

fn path() -> RelPath {
    FILE.parse().expect("a constant clean path")
}
