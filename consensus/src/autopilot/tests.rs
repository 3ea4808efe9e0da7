//! A table of situations, and a simulation of random sites.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// A node: zone, healthy, for how long in ms, seat.
type Row = (u8, &'static str, bool, u64, Option<u64>);

const NOW: Millis = Millis(1_000_000_000);

fn node(n: u8) -> NodeId {
    NodeId([n; 32])
}

fn candidates(rows: &[Row]) -> BTreeMap<NodeId, Candidate> {
    let row = |(n, zone, healthy, age, seat): &Row| {
        let since = Millis(NOW.0 - age);
        let seat = seat.map(RaftId);
        (node(*n), Candidate { zone: (*zone).into(), healthy: *healthy, since, eligible: true, seat })
    };
    rows.iter().map(row).collect()
}

/// A group: seat k is node k; everybody matches up to entry 100 except those in `lag`.
fn view(voters: &[u64], learners: &[u64], lag: &[u64]) -> RaftView {
    let members = |ids: &[u64]| ids.iter().map(|id| (RaftId(*id), node(*id as u8))).collect();
    let matching =
        voters.iter().chain(learners).map(|id| (RaftId(*id), Some(if lag.contains(id) { 0 } else { 1000 })));
    RaftView {
        voters: members(voters),
        learners: members(learners),
        last_log: Some(1000),
        matching: matching.collect(),
        ..RaftView::default()
    }
}

const OLD: u64 = 10_000_000;

#[test]
fn table() {
    let step = |rows: &[Row], voters: &[u64], learners: &[u64], lag: &[u64]| {
        let (nodes, view) = (candidates(rows), view(voters, learners, lag));
        next_step(&Situation { nodes: &nodes, view: &view, leader: RaftId(1), now: NOW })
    };
    let a = |n: u8, seat| (n, "a", true, OLD, seat);
    let one = a(1, Some(1));

    assert_eq!(step(&[one], &[1], &[], &[]), None, "alone is well");
    assert_eq!(step(&[one, a(2, None)], &[1], &[], &[]), None, "two nodes: one voter");

    let three = [one, a(2, None), a(3, None)];
    assert_eq!(step(&three, &[1], &[], &[]), Some(Step::GrantSeat { node: node(2) }));
    let granted = [one, a(2, Some(2)), a(3, None)];
    let add = Step::AddLearner { raft_id: RaftId(2), node: node(2) };
    assert_eq!(step(&granted, &[1], &[], &[]), Some(add));
    assert_eq!(step(&granted, &[1], &[2], &[2]), None, "wait for the learner");
    assert_eq!(step(&granted, &[1], &[2], &[]), Some(Step::Promote { raft_id: RaftId(2) }));
    let young = [one, (2, "a", true, STABLE_FOR_MS - 1, None), (3, "a", false, OLD, None)];
    assert_eq!(step(&young, &[1], &[], &[]), None, "neither young nor sick nodes");

    let other_zone = [one, a(2, None), (3, "b", true, OLD, None)];
    let first_b = Some(Step::GrantSeat { node: node(3) });
    assert_eq!(step(&other_zone, &[1], &[], &[]), first_b, "the empty zone first");

    let full = [one, a(2, Some(2)), a(3, Some(3)), a(4, Some(4))];
    assert_eq!(step(&full, &[1, 2, 3], &[], &[]), None, "four nodes: three voters");
    let dead = |age| [one, a(2, Some(2)), (3, "a", false, age, Some(3)), a(4, Some(4))];
    assert_eq!(step(&dead(DEAD_AFTER_MS - 1), &[1, 2, 3], &[], &[]), None, "it may come back");
    let add = Step::AddLearner { raft_id: RaftId(4), node: node(4) };
    assert_eq!(step(&dead(OLD), &[1, 2, 3], &[], &[]), Some(add));
    let replace = Step::Replace { remove: RaftId(3), add: RaftId(4) };
    assert_eq!(step(&dead(OLD), &[1, 2, 3], &[4], &[]), Some(replace));
    let dead_alone = [one, a(2, Some(2)), (3, "a", false, OLD, Some(3))];
    assert_eq!(step(&dead_alone, &[1, 2, 3], &[], &[]), None, "nobody to take its place");

    let revoked = [one, a(2, Some(2)), a(4, None), a(5, None)];
    let grant = Some(Step::GrantSeat { node: node(4) });
    assert_eq!(step(&revoked, &[1, 2, 3], &[], &[]), grant);
    let no_other = [one, a(2, Some(2)), (4, "a", false, OLD, None)];
    let remove = Some(Step::Remove { raft_id: RaftId(3) });
    assert_eq!(step(&no_other, &[1, 2, 3], &[], &[]), remove, "revocation does not wait");

    let shrink = [one, a(2, Some(2))];
    assert_eq!(step(&shrink, &[1, 2], &[], &[]), Some(Step::Remove { raft_id: RaftId(2) }));
    let stray = Some(Step::Remove { raft_id: RaftId(9) });
    assert_eq!(step(&full, &[1, 2, 3], &[9], &[]), stray);

    let leader_revoked = [a(2, Some(2)), a(3, Some(3)), a(4, Some(4))];
    let hand_over = step(&leader_revoked, &[1, 2, 3], &[4], &[]);
    assert!(matches!(hand_over, Some(Step::Transfer { .. })), "{hand_over:?}");

    let crowded = [one, a(2, Some(2)), a(3, Some(3)), (4, "b", true, OLD, Some(4))];
    let spread = Some(Step::Replace { remove: RaftId(2), add: RaftId(4) });
    assert_eq!(step(&crowded, &[1, 2, 3], &[4], &[]), spread);
}

#[test]
fn a_joint_change_is_waited_for() {
    let nodes = candidates(&[(1, "a", true, OLD, Some(1)), (2, "a", true, OLD, Some(2))]);
    let view = RaftView { joint: true, ..view(&[1, 2], &[], &[]) };
    let situation = Situation { nodes: &nodes, view: &view, leader: RaftId(1), now: NOW };
    assert_eq!(next_step(&situation), None);
}

#[test]
fn targets() {
    let table: Vec<usize> = (0..=12).map(target_voters).collect();
    assert_eq!(table, [1, 1, 1, 3, 3, 3, 3, 3, 3, 3, 5, 5, 5]);
}

/// Does what a step says, as the agent and the group would. Returns the new leader.
fn act(
    step: &Step,
    nodes: &mut BTreeMap<NodeId, Candidate>,
    view: &mut RaftView,
    next: &mut u64,
) -> Option<RaftId> {
    match step {
        Step::GrantSeat { node } => {
            *next += 1;
            nodes.get_mut(node).unwrap().seat = Some(RaftId(*next));
        }
        Step::AddLearner { raft_id, node } => {
            view.learners.insert(*raft_id, *node);
            view.matching.insert(*raft_id, view.last_log);
        }
        Step::Promote { raft_id } => {
            let node = view.learners.remove(raft_id).unwrap();
            view.voters.insert(*raft_id, node);
        }
        Step::Replace { remove, add } => {
            view.voters.remove(remove).unwrap();
            let node = view.learners.remove(add).unwrap();
            view.voters.insert(*add, node);
        }
        Step::Remove { raft_id } => {
            assert!(view.voters.remove(raft_id).or(view.learners.remove(raft_id)).is_some());
        }
        Step::Transfer { to } => return Some(*to),
    }
    None
}

proptest! {
    #[test]
    fn every_site_comes_to_rest_with_a_living_quorum(
        rows in prop::collection::vec((0..3u8, prop::bool::weighted(0.8), 0..200_000u64), 1..14),
        seated in 1..6usize,
        revoked in prop::bool::weighted(0.2),
    ) {
        let zones = ["a", "b", "c"];
        let mut nodes = BTreeMap::new();
        let mut view = view(&[], &[], &[]);
        let mut next = 0;
        for (n, (zone, healthy, age)) in rows.iter().enumerate() {
            let (id, is_voter) = (node(n as u8 + 1), n < seated);
            let seat = is_voter.then(|| { next += 1; RaftId(next) });
            if let Some(seat) = seat {
                view.voters.insert(seat, id);
                view.matching.insert(seat, view.last_log);
            }
            // The leader is healthy: it asks.
            let healthy = *healthy || n == 0;
            let (since, zone) = (Millis(NOW.0 - age), zones[usize::from(*zone)].into());
            let eligible = n > 0 || !revoked;
            nodes.insert(id, Candidate { zone, healthy, since, eligible, seat });
        }
        let mut leader = RaftId(1);
        let alive = |view: &RaftView, nodes: &BTreeMap<NodeId, Candidate>| {
            view.voters.values().filter(|node| nodes[node].healthy).count() * 2 > view.voters.len()
        };
        let before = alive(&view, &nodes);
        let mut rested = false;
        for _ in 0..200 {
            let situation = Situation { nodes: &nodes, view: &view, leader, now: NOW };
            let Some(step) = next_step(&situation) else { rested = true; break };
            if let Some(new) = act(&step, &mut nodes, &mut view, &mut next) {
                prop_assert!(view.voters.contains_key(&new));
                leader = new;
            }
            prop_assert!(view.voters.contains_key(&leader), "the leader is never thrown out");
            prop_assert!(!before || alive(&view, &nodes), "quorum lost by {:?}", step);
        }
        prop_assert!(rested, "it goes in circles");
        let fit = nodes.values().filter(|c| c.healthy && NOW.since(c.since) >= STABLE_FOR_MS).count();
        if fit == nodes.len() && before && !revoked {
            prop_assert_eq!(view.voters.len(), target_voters(nodes.len()));
        }
    }
}
