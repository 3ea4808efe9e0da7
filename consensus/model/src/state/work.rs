//! Assignments and what nodes answer: only what intents imply, only from the node itself.

use super::nodes::NodePhase;
use super::{Cluster, NodeRecord, SecretOffer, SiteState};
use crate::action::NodeRole;
use crate::assignment::{Assignment, Citation, KUBEADM, Member, NodeResult, Stage};
use crate::command::Assign;
use crate::dsse::Purpose;
use crate::grant::AccessRecord;
use crate::ids::{Digest, Generation, Name, NodeId};
use crate::intent::ObjectRef;
use crate::limits::ACCESS_RECORDS;
use crate::statement::{NodeCommand, SealKeyRecord, SignedBytes, Statement as _};

/// Most bytes that a stage may make public.
pub(super) const MAX_PUBLIC: usize = 16 * 1024;
/// Longest life of an offered secret, in milliseconds: a quarter of an hour, and room for clocks that differ.
pub(super) const MAX_OFFER_MS: u64 = 20 * 60_000;

/// Access changes no state: it is told, and stands in the chain.
fn accessed(records: &[AccessRecord]) -> Result<String, String> {
    match records {
        [] => Err("no record of access".into()),
        _ if records.len() > ACCESS_RECORDS => Err(format!("over {ACCESS_RECORDS} records of access")),
        [one] => Ok(one.to_string()),
        [first, ..] => Ok(format!("{first}, and {} more", records.len() - 1)),
    }
}

impl SiteState {
    /// Whether an intent is held (its signer was revoked as compromised).
    pub fn held(&self, cites: &Citation) -> bool {
        self.intents.get(&cites.digest).is_none_or(|live| live.held)
    }

    pub(super) fn finish(&mut self, digest: &Digest) {
        let now = self.log_time;
        if let Some(live) = self.intents.get_mut(digest) {
            live.finished.get_or_insert(now);
        }
    }

    /// The order that the state implies for a node at a stage: everything but the moment is fixed.
    /// None if the stage is not next for this node.
    pub fn implied(&self, node: &NodeId, stage: Stage) -> Option<Assignment> {
        match stage {
            Stage::Upgrade => return self.implied_upgrade(node),
            Stage::Restore => return self.implied_restore(node),
            _ => {}
        }
        let record = self.nodes.get(node)?;
        let (name, role, cites) = match &record.phase {
            NodePhase::Pool => return None,
            NodePhase::Attached { cluster, role, done, cites } => {
                let first = self.clusters.get(cluster)?.first == Some(*node);
                let next = match done {
                    None => Stage::Prepare,
                    Some(Stage::Prepare) if first => Stage::Initialize,
                    Some(Stage::Prepare) => Stage::Join,
                    Some(_) => return None,
                };
                if next != stage || !self.is_due(cluster, node, stage) {
                    return None;
                }
                (cluster, *role, *cites)
            }
            NodePhase::Detaching { cluster, role, cites } if stage == Stage::Leave => {
                if self.clusters.get(cluster)?.releases.contains_key(node) {
                    return None;
                }
                (cluster, *role, *cites)
            }
            NodePhase::Detaching { .. } => return None,
        };
        let cluster = self.clusters.get(name)?;
        if self.held(&cites) {
            return None;
        }
        let (version, bundle, created_by) = self.software(cluster, node);
        Some(Assignment {
            site: self.site,
            node: *node,
            generation: record.assignments.next(),
            cluster: name.clone(),
            driver: cluster.driver.clone(),
            version: version.clone(),
            bundle,
            settings: cluster.settings.clone(),
            role,
            stage,
            members: self.cluster_members(name),
            first: cluster.first.unwrap_or(*node),
            cites,
            created_by,
        })
    }

    /// Whether preflight let the node's attach go on, and the others are as far as the stage needs.
    fn is_due(&self, cluster: &Name, node: &NodeId, stage: Stage) -> bool {
        let Some(cluster) = self.clusters.get(cluster) else { return false };
        let Some(attach) = &cluster.attach else { return false };
        let phase = |n: &NodeId| self.nodes.get(n).map(|r| &r.phase);
        let prepared = |n: &NodeId| matches!(phase(n), Some(NodePhase::Attached { done: Some(_), .. }));
        attach.checked.is_some()
            && attach.nodes.contains(node)
            && match stage {
                Stage::Prepare => true,
                Stage::Initialize => attach.nodes.iter().all(prepared),
                _ => {
                    cluster.first.is_some_and(|first| phase(&first).is_some_and(NodePhase::serves))
                        && self.may_enter(cluster, node)
                }
            }
    }

