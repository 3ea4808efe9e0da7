//! Places in a cluster's networks: lowest free, kept until the node has left, bounded.

use qb_model::action::{Action, AuthorizedNode, NodeRole, PlacedNode, Placement};
use qb_model::dsse::{SecretKey, Signer as _};
use qb_model::ids::{Digest, NodeId};
use qb_model::limits::KUBEADM_SLOTS;

use crate::support::OPAL;
use crate::support::site::{Site, attach, attach_explicit, create, create_with, detach};
use crate::support::{name, node};

fn slots(site: &Site, seeds: &[u8]) -> Vec<Option<u16>> {
    seeds.iter().map(|n| site.record(*n).slot).collect()
}

#[test]
fn control_plane_first_then_by_host_and_orders_name_them() {
    let site = Site::with_blue(5, &[104], &[102, 103]);
    assert_eq!(slots(&site, &[104, 102, 103, 105]), [Some(0), Some(1), Some(2), None]);
    let order = site.order_of(103);
    let named: Vec<(u8, u16)> = (102..=104).zip(order.members.iter().map(|m| m.slot)).collect();
    let of = |n: u8| order.members.iter().find(|m| m.node == node(n)).unwrap().slot;
    assert_eq!([of(104), of(102), of(103)], [0, 1, 2], "{named:?}");
}

#[test]
fn a_slot_is_kept_until_its_node_has_left() {
    let mut site = Site::with_blue(7, &[102], &[103, 104, 105]);
    site.must("opal", detach("blue", &[103]), &[OPAL]);
    site.must("opal", attach_explicit("blue", &[], &[106]), &[OPAL]);
    assert_eq!(slots(&site, &[103, 106]), [Some(1), Some(4)], "103 has not left");
    site.settle();
    assert_eq!(slots(&site, &[103, 106]), [None, Some(4)], "nobody moves");
    site.must("opal", attach_explicit("blue", &[], &[107]), &[OPAL]);
    assert_eq!(slots(&site, &[107]), [Some(1)], "the lowest that is free");
}

#[test]
fn a_node_that_leaves_before_its_first_order_gives_its_slot_back() {
    let mut site = Site::with_pool(4);
    site.must("opal", create("blue"), &[OPAL]);
    site.must("opal", attach_explicit("blue", &[102], &[103, 104]), &[OPAL]);
    site.must("opal", detach("blue", &[103]), &[OPAL]);
    assert_eq!(slots(&site, &[102, 103, 104]), [Some(0), None, Some(2)]);
}

/// Nodes beyond the 255 that a seed of one byte makes.
fn many(count: u16) -> Vec<AuthorizedNode> {
    let key = |n: u16| {
        let mut seed = [77; 32];
        seed[..2].copy_from_slice(&n.to_be_bytes());
        NodeId(SecretKey::from_bytes(&seed).public_key().0)
    };
    let named = |n| AuthorizedNode {
        node: key(n),
        host: format!("many-{n}.plant").parse().unwrap(),
        knock: Digest([7; 32]),
    };
    let mut nodes: Vec<AuthorizedNode> = (0..count).map(named).collect();
    nodes.sort_by_key(|n| n.node);
    nodes
}

fn attach_many(cluster: &str, nodes: &[AuthorizedNode]) -> Action {
    let role = |n: usize| if n == 0 { NodeRole::ControlPlane } else { NodeRole::Worker };
    let nodes =
        nodes.iter().enumerate().map(|(n, named)| PlacedNode { node: named.node, role: role(n) }).collect();
    attach(cluster, Placement::Explicit { nodes })
}

#[test]
fn a_kubeadm_cluster_that_is_full_refuses_and_says_so() {
    let mut site = Site::with_pool(1);
    let all = many(KUBEADM_SLOTS + 1);
    site.must("opal", Action::NodeAuthorize { nodes: all.clone() }, &[OPAL]);
    site.must("opal", create("blue"), &[OPAL]);
    site.must_not("opal", attach_many("blue", &all), &[OPAL], "cluster_full");
    site.must("opal", attach_many("blue", &all[1..]), &[OPAL]);
    let mut taken: Vec<u16> = site.state.members(&name("blue")).filter_map(|n| n.slot).collect();
    taken.sort_unstable();
    assert_eq!(taken, (0..KUBEADM_SLOTS).collect::<Vec<_>>());
}

#[test]
fn a_rehearsal_has_no_pod_network_that_could_be_full() {
    let mut site = Site::with_pool(1);
    let all = many(KUBEADM_SLOTS + 1);
    site.must("opal", Action::NodeAuthorize { nodes: all.clone() }, &[OPAL]);
    site.must("opal", create_with("blue", "rehearsal"), &[OPAL]);
    site.must("opal", attach_many("blue", &all), &[OPAL]);
    let last = site.state.members(&name("blue")).filter_map(|n| n.slot).max();
    assert_eq!(last, Some(KUBEADM_SLOTS));
}
