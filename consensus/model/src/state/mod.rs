//! The replicated state of a site: what the Raft group agrees on.
//!
//! ```text
//! Entry ──> SiteState::apply ──> Applied { outcome, events }
//!            │ intents   judge (signatures, time, replay, role) ─> pool.rs, cluster.rs, trust
//!            │ nodes     signed results of stages               ─> work.rs
//!            └ leader    place, assign, preflight, seats: only what an intent implies
//! ```
//! Deterministic: no clock but the entry's stamp, no randomness, ordered maps only. A change of what
//! `apply` does with the same bytes is a change of protocol and needs a feature level.

mod apply;
mod attach;
mod cluster;
mod cluster_upgrade;
mod digest;
mod intents;
mod kept;
mod leave;
mod nodes;
mod pool;
mod release;
mod restore;
mod snapshot;
mod tokens;
mod upgrade;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use apply::{Applied, ApplyError, Happened};
pub use cluster::{Attach, Cluster, ClusterPhase, SecretOffer, StageTimes};
pub use cluster_upgrade::{ClusterUpgrade, MemberUpgrade};
pub use kept::{Addon, NodeMarks};
pub use nodes::{NodePhase, NodeRecord, Tombstone};
pub(crate) use release::rules;
pub(crate) use restore::names_other;
pub use restore::{BackupAsked, Restore, RestorePhase};
pub use tokens::JoinToken;
pub use upgrade::{AgentUpgrade, Agents, NodeUpgrade, UpgradePhase};

use crate::assignment::Citation;
use crate::chain::{AnchorRing, AuditRecord};
use crate::charter::{Charter, CharterError};
use crate::ids::{Digest, Generation, Millis, Name, NodeId, PublicKey, RaftId, SiteId};
use crate::intent::ObjectRef;
use crate::limits::FEATURE_LEVEL;
use crate::replay::ReplayTable;
use crate::trust::TrustState;

/// Most entries of the audit log that the state keeps in memory with their envelopes.
pub const MAX_AUDIT: usize = 100_000;

/// An accepted intent that something in the state still rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveIntent {
    /// Where it was accepted.
    pub cites: Citation,
    /// When, by log time.
    pub at: Millis,
    /// Who signed it.
    pub by: Name,
    /// Its envelope: every node verifies for itself what it obeys.
    pub envelope: Vec<u8>,
    /// Set when what it ordered is finished.
    pub finished: Option<Millis>,
    /// Set while its signer is revoked as compromised and no owner released it.
    pub held: bool,
}

/// A Raft id and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// The node.
    pub node: NodeId,
    /// Since when, by log time.
    pub since: Millis,
}

/// What a site has agreed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteState {
    format: u8,
    site: SiteId,
    name: Name,
    charter: Vec<u8>,
    founded: bool,
    epoch: u64,
    feature_level: u32,
    log_time: Millis,
    issued_floor: Millis,
    applied: u64,
    trust: TrustState,
    replay: ReplayTable,
    anchors: AnchorRing,
    chain: Digest,
    chained: u64,
    nodes: BTreeMap<NodeId, NodeRecord>,
    tombstones: BTreeMap<NodeId, Tombstone>,
    clusters: BTreeMap<Name, Cluster>,
    generations: BTreeMap<ObjectRef, Generation>,
    intents: BTreeMap<Digest, LiveIntent>,
    seats: BTreeMap<RaftId, Seat>,
    agents: Agents,
    tokens: BTreeMap<PublicKey, JoinToken>,
    audit: Vec<Arc<AuditRecord>>,
}

/// Format of the serialized state.
const FORMAT: u8 = 1;

/// First Raft id of founding nodes: no log index ever meets it.
pub const FOUNDER_SEAT: u64 = 1 << 39;