    /// A real control plane takes its members in one after the other, and none while one is taken out:
    /// its store lets one membership change settle before the next.
    fn may_enter(&self, cluster: &Cluster, node: &NodeId) -> bool {
        let rules = |n: &&NodeRecord| n.phase.role() == Some(NodeRole::ControlPlane);
        let joins = |n: &NodeRecord| {
            let ordered = n.assignment.as_ref().is_some_and(|a| a.stage == Stage::Join);
            ordered && matches!(n.phase, NodePhase::Attached { done: Some(Stage::Prepare), .. })
        };
        cluster.driver.as_str() != KUBEADM
            || self.nodes.get(node).filter(rules).is_none()
            || (!self.members(&cluster.name).filter(rules).any(|n| n.node != *node && joins(n))
                && cluster.releases.values().all(|r| r.member.role != NodeRole::ControlPlane))
    }

    /// Members of a cluster as orders name them, those that leave included, sorted by node.
    pub fn cluster_members(&self, cluster: &Name) -> Vec<Member> {
        self.members(cluster)
            .filter_map(|n| {
                Some(Member {
                    node: n.node,
                    host: n.host.clone(),
                    address: n.address.clone()?,
                    role: n.phase.role()?,
                    slot: n.slot?,
                })
            })
            .collect()
    }

    pub(super) fn assign(&mut self, assign: &Assign) -> Result<(), String> {
        let implied = self.implied(&assign.node, assign.stage).ok_or("no intent implies this order now")?;
        if implied.generation != assign.generation {
            return Err(format!("the next generation is {}", implied.generation));
        }
        let now = self.log_time;
        let record = self.nodes.get_mut(&assign.node).ok_or("no such node")?;
        let again = record.assignment.as_ref().is_some_and(|a| a.stage == assign.stage);
        // A node is upgraded again and again, or restores; upgrade and restore know who has its order.
        if again && !matches!(assign.stage, Stage::Upgrade | Stage::Restore) {
            return Err("the node has this order already".into());
        }
        record.assignments = implied.generation;
        record.assignment = Some(implied.clone());
        record.assigned_at = now;
        if assign.stage == Stage::Upgrade {
            self.upgrade_ordered(&implied);
        }
        if assign.stage == Stage::Restore {
            self.restore_ordered(&implied);
        }
        Ok(())
    }

    /// Judges a node's signed command and applies it. Err: refused, the state is as it was.
    pub(super) fn node_said(&mut self, bytes: &[u8]) -> Result<(NodeCommand, String), String> {
        let command = super::apply::open_node_command(bytes)?;
        if command.site != self.site || command.epoch != self.epoch {
            return Err("for another site or epoch".into());
        }
        let record = self.nodes.get(&command.node).ok_or("not on the roster")?;
        if (command.incarnation, command.sequence) <= record.said {
            return Err("said before".into());
        }
        // A jump of the incarnation would let a forged high number silence the node for good.
        if command.incarnation > record.said.0 + 1_000_000 {
            return Err("the incarnation jumps".into());
        }
        let result: NodeResult = postcard::from_bytes(&command.result).map_err(|e| format!("result: {e}"))?;
        let text = match result {
            NodeResult::Hello { seal_key, address } => self.hello(&command, &seal_key, &address)?,
            NodeResult::Done { .. } if command.stage == Stage::Upgrade as u8 => {
                self.upgrade_done(&command)?
            }
            NodeResult::Done { .. } if command.stage == Stage::Restore as u8 => {
                self.restore_done(&command)?
            }
            NodeResult::Done { public } => self.stage_done(&command, public)?,
            NodeResult::UpgradeReturned { why } => self.upgrade_returned(&command, why)?,
            NodeResult::SecretOffered { to, purpose, ciphertext, expires_ms } => {
                let latest = self.log_time.plus(MAX_OFFER_MS);
                if purpose != "join" || expires_ms > latest {
                    return Err("only join secrets of at most 15 minutes are offered".into());
                }
                let offer = SecretOffer { from: command.node, ciphertext, expires: expires_ms };
                self.secret_offered(&to, offer)?
            }
            NodeResult::AgentUpgraded { version, level } => self.agent_upgraded(&command, &version, level)?,
            NodeResult::AgentReturned { version, why } => self.agent_returned(&command, version, why)?,
            NodeResult::Released { node, generation } => self.released(&command.node, &node, generation)?,
            NodeResult::Access(records) => accessed(&records)?,
        };
        if let Some(record) = self.nodes.get_mut(&command.node) {
            record.said = (command.incarnation, command.sequence);
        }
        Ok((command, text))
    }

    fn hello(&mut self, command: &NodeCommand, seal: &[u8], address: &str) -> Result<String, String> {
        let record = SignedBytes::from_bytes(Purpose::SealKey, seal, SealKeyRecord::MAX)
            .and_then(|signed| signed.open::<SealKeyRecord>())
            .map_err(|e| e.to_string())?
            .into_value();
        if record.node != command.node || record.site != self.site {
            return Err("the seal key is another node's".into());
        }
        let ip: std::net::IpAddr =
            address.parse().map_err(|_| format!("{address:?} is not an IP address"))?;
        let node = self.nodes.get_mut(&command.node).ok_or("not on the roster")?;
        if node.seal.is_some_and(|(_, seq)| record.seq < seq) {
            return Err("an older seal key".into());
        }
        node.seal = Some((record.key, record.seq));
        node.address = Some(ip.to_string());
        Ok(format!("{} is at {ip}", node.host))
    }

