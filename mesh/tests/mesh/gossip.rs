//! Facts that reach everybody.

use std::time::Duration;

use bytes::Bytes;
use qb_mesh::{MeshError, Topic};
use qb_model::NodeId;

use crate::support::{Node, introduce, soon, three};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fact_reaches_all_once_and_names_its_signer() {
    let nodes = three(140).await;
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    for (n, topic) in Topic::ALL.into_iter().enumerate() {
        let from = &nodes[n];
        for to in nodes.iter().filter(|to| to.id() != from.id()) {
            let mut facts = to.seen.facts.subscribe();
            let heard = |facts: &[(NodeId, Topic, Bytes)]| {
                facts.iter().any(|fact| fact.0 == from.id() && fact.1 == topic)
            };
            // Subscriptions travel after the connection, so an early fact may be lost.
            let mut number = 0u32;
            soon("the fact", async {
                while !heard(&facts.borrow_and_update()) {
                    number += 1;
                    let body = Bytes::from(format!("{topic:?} for {} {number}", to.id()));
                    // Twice the same is one fact.
                    from.mesh.publish(topic, body.clone()).await.expect("published");
                    from.mesh.publish(topic, body).await.expect("published");
                    tokio::select! {
                        _ = facts.changed() => {}
                        _ = tick.tick() => {}
                    }
                }
            })
            .await;
        }
    }
    for node in &nodes {
        let mut facts = node.seen.facts.borrow().clone();
        let count = facts.len();
        facts.sort();
        facts.dedup();
        assert_eq!(facts.len(), count, "told twice: {facts:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fact_is_passed_on_by_a_neighbour() {
    let (a, b, c) = (Node::start(150).await, Node::start(151).await, Node::start(152).await);
    introduce(&[&a, &b, &c], false);
    a.mesh.set_wanted([b.id()].into());
    c.mesh.set_wanted([b.id()].into());
    let mut facts = c.seen.facts.subscribe();
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let mut number = 0u32;
    soon("a fact by way of b", async {
        while facts.borrow().is_empty() {
            number += 1;
            let body = Bytes::copy_from_slice(&number.to_be_bytes());
            a.mesh.publish(Topic::Alarm, body).await.expect("published");
            tokio::select! {
                _ = facts.changed() => {}
                _ = tick.tick() => {}
            }
        }
    })
    .await;
    assert_eq!(c.seen.facts.borrow()[0].0, a.id());
    assert_eq!(c.mesh.connected(), [b.id()].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_alone_is_no_error_and_size_is_bounded() {
    let a = Node::start(160).await;
    a.mesh.publish(Topic::Site, Bytes::from("anybody?")).await.expect("taken");
    let large = Bytes::from(vec![0; qb_mesh::limits::GOSSIP_BODY + 1]);
    let got = a.mesh.publish(Topic::Site, large).await;
    assert!(matches!(got, Err(MeshError::Publish { .. })), "{got:?}");
}