/// Why bytes are not a site's state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Does not decode.
    #[error("the snapshot does not decode: {0}")]
    Malformed(String),
    /// Of a newer agent.
    #[error("the snapshot has format {0}, this agent reads {FORMAT}: install a newer agent")]
    Format(u8),
    /// The site uses features that this agent does not know.
    #[error("the site is at feature level {0}, this agent knows {FEATURE_LEVEL}: install a newer agent")]
    Level(u32),
    /// Of another site.
    #[error("the snapshot is of site {found}, not of {expected}")]
    OtherSite {
        /// In the snapshot.
        found: SiteId,
        /// Expected.
        expected: SiteId,
    },
    /// Its trust log does not replay from the charter.
    #[error("the snapshot's trust log does not follow from the charter: {0}")]
    Trust(String),
    /// It forgets trust entries or revocations that this node holds.
    #[error("the snapshot forgets trust entries or revoked nodes that this node holds: a roll-back")]
    RollBack,
    /// A roster entry or cluster rests on an intent that is missing or not signed.
    #[error("the snapshot's {what} rests on an intent that is missing or not signed by an admin")]
    Unfounded {
        /// What.
        what: String,
    },
}

impl SiteState {
    /// The state before founding: what the charter says, nothing more.
    pub fn new(charter: &[u8]) -> Result<Self, CharterError> {
        let parsed = Charter::verify(charter)?;
        let site = parsed.site_id();
        let trust = TrustState::from_charter(&parsed);
        Ok(Self {
            format: FORMAT,
            site,
            name: parsed.body().name.clone(),
            charter: charter.to_vec(),
            founded: false,
            epoch: 0,
            feature_level: 1,
            log_time: Millis(0),
            issued_floor: Millis(0),
            applied: 0,
            trust,
            replay: ReplayTable::default(),
            anchors: AnchorRing::new(site),
            chain: site.0,
            chained: 0,
            nodes: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            clusters: BTreeMap::new(),
            generations: BTreeMap::new(),
            intents: BTreeMap::new(),
            seats: BTreeMap::new(),
            agents: Agents::default(),
            tokens: BTreeMap::new(),
            audit: Vec::new(),
        })
    }

    /// The whole state as bytes.
    pub fn to_snapshot(&self) -> Vec<u8> {
        // Serialization to a growing vector fails only for types that postcard cannot hold
        // (unsized sequences, maps without length), none of which the state has.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// Reads a snapshot that comes from elsewhere and checks what a snapshot can be checked for
    ///: the site, that the trust log replays from the charter and extends the one
    /// held, that every roster entry and cluster rests on a validly signed intent.
    pub fn from_snapshot(bytes: &[u8], held: &Self) -> Result<Self, SnapshotError> {
        let state = Self::from_own_snapshot(bytes)?;
        if state.site != held.site || state.charter != held.charter {
            return Err(SnapshotError::OtherSite { found: state.site, expected: held.site });
        }
        let charter = Charter::verify(&state.charter).map_err(|e| SnapshotError::Trust(e.to_string()))?;
        let replayed = crate::trust::replay_log(&charter, state.trust.log())
            .map_err(|e| SnapshotError::Trust(e.to_string()))?;
        if replayed != state.trust {
            return Err(SnapshotError::Trust("admins, policy or publishers differ".into()));
        }
        if !state.trust.log().starts_with(held.trust.log()) {
            return Err(SnapshotError::RollBack);
        }
        // Tombstones are for ever: a snapshot without one brings a revoked node back.
        if held.tombstones.keys().any(|node| !state.tombstones.contains_key(node)) {
            return Err(SnapshotError::RollBack);
        }
        state.check_foundations()?;
        Ok(state)
    }

    /// Reads a snapshot that this node wrote itself; its checksum was checked by the caller.
    pub fn from_own_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let state: Self = postcard::from_bytes(bytes).map_err(|e| SnapshotError::Malformed(e.to_string()))?;
        if state.format != FORMAT {
            return Err(SnapshotError::Format(state.format));
        }
        if state.feature_level > FEATURE_LEVEL {
            return Err(SnapshotError::Level(state.feature_level));
        }
        Ok(state)
    }

