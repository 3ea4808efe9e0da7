//! The consensus library's types, fixed once, and their conversions to the crate's own forms.
//! No other module names a generic of the library.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use openraft::entry::RaftEntry;
use openraft::vote::RaftLeaderId;
use serde::{Deserialize, Serialize};

use crate::state::MachineStore;
use crate::wire::{
    LogPos, WireEntry, WireError, WireMember, WireMembership, WirePayload, WireSnapshotMeta,
    WireStoredMembership, WireVote, decode, encode,
};

/// A command as the log carries it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Command(pub(crate) Bytes);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.0.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

openraft::declare_raft_types!(
    /// The library's configuration for this crate.
    pub(crate) Types:
        D = Command,
        R = Vec<u8>,
        NodeId = u64,
        Node = WireMember,
        Term = u64,
);

pub(crate) type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
pub(crate) type Vote = openraft::impls::Vote<LeaderId>;
pub(crate) type LogId = openraft::LogId<LeaderId>;
pub(crate) type Payload = openraft::EntryPayload<Command, u64, WireMember>;
pub(crate) type Entry = openraft::impls::Entry<LeaderId, Payload>;
pub(crate) type Membership = openraft::Membership<u64, WireMember>;
pub(crate) type StoredMembership = openraft::StoredMembership<LeaderId, u64, WireMember>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<LeaderId, u64, WireMember>;
pub(crate) type Snapshot = openraft::Snapshot<LeaderId, u64, WireMember, Bytes>;
pub(crate) type Raft = openraft::Raft<Types, MachineStore>;
pub(crate) type Metrics = openraft::RaftMetrics<Types>;

pub(crate) fn vote_to_wire(vote: &Vote) -> WireVote {
    WireVote { term: vote.leader_id.term, leader: vote.leader_id.node_id, committed: vote.committed }
}

pub(crate) fn vote_from_wire(vote: &WireVote) -> Vote {
    let mut out = Vote::new(vote.term, vote.leader);
    out.committed = vote.committed;
    out
}

pub(crate) fn pos(id: &LogId) -> LogPos {
    LogPos { term: id.leader_id.term, leader: id.leader_id.node_id, index: id.index }
}

pub(crate) fn log_id(at: &LogPos) -> LogId {
    LogId::new(LeaderId::new(at.term, at.leader), at.index)
}

pub(crate) fn membership_to_wire(m: &Membership) -> WireMembership {
    WireMembership {
        configs: m.get_joint_config().iter().map(|c| c.iter().copied().collect()).collect(),
        members: m.nodes().map(|(id, node)| (*id, *node)).collect(),
    }
}

pub(crate) fn membership_from_wire(m: &WireMembership) -> Result<Membership, WireError> {
    if m.configs.is_empty() {
        return Ok(Membership::default());
    }
    let configs: Vec<BTreeSet<u64>> = m.configs.iter().map(|c| c.iter().copied().collect()).collect();
    let members: BTreeMap<u64, WireMember> = m.members.iter().copied().collect();
    Membership::new(configs, members).map_err(|e| WireError::Malformed(e.to_string()))
}

pub(crate) fn stored_to_wire(m: &StoredMembership) -> WireStoredMembership {
    WireStoredMembership { at: m.log_id().as_ref().map(pos), membership: membership_to_wire(m.membership()) }
}

pub(crate) fn stored_from_wire(m: &WireStoredMembership) -> Result<StoredMembership, WireError> {
    Ok(StoredMembership::new(m.at.as_ref().map(log_id), membership_from_wire(&m.membership)?))
}

pub(crate) fn meta_to_wire(meta: &SnapshotMeta) -> WireSnapshotMeta {
    WireSnapshotMeta {
        last: meta.last_log_id.as_ref().map(pos),
        membership: stored_to_wire(&meta.last_membership),
    }
}

pub(crate) fn meta_from_wire(meta: &WireSnapshotMeta) -> Result<SnapshotMeta, WireError> {
    Ok(SnapshotMeta {
        last_log_id: meta.last.as_ref().map(log_id),
        last_membership: stored_from_wire(&meta.membership)?,
    })
}

pub(crate) fn payload_to_wire(payload: &Payload) -> WirePayload {
    match payload {
        Payload::Blank => WirePayload::Blank,
        Payload::Normal(command) => WirePayload::Command(command.0.clone()),
        Payload::Membership(m) => WirePayload::Membership(membership_to_wire(m)),
    }
}

/// An entry in the form that is stored and shipped.
pub(crate) fn entry_to_wire(entry: &Entry) -> WireEntry {
    WireEntry { at: pos(&entry.log_id), payload: encode(&payload_to_wire(&entry.payload)) }
}

pub(crate) fn entry_from_wire(entry: &WireEntry) -> Result<Entry, WireError> {
    let payload = match decode(&entry.payload)? {
        WirePayload::Blank => Payload::Blank,
        WirePayload::Command(bytes) => Payload::Normal(Command(bytes)),
        WirePayload::Membership(m) => Payload::Membership(membership_from_wire(&m)?),
    };
    Ok(Entry::new(log_id(&entry.at), payload))
}
