//! The roster: who is let in, who is put out, labels, seats.

use super::nodes::{NodePhase, NodeRecord, Tombstone};
use super::{FOUNDER_SEAT, Seat, SiteState};
use crate::action::{AuthorizedNode, Eligible, KeyClass, Label, NodeRole, RevokeMode};
use crate::assignment::Citation;
use crate::ids::{Generation, NodeId, RaftId};
use crate::intent::ObjectRef;
use crate::outcome::Reason;

/// Most nodes of a roster.
pub(super) const MAX_NODES: usize = 10_000;
/// Most revoked nodes that are remembered.
pub(super) const MAX_TOMBSTONES: usize = 20_000;

impl SiteState {
    /// Founding: the named nodes are the roster and hold the first seats.
    pub(super) fn found_with(&mut self, nodes: &[AuthorizedNode], cites: Citation) {
        for (place, named) in nodes.iter().enumerate() {
            let mut record = NodeRecord::new(named.node, named.host.clone(), cites, self.log_time);
            let seat = RaftId(FOUNDER_SEAT + place as u64);
            record.seat = Some(seat);
            self.nodes.insert(named.node, record);
            self.seats.insert(seat, Seat { node: named.node, since: self.log_time });
            self.bump(ObjectRef::Node(named.node));
        }
        self.founded = true;
    }

    pub(super) fn authorize(
        &mut self,
        nodes: &[AuthorizedNode],
        class: KeyClass,
        cites: Citation,
    ) -> Result<Generation, Reason> {
        let mut fresh = Vec::new();
        for named in nodes {
            if self.tombstones.contains_key(&named.node) {
                return Err(Reason::NodeRevoked { node: named.node });
            }
            match self.nodes.get(&named.node) {
                // Authorizing again with a better key lifts probation.
                Some(held) if held.probation && class != KeyClass::Browser => fresh.push(named),
                Some(_) => {}
                None => fresh.push(named),
            }
        }
        let Some(first) = fresh.first() else {
            // An envelope names at least one node.
            return match nodes.first() {
                Some(named) => Err(Reason::AlreadyMember { node: named.node }),
                None => Err(Reason::Malformed { what: "no node is named".into() }),
            };
        };
        if self.nodes.len() + fresh.len() > MAX_NODES {
            return Err(Reason::Cap { what: "nodes".into(), max: MAX_NODES as u64 });
        }
        let mut generation = self.generation(&ObjectRef::Node(first.node)).next();
        for named in fresh {
            let now = self.log_time;
            let record = self
                .nodes
                .entry(named.node)
                .or_insert_with(|| NodeRecord::new(named.node, named.host.clone(), cites, now));
            record.probation = class == KeyClass::Browser;
            record.authorized = cites;
            generation = self.bump(ObjectRef::Node(named.node));
        }
        Ok(generation)
    }

    pub(super) fn revoke(
        &mut self,
        node: &NodeId,
        mode: RevokeMode,
        cites: Citation,
    ) -> Result<Generation, Reason> {
        if self.tombstones.contains_key(node) {
            return Err(Reason::NodeRevoked { node: *node });
        }
        let record = self.nodes.get(node).ok_or(Reason::UnknownNode { node: *node })?;
        if record.seat.is_some() && self.voters() == 1 {
            return Err(Reason::Precondition {
                code: "last_voter".into(),
                text: format!("{} is the site's only voter: without it the site has no state", record.host),
                remedy: Some("authorize another node and wait until it votes: qb site status".into()),
            });
        }
        // Those put out before count until they have lost their seats: the Raft group still needs them to agree.
        if record.seat.is_some() && (self.voters() - 1) * 2 <= self.seats.len() {
            return Err(Reason::Precondition {
                code: "voter_quorum".into(),
                text: format!(
                    "{} votes, and without it {} of {} votes are left, which is no majority",
                    record.host,
                    self.voters() - 1,
                    self.seats.len()
                ),
                remedy: Some(
                    "give it again in a few seconds, when another node votes in the place of the one before: qb site status"
                        .into(),
                ),
            });
        }
        if self.tombstones.len() >= MAX_TOMBSTONES {
            return Err(Reason::Cap { what: "revoked nodes".into(), max: MAX_TOMBSTONES as u64 });
        }
        let Some(record) = self.nodes.remove(node) else {
            return Err(Reason::UnknownNode { node: *node });
        };
        let tomb = Tombstone { host: record.host.clone(), cites, at: self.log_time, mode };
        self.tombstones.insert(*node, tomb);
        if let Some(cluster) = record.phase.cluster().cloned() {
            match record.phase {
                NodePhase::Detaching { .. } => self.release_revoked(&cluster, node, cites),
                _ => self.begin_release(&cluster, &record, cites, true),
            }
            // One on its way out has the key until it says that it is out.
            let held_ca = record.phase.role() == Some(NodeRole::ControlPlane);
            if let Some(cluster) = self.clusters.get_mut(&cluster) {
                cluster.ca_exposed |= held_ca && !cluster.public.is_empty();
                cluster.offers.retain(|to, offer| to != node && offer.from != *node);
                if let Some(attach) = &mut cluster.attach {
                    attach.nodes.retain(|n| n != node);
                }
                if cluster.first == Some(*node) {
                    cluster.first = None;
                }
            }
            self.forget_attached(&cluster);
            self.finish_detach(&cluster);
            self.settle_attach(&cluster);
        }
        self.forget_agent(node);
        Ok(self.bump(ObjectRef::Node(*node)))
    }

    pub(super) fn label(&mut self, node: &NodeId, labels: &[Label]) -> Result<Generation, Reason> {
        let record = self.nodes.get_mut(node).ok_or(Reason::UnknownNode { node: *node })?;
        record.labels = labels.to_vec();
        Ok(self.bump(ObjectRef::Node(*node)))
    }

    /// Whether policy lets a node vote.
    pub fn eligible(&self, node: &NodeId) -> bool {
        let Some(record) = self.nodes.get(node) else { return false };
        !record.probation
            && match &self.trust.policy().voters {
                Eligible::All => true,
                Eligible::Nodes { nodes } => nodes.contains(node),
            }
    }

    /// Gives a Raft id, which is the index of the entry: never used again.
    pub(super) fn seat(&mut self, node: &NodeId, index: u64) -> Result<RaftId, String> {
        if !self.eligible(node) {
            return Err("the node may not vote".into());
        }
        // Else an upgrade could take two voters away at once.
        if self.agent_order(node).is_some() {
            return Err("its agent is being upgraded".into());
        }
        let id = RaftId((self.epoch << 40) | index);
        let now = self.log_time;
        let record = self.nodes.get_mut(node).ok_or("no such node")?;
        if record.seat.is_some() {
            return Err("the node has a seat".into());
        }
        record.seat = Some(id);
        self.seats.insert(id, Seat { node: *node, since: now });
        Ok(id)
    }

    /// Seats of nodes of the roster: a revoked node keeps its own until the group has let it go.
    fn voters(&self) -> usize {
        self.seats.values().filter(|seat| self.nodes.contains_key(&seat.node)).count()
    }

    pub(super) fn unseat(&mut self, id: RaftId) -> Result<(), String> {
        let seat = self.seats.get(&id).ok_or("no such seat")?;
        if self.voters() == 1 && self.nodes.contains_key(&seat.node) {
            return Err("the last seat stays".into());
        }
        let seat = self.seats.remove(&id).ok_or("no such seat")?;
        if let Some(record) = self.nodes.get_mut(&seat.node)
            && record.seat == Some(id)
        {
            record.seat = None;
        }
        Ok(())
    }
}