    /// The site's id.
    pub fn site(&self) -> SiteId {
        self.site
    }
    /// The site's name.
    pub fn name(&self) -> &Name {
        &self.name
    }
    /// The charter's envelope.
    pub fn charter(&self) -> &[u8] {
        &self.charter
    }
    /// Whether the site was founded.
    pub fn founded(&self) -> bool {
        self.founded
    }
    /// The epoch: 0 since founding, one more with each recovery or restore.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
    /// The level of features that apply may use.
    pub fn feature_level(&self) -> u32 {
        self.feature_level
    }
    /// The state machine's clock.
    pub fn log_time(&self) -> Millis {
        self.log_time
    }
    /// Index of the last applied entry.
    pub fn applied(&self) -> u64 {
        self.applied
    }
    /// Who may do what.
    pub fn trust(&self) -> &TrustState {
        &self.trust
    }
    /// Outcomes of intents that may still be repeated.
    pub fn replay(&self) -> &ReplayTable {
        &self.replay
    }
    /// Head of the audit chain and the index of its last entry (0 before founding).
    pub fn chain_head(&self) -> (u64, Digest) {
        (self.chained, self.chain)
    }
    /// The roster.
    pub fn nodes(&self) -> &BTreeMap<NodeId, NodeRecord> {
        &self.nodes
    }
    /// A node of the roster.
    pub fn node(&self, node: &NodeId) -> Option<&NodeRecord> {
        self.nodes.get(node)
    }
    /// Revoked nodes.
    pub fn tombstones(&self) -> &BTreeMap<NodeId, Tombstone> {
        &self.tombstones
    }
    /// The clusters.
    pub fn clusters(&self) -> &BTreeMap<Name, Cluster> {
        &self.clusters
    }
    /// A cluster.
    pub fn cluster(&self, name: &Name) -> Option<&Cluster> {
        self.clusters.get(name)
    }
    /// Intents that something rests on.
    pub fn intents(&self) -> &BTreeMap<Digest, LiveIntent> {
        &self.intents
    }
    /// Raft ids in use.
    pub fn seats(&self) -> &BTreeMap<RaftId, Seat> {
        &self.seats
    }
    /// The audit log.
    pub fn audit(&self) -> &[Arc<AuditRecord>] {
        &self.audit
    }
    /// The generation of an object: 0 if it never existed.
    pub fn generation(&self, object: &ObjectRef) -> Generation {
        self.generations.get(object).copied().unwrap_or_default()
    }

    fn bump(&mut self, object: ObjectRef) -> Generation {
        let slot = self.generations.entry(object).or_default();
        *slot = slot.next();
        *slot
    }

    /// Drops intents that are finished and that nothing rests on.
    fn sweep_intents(&mut self) {
        let mut cited: std::collections::BTreeSet<Digest> = std::collections::BTreeSet::new();
        for node in self.nodes.values() {
            cited.insert(node.authorized.digest);
            cited.extend(node.phase.cites().map(|c| c.digest));
            cited.extend(node.assignment.iter().map(|a| a.cites.digest));
        }
        cited.extend(self.agents.upgrade.iter().map(|u| u.cites.digest));
        cited.extend(self.tokens.values().map(|t| t.cites.digest));
        cited.extend(self.tombstones.values().map(|t| t.cites.digest));
        for cluster in self.clusters.values() {
            cited.insert(cluster.created.digest);
            cited.insert(cluster.installed.digest);
            cited.extend(cluster.upgrade.iter().map(|u| u.cites.digest));
            cited.extend(cluster.backup.iter().map(|b| b.cites.digest));
            cited.extend(cluster.restore.iter().map(|r| r.cites.digest));
            cited.extend(cluster.attach.iter().map(|a| a.cites.digest));
            cited.extend(cluster.deleting.iter().map(|c| c.digest));
            cited.extend(cluster.releases.values().map(|r| r.cites.digest));
            cited.extend(cluster.marks.values().map(|m| m.cites.digest));
            cited.extend(cluster.addons.values().map(|a| a.cites.digest));
        }
        self.intents.retain(|digest, live| live.finished.is_none() || cited.contains(digest));
    }
}
