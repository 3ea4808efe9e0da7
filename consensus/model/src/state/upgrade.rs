//! Upgrades of agents: one at a time, in waves, only as the owner's intent implies.
//!
//! ```text
//! agent.upgrade ─> Rolling ── every node of the roster is done ──> Done (floor, feature level)
//!                    │ └─ a node returned, or the leader gave it up, or an owner stopped it ─> Halted
//!                    └ order, answer, pause of 10 s, next order
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::SiteState;
use crate::action::Action;
use crate::agent_order::{AGENT_STAGE, AgentGrounds, AgentOrder};
use crate::assignment::Citation;
use crate::command::{AgentHalt, AgentOrdered};
use crate::ids::{Digest, Generation, Millis, Name, NodeId, Version};
use crate::limits::{AGENT_WELL_MS, AGENT_WHY_BYTES};
use crate::outcome::Reason;
use crate::statement::NodeCommand;
use crate::strict::is_plain_text;

/// Where an upgrade is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpgradePhase {
    /// Nodes are ordered, one wave after the other.
    Rolling,
    /// Nobody else is ordered. A new `agent.upgrade` replaces it.
    Halted {
        /// The node that failed; none if an owner stopped it or the first wave is gone.
        node: Option<NodeId>,
        /// Why.
        why: String,
    },
    /// Every node of the roster runs the version.
    Done,
}

impl UpgradePhase {
    /// The word shown to people.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Rolling => "rolling",
            Self::Halted { .. } => "halted",
            Self::Done => "done",
        }
    }
}

/// How far one node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeUpgrade {
    /// It has its order.
    Ordered {
        /// The order's generation.
        generation: Generation,
        /// When, by log time.
        at: Millis,
    },
    /// It signed that it runs the version.
    Done {
        /// When, by log time.
        at: Millis,
        /// Index of the entry: who has applied it follows the log.
        index: u64,
        /// The start of the agent that said so.
        incarnation: u64,
        /// The feature level that the agent knows.
        level: u32,
    },
    /// It signed that it runs the version before, or never left it.
    Returned {
        /// When, by log time.
        at: Millis,
        /// The version that it runs.
        version: Version,
        /// Why.
        why: String,
    },
}

/// An upgrade of all agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentUpgrade {
    /// The intent that ordered it.
    pub cites: Citation,
    /// The manifest of the agent's bundle.
    pub bundle: Digest,
    /// The version that it brings.
    pub version: Version,
    /// The first wave, sorted, as the intent names it.
    pub first: Vec<NodeId>,
    /// Nodes at the same time.
    pub batch: u16,
    /// Where it is.
    pub phase: UpgradePhase,
    /// Since when, by log time.
    pub since: Millis,
    /// When the last order was given, by log time.
    pub ordered_at: Millis,
    /// Nodes of the roster that were ordered.
    pub nodes: BTreeMap<NodeId, NodeUpgrade>,
}

impl AgentUpgrade {
    /// Whether nodes are ordered.
    pub fn rolling(&self) -> bool {
        self.phase == UpgradePhase::Rolling
    }

    /// Whether a node said that it runs the version.
    pub fn is_done(&self, node: &NodeId) -> bool {
        matches!(self.nodes.get(node), Some(NodeUpgrade::Done { .. }))
    }

    /// Nodes that have an order and have not answered.
    pub fn in_flight(&self) -> impl Iterator<Item = (&NodeId, Millis)> {
        self.nodes.iter().filter_map(|(node, is)| match is {
            NodeUpgrade::Ordered { at, .. } => Some((node, *at)),
            _ => None,
        })
    }

    /// Whether somebody behind the first wave was ordered, so that the first wave had been well.
    pub fn past_first(&self) -> bool {
        self.nodes.keys().any(|node| !self.first.contains(node))
    }

    fn flies(&self, node: &NodeId) -> bool {
        matches!(self.nodes.get(node), Some(NodeUpgrade::Ordered { .. }))
    }
}

/// Agents of the site, as far as the site agrees on them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agents {
    /// The last upgrade that was ordered.
    pub upgrade: Option<AgentUpgrade>,
    /// The version of the last upgrade that was done: an older one is not taken.
    pub floor: Option<Version>,
}

impl SiteState {
    /// The last upgrade of agents, whatever became of it.
    pub fn agent_upgrade(&self) -> Option<&AgentUpgrade> {
        self.agents.upgrade.as_ref()
    }

    /// The least version that an upgrade may bring.
    pub fn agent_floor(&self) -> Option<&Version> {
        self.agents.floor.as_ref()
    }

    /// The agent order that a node has not answered yet, also if the upgrade was halted meanwhile: what
    /// a node that began it must answer.
    pub fn agent_order(&self, node: &NodeId) -> Option<AgentOrder> {
        let upgrade = self.agent_upgrade()?;
        match upgrade.nodes.get(node)? {
            NodeUpgrade::Ordered { generation, .. } => Some(self.agent_order_of(upgrade, *node, *generation)),
            _ => None,
        }
    }

