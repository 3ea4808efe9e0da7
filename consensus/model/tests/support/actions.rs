//! Actions on nodes and clusters, by the numbers of their nodes.

use qb_model::action::{Action, AuthorizedNode, Label, NodeRole, PlacedNode, Placement, Taint, TaintEffect};
use qb_model::ids::{Digest, NodeId};
use qb_model::settings::ChosenSettings;

use super::{authorized, name, node};

pub(crate) fn sorted(seeds: &[u8]) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = seeds.iter().map(|s| node(*s)).collect();
    nodes.sort_unstable();
    nodes
}

pub(crate) fn authorize(seeds: &[u8]) -> Action {
    let mut nodes: Vec<AuthorizedNode> = seeds.iter().map(|s| authorized(*s)).collect();
    nodes.sort_by_key(|n| n.node);
    Action::NodeAuthorize { nodes }
}

pub(crate) fn create(cluster: &str) -> Action {
    create_with(cluster, "kubeadm")
}

pub(crate) fn create_with(cluster: &str, driver: &str) -> Action {
    Action::ClusterCreate {
        cluster: name(cluster),
        driver: name(driver),
        version: "1.36.2".parse().unwrap(),
        bundle: Digest([9; 32]),
        settings: None,
    }
}

/// Settings that differ from the defaults in everything, with room for 16 members.
pub(crate) fn chosen() -> ChosenSettings {
    ChosenSettings {
        pods: Some("10.8.0.0/20".parse().unwrap()),
        services: Some("172.16.0.0/12".parse().unwrap()),
        endpoints: Some(vec!["k8s.example.com".parse().unwrap(), "203.0.113.9".parse().unwrap()]),
        port: Some(8443),
    }
}

pub(crate) fn create_chosen(cluster: &str, settings: ChosenSettings) -> Action {
    let Action::ClusterCreate { cluster, driver, version, bundle, .. } = create(cluster) else { panic!() };
    Action::ClusterCreate { cluster, driver, version, bundle, settings: Some(settings) }
}

pub(crate) fn upgrade_chosen(cluster: &str, version: &str, settings: Option<ChosenSettings>) -> Action {
    let Action::ClusterUpgrade { cluster, driver, version, bundle, batch, .. } =
        upgrade_cluster(cluster, version, 2)
    else {
        panic!()
    };
    Action::ClusterUpgrade { cluster, driver, version, bundle, batch, settings }
}

pub(crate) fn attach(cluster: &str, placement: Placement) -> Action {
    Action::ClusterAttach { cluster: name(cluster), placement }
}

pub(crate) fn attach_auto(cluster: &str, count: u16) -> Action {
    attach(cluster, Placement::Auto { count, control_plane: 0 })
}

pub(crate) fn attach_named(cluster: &str, seeds: &[u8]) -> Action {
    attach(cluster, Placement::Named { nodes: sorted(seeds), control_plane: 0 })
}

pub(crate) fn placed(control: &[u8], workers: &[u8]) -> Vec<PlacedNode> {
    let of =
        |seeds: &[u8], role| seeds.iter().map(|s| PlacedNode { node: node(*s), role }).collect::<Vec<_>>();
    let mut nodes = of(control, NodeRole::ControlPlane);
    nodes.extend(of(workers, NodeRole::Worker));
    nodes.sort_by_key(|n| n.node);
    nodes
}

pub(crate) fn attach_explicit(cluster: &str, control: &[u8], workers: &[u8]) -> Action {
    attach(cluster, Placement::Explicit { nodes: placed(control, workers) })
}

pub(crate) fn detach(cluster: &str, seeds: &[u8]) -> Action {
    Action::ClusterDetach { cluster: name(cluster), nodes: sorted(seeds) }
}

pub(crate) fn delete(cluster: &str) -> Action {
    Action::ClusterDelete { cluster: name(cluster) }
}

pub(crate) fn revoke(seed: u8) -> Action {
    Action::NodeRevoke { node: node(seed), then: qb_model::action::RevokeMode::Isolate }
}

pub(crate) fn upgrade_cluster(cluster: &str, version: &str, batch: u16) -> Action {
    Action::ClusterUpgrade {
        cluster: name(cluster),
        driver: name("kubeadm"),
        version: version.parse().unwrap(),
        bundle: Digest([10; 32]),
        batch,
        settings: None,
    }
}

/// Labels `key=value` and taints `key` (none is scheduled) of the node of a number.
pub(crate) fn label(cluster: &str, seed: u8, labels: &[(&str, &str)], taints: &[&str]) -> Action {
    let label = |(key, value): &(&str, &str)| Label { key: (*key).into(), value: (*value).into() };
    let taint =
        |key: &&str| Taint { key: (*key).into(), effect: TaintEffect::NoSchedule, value: String::new() };
    Action::ClusterLabel {
        cluster: name(cluster),
        node: node(seed),
        host: authorized(seed).host,
        labels: labels.iter().map(label).collect(),
        taints: taints.iter().map(taint).collect(),
    }
}

pub(crate) fn set_addon(cluster: &str, addon: &str, lines: &[&str]) -> Action {
    let manifest = lines.iter().map(|line| (*line).to_owned()).collect();
    Action::ClusterAddonSet { cluster: name(cluster), addon: name(addon), manifest }
}

pub(crate) fn remove_addon(cluster: &str, addon: &str) -> Action {
    Action::ClusterAddonRemove { cluster: name(cluster), addon: name(addon) }
}
