//! What a snapshot's roster, clusters and orders rest on: signed intents, or it is not installed.

use std::collections::BTreeMap;

use super::cluster_upgrade::brings;
use super::restore::names_other;
use super::{NodePhase, NodeRecord, SiteState, SnapshotError};
use crate::action::{Action, NodeRole, Placement};
use crate::assignment::{Citation, implied, signed_intent};
use crate::ids::{Digest, Name, NodeId};
use crate::token::Entry;

/// Actions of cited intents, each verified once.
struct Cited<'a> {
    state: &'a SiteState,
    verified: BTreeMap<Digest, Option<Action>>,
}

impl Cited<'_> {
    /// The action of a cited intent, if it is held and admins of its time signed it.
    fn action(&mut self, cites: &Citation) -> Option<&Action> {
        let state = self.state;
        let live = state.intents.get(&cites.digest).filter(|live| live.cites == *cites)?;
        let verify = || signed_intent(&live.envelope, &state.trust, cites, live.at).ok().map(|i| i.action);
        self.verified.entry(cites.digest).or_insert_with(verify).as_ref()
    }

    fn rests(&mut self, cites: &Citation, fits: impl Fn(&Action) -> bool) -> bool {
        self.action(cites).is_some_and(fits)
    }
}

impl SiteState {
    /// Checks that every node, tombstone, order and cluster rests on a validly signed intent.
    pub(super) fn check_foundations(&self) -> Result<(), SnapshotError> {
        let unfounded = |what: String| Err(SnapshotError::Unfounded { what });
        let mut cited = Cited { state: self, verified: BTreeMap::new() };
        for (id, node) in &self.nodes {
            if *id != node.node || !node_stands(&mut cited, node) {
                return unfounded(format!("node {}", node.host));
            }
        }
        for (id, tomb) in &self.tombstones {
            if !cited.rests(&tomb.cites, |a| matches!(a, Action::NodeRevoke { node, .. } if node == id)) {
                return unfounded(format!("tombstone of {}", tomb.host));
            }
        }
        for (name, cluster) in &self.clusters {
            let stands = *name == cluster.name
                && cited.rests(&cluster.created, |a| creates(a, cluster))
                && cited.rests(&cluster.installed, |a| {
                    installs(a, cluster) || brings(a, cluster, &cluster.version, &cluster.bundle)
                })
                && cluster
                    .upgrade
                    .as_ref()
                    .is_none_or(|u| cited.rests(&u.cites, |a| brings(a, cluster, &u.version, &u.bundle)))
                && cluster.attach.as_ref().is_none_or(|attach| {
                    cited.rests(&attach.cites, |a| attaches(a, name, &attach.placement))
                })
                && cluster.backup.is_none_or(|b| {
                    cited.rests(
                        &b.cites,
                        |a| matches!(a, Action::ClusterBackup { cluster } if cluster == name),
                    )
                })
                && cluster
                    .restore
                    .as_ref()
                    .is_none_or(|r| cited.rests(&r.cites, |a| super::restore::orders(a, name, r)))
                && cluster.deleting.is_none_or(|c| cited.rests(&c, |a| deletes(a, name)))
                && cluster.marks.iter().all(|(node, kept)| {
                    cited.rests(&kept.cites, |a| super::kept::marks(a, name, node, kept))
                })
                && cluster.addons.iter().all(|(addon, kept)| {
                    cited.rests(&kept.cites, |a| super::kept::addon(a, name, addon, kept))
                })
                && cluster.releases.iter().all(|(node, release)| {
                    *node == release.member.node && cited.rests(&release.cites, |a| takes_out(a, name, node))
                });
            if !stands {
                return unfounded(format!("cluster {name}"));
            }
        }
        for (key, token) in &self.tokens {
            if !cited.rests(&token.cites, |a| Self::token_stands(key, token, a)) {
                return unfounded(format!("join token {}", crate::words::fingerprint(&key.0)));
            }
        }
        if let Some(upgrade) = &self.agents.upgrade
            && !cited.rests(&upgrade.cites, |a| super::upgrade::orders(a, upgrade))
        {
            return unfounded(format!("upgrade of agents to {}", upgrade.version));
        }
        Ok(())
    }
}

fn node_stands(cited: &mut Cited<'_>, node: &NodeRecord) -> bool {
    if !cited.rests(&node.authorized, |a| lets_in(a, &node.node)) && !entered(cited.state, node) {
        return false;
    }
    let placed = match &node.phase {
        NodePhase::Pool => true,
        NodePhase::Attached { cluster: name, cites, .. } => cited.rests(cites, |a| {
            matches!(a, Action::ClusterAttach { cluster, .. } if cluster == name)
                || names_other(a, name, &node.node)
        }),
        NodePhase::Detaching { cluster: name, cites, .. } => cited.rests(cites, |a| {
            deletes(a, name)
                || names_other(a, name, &node.node)
                || matches!(a, Action::ClusterDetach { cluster, nodes }
                    if cluster == name && nodes.contains(&node.node))
        }),
    };
    let Some(order) = node.assignment.as_ref().filter(|_| placed) else { return placed };
    let create = cited.action(&order.created_by).cloned();
    order.node == node.node
        && create.is_some_and(|create| cited.rests(&order.cites, |a| implied(order, a, &create).is_ok()))
}

fn lets_in(action: &Action, node: &NodeId) -> bool {
    match action {
        Action::SiteFound { nodes } | Action::NodeAuthorize { nodes } => {
            nodes.iter().any(|n| n.node == *node)
        }
        _ => false,
    }
}

/// Whether the node came in by a join token that admins minted, and is on probation.
fn entered(state: &SiteState, node: &NodeRecord) -> bool {
    let live = state.intents.get(&node.authorized.digest).filter(|live| live.cites == node.authorized);
    let Some((live, entry)) = live.and_then(|live| Some((live, Entry::open(&live.envelope).ok()?))) else {
        return false;
    };
    node.probation
        && entry.digest() == live.cites.digest
        && entry.node() == node.node
        && entry.verify(&state.trust, live.at).is_ok()
}

fn creates(action: &Action, made: &super::Cluster) -> bool {
    matches!(action, Action::ClusterCreate { cluster, driver, settings, .. }
        if *cluster == made.name && *driver == made.driver && *settings == made.settings.chosen())
}

/// Whether an intent made a cluster at the version that it has.
fn installs(action: &Action, made: &super::Cluster) -> bool {
    matches!(action, Action::ClusterCreate { version, bundle, .. }
        if creates(action, made) && *version == made.version && *bundle == made.bundle)
}

/// Whether an intent attaches nodes so: by itself, or since they are in again after a restore.
fn attaches(action: &Action, name: &Name, placement: &Placement) -> bool {
    match (action, placement) {
        (Action::ClusterAttach { cluster, placement: signed }, _) => cluster == name && signed == placement,
        (Action::ClusterRestore { cluster, others, .. }, Placement::Explicit { nodes }) => {
            let rules = nodes.iter().all(|n| n.role == NodeRole::ControlPlane);
            cluster == name && rules && nodes.iter().map(|n| &n.node).eq(others.iter())
        }
        _ => false,
    }
}

fn deletes(action: &Action, name: &Name) -> bool {
    matches!(action, Action::ClusterDelete { cluster } if cluster == name)
}

fn takes_out(action: &Action, name: &Name, of: &NodeId) -> bool {
    match action {
        Action::ClusterDetach { cluster, nodes } => cluster == name && nodes.contains(of),
        Action::NodeRevoke { node, .. } => node == of,
        _ => false,
    }
}
