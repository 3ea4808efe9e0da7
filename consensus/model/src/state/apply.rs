//! Applying an entry. The only way in which the state changes.

use serde::{Deserialize, Serialize};

use super::cluster::ClusterPhase;
use super::{MAX_AUDIT, SiteState};
use crate::chain::{AuditKind, AuditRecord, Head, tick_digest};
use crate::command::{AgentHalt, Command, Entry};
use crate::dsse::Purpose;
use crate::ids::{Digest, Millis, Name};
use crate::limits::FEATURE_LEVEL;
use crate::outcome::Outcome;
use crate::statement::{NodeCommand, SignedBytes, Statement as _};

/// What became of an entry. Travels back to whoever proposed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Applied {
    /// A validly signed intent was judged.
    Intent {
        /// Its digest.
        digest: Digest,
        /// What became of it.
        outcome: Outcome,
        /// Its record in the audit chain.
        index: u64,
    },
    /// A leader's or node's command took effect.
    Done,
    /// It did not: the state is as it was, but for the clock.
    Ignored(String),
    /// An entry that no admin signed: a fault of whoever proposed it.
    Unsigned(String),
    /// A node's use of a join token was judged. Refused, it leaves no trace.
    Token {
        /// What became of it: a node that is in already is a duplicate, and uses nothing up.
        outcome: Outcome,
        /// The record of the audit chain that let the node in; 0 if none did.
        index: u64,
    },
}

/// Something worth telling people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// When, by log time.
    pub at: Millis,
    /// `intent`, `node`, `cluster`, `raft`, `alert`.
    pub kind: &'static str,
    /// What it is about.
    pub subject: String,
    /// The sentence.
    pub text: String,
}

/// Why a replica must stop rather than go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The entry is of a newer agent, or rotten.
    #[error("entry {index}: {why}")]
    Entry {
        /// Its index.
        index: u64,
        /// Why.
        why: String,
    },
}

impl SiteState {
    /// Applies the entry at `index`. Errors stop the replica; everything that an outsider can send
    /// gives an [`Applied`] instead.
    pub fn apply(&mut self, index: u64, bytes: &[u8]) -> Result<(Applied, Vec<Happened>), ApplyError> {
        let stop = |why: String| ApplyError::Entry { index, why };
        let entry = Entry::decode(bytes).map_err(|e| stop(e.to_string()))?;
        self.applied = index;
        let beginning = !self.founded;
        if !beginning {
            self.log_time = self.log_time.max(entry.stamp);
            self.replay.prune(self.log_time);
            self.prune_tokens();
        }
        let mut told = Vec::new();
        let applied = match entry.command {
            Command::Found(found) => self.apply_found(&found, entry.stamp, &mut told),
            _ if beginning => Applied::Ignored("the site is not founded".into()),
            Command::Intent(envelope) => self.apply_intent(&envelope, &mut told),
            Command::Node(bytes) => self.apply_node(&bytes, &mut told),
            Command::Place(place) => done(self.place(&place)),
            Command::Assign(assign) => done(self.assign(&assign)),
            Command::Preflight(result) => done(self.preflight_done(&result)),
            Command::Seat(node) => done(self.seat(&node, index).map(|_| ())),
            Command::Unseat(id) => done(self.unseat(id)),
            Command::Tick(stamps) => self.apply_tick(&stamps),
            Command::AgentOrder(order) => done(self.order_agent(&order)),
            Command::TokenUse(envelope) => self.apply_token(&envelope, &mut told),
            Command::AgentHalt(halt) => self.apply_agent_halt(&halt, &mut told),
        };
        if self.feature_level > FEATURE_LEVEL {
            let level = self.feature_level;
            return Err(stop(format!(
                "the site is at feature level {level} now, this agent knows {FEATURE_LEVEL}: install a newer agent"
            )));
        }
        self.sweep_intents();
        Ok((applied, told))
    }

    fn apply_agent_halt(&mut self, halt: &AgentHalt, told: &mut Vec<Happened>) -> Applied {
        match self.halt_agents(halt) {
            Err(why) => Applied::Ignored(why),
            Ok(why) => {
                let host = self.nodes.get(&halt.node).map(|n| n.host.to_string()).unwrap_or_default();
                told.push(self.tell("node", &host, format!("halted the upgrade of agents: {why}")));
                Applied::Done
            }
        }
    }

    fn apply_node(&mut self, bytes: &[u8], told: &mut Vec<Happened>) -> Applied {
        let before = self.cluster_phases();
        match self.node_said(bytes) {
            Err(why) => Applied::Ignored(why),
            Ok((command, text)) => {
                let digest = command.digest();
                self.chain_up(AuditKind::NodeCommand, digest, None, bytes.to_vec());
                let host = self.nodes.get(&command.node).map(|n| n.host.to_string()).unwrap_or_default();
                told.push(self.tell("node", &host, text));
                for (name, phase) in self.cluster_phases() {
                    if before.get(&name) != Some(&phase) {
                        told.push(self.tell("cluster", name.as_str(), format!("is {}", phase.word())));
                    }
                }
                Applied::Done
            }
        }
    }

    fn cluster_phases(&self) -> std::collections::BTreeMap<Name, ClusterPhase> {
        self.clusters.values().map(|c| (c.name.clone(), c.phase)).collect()
    }

    /// Time went on and nothing else happened: gives an idle site a fresh anchor. The stamps are
    /// kept as they came; a later feature level demands a majority of voters in them.
    fn apply_tick(&mut self, stamps: &[u8]) -> Applied {
        let newest = Head { index: self.chained, hash: self.chain, log_time: self.newest_head_time() };
        if !newest.is_idle(self.log_time) {
            return Applied::Ignored("the chain has a fresh head".into());
        }
        self.chain_up(AuditKind::Tick, tick_digest(stamps), None, stamps.to_vec());
        Applied::Done
    }

    /// Log time of the newest head of the audit chain.
    pub fn newest_head_time(&self) -> Millis {
        self.anchors.newest().map(|h| h.log_time).unwrap_or_default()
    }

    pub(super) fn chain_up(
        &mut self,
        kind: AuditKind,
        digest: Digest,
        outcome: Option<Outcome>,
        body: Vec<u8>,
    ) -> u64 {
        let before = Head { index: self.chained, hash: self.chain, log_time: self.newest_head_time() };
        let record = AuditRecord::after(&before, self.log_time, kind, digest, outcome, body);
        let head = record.head();
        self.chained = head.index;
        self.chain = head.hash;
        self.anchors.push(head);
        if self.audit.len() >= MAX_AUDIT {
            self.audit.remove(0);
        }
        self.audit.push(std::sync::Arc::new(record));
        head.index
    }

    pub(super) fn tell(&self, kind: &'static str, subject: &str, text: String) -> Happened {
        Happened { at: self.log_time, kind, subject: subject.to_owned(), text }
    }
}

fn done(result: Result<(), String>) -> Applied {
    match result {
        Ok(()) => Applied::Done,
        Err(why) => Applied::Ignored(why),
    }
}

/// Reads a node's signed command from its bytes; nothing is believed that is not signed.
pub(super) fn open_node_command(bytes: &[u8]) -> Result<NodeCommand, String> {
    SignedBytes::from_bytes(Purpose::Command, bytes, NodeCommand::MAX)
        .and_then(|signed| signed.open::<NodeCommand>())
        .map(crate::statement::Signed::into_value)
        .map_err(|e| e.to_string())
}
