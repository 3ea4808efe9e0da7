//! What must hold, one function each.

use std::collections::{BTreeMap, BTreeSet};

use qb_model::action::NodeRole;
use qb_model::assignment::{Citation, Floor, Grounds, Stage, verify};
use qb_model::audit::verify_chain;
use qb_model::chain::AuditRecord;
use qb_model::charter::Charter;
use qb_model::ids::{Digest, Generation, Name, NodeId, RaftId};
use qb_model::intent::ObjectRef;
use qb_model::plan::why;
use qb_model::state::{ClusterPhase, NodePhase, NodeRecord, SiteState};
use qb_model::waiting::Clears;

use super::world::World;

/// Replicas at the same index hold the same bytes.
pub(super) fn replicas_are_equal(world: &World) {
    let first = &world.replicas[0];
    for other in &world.replicas[1..] {
        assert_eq!(first.applied(), other.applied());
        assert!(first.to_snapshot() == other.to_snapshot(), "replicas differ at {}", first.applied());
    }
}

/// What holds between one entry and the next.
pub(super) fn after_entry(before: &SiteState, after: &SiteState) {
    generations_never_decrease(before, after);
    attaches_share_no_node(after);
    placed_is_odd(before, after);
    ready_means_served(before, after);
    slots_are_unique_and_kept(before, after);
    settings_are_kept(before, after);
    upgrades_keep_to_their_budget(before, after);
    a_majority_of_seats_is_on_the_roster(after);
}

/// Who is put out votes no more, and holds a seat until the Raft group has let it go.
fn a_majority_of_seats_is_on_the_roster(state: &SiteState) {
    let held = state.seats().values().filter(|seat| state.node(&seat.node).is_some()).count();
    let all = state.seats().len();
    assert!(held * 2 > all || all == 0, "{held} of {all} seats are of nodes that are in");
}

/// A node is ordered to leave, and forgotten, only once somebody really took it out, once; or nobody is
/// left that could.
pub(super) fn nobody_leaves_before_it_is_out(
    taken_out: &BTreeSet<(NodeId, Generation)>,
    out: &mut BTreeSet<(NodeId, Generation)>,
    before: &SiteState,
    after: &SiteState,
) {
    let rules = |n: &NodeRecord| n.phase.serves() && n.phase.role() == Some(NodeRole::ControlPlane);
    for (name, was) in before.clusters() {
        let is = after.cluster(name).filter(|c| c.deleting.is_none());
        let stays = is.is_some() && after.members(name).any(rules);
        for (node, release) in &was.releases {
            let still = is.and_then(|c| c.releases.get(node));
            assert!(still.is_none_or(|r| r.generation == release.generation && stays), "{node} is out twice");
            if still.is_none() && stays {
                let id = (*node, release.generation);
                assert!(taken_out.contains(&id), "{} is said to be out, and is not", release.member.host);
                assert!(out.insert(id), "{} is out twice", release.member.host);
            }
        }
    }
    for (name, cluster) in after.clusters() {
        for node in cluster.releases.keys() {
            let record = after.node(node);
            let ordered = record.and_then(|n| n.assignment.as_ref()).is_some_and(|a| a.stage == Stage::Leave);
            assert!(!ordered, "{node} is ordered to leave {name} and still in it");
            assert!(record.is_some() || after.tombstones().contains_key(node));
        }
    }
}

/// Of the control plane one node at a time is upgraded, and no worker before all of it is done; no more
/// workers than were signed; a cluster's version only rises.
fn upgrades_keep_to_their_budget(before: &SiteState, after: &SiteState) {
    for (name, cluster) in after.clusters() {
        let was = before.cluster(name).filter(|c| c.created == cluster.created);
        assert!(was.is_none_or(|was| cluster.version.precedence(&was.version).is_ge()), "{name} went back");
        let Some(upgrade) = &cluster.upgrade else { continue };
        let old = was.and_then(|c| c.upgrade.as_ref());
        let rules = |n: &&NodeRecord| n.phase.role() == Some(NodeRole::ControlPlane);
        let stays = |n: &&NodeRecord| matches!(n.phase, NodePhase::Attached { .. });
        let flies = |n: &&NodeRecord| upgrade.flies(&n.node);
        let (planes, workers): (Vec<_>, Vec<_>) =
            after.members(name).filter(stays).filter(flies).partition(rules);
        let fresh = |n: &NodeRecord| old.is_none_or(|u| !u.flies(&n.node));
        if planes.iter().any(|n| fresh(n)) {
            assert_eq!(planes.len(), 1, "{name}");
        }
        if workers.iter().any(|n| fresh(n)) {
            assert!(workers.len() <= usize::from(upgrade.batch), "{name}");
            let all = after.members(name).filter(stays).filter(rules);
            assert!(
                all.into_iter().all(|n| upgrade.is_done(&n.node)),
                "{name}: a worker before the control plane"
            );
        }
        assert!(!upgrade.rolling() || cluster.attach.is_none(), "{name} attaches and is upgraded");
    }
}

