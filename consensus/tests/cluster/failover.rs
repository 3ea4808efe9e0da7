//! The leader dies.

use std::time::{Duration, Instant};

use qb_consensus::Role;
use qb_model::RaftId;

use crate::harness::{Site, eventually, node};

/// Kills the leader; `told` nodes learn that its connections closed. Returns the time to a write.
async fn kill_leader(site: &mut Site, told: bool) -> Duration {
    site.write(b"before").await;
    site.all_have(b"before").await;
    let old = site.leader().await;
    let start = Instant::now();
    site.stop(old).await;
    if told {
        for n in site.nodes.values() {
            n.consensus.peer_closed(node(old)).await;
        }
    }
    site.write(b"after").await;
    let took = start.elapsed();
    site.all_have(b"after").await;
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_replace_a_silent_leader() {
    let mut site = Site::voters(3).await;
    kill_leader(&mut site, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_connections_replace_a_leader_before_the_lease_ends() {
    let mut site = Site::voters(3).await;
    let term = site.view(1).term;
    let took = kill_leader(&mut site, true).await;
    assert!(took < Duration::from_millis(700), "took {took:?}, as long as the timers");
    let leader = site.leader().await;
    assert_eq!(site.view(leader).term, term + 1, "one election");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_connection_unseats_nobody() {
    let site = Site::voters(3).await;
    let leader = site.leader().await;
    let term = site.view(leader).term;
    for n in 0..20u8 {
        for node_n in site.nodes.values() {
            node_n.consensus.peer_closed(node(leader)).await;
        }
        site.write(&[n]).await;
    }
    // One voter alone loses the leader: its word is not enough.
    let alone = (1..=3).find(|n| *n != leader).unwrap();
    site.cut(alone, leader, true);
    site.nodes[&alone].consensus.peer_closed(node(leader)).await;
    for n in 20..40u8 {
        site.write(&[n]).await;
    }
    site.cut(alone, leader, false);
    assert_eq!(site.leader().await, leader);
    assert_eq!(site.view(leader).term, term, "no election");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lead_is_handed_over() {
    let site = Site::voters(3).await;
    site.write(b"x").await;
    site.all_have(b"x").await;
    let old = site.leader().await;
    let to = if old == 1 { 2 } else { 1 };
    eventually("the target caught up", async || {
        let consensus = &site.nodes[&old].consensus;
        consensus.transfer_leader(RaftId(to.into())).await.ok()
    })
    .await;
    eventually("it leads", async || (site.view(to).role == Role::Leader).then_some(())).await;
    site.write(b"y").await;
}
