//! What an intent would do: placement and every step on every node. Pure; changes nothing.

use qb_consensus::RaftView;
use qb_drivers::Observed;
use qb_model::action::{Action, NodeRole, PlacedNode, Placement};
use qb_model::assignment::{Assignment, Citation, Member, Stage};
use qb_model::board::Board;
use qb_model::intent::Intent;
use qb_model::outcome::Reason;
use qb_model::plan::cluster_upgrade::turns;
use qb_model::plan::{place, release};
use qb_model::sentence;
use qb_model::state::{Cluster, NodePhase, SiteState};
use qb_model::{Digest, Generation, Millis, Name, NodeId, Version};
use qb_portal::view::{Head, PlanView, PlannedNode, PlannedStage, Problem};
use sha2::{Digest as _, Sha256};

use super::{kept, upgrades};

/// The intent of a plan request, and where it is planned.
pub struct Planner<'a> {
    /// The state.
    pub state: &'a SiteState,
    /// The board, for zones.
    pub board: &'a Board,
    /// The Raft group, for who votes and leads.
    pub raft: &'a RaftView,
    /// Where the site stands.
    pub head: Head,
    /// The site's time: who is silent is told by it.
    pub now: Millis,
}

impl Planner<'_> {
    /// The plan of an intent.
    pub fn plan(&self, intent: &Intent) -> PlanView {
        let mut view = PlanView {
            v: 1,
            sentence: sentence::of(&intent.action, self.state),
            changes: Vec::new(),
            nodes: Vec::new(),
            rehearsal: false,
            findings: Vec::new(),
            rejected: None,
            digest: intent.digest(),
            head: self.head.clone(),
        };
        if let Err(reason) = self.fill(intent, &mut view) {
            view.rejected = Some(problem(&reason));
        }
        view.digest = digest(&view);
        view
    }

    fn fill(&self, intent: &Intent, view: &mut PlanView) -> Result<(), Reason> {
        let after = self.state.preview(intent);
        match &intent.action {
            Action::ClusterAttach { cluster, placement } => {
                self.attach(cluster, placement, view)?;
            }
            Action::ClusterDetach { cluster, nodes } => {
                let leaving: Vec<NodeId> = nodes.clone();
                self.leave(cluster, &leaving, "pool", view)?;
                let now = self.now;
                if release::detaches(self.state, self.board, cluster, nodes, now)? == Some(2) {
                    view.changes.push(format!(
                        "! cluster {cluster}  2 control plane nodes stay: the loss of either stops its API; attach one more"
                    ));
                }
            }
            Action::ClusterDelete { cluster } => {
                let all: Vec<NodeId> = self.state.members(cluster).map(|n| n.node).collect();
                self.leave(cluster, &all, "pool", view)?;
                view.changes.push(format!("- cluster {cluster}"));
            }
            Action::ClusterCreate { cluster, driver, version, settings, .. } => {
                let known = qb_drivers::driver(driver);
                view.rehearsal = known.is_some_and(|d| d.label().is_some());
                match known {
                    Some(known) => known.supports(version).map_err(|e| refused("version", e.to_string()))?,
                    None => return Err(unknown_driver(driver)),
                }
                view.changes.push(format!("+ cluster {cluster}  empty, {driver} {version}"));
                if let Some(chosen) = settings {
                    view.changes.push(format!("+ settings of {cluster}  {chosen}, for all its life"));
                }
            }
            Action::ClusterUpgrade { cluster, version, bundle, batch, .. } => {
                self.upgrade(cluster, (version, *bundle, *batch), view)?;
            }
            Action::ClusterRestore { cluster, node, backup, others } => {
                self.restore(cluster, (*node, *backup), others, view)?;
            }
            Action::ClusterLabel { cluster, node, host, labels, taints } => {
                let now = self.state.cluster(cluster).and_then(|c| c.marks.get(node));
                view.changes = kept::planned(cluster, host, now, (labels, taints));
            }
            Action::ClusterAddonSet { cluster, addon, manifest } => {
                let known = self.state.cluster(cluster).and_then(|c| c.addons.get(addon));
                let (mark, what) = match known.filter(|a| !a.removed) {
                    Some(before) => ("~", format!("{} > {} lines", before.lines, manifest.len())),
                    None => ("+", format!("{} lines", manifest.len())),
                };
                view.changes.push(format!(
                    "{mark} add-on {addon}  of cluster {cluster}, {what}, applied again every 10 min"
                ));
            }
            Action::ClusterAddonRemove { cluster, addon } => {
                view.changes
                    .push(format!("- add-on {addon}  of cluster {cluster}, with everything that it made"));
            }
            Action::NodeAuthorize { nodes } | Action::SiteFound { nodes } => {
                let lines = nodes.iter().map(|n| format!("+ node {}  waiting > pool", n.host));
                view.changes.extend(lines);
            }
            Action::NodeRevoke { node, .. } => {
                let host = self.state.node(node).map(|n| n.host.to_string()).unwrap_or_default();
                view.changes.push(format!("- node {host}  out for good: its key never comes back"));
            }
            Action::AgentUpgrade { version, first, batch, .. } => {
                view.changes = upgrades::planned(self, version, first, *batch);
            }
            _ => view.changes.push(format!("~ {}", view.sentence)),
        }
        after.map(drop)
    }

    fn attach(&self, name: &Name, placement: &Placement, view: &mut PlanView) -> Result<(), Reason> {
        let cluster =
            self.state.cluster(name).ok_or_else(|| Reason::UnknownCluster { cluster: name.clone() })?;
        let placed = place::choose(self.state, self.board, name, placement)?;
        view.rehearsal = super::views::rehearsal(cluster);
        let first = cluster.first.or_else(|| self.first(&placed));
        let have = self.state.control_plane(name);
        let more = placed.iter().filter(|p| p.role == NodeRole::ControlPlane).count();
        let generation = self.state.generation(&qb_model::intent::ObjectRef::Cluster(name.clone()));
        view.changes.push(format!(
            "~ cluster {name}  {} > ready, control plane {have} > {}, generation {} > {}",
            cluster.phase.word(),
            have + more,
            generation,
            generation.next()
        ));
        let members = self.members(name, &placed);
        for p in &placed {
            let Some(record) = self.state.node(&p.node) else { continue };
            let is_first = first == Some(p.node);
            let last = if is_first { Stage::Initialize } else { Stage::Join };
            let stages = [Stage::Prepare, last]
                .into_iter()
                .map(|stage| self.stage(cluster, &members, p, first.unwrap_or(p.node), stage))
                .collect::<Result<Vec<_>, Reason>>()?;
            view.nodes.push(PlannedNode {
                node: p.node,
                host: record.host.clone(),
                role: Some(p.role),
                first: is_first,
                zone: self.zone(&p.node),
                stages,
            });
        }
        view.nodes.sort_by(|a, b| (a.role, !a.first, &a.host).cmp(&(b.role, !b.first, &b.host)));
        Ok(())
    }

    fn upgrade(
        &self,
        name: &Name,
        (version, bundle, batch): (&Version, Digest, u16),
        view: &mut PlanView,
    ) -> Result<(), Reason> {
        let cluster =
            self.state.cluster(name).ok_or_else(|| Reason::UnknownCluster { cluster: name.clone() })?;
        let known = qb_drivers::driver(&cluster.driver).ok_or_else(|| unknown_driver(&cluster.driver))?;
        known.supports(version).map_err(|e| refused("version", e.to_string()))?;
        let mut target = cluster.clone();
        (target.version, target.bundle) = (version.clone(), bundle);
        view.changes.push(format!(
            "~ cluster {name}  {} > {version}, control plane nodes one by one, then {batch} workers at a time",
            cluster.version
        ));
        let members = self.members(name, &[]);
        let resumed = cluster.upgrade.as_ref().filter(|u| u.version == *version && u.bundle == bundle);
        for record in turns(self.state, cluster) {
            let Some(role) = record.phase.role() else { continue };
            let placed = PlacedNode { node: record.node, role };
            let first = cluster.first.unwrap_or(record.node);
            // Whoever runs it already is left as it is.
            let stages = if resumed.is_some_and(|u| u.is_done(&record.node)) {
                Vec::new()
            } else {
                vec![self.stage(&target, &members, &placed, first, Stage::Upgrade)?]
            };
            view.nodes.push(PlannedNode {
                node: record.node,
                host: record.host.clone(),
                role: Some(role),
                first: cluster.first == Some(record.node),
                zone: self.zone(&record.node),
                stages,
            });
        }
        Ok(())
    }

    fn restore(
        &self,
        name: &Name,
        (node, backup): (NodeId, Digest),
        others: &[NodeId],
        view: &mut PlanView,
    ) -> Result<(), Reason> {
        let cluster =
            self.state.cluster(name).ok_or_else(|| Reason::UnknownCluster { cluster: name.clone() })?;
        let kept = self.board.get(&node).and_then(|h| h.report.upkeep.as_ref());
        let kept = kept.filter(|u| u.cluster == *name).map(|u| u.backups.as_slice()).unwrap_or_default();
        let host = self.state.node(&node).map(|n| n.host.to_string()).unwrap_or_default();
        let Some(found) = kept.iter().find(|b| b.digest == backup) else {
            return Err(Reason::Precondition {
                code: "no_backup".into(),
                text: format!("{host} keeps no such backup of {name}, or does not answer"),
                remedy: Some(format!("qb cluster show {name}")),
            });
        };
        view.changes.push(format!(
            "! cluster {name}  its store goes back to revision {}: what was changed since is lost",
            found.revision
        ));
        let members = self.members(name, &[]);
        let placed = PlacedNode { node, role: NodeRole::ControlPlane };
        let observed = Observed { backup: Some(backup), ..Observed::default() };
        view.nodes.push(PlannedNode {
            node,
            host: host.parse().map_err(|_| Reason::UnknownNode { node })?,
            role: Some(NodeRole::ControlPlane),
            first: true,
            zone: self.zone(&node),
            stages: vec![self.stage_of(cluster, &members, &placed, (node, Stage::Restore), &observed)?],
        });
        // As many as no cluster is made of are not attached again by themselves.
        let again = matches!(others.len() + 1, 1 | 3 | 5);
        let to = if again { "reset, then joins again" } else { "reset, then stays in the pool" };
        self.leave(name, others, to, view)
    }

    fn first(&self, placed: &[PlacedNode]) -> Option<NodeId> {
        placed
            .iter()
            .filter(|p| p.role == NodeRole::ControlPlane)
            .filter_map(|p| self.state.node(&p.node))
            .min_by(|a, b| (&a.host, a.node).cmp(&(&b.host, b.node)))
            .map(|n| n.node)
    }

    fn leave(&self, name: &Name, nodes: &[NodeId], to: &str, view: &mut PlanView) -> Result<(), Reason> {
        let cluster =
            self.state.cluster(name).ok_or_else(|| Reason::UnknownCluster { cluster: name.clone() })?;
        view.rehearsal = super::views::rehearsal(cluster);
        let members = self.members(name, &[]);
        for node in nodes {
            let Some(record) = self.state.node(node) else { continue };
            let Some(role) = record.phase.role() else { continue };
            let p = PlacedNode { node: *node, role };
            let first = cluster.first.unwrap_or(*node);
            let touched = record.assignment.is_some() || matches!(record.phase, NodePhase::Detaching { .. });
            let stages = if touched {
                vec![self.stage(cluster, &members, &p, first, Stage::Leave)?]
            } else {
                Vec::new()
            };
            view.changes.push(format!("- {}  {name} > {to}", record.host));
            view.nodes.push(PlannedNode {
                node: *node,
                host: record.host.clone(),
                role: Some(role),
                first: cluster.first == Some(*node),
                zone: self.zone(node),
                stages,
            });
        }
        Ok(())
    }

    fn members(&self, name: &Name, placed: &[PlacedNode]) -> Vec<Member> {
        let slots = self.state.slots_for(name, placed);
        let held = self.state.members(name).filter_map(|n| Some((n, n.phase.role()?, n.slot?)));
        let new =
            placed.iter().filter_map(|p| Some((self.state.node(&p.node)?, p.role, *slots.get(&p.node)?)));
        let mut members: Vec<Member> = held
            .chain(new)
            .filter_map(|(n, role, slot)| {
                Some(Member { node: n.node, host: n.host.clone(), address: n.address.clone()?, role, slot })
            })
            .collect();
        members.sort_by_key(|m| m.node);
        members
    }

    /// The steps of one node at one stage, as its driver compiles them.
    fn stage(
        &self,
        cluster: &Cluster,
        members: &[Member],
        placed: &PlacedNode,
        first: NodeId,
        stage: Stage,
    ) -> Result<PlannedStage, Reason> {
        self.stage_of(cluster, members, placed, (first, stage), &Observed::default())
    }

    /// The same where more is known.
    fn stage_of(
        &self,
        cluster: &Cluster,
        members: &[Member],
        placed: &PlacedNode,
        (first, stage): (NodeId, Stage),
        observed: &Observed,
    ) -> Result<PlannedStage, Reason> {
        let driver = qb_drivers::driver(&cluster.driver).ok_or_else(|| unknown_driver(&cluster.driver))?;
        let nowhere = Citation { digest: cluster.created.digest, index: 0 };
        let assignment = Assignment {
            site: self.state.site(),
            node: placed.node,
            generation: self.state.next_assignment(&placed.node).unwrap_or(Generation(1)),
            cluster: cluster.name.clone(),
            driver: cluster.driver.clone(),
            version: cluster.version.clone(),
            bundle: cluster.bundle,
            settings: cluster.settings.clone(),
            role: placed.role,
            stage,
            members: members.to_vec(),
            first,
            cites: nowhere,
            created_by: cluster.created,
        };
        let steps = driver.compile(&assignment, observed).map_err(|e| refused("driver", e.to_string()))?;
        Ok(PlannedStage {
            word: stage.word().to_owned(),
            steps: steps.iter().map(|s| s.title.clone()).collect(),
        })
    }

    fn zone(&self, node: &NodeId) -> String {
        self.board.get(node).map(|h| h.report.facts.zone.clone()).unwrap_or_default()
    }
}

fn refused(code: &str, text: String) -> Reason {
    Reason::Precondition { code: code.to_owned(), text, remedy: None }
}

fn unknown_driver(driver: &Name) -> Reason {
    Reason::Precondition {
        code: "unknown_driver".into(),
        text: format!("this agent has no driver {driver}; it has {}", qb_drivers::names().join(", ")),
        remedy: Some("qb cluster create NAME --driver rehearsal".into()),
    }
}

/// A refusal of the site as the API says it.
pub fn problem(reason: &Reason) -> Problem {
    Problem {
        code: reason.code().to_owned(),
        status: 409,
        title: "Refused by the site".to_owned(),
        detail: reason.to_string(),
        remedy: reason.remedy(),
    }
}

/// What a plan rests on: everything that it shows but the head and its own digest.
fn digest(view: &PlanView) -> qb_model::Digest {
    let mut hash = Sha256::new();
    hash.update(b"qb/plan/1\0");
    let shown = (&view.sentence, &view.changes, &view.nodes, &view.rejected);
    hash.update(serde_json::to_vec(&shown).unwrap_or_default());
    qb_model::Digest(hash.finalize().into())
}