/// What was chosen of a cluster never changes, and every order of it says so.
fn settings_are_kept(before: &SiteState, after: &SiteState) {
    for (name, cluster) in after.clusters() {
        let was = before.cluster(name).filter(|c| c.created == cluster.created);
        assert!(was.is_none_or(|was| was.settings == cluster.settings), "{name} has other settings");
        for node in after.members(name) {
            let order = node.assignment.as_ref();
            assert!(order.is_none_or(|order| order.settings == cluster.settings), "{}", node.host);
            assert!(node.slot.is_some_and(|slot| slot < cluster.slots()), "{}", node.host);
        }
    }
}

/// Every member has a slot of its own, the same as long as it is one; nobody in the pool has any.
fn slots_are_unique_and_kept(before: &SiteState, after: &SiteState) {
    let mut taken = BTreeSet::new();
    for (id, node) in after.nodes() {
        let cluster = node.phase.cluster();
        assert_eq!(cluster.is_some(), node.slot.is_some(), "{}", node.host);
        assert!(cluster.is_none() || taken.insert((cluster, node.slot)), "two have {:?}", node.slot);
        let was =
            before.node(id).filter(|was| was.phase.cluster().is_some() && was.phase.cluster() == cluster);
        assert!(was.is_none_or(|was| was.slot == node.slot), "{} changed its slot", node.host);
    }
}

fn generations_never_decrease(before: &SiteState, after: &SiteState) {
    let nodes = before.nodes().keys().map(|n| ObjectRef::Node(*n));
    let clusters = before.clusters().keys().map(|c| ObjectRef::Cluster(c.clone()));
    for object in nodes.chain(clusters) {
        assert!(after.generation(&object) >= before.generation(&object), "{object}");
    }
    for (id, node) in before.nodes() {
        let now = after.node(id);
        assert!(
            now.is_none_or(|n| n.assignments >= node.assignments && n.said >= node.said),
            "{}",
            node.host
        );
    }
    assert!(after.log_time() >= before.log_time());
}

/// A node is in one cluster at most, and an attach holds only nodes of its own.
fn attaches_share_no_node(state: &SiteState) {
    let mut seen = BTreeSet::new();
    for cluster in state.clusters().values() {
        for member in state.members(&cluster.name) {
            assert!(seen.insert(member.node), "{} is in two clusters", member.host);
        }
        for node in cluster.attach.iter().flat_map(|a| &a.nodes) {
            let here = state.node(node).is_some_and(|n| n.phase.cluster() == Some(&cluster.name));
            assert!(here, "the attach of {} holds a stranger", cluster.name);
        }
        let first = cluster.first.and_then(|f| state.node(&f));
        assert_eq!(cluster.first.is_some(), first.is_some(), "first of {} is gone", cluster.name);
        assert!(first.is_none_or(|f| f.phase.cluster() == Some(&cluster.name)));
    }
    let in_clusters = state.nodes().values().filter(|n| n.phase.cluster().is_some());
    for node in in_clusters {
        let cluster = node.phase.cluster().and_then(|c| state.cluster(c));
        assert!(cluster.is_some(), "{} is in a cluster that is gone", node.host);
        assert!(!state.tombstones().contains_key(&node.node), "{} is revoked", node.host);
    }
}

/// Whenever nodes are placed, the cluster has 1, 3 or 5 control planes.
fn placed_is_odd(before: &SiteState, after: &SiteState) {
    let seated = |state: &SiteState, name: &Name| {
        state.cluster(name).and_then(|c| c.attach.as_ref()).filter(|a| a.placed).map(|a| a.cites)
    };
    for name in after.clusters().keys() {
        let now = seated(after, name);
        if now.is_some() && now != seated(before, name) {
            let control = after.control_plane(name);
            assert!(matches!(control, 1 | 3 | 5), "{name} has {control} control planes");
        }
    }
}

