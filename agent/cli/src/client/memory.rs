//! What `qb` remembers of a site: which node answers at which door, which nodes it has seen to be
//! members, the last chain head, and the newest states that voters signed. None of it is secret; all of it is public keys and hashes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use qb_model::attest::{self, Attested};
use qb_model::{Digest, NodeId, PublicKey};
use serde::{Deserialize, Serialize};

use crate::door::RelayUrl;
use crate::error::CliError;
use crate::files;

/// Longest file in bytes: 10,000 nodes.
const MAX: u64 = 1 << 20;
/// Doors whose newest state is remembered: more than a configuration lists.
const SHOWN: usize = 32;

/// A chain head, to compare with later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenHead {
    /// Its number.
    pub index: u64,
    /// The hash.
    pub hash: Digest,
}

/// The memory of one site.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Nodes whose doors are believed: those that this computer authorized.
    #[serde(default)]
    pub nodes: BTreeSet<NodeId>,
    /// Which node answered first at a door.
    #[serde(default)]
    pub doors: BTreeMap<String, NodeId>,
    /// The keys of relays, by address: those that the site trusts, or that answered first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub relays: BTreeMap<RelayUrl, PublicKey>,
    /// The newest chain head seen.
    #[serde(default)]
    pub head: Option<SeenHead>,
    /// The newest state that voters signed, of all doors.
    #[serde(default)]
    pub attested: Option<attest::Memory>,
    /// The newest that each door showed.
    #[serde(default)]
    pub shown: BTreeMap<String, attest::Memory>,
}

/// What is to be thought of a node that answers at a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belief {
    /// It is known.
    Known,
    /// Nobody answered here before: trust on first use.
    First,
    /// Another node answered here before.
    Changed(NodeId),
}

impl Memory {
    /// Reads it; absent means nothing is remembered.
    ///
    /// # Errors
    /// The file is damaged: forgetting silently would believe anybody.
    pub fn load(path: &Path) -> Result<Self, CliError> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let bytes = files::read(path, MAX)?;
        serde_json::from_slice(&bytes).map_err(|_| {
            CliError::failed(format!("{} is damaged.", path.display()))
                .remedy("move it away; the doors are then trusted on first use again")
        })
    }

    /// Writes it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), CliError> {
        let bytes = serde_json::to_vec_pretty(self)
            .map_err(|e| CliError::failed(format!("Cannot write JSON: {e}.")))?;
        files::write(path, &bytes, 0o600, false)
    }

    /// Remembers what a door showed, if it is newer and no contradiction. Never goes back.
    pub fn saw(&mut self, door: &str, seen: &Attested) {
        attest::Memory::advance(&mut self.attested, seen);
        let mut own = self.shown.remove(door);
        attest::Memory::advance(&mut own, seen);
        while self.shown.len() >= SHOWN {
            self.shown.pop_first();
        }
        self.shown.extend(own.map(|own| (door.to_owned(), own)));
    }

    /// Judges a node that proved its key at a door.
    pub fn believe(&self, door: &str, node: &NodeId) -> Belief {
        match self.doors.get(door) {
            _ if self.nodes.contains(node) => Belief::Known,
            Some(known) if known == node => Belief::Known,
            Some(known) => Belief::Changed(*known),
            None => Belief::First,
        }
    }
}
