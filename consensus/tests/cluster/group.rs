//! Writing, reading, restarting.

use std::collections::BTreeSet;
use std::time::Duration;

use qb_consensus::{
    OpenError, PromoteError, ProposeError, ReadError, Role, SeatError, VoterChange, give_up_seat,
};
use qb_model::RaftId;

use crate::harness::{Site, eventually, node};

const SOON: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn one_node_writes_reads_and_restarts() {
    let mut site = Site::new();
    let first = site.start(1).await;
    assert_eq!(first.propose(b"early".to_vec(), SOON).await, Err(ProposeError::NotLeader { leader: None }));
    first.found(RaftId(1)).await.unwrap();
    first.found(RaftId(1)).await.unwrap();
    assert!(first.found(RaftId(2)).await.is_err(), "a seat is never exchanged");
    assert_eq!(site.write(b"a").await, b"1");
    assert_eq!(site.write(b"b").await, b"2");
    let index = first.linearizable(SOON).await.unwrap();
    assert!(first.wait_applied(index, SOON).await);
    let large = vec![0; qb_consensus::limits::MAX_COMMAND + 1];
    let length = large.len();
    assert_eq!(first.propose(large, SOON).await, Err(ProposeError::TooLarge(length)));

    site.stop(1).await;
    site.start(1).await;
    assert_eq!(site.write(b"c").await, b"3");
    assert_eq!(site.nodes[&1].ledger.commands(), [b"a", b"b", b"c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_replicate() {
    let site = Site::voters(3).await;
    for n in 0..50u8 {
        site.write(&[n]).await;
    }
    site.all_have(&[49]).await;
    let leader = site.leader().await;
    for n in 1..=3 {
        eventually("all agree", async || {
            let view = site.view(n);
            let agree = view.voters.len() == 3
                && view.leader == Some(node(leader))
                && view.role == if n == leader { Role::Leader } else { Role::Follower };
            agree.then_some(())
        })
        .await;
        let read = site.nodes[&n].consensus.linearizable(SOON).await;
        match read {
            Ok(_) => assert_eq!(n, leader),
            Err(error) => {
                assert_ne!(n, leader);
                assert_eq!(error, ReadError::NotLeader { leader: Some(node(leader)) });
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_restart_from_disk() {
    let mut site = Site::voters(3).await;
    for n in 0..20u8 {
        site.write(&[n]).await;
    }
    let before = site.nodes[&site.leader().await].ledger.commands();
    site.stop_all().await;
    for n in 1..=3 {
        site.start(n).await;
    }
    site.write(b"after").await;
    site.all_have(b"after").await;
    for n in 1..=3 {
        let after = site.nodes[&n].ledger.commands();
        assert_eq!(after[..before.len()], before[..]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_neither_writes_nor_reads() {
    let site = Site::voters(3).await;
    let old = site.leader().await;
    for other in (1..=3).filter(|n| *n != old) {
        site.cut(old, other, true);
    }
    let cut_off = &site.nodes[&old].consensus;
    let lost = cut_off.propose(b"lost".to_vec(), Duration::from_secs(1)).await;
    assert!(matches!(lost, Err(ProposeError::Unknown | ProposeError::Unavailable)), "{lost:?}");
    assert!(cut_off.linearizable(SOON).await.is_err(), "no stale read counts as linearizable");
    eventually("the majority elects", async || {
        (1..=3).any(|n| n != old && site.view(n).role == Role::Leader).then_some(())
    })
    .await;
    for other in (1..=3).filter(|n| *n != old) {
        site.cut(old, other, false);
    }
    site.write(b"kept").await;
    site.all_have(b"kept").await;
    let histories: Vec<_> = site.nodes.values().map(|n| n.ledger.commands()).collect();
    assert!(histories.iter().all(|h| h == &histories[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_log_loses_the_seat_but_not_the_node() {
    let mut site = Site::voters(3).await;
    site.write(b"kept").await;
    site.all_have(b"kept").await;
    site.stop(3).await;
    for entry in std::fs::read_dir(site.dir(3)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
    let refused = site.try_start(3).await.err().unwrap();
    assert!(matches!(&refused, OpenError::Seat(seat) if seat.is_lost()), "{refused}");
    give_up_seat(site.dir(3)).unwrap();
    site.start(3).await;
    site.has(3, b"kept").await;
    assert_eq!(site.view(3).role, Role::Following);
    never_again(&site).await;
    site.nodes[&3].consensus.promote(RaftId(4)).await.unwrap();
    let leader = site.leader().await;
    let consensus = site.nodes[&leader].consensus.clone();
    consensus.add_learner(RaftId(4), node(3)).await.unwrap();
    let replace = VoterChange { promote: BTreeSet::from([RaftId(4)]), remove: BTreeSet::from([RaftId(3)]) };
    eventually("replaced", async || consensus.change_voters(replace.clone()).await.ok()).await;
    site.write(b"again").await;
    site.has(3, b"again").await;
}

/// The third node's seat is refused: under its number it has voted, and does not know how.
async fn never_again(site: &Site) {
    let refused = site.nodes[&3].consensus.promote(RaftId(3)).await;
    assert!(
        matches!(refused, Err(PromoteError::Seat(SeatError::Used(RaftId(3))))),
        "a seat is taken twice: {refused:?}"
    );
    assert_eq!(site.view(3).role, Role::Following, "it goes on following");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_is_never_taken_twice_even_if_all_of_it_is_gone() {
    let mut site = Site::voters(3).await;
    site.write(b"kept").await;
    site.all_have(b"kept").await;
    site.stop(3).await;
    std::fs::remove_dir_all(site.dir(3)).unwrap();
    site.start(3).await;
    site.has(3, b"kept").await;
    never_again(&site).await;
    site.stop(3).await;
    site.start(3).await;
    never_again(&site).await;
    site.nodes[&3].consensus.promote(RaftId(4)).await.unwrap();
    // A note that cannot be read refuses all.
    site.stop(3).await;
    let dir = site.dir(3);
    let note = dir.with_file_name(format!("{}.seat-taken", dir.file_name().unwrap().to_string_lossy()));
    let noted = std::fs::read_to_string(&note).unwrap();
    assert!(noted.starts_with("4 "), "{noted}");
    give_up_seat(dir).unwrap();
    std::fs::write(&note, "damaged").unwrap();
    site.start(3).await;
    let refused = site.nodes[&3].consensus.promote(RaftId(9)).await;
    assert!(matches!(refused, Err(PromoteError::Seat(SeatError::Used(RaftId(9))))), "{refused:?}");
    // One of another site says nothing.
    std::fs::write(&note, format!("12 {}", "ab".repeat(32))).unwrap();
    site.nodes[&3].consensus.promote(RaftId(9)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_ends_the_process_visibly() {
    let site = Site::voters(1).await;
    let consensus = &site.nodes[&1].consensus;
    let outcome = consensus.propose(b"poison".to_vec(), SOON).await;
    assert_eq!(outcome, Err(ProposeError::Unknown));
    let reason = tokio::time::timeout(SOON, consensus.fatal()).await.unwrap().to_string();
    assert!(reason.contains("poisoned"), "{reason}");
}