    fn stage_done(&mut self, command: &NodeCommand, public: Vec<u8>) -> Result<String, String> {
        if public.len() > MAX_PUBLIC {
            return Err(format!("{} public bytes, at most {MAX_PUBLIC}", public.len()));
        }
        let now = self.log_time;
        let record = self.nodes.get_mut(&command.node).ok_or("not on the roster")?;
        let assignment = record.assignment.as_ref().ok_or("has no order")?;
        if assignment.digest() != command.assignment {
            return Err("answers an order that is not the current one".into());
        }
        let (stage, name) = (assignment.stage, assignment.cluster.clone());
        if stage as u8 != command.stage {
            return Err("answers another stage".into());
        }
        let host = record.host.clone();
        match &mut record.phase {
            NodePhase::Attached { done: Some(done), .. } if *done >= stage => {
                return Err("said before: the stage is done".into());
            }
            NodePhase::Attached { done, .. } if stage != Stage::Leave => *done = Some(stage),
            NodePhase::Detaching { .. } if stage == Stage::Leave => {
                record.phase = NodePhase::Pool;
                record.slot = None;
                record.assignment = None;
                record.since = now;
                self.bump(ObjectRef::Node(command.node));
                self.forget_attached(&name);
                self.finish_detach(&name);
                self.settle_attach(&name);
                return Ok(format!("{host} left {name}"));
            }
            _ => return Err("the stage does not fit where the node is".into()),
        }
        if let Some(cluster) = self.clusters.get_mut(&name) {
            if stage == Stage::Initialize {
                cluster.public = public;
            }
            if stage == Stage::Join {
                cluster.offers.remove(&command.node);
            }
        }
        self.settle_attach(&name);
        Ok(format!("{host} is through {} of {name}", stage.word()))
    }

    /// Detach intents whose nodes are all out are finished.
    pub(super) fn finish_detach(&mut self, name: &Name) {
        let leaving = self.members(name).any(|n| matches!(n.phase, NodePhase::Detaching { .. }));
        let now = self.log_time;
        if let Some(cluster) = self.clusters.get_mut(name).filter(|_| !leaving) {
            cluster.stage_ends("leave", now);
        }
        let busy: Vec<Digest> =
            self.nodes.values().filter_map(|n| n.phase.cites()).map(|c| c.digest).collect();
        let attaching: Vec<Digest> =
            self.clusters.values().filter_map(|c| c.attach.as_ref()).map(|a| a.cites.digest).collect();
        let deleting: Vec<Digest> =
            self.clusters.values().filter_map(|c| c.deleting).map(|c| c.digest).collect();
        let releasing: Vec<Digest> =
            self.clusters.values().flat_map(|c| c.releases.values()).map(|r| r.cites.digest).collect();
        let clusters = self.clusters.values().filter(|c| c.upgrades()).filter_map(|c| c.upgrade.as_ref());
        let agents = self.agent_upgrade().filter(|u| u.rolling()).map(|u| u.cites.digest);
        let upgrading: Vec<Digest> = clusters.map(|u| u.cites.digest).chain(agents).collect();
        let restores = self.clusters.values().filter_map(|c| c.restore.as_ref());
        let restoring: Vec<Digest> = restores.filter(|r| r.is_open()).map(|r| r.cites.digest).collect();
        for (digest, live) in &mut self.intents {
            let open = [&busy, &attaching, &deleting, &releasing, &upgrading, &restoring]
                .iter()
                .any(|list| list.contains(digest));
            if live.finished.is_none() && !open {
                live.finished = Some(now);
            }
        }
    }

    fn secret_offered(&mut self, to: &NodeId, offer: SecretOffer) -> Result<String, String> {
        let from = self.nodes.get(&offer.from).ok_or("not on the roster")?;
        let NodePhase::Attached { cluster, role: NodeRole::ControlPlane, done: Some(done), .. } = &from.phase
        else {
            return Err("only control plane nodes offer secrets".into());
        };
        if *done < Stage::Initialize {
            return Err("the node has not initialized or joined".into());
        }
        let cluster = cluster.clone();
        let joins = self.nodes.get(to).is_some_and(|n| {
            let ordered =
                n.assignment.as_ref().is_some_and(|a| a.cluster == cluster && a.stage == Stage::Join);
            ordered && matches!(n.phase, NodePhase::Attached { done: Some(Stage::Prepare), .. })
        });
        if !joins {
            return Err("the recipient has no order to join this cluster".into());
        }
        let host = self.nodes.get(to).map(|n| n.host.to_string()).unwrap_or_default();
        if let Some(cluster) = self.clusters.get_mut(&cluster) {
            cluster.offers.insert(*to, offer);
        }
        Ok(format!("a join secret waits for {host}"))
    }

    /// The generation that an assignment for this node would have next.
    pub fn next_assignment(&self, node: &NodeId) -> Option<Generation> {
        self.nodes.get(node).map(|n| n.assignments.next())
    }
}
