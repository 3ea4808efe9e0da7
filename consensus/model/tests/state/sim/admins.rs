//! What admins do: sensible things, foolish things, and the same thing again.

use qb_model::action::{Action, NodeRole, PlacedNode, Placement, RevokeReason};
use qb_model::command::Command;
use qb_model::ids::{Millis, NodeId};
use qb_model::intent::{Anchor, Expect, Intent};
use qb_model::settings::ChosenSettings;
use qb_model::trust::required;

use super::world::{HOSTS, World};
use crate::support::site::{
    authorize, chosen, create, create_chosen, delete, revoke, upgrade_chosen, upgrade_cluster,
};
use crate::support::{HOUR, MINUTE, OLGA, OPAL, name, node, public, sign, ulid};

const CLUSTERS: [&str; 3] = ["blue", "green", "red"];

/// One of the clusters has networks and endpoints of its own.
fn settings(cluster: &str) -> Option<ChosenSettings> {
    (cluster == "green").then(chosen)
}

impl World {
    /// An intent as an admin signs it who looks at some replica.
    pub(super) fn intent(&mut self, by: &str, action: Action) -> Intent {
        self.made += 1;
        let which = self.random.below(self.replicas.len());
        let state = &self.replicas[which];
        let site = self.charter.site_id();
        let (index, hash) = state.chain_head();
        let founding = matches!(action, Action::SiteFound { .. });
        let trust = Expect::Trust { hash: state.trust().head() };
        let (issued_ms, life) = (Millis(self.now.0), if self.random.one_in(4) { 2 * MINUTE } else { HOUR });
        Intent {
            v: 1,
            site,
            id: ulid(self.made),
            by: name(by),
            issued_ms,
            expires_ms: issued_ms.plus(life),
            anchor: if founding { Anchor::founding(site) } else { Anchor { index, hash } },
            after: None,
            expect: if required(&action).names_trust { vec![trust] } else { vec![] },
            action,
            note: None,
        }
    }

    pub(super) fn order(&mut self, by: &str, action: Action, seeds: &[u8]) {
        let intent = self.intent(by, action);
        let envelope = sign(&intent, seeds).to_bytes();
        self.sent.push(envelope.clone());
        self.append(Command::Intent(envelope));
    }

    pub(super) fn admin(&mut self) {
        let cluster = self.random.pick(&CLUSTERS).unwrap();
        let n = self.random.pick(&HOSTS.collect::<Vec<u8>>()).unwrap();
        let action = match self.random.below(40) {
            0..=7 => authorize(&[n]),
            8..=11 => match settings(cluster) {
                Some(chosen) => create_chosen(cluster, chosen),
                None => create(cluster),
            },
            12..=23 => Action::ClusterAttach { cluster: name(cluster), placement: self.placement() },
            24..=31 => self.detach(cluster),
            32..=33 => return self.order("olga", delete(cluster), &[OLGA]),
            34 => revoke(n),
            36..=37 => self.upgrade(cluster),
            35 if self.random.one_in(6) => {
                let (admin, key) = (name("opal"), public(OPAL));
                let action = Action::KeyRevoke { admin, key, reason: RevokeReason::Compromised };
                return self.order("olga", action, &[OLGA]);
            }
            _ => {
                let old = self.random.pick(&self.sent.clone()).unwrap();
                return self.append(Command::Intent(old));
            }
        };
        if self.random.one_in(3) {
            self.order("olga", action, &[OLGA]);
        } else {
            self.order("opal", action, &[OPAL]);
        }
    }

    /// To the version after the one that some replica has, or on with the one that was halted.
    fn upgrade(&mut self, cluster: &str) -> Action {
        let held = self.newest().cluster(&name(cluster));
        let (now, to) = held.map_or(("1.36.2".parse().unwrap(), None), |c| {
            (c.version.clone(), c.upgrade.as_ref().map(|u| u.version.clone()))
        });
        let patch = now.as_str().rsplit('.').next().and_then(|p| p.parse::<u32>().ok()).unwrap_or_default();
        let next = format!("1.36.{}", patch + 1 + u32::from(self.random.one_in(5)));
        let version =
            to.filter(|v| *v != now && !self.random.one_in(4)).unwrap_or_else(|| next.parse().unwrap());
        match (settings(cluster), 1 + self.random.below(2) as u16) {
            (None, batch) => upgrade_cluster(cluster, version.as_str(), batch),
            (chosen, _) => upgrade_chosen(cluster, version.as_str(), chosen),
        }
    }

    fn some_nodes(&mut self, most: usize) -> Vec<NodeId> {
        let count = 1 + self.random.below(most);
        let mut nodes: Vec<NodeId> =
            (0..count).map(|_| node(*HOSTS.start() + u8::try_from(self.random.below(10)).unwrap())).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    fn placement(&mut self) -> Placement {
        let control_plane = [0, 0, 0, 1, 3, 5][self.random.below(6)];
        match self.random.below(3) {
            0 => Placement::Auto { count: u16::try_from(1 + self.random.below(5)).unwrap(), control_plane },
            1 => Placement::Named { nodes: self.some_nodes(3), control_plane },
            _ => {
                let nodes = self.some_nodes(4).into_iter();
                let role = |first: bool| if first { NodeRole::ControlPlane } else { NodeRole::Worker };
                let all = self.random.one_in(3);
                let nodes =
                    nodes.enumerate().map(|(at, node)| PlacedNode { node, role: role(all || at == 0) });
                Placement::Explicit { nodes: nodes.collect() }
            }
        }
    }

    fn detach(&mut self, cluster: &str) -> Action {
        let cluster = name(cluster);
        let mut members: Vec<NodeId> = self.newest().members(&cluster).map(|n| n.node).collect();
        let keep = if self.random.one_in(3) { 0 } else { self.random.below(members.len()) };
        for _ in 0..keep {
            let gone = self.random.below(members.len());
            members.remove(gone);
        }
        if members.is_empty() {
            members = self.some_nodes(2);
        }
        Action::ClusterDetach { cluster, nodes: members }
    }
}