/// A cluster becomes ready only with a control plane that serves, and all nodes through.
fn ready_means_served(before: &SiteState, after: &SiteState) {
    for (name, cluster) in after.clusters() {
        let was = before.cluster(name).map(|c| c.phase);
        if cluster.phase != ClusterPhase::Ready || was == Some(ClusterPhase::Ready) {
            continue;
        }
        let serves = |n: &&NodeRecord| n.phase.serves() && n.phase.role() == Some(NodeRole::ControlPlane);
        assert!(after.members(name).filter(serves).count() > 0, "{name} is ready without control plane");
        assert!(!cluster.public.is_empty() && cluster.attach.is_none());
    }
    // One CA for one life of a cluster: nobody initializes beside a member that serves.
    for (name, cluster) in after.clusters() {
        let Some(old) = before.cluster(name).filter(|c| !c.public.is_empty()) else { continue };
        let served = before.members(name).any(|n| n.phase.serves());
        assert!(!served || cluster.public.is_empty() || cluster.public == old.public, "{name} has two CAs");
    }
}

/// A Raft id belongs to one node for ever.
pub(super) fn seats_are_new(ever: &mut BTreeMap<RaftId, NodeId>, before: &SiteState, after: &SiteState) {
    for (id, seat) in after.seats() {
        if !before.seats().contains_key(id) {
            assert!(ever.insert(*id, seat.node).is_none(), "Raft id {id} is used again");
        }
    }
    if after.founded() {
        assert!(after.seats().values().any(|s| after.node(&s.node).is_some()), "no voter is left");
    }
}

/// Every order stands before the executor of its node.
pub(super) fn orders_verify(
    seen: &mut BTreeSet<Digest>,
    charter: &Charter,
    before: &SiteState,
    after: &SiteState,
) {
    for (id, node) in after.nodes() {
        let Some(order) = &node.assignment else { continue };
        if before.node(id).is_some_and(|n| n.assignments == node.assignments) || !seen.insert(order.digest())
        {
            continue;
        }
        let of = |cites: &Citation| {
            let live = &after.intents()[&cites.digest];
            (live.envelope.clone(), live.at)
        };
        let grounds = Grounds {
            charter: charter.envelope().to_vec(),
            trust_log: after.trust().log().to_vec(),
            order: of(&order.cites),
            create: of(&order.created_by),
        };
        let (generation, trust_head) = (order.generation, after.trust().head());
        let floor = Floor { site: after.site(), node: *id, generation, trust_head };
        verify(order.clone(), &grounds, &floor).unwrap();
    }
}

/// The whole audit log verifies offline and ends where the state says.
pub(super) fn audit_verifies(world: &World) {
    let state = world.newest();
    let records: Vec<AuditRecord> = state.audit().iter().map(|r| (**r).clone()).collect();
    let proof = verify_chain(state.site(), &world.charter, &records).unwrap();
    assert_eq!((proof.head.index, proof.head.hash), state.chain_head());
    assert_eq!(proof.accepted, world.accepted.len() as u64);
}

/// What a site has become by honest means is a snapshot that a newcomer takes.
pub(super) fn snapshot_installs(world: &World) {
    let fresh = SiteState::new(world.charter.envelope()).unwrap();
    let state = SiteState::from_snapshot(&world.newest().to_snapshot(), &fresh).unwrap();
    assert!(state == *world.newest());
}

/// After healing, whatever is open waits for a person, and whatever is done is finished.
pub(super) fn open_work_waits_for_a_person(world: &World) {
    let (state, board) = (world.newest(), world.board());
    for cluster in state.clusters().values() {
        let leaving = state.members(&cluster.name).any(|n| matches!(n.phase, NodePhase::Detaching { .. }))
            || !cluster.releases.is_empty()
            || cluster.upgrades();
        if cluster.attach.is_some() || cluster.deleting.is_some() || leaving {
            let cause = why::of_cluster(state, board, cluster, world.now);
            let person = cause.as_ref().is_some_and(|c| c.clears == Clears::Person && c.command.is_some());
            assert!(person, "{} is stuck: {cause:?}\n{cluster:#?}", cluster.name);
        }
        let lost =
            cluster.phase == ClusterPhase::Ready && !state.members(&cluster.name).any(|n| n.phase.serves());
        assert!(!lost, "{} is ready and has nobody", cluster.name);
    }
    for (digest, live) in state.intents().iter().filter(|(_, live)| live.finished.is_none()) {
        let cause = why::of_intent(state, board, digest, world.now);
        assert!(cause.is_some_and(|c| c.clears == Clears::Person), "intent of {} is open: {live:?}", live.by);
    }
}
