//! Nodes without a seat.

use std::collections::BTreeSet;

use qb_consensus::{Role, VoterChange};
use qb_model::RaftId;

use crate::harness::{Site, eventually, node};

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_follows_through_changes_of_voters_and_restarts() {
    let mut site = Site::voters(3).await;
    site.start(9).await;
    site.write(b"one").await;
    site.has(9, b"one").await;
    assert_eq!(site.view(9).role, Role::Following);
    assert_eq!(site.view(9).voters.len(), 3);

    for n in 1..=3 {
        site.stop(n).await;
        site.write(format!("without {n}").as_bytes()).await;
        site.has(9, format!("without {n}").as_bytes()).await;
        site.start(n).await;
    }

    site.stop(9).await;
    site.stop_all().await;
    site.start(9).await;
    let alone = site.nodes[&9].ledger.commands();
    assert!(alone.contains(&b"without 3".to_vec()), "it serves reads alone");
    for n in 1..=3 {
        site.start(n).await;
    }
    site.write(b"two").await;
    site.has(9, b"two").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_becomes_a_voter_and_back() {
    let mut site = Site::voters(1).await;
    for n in 0..10u8 {
        site.write(&[n]).await;
    }
    site.start(2).await;
    site.has(2, &[9]).await;
    let before = site.nodes[&2].ledger.commands();
    site.add_voter(2, RaftId(2)).await;
    site.write(b"two voters").await;
    site.has(2, b"two voters").await;
    assert_eq!(site.nodes[&2].ledger.commands()[..before.len()], before[..]);

    let remove = VoterChange { promote: BTreeSet::new(), remove: BTreeSet::from([RaftId(2)]) };
    site.nodes[&1].consensus.change_voters(remove).await.unwrap();
    site.nodes[&2].consensus.demote().await.unwrap();
    site.write(b"one voter").await;
    site.has(2, b"one voter").await;
    eventually("it sees the group without it", async || {
        let view = site.view(2);
        (view.role == Role::Following && view.voters.len() == 1).then_some(())
    })
    .await;
    // The old id never comes back; a new one does.
    site.add_voter(2, RaftId(3)).await;
    assert_eq!(site.view(1).voters.get(&RaftId(3)), Some(&node(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_follows_cannot_found() {
    let mut site = Site::voters(1).await;
    let late = site.start(2).await;
    site.has(2, b"founded").await;
    assert!(late.found(RaftId(2)).await.is_err());
}
