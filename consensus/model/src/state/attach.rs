//! Attaching: from the intent to the moment when all its nodes are through.

use std::collections::{BTreeMap, BTreeSet};

use super::SiteState;
use super::cluster::{Attach, Cluster, ClusterPhase, MAX_FINDINGS};
use super::nodes::NodePhase;
use super::upgrade::UpgradePhase;
use crate::action::{NodeRole, PlacedNode, Placement};
use crate::assignment::{Citation, Stage};
use crate::command::{Place, PreflightDone};
use crate::ids::{Generation, Name, NodeId};
use crate::intent::ObjectRef;
use crate::outcome::Reason;
use crate::preflight::Severity;

impl SiteState {
    pub(super) fn attach(
        &mut self,
        name: &Name,
        placement: &Placement,
        cites: Citation,
    ) -> Result<Generation, Reason> {
        let half = self.idle_cluster(name)?.upgrade.as_ref().filter(|u| u.phase != UpgradePhase::Done);
        if let Some(half) = half {
            return Err(Reason::Precondition {
                code: "half_upgraded".into(),
                text: format!(
                    "part of {name} is at {}: a node that joins now would fit neither",
                    half.version
                ),
                remedy: Some(format!("bring the upgrade to its end first: qb cluster show {name}")),
            });
        }
        // Also where the last members are on their way out: what they made goes with them.
        let empty = self.staying(name).next().is_none();
        match placement {
            Placement::Auto { .. } => {}
            Placement::Named { nodes, .. } => {
                for node in nodes {
                    self.in_pool(node)?;
                }
            }
            Placement::Explicit { nodes } => self.check_placed(name, nodes)?,
        }
        let now = self.log_time;
        if let Some(cluster) = self.clusters.get_mut(name) {
            cluster.attach = Some(Attach {
                cites,
                placement: placement.clone(),
                placed: false,
                nodes: Vec::new(),
                checked: None,
                preflight_at: None,
                findings: Vec::new(),
            });
            cluster.stages.clear();
            cluster.stage_begins("preflight", now);
            if empty {
                cluster.enter(ClusterPhase::Preflight, now);
            }
        }
        if let Placement::Explicit { nodes } = placement {
            self.seat_members(name, nodes, cites);
        }
        Ok(self.bump(ObjectRef::Cluster(name.clone())))
    }

    /// The cluster, if nothing is under way in it.
    pub(super) fn idle_cluster(&self, name: &Name) -> Result<&Cluster, Reason> {
        let cluster =
            self.clusters.get(name).ok_or_else(|| Reason::UnknownCluster { cluster: name.clone() })?;
        let doing = if cluster.phase == ClusterPhase::Deleting {
            Some("being deleted")
        } else if cluster.attach.is_some() {
            Some("attaching nodes")
        } else if cluster.upgrades() {
            Some("being upgraded")
        } else if cluster.restores() {
            Some("being restored")
        } else {
            None
        };
        match doing {
            Some(doing) => Err(Reason::ClusterBusy { cluster: name.clone(), doing: doing.to_owned() }),
            None => Ok(cluster),
        }
    }

    pub(crate) fn in_pool(&self, node: &NodeId) -> Result<&super::NodeRecord, Reason> {
        if self.tombstones.contains_key(node) {
            return Err(Reason::NodeRevoked { node: *node });
        }
        let record = self.nodes.get(node).ok_or(Reason::UnknownNode { node: *node })?;
        match &record.phase {
            NodePhase::Pool => Ok(record),
            other => {
                let of = other.cluster().map(|c| format!(" {c}")).unwrap_or_default();
                let status = format!("{}{of}", other.word());
                Err(Reason::NodeNotInPool { node: *node, status })
            }
        }
    }

    /// Nodes are in the pool, fit their roles, and leave the cluster with 1, 3 or 5 control planes.
    pub(crate) fn check_placed(&self, name: &Name, nodes: &[PlacedNode]) -> Result<(), Reason> {
        let mut control = self.control_plane(name);
        for placed in nodes {
            let record = self.in_pool(&placed.node)?;
            if placed.role == NodeRole::ControlPlane {
                if record.probation {
                    return Err(Reason::Probation { node: placed.node });
                }
                control += 1;
            }
        }
        if matches!(control, 1 | 3 | 5) {
            return self.has_slots(name, nodes.len());
        }
        let text = format!(
            "{control} control plane nodes survive no more than {} do; a cluster has 1, 3 or 5",
            control.saturating_sub(1)
        );
        Err(Reason::Precondition {
            code: "control_plane_count".into(),
            text: if control == 0 { "the cluster would have no control plane node".into() } else { text },
            remedy: Some(format!("qb cluster attach {name} --control-planes 1 (or 3, or 5)")),
        })
    }

    /// Places in the cluster's networks that no member has, lowest first.
    fn free_slots(&self, name: &Name) -> Vec<u16> {
        let most = self.clusters.get(name).map_or(0, Cluster::slots);
        // One that was revoked keeps its own until it is out: its pods may still have their addresses.
        let leaving = self.clusters.get(name).into_iter().flat_map(|c| c.releases.values());
        let taken: BTreeSet<u16> =
            self.members(name).filter_map(|n| n.slot).chain(leaving.map(|r| r.member.slot)).collect();
        (0..most).filter(|slot| !taken.contains(slot)).collect()
    }

    /// The slots that these nodes get when they are seated: the lowest free ones, control plane first, by
    /// host name.
    pub fn slots_for(&self, name: &Name, nodes: &[PlacedNode]) -> BTreeMap<NodeId, u16> {
        let mut order: Vec<&PlacedNode> = nodes.iter().collect();
        order.sort_by_key(|p| (p.role, self.nodes.get(&p.node).map(|n| n.host.clone()), p.node));
        order.into_iter().map(|p| p.node).zip(self.free_slots(name)).collect()
    }