    /// The same, only while it may be begun: the upgrade goes on and is not held.
    pub fn agent_order_due(&self, node: &NodeId) -> Option<AgentOrder> {
        let upgrade = self.agent_upgrade().filter(|u| u.rolling() && !self.held(&u.cites))?;
        self.agent_order(node).filter(|_| upgrade.flies(node))
    }

    /// What an agent order rests on; none if its intent is not known here.
    pub fn agent_grounds(&self, order: &AgentOrder) -> Option<AgentGrounds> {
        let live = self.intents.get(&order.cites.digest)?;
        Some(AgentGrounds {
            charter: self.charter.clone(),
            trust_log: self.trust.log().to_vec(),
            upgrade: (live.envelope.clone(), live.at),
        })
    }

    fn agent_order_of(&self, upgrade: &AgentUpgrade, node: NodeId, generation: Generation) -> AgentOrder {
        AgentOrder {
            site: self.site,
            node,
            generation,
            bundle: upgrade.bundle,
            version: upgrade.version.clone(),
            cites: upgrade.cites,
        }
    }

    pub(super) fn begin_upgrade(&mut self, new: AgentUpgrade) -> Result<Generation, Reason> {
        let refuse = |code: &str, text: String, remedy: &str| {
            Err(Reason::Precondition { code: code.into(), text, remedy: Some(remedy.into()) })
        };
        if let Some(running) = self.agent_upgrade().filter(|u| u.rolling()) {
            let text = format!("agents are being upgraded to {} already", running.version);
            return refuse("agent_upgrade_running", text, "qb agent list, or qb agent stop");
        }
        if let Some(floor) = self.agent_floor().filter(|f| new.version.precedence(f).is_lt()) {
            let text = format!("all agents were upgraded to {floor}: version {} is older", new.version);
            return refuse("agent_floor", text, "qb bundle list");
        }
        if let Some(node) = new.first.iter().find(|n| !self.nodes.contains_key(n)) {
            return Err(match self.tombstones.contains_key(node) {
                true => Reason::NodeRevoked { node: *node },
                false => Reason::UnknownNode { node: *node },
            });
        }
        self.agents.upgrade = Some(new);
        Ok(Generation(0))
    }

    pub(super) fn stop_upgrade(&mut self, intent: &Digest, by: &Name) -> Result<Generation, Reason> {
        match self.agent_upgrade() {
            Some(upgrade) if upgrade.cites.digest == *intent && upgrade.rolling() => {
                self.halt(None, format!("{by} stopped it"));
                Ok(Generation(0))
            }
            Some(upgrade) if upgrade.cites.digest == *intent => {
                Err(Reason::NoChange { what: "the upgrade does not go on any more: it".into() })
            }
            _ => Err(Reason::UnknownIntent { digest: *intent }),
        }
    }

    fn halt(&mut self, node: Option<NodeId>, why: String) {
        let now = self.log_time;
        let Some(upgrade) = &mut self.agents.upgrade else { return };
        upgrade.phase = UpgradePhase::Halted { node, why };
        upgrade.since = now;
        let digest = upgrade.cites.digest;
        self.finish(&digest);
    }

