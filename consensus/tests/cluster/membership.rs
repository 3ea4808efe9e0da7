//! Changes of the group, and replicas that were away for long.

use std::collections::BTreeSet;
use std::sync::Arc;

use qb_consensus::limits::{KEEP_ENTRIES, SNAPSHOT_ENTRIES};
use qb_consensus::{ChangeError, VoterChange};
use qb_model::RaftId;

use crate::harness::{Site, eventually, node};

/// Writes more than is kept behind a snapshot, many at a time.
async fn write_many(site: &Arc<Site>) {
    let leader = site.leader().await;
    let consensus = site.nodes[&leader].consensus.clone();
    let each = (SNAPSHOT_ENTRIES * 2 + KEEP_ENTRIES) / 32;
    let writers = (0..32u64).map(|writer| {
        let consensus = consensus.clone();
        tokio::spawn(async move {
            for n in 0..each {
                let command = format!("{writer}-{n}").into_bytes();
                consensus.propose(command, crate::harness::PATIENCE).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_were_away_get_a_snapshot() {
    let mut site = Site::voters(3).await;
    site.start(8).await;
    let away = if site.leader().await == 3 { 2 } else { 3 };
    site.stop(away).await;
    site.stop(8).await;
    let site = Arc::new(site);
    write_many(&site).await;
    let mut site = Arc::into_inner(site).unwrap();
    site.write(b"last").await;
    eventually("a snapshot is on disk", async || {
        let leader = site.leader().await;
        let mut names = std::fs::read_dir(site.dir(leader)).unwrap();
        names.any(|n| n.unwrap().file_name().to_string_lossy().starts_with("snapshot-")).then_some(())
    })
    .await;
    for n in [away, 8, 9] {
        site.start(n).await;
        site.has(n, b"last").await;
    }
    // A fresh seat catches up, too, and so does one on what it followed.
    site.add_voter(9, RaftId(9)).await;
    site.stop_all().await;
    for n in [1, 2, 3, 9] {
        site.start(n).await;
    }
    site.write(b"again").await;
    site.all_have(b"again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_voter_is_replaced_in_one_change() {
    let mut site = Site::voters(3).await;
    let leader = site.leader().await;
    let dead = (1..=3u8).find(|n| *n != leader).unwrap();
    site.stop(dead).await;
    site.start(4).await;
    site.nodes[&4].consensus.promote(RaftId(4)).await.unwrap();
    let consensus = site.nodes[&leader].consensus.clone();
    consensus.add_learner(RaftId(4), node(4)).await.unwrap();
    let replace =
        VoterChange { promote: BTreeSet::from([RaftId(4)]), remove: BTreeSet::from([RaftId(dead.into())]) };
    eventually("replaced", async || consensus.change_voters(replace.clone()).await.ok()).await;
    let view = eventually("three voters again", async || {
        let view = site.view(leader);
        (view.voters.len() == 3 && !view.joint).then_some(view)
    })
    .await;
    assert_eq!(view.voters.get(&RaftId(4)), Some(&node(4)));
    assert_eq!(view.node_of(RaftId(dead.into())), None);
    site.write(b"x").await;
    site.all_have(b"x").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_make_no_sense_are_refused() {
    let mut site = Site::voters(1).await;
    site.start(2).await;
    let leader = &site.nodes[&1].consensus;
    let one = |promote: &[u64], remove: &[u64]| VoterChange {
        promote: promote.iter().copied().map(RaftId).collect(),
        remove: remove.iter().copied().map(RaftId).collect(),
    };
    for change in [one(&[5], &[]), one(&[], &[1]), one(&[1], &[1])] {
        let refused = leader.change_voters(change).await;
        assert!(matches!(refused, Err(ChangeError::Refused(_))), "{refused:?}");
    }
    let no_seat = leader.add_learner(RaftId(2), node(2)).await;
    assert!(matches!(no_seat, Err(ChangeError::NoSeat { .. })), "{no_seat:?}");
    let not_leader = site.nodes[&2].consensus.change_voters(one(&[], &[])).await;
    assert!(matches!(not_leader, Err(ChangeError::NotLeader { .. })), "{not_leader:?}");
}