    /// Every member of a cluster has a network of its own, so their number is bounded.
    fn has_slots(&self, name: &Name, wanted: usize) -> Result<(), Reason> {
        let free = self.free_slots(name).len();
        if wanted <= free {
            return Ok(());
        }
        Err(Reason::Precondition {
            code: "cluster_full".into(),
            text: format!(
                "{name} has room for {free} more nodes, not {wanted}: its pod network has {} parts",
                self.clusters.get(name).map_or(0, Cluster::slots)
            ),
            remedy: Some(format!(
                "detach nodes from {name}, or make another cluster: qb cluster create NAME"
            )),
        })
    }

    /// Puts placed nodes into the cluster and chooses who initializes it.
    pub(super) fn seat_members(&mut self, name: &Name, nodes: &[PlacedNode], cites: Citation) {
        let now = self.log_time;
        let slots = self.slots_for(name, nodes);
        for placed in nodes {
            if let Some(record) = self.nodes.get_mut(&placed.node) {
                record.phase =
                    NodePhase::Attached { cluster: name.clone(), role: placed.role, done: None, cites };
                record.slot = slots.get(&placed.node).copied();
                record.since = now;
                record.assignment = None;
            }
            self.bump(ObjectRef::Node(placed.node));
        }
        self.choose_first(name);
        if let Some(attach) = self.clusters.get_mut(name).and_then(|c| c.attach.as_mut()) {
            attach.nodes = nodes.iter().map(|n| n.node).collect();
            attach.placed = true;
        }
    }

    /// The leader's choice for an attach that left it open: only what the intent implies.
    pub(super) fn place(&mut self, place: &Place) -> Result<(), String> {
        let cluster = self.clusters.get(&place.cluster).ok_or("no such cluster")?;
        let attach = cluster.attach.as_ref().ok_or("no attach is under way")?;
        if attach.cites.digest != place.intent || attach.placed {
            return Err("another attach, or placed already".into());
        }
        if self.held(&attach.cites) {
            return Err("the intent is held".into());
        }
        let sorted = place.nodes.windows(2).all(|w| w[0].node < w[1].node);
        let fits = match &attach.placement {
            Placement::Auto { count, .. } => place.nodes.len() == usize::from(*count),
            Placement::Named { nodes, .. } => place.nodes.iter().map(|n| &n.node).eq(nodes.iter()),
            Placement::Explicit { .. } => false,
        };
        if !sorted || !fits {
            return Err("the placement is not what the intent implies".into());
        }
        let cites = attach.cites;
        self.check_placed(&place.cluster, &place.nodes).map_err(|r| r.to_string())?;
        self.seat_members(&place.cluster, &place.nodes, cites);
        Ok(())
    }

    pub(super) fn preflight_done(&mut self, done: &PreflightDone) -> Result<(), String> {
        let now = self.log_time;
        let cites = self.clusters.get(&done.cluster).and_then(|c| c.attach.as_ref()).map(|a| a.cites);
        if cites.is_some_and(|c| self.held(&c)) {
            return Err("the intent is held".into());
        }
        let cluster = self.clusters.get_mut(&done.cluster).ok_or("no such cluster")?;
        let fresh = cluster.phase == ClusterPhase::Preflight;
        let attach = cluster.attach.as_mut().ok_or("no attach is under way")?;
        if attach.cites.digest != done.intent || attach.checked.is_some() || attach.nodes.is_empty() {
            return Err("another attach, not placed, or checked already".into());
        }
        if done.findings.len() > MAX_FINDINGS {
            return Err(format!("{} findings, at most {MAX_FINDINGS} are kept", done.findings.len()));
        }
        attach.preflight_at = Some(now);
        attach.findings.clone_from(&done.findings);
        if done.findings.iter().all(|f| f.severity != Severity::Error) {
            attach.checked = Some(now);
            cluster.stage_ends("preflight", now);
            cluster.stage_begins("prepare", now);
            if fresh {
                cluster.enter(ClusterPhase::Initializing, now);
            }
        }
        Ok(())
    }

    /// After a stage of a member: ends the attach when all its nodes are through.
    pub(super) fn settle_attach(&mut self, name: &Name) {
        let now = self.log_time;
        let done = |node: &NodeId, stage: Stage| {
            self.nodes
                .get(node)
                .is_some_and(|n| matches!(&n.phase, NodePhase::Attached { done: Some(d), .. } if *d >= stage))
        };
        let Some(cluster) = self.clusters.get(name) else { return };
        let Some(attach) = &cluster.attach else { return };
        let first = cluster.first;
        let prepared = attach.nodes.iter().all(|n| done(n, Stage::Prepare));
        let initialized = first.is_some_and(|f| done(&f, Stage::Initialize));
        let joined = attach
            .nodes
            .iter()
            .all(|n| if Some(*n) == first { done(n, Stage::Initialize) } else { done(n, Stage::Join) });
        let through = !attach.nodes.is_empty() && initialized && joined;
        let digest = attach.cites.digest;
        let Some(cluster) = self.clusters.get_mut(name) else { return };
        if prepared {
            cluster.stage_ends("prepare", now);
            if !initialized {
                cluster.stage_begins("initialize", now);
            }
        }
        if prepared && initialized {
            cluster.stage_ends("initialize", now);
            cluster.stage_begins("join", now);
        }
        if through {
            cluster.stage_ends("join", now);
            cluster.stage_ends("ready", now);
            cluster.attach = None;
            cluster.offers.clear();
            cluster.enter(ClusterPhase::Ready, now);
            self.finish(&digest);
        }
    }
}