    /// The order that a node may be given now: budget, order of the waves and the pause between them.
    /// What only the moment knows (who is well, who leads) is the planner's part.
    ///
    /// # Errors
    /// Why it is not given.
    pub fn implied_agent_order(&self, node: &NodeId) -> Result<AgentOrder, &'static str> {
        let upgrade = self.agent_upgrade().filter(|u| u.rolling()).ok_or("no upgrade goes on")?;
        if self.held(&upgrade.cites) {
            return Err("the intent is held");
        }
        let record = self.nodes.get(node).ok_or("not on the roster")?;
        if upgrade.nodes.contains_key(node) {
            return Err("the node was ordered already");
        }
        if upgrade.in_flight().count() >= usize::from(upgrade.batch) {
            return Err("as many nodes as the intent allows are on their way");
        }
        let votes = |n: &NodeId| self.nodes.get(n).is_some_and(|r| r.seat.is_some());
        if record.seat.is_some() && upgrade.in_flight().any(|(n, _)| votes(n)) {
            return Err("another voter is on its way");
        }
        let waits = |n: &NodeId| self.nodes.contains_key(n) && !upgrade.is_done(n);
        if !upgrade.first.contains(node) && upgrade.first.iter().any(waits) {
            return Err("the first wave is not done");
        }
        let pause = |is: &NodeUpgrade| {
            // Orders of one wave follow each other at once; after an answer there is a pause.
            matches!(is, NodeUpgrade::Done { at, .. }
                if *at >= upgrade.ordered_at && self.log_time.since(*at) < AGENT_WELL_MS)
        };
        if upgrade.nodes.values().any(pause) {
            return Err("the last one upgraded has not run for long enough");
        }
        Ok(self.agent_order_of(upgrade, *node, record.agent_orders.next()))
    }

    pub(super) fn order_agent(&mut self, command: &AgentOrdered) -> Result<(), String> {
        let order = self.implied_agent_order(&command.node)?;
        if order.cites.digest != command.upgrade {
            return Err("of another upgrade".into());
        }
        if order.generation != command.generation {
            return Err(format!("the next generation is {}", order.generation));
        }
        let at = self.log_time;
        let record = self.nodes.get_mut(&command.node).ok_or("not on the roster")?;
        record.agent_orders = order.generation;
        if let Some(upgrade) = &mut self.agents.upgrade {
            upgrade.ordered_at = at;
            let generation = order.generation;
            upgrade.nodes.insert(command.node, NodeUpgrade::Ordered { generation, at });
        }
        Ok(())
    }

    /// The leader gives a node up that did not answer, or did not stay well. It can do no more than
    /// halt, which any leader can by doing nothing.
    pub(super) fn halt_agents(&mut self, command: &AgentHalt) -> Result<String, String> {
        let upgrade = self.agent_upgrade().filter(|u| u.rolling()).ok_or("no upgrade goes on")?;
        if upgrade.cites.digest != command.upgrade {
            return Err("of another upgrade".into());
        }
        if !upgrade.nodes.contains_key(&command.node) {
            return Err("the node was not ordered".into());
        }
        if command.why.len() > AGENT_WHY_BYTES || !is_plain_text(&command.why) {
            return Err("the reason is no short text".into());
        }
        self.halt(Some(command.node), command.why.clone());
        Ok(command.why.clone())
    }

    fn answered(&self, command: &NodeCommand) -> Result<AgentOrder, String> {
        let order = self.agent_order(&command.node).ok_or("has no agent order")?;
        if order.digest() != command.assignment || command.stage != AGENT_STAGE {
            return Err("answers an agent order that is not the current one".into());
        }
        Ok(order)
    }

    pub(super) fn agent_upgraded(
        &mut self,
        command: &NodeCommand,
        version: &Version,
        level: u32,
    ) -> Result<String, String> {
        if self.answered(command)?.version != *version {
            return Err("runs another version than the one ordered".into());
        }
        let (at, index, incarnation) = (self.log_time, self.applied, command.incarnation);
        if let Some(upgrade) = &mut self.agents.upgrade {
            upgrade.nodes.insert(command.node, NodeUpgrade::Done { at, index, incarnation, level });
        }
        self.settle_upgrade();
        Ok(format!("runs agent {version}"))
    }

    pub(super) fn agent_returned(
        &mut self,
        command: &NodeCommand,
        version: Version,
        why: String,
    ) -> Result<String, String> {
        let order = self.answered(command)?;
        if why.len() > AGENT_WHY_BYTES || !is_plain_text(&why) {
            return Err("the reason is no short text".into());
        }
        let at = self.log_time;
        let text = format!("runs agent {version}, not {}: {why}", order.version);
        let Some(upgrade) = &mut self.agents.upgrade else { return Err("no upgrade".into()) };
        let rolling = upgrade.rolling();
        let halted = format!("returned to {version}: {why}");
        upgrade.nodes.insert(command.node, NodeUpgrade::Returned { at, version, why });
        if rolling {
            self.halt(Some(command.node), halted);
        }
        Ok(text)
    }

    /// A revoked node is not waited for.
    pub(super) fn forget_agent(&mut self, node: &NodeId) {
        if let Some(upgrade) = &mut self.agents.upgrade {
            upgrade.nodes.remove(node);
        }
        self.settle_upgrade();
    }

    /// Ends an upgrade when every node of the roster is done; halts one whose first wave is gone before
    /// it showed anything.
    fn settle_upgrade(&mut self) {
        let Some(upgrade) = self.agent_upgrade().filter(|u| u.rolling()) else { return };
        if !self.nodes.keys().all(|n| upgrade.is_done(n)) {
            let here = upgrade.first.iter().any(|n| self.nodes.contains_key(n));
            if !here && !upgrade.past_first() {
                self.halt(None, "every node of the first wave was revoked".into());
            }
            return;
        }
        let levels = upgrade.nodes.values().filter_map(|is| match is {
            NodeUpgrade::Done { level, .. } => Some(*level),
            _ => None,
        });
        let level = levels.min().unwrap_or(self.feature_level);
        let (digest, version) = (upgrade.cites.digest, upgrade.version.clone());
        self.feature_level = self.feature_level.max(level);
        self.agents.floor = Some(version);
        let now = self.log_time;
        if let Some(upgrade) = &mut self.agents.upgrade {
            upgrade.phase = UpgradePhase::Done;
            upgrade.since = now;
        }
        self.finish(&digest);
    }
}

/// Whether an intent orders this upgrade: for snapshots.
pub(super) fn orders(action: &Action, made: &AgentUpgrade) -> bool {
    matches!(action, Action::AgentUpgrade { bundle, version, first, batch }
        if *bundle == made.bundle && *version == made.version && *first == made.first && *batch == made.batch)
}
