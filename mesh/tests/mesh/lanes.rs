//! Requests and answers on all lanes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use qb_mesh::{Lane, RequestError};
use qb_model::NodeId;

use crate::support::{Node, PATIENCE, introduce, kind, soon, three, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_exchange_requests_on_all_lanes() {
    let nodes = three(10).await;
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.id() != from.id()) {
            for lane in Lane::ALL {
                let got = from.echo(to, lane).await;
                assert_eq!(got[..2], [lane as u8, from.id().0[0]]);
                assert_eq!(&got[2..], b"hi");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_connects_by_itself() {
    let (a, b) = (Node::start(20).await, Node::start(21).await);
    introduce(&[&a, &b], false);
    assert!(a.mesh.connected().is_empty());
    a.echo(&b, Lane::Raft).await;
    a.echo(&b, Lane::Control).await;
    let connections = |node: &Node| node.mesh.watch_peers().borrow().values().next().map(|p| p.connections);
    assert_eq!(connections(&a), Some(1));
    a.echo(&b, Lane::Bulk).await;
    assert_eq!(connections(&a), Some(2), "bulk has a connection of its own");
    b.echo(&a, Lane::Bulk).await;
    assert_eq!(connections(&b), Some(2), "which both sides use");
    // The other way over the same connections: nothing needs to know a's address.
    b.echo(&a, Lane::Control).await;
    assert_eq!(b.mesh.connected(), [a.id()].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_polls_hold_up_nobody() {
    let (a, b) = (Node::start(30).await, Node::start(31).await);
    introduce(&[&a, &b], true);
    let polls: Vec<_> = (0..20u8)
        .map(|n| {
            let (mesh, to) = (a.mesh.clone(), b.id());
            let body = Bytes::copy_from_slice(&[n]);
            tokio::spawn(async move { mesh.request(to, Lane::Control, kind::POLL, body, PATIENCE).await })
        })
        .collect();
    until("twenty polls", || b.seen.polls.load(Ordering::SeqCst) == 20).await;
    for _ in 0..50 {
        a.echo(&b, Lane::Control).await;
    }
    assert_eq!(b.seen.polls.load(Ordering::SeqCst), 20);
    b.seen.release.send_replace(true);
    for (n, poll) in polls.into_iter().enumerate() {
        let got = soon("a poll's answer", poll).await.expect("no panic").expect("an answer");
        assert_eq!(got[..], [n as u8]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_or_dropped_request_ends_at_the_peer_too() {
    let (a, b) = (Node::start(40).await, Node::start(41).await);
    introduce(&[&a, &b], true);
    a.echo(&b, Lane::Control).await;
    let short = Duration::from_millis(50);
    let got = a.mesh.request(b.id(), Lane::Control, kind::POLL, Bytes::new(), short).await;
    assert_eq!(got, Err(RequestError::Deadline(short)));
    until("the peer's end", || b.seen.polls.load(Ordering::SeqCst) == 0).await;

    let mesh = a.mesh.clone();
    let to = b.id();
    let poll = tokio::spawn(async move {
        mesh.request(to, Lane::Control, kind::POLL, Bytes::new(), 10 * PATIENCE).await
    });
    until("the poll", || b.seen.polls.load(Ordering::SeqCst) == 1).await;
    poll.abort();
    until("its cancellation", || b.seen.polls.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sizes_are_bounded_both_ways() {
    let (a, b) = (Node::start(50).await, Node::start(51).await);
    introduce(&[&a, &b], true);
    for lane in Lane::ALL {
        let limit = lane.max_body();
        let ask = |kind, size| {
            let body = Bytes::from(vec![7; size]);
            a.mesh.request(b.id(), lane, kind, body, PATIENCE)
        };
        let got = ask(kind::ECHO, limit + 1).await;
        assert_eq!(got, Err(RequestError::TooLarge { size: limit + 1, limit }));
        let got = ask(kind::ECHO, limit - 2).await.expect("the largest answer fits");
        assert_eq!(got.len(), limit);
        let got = ask(kind::FLOOD, 0).await;
        assert!(matches!(got, Err(RequestError::Refused(_))), "{got:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_carry_their_text_and_the_unreachable_are_named() {
    let (a, b) = (Node::start(60).await, Node::start(61).await);
    introduce(&[&a, &b], true);
    let ask =
        |to, kind, text: &'static str| a.mesh.request(to, Lane::Control, kind, Bytes::from(text), PATIENCE);
    let got = ask(b.id(), kind::REFUSE, "not now").await;
    assert_eq!(got, Err(RequestError::Refused("not now".to_owned())));

    let ghost = NodeId([99; 32]);
    for to in [ghost, a.id()] {
        let got = ask(to, kind::ECHO, "").await;
        assert!(matches!(got, Err(RequestError::NotConnected { node, .. }) if node == to));
    }
    // A member without an address.
    a.mesh.set_roster([a.id(), b.id(), ghost].into());
    let got = ask(ghost, kind::ECHO, "").await;
    assert!(matches!(got, Err(RequestError::NotConnected { .. })), "{got:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_peer_fails_what_waits_at_once() {
    let (a, b) = (Node::start(70).await, Node::start(71).await);
    introduce(&[&a, &b], true);
    let (mesh, to) = (a.mesh.clone(), b.id());
    let poll =
        tokio::spawn(
            async move { mesh.request(to, Lane::Raft, kind::POLL, Bytes::new(), 10 * PATIENCE).await },
        );
    until("the poll", || b.seen.polls.load(Ordering::SeqCst) == 1).await;
    let Node { mesh, task, .. } = b;
    task.shutdown().await;
    let got = soon("the poll's end", poll).await.expect("no panic");
    assert_eq!(got, Err(RequestError::Closed));
    let got = mesh.request(a.id(), Lane::Raft, kind::ECHO, Bytes::new(), PATIENCE).await;
    assert_eq!(got, Err(RequestError::Stopped));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_at_once_all_come_back() {
    let (a, b) = (Node::start(80).await, Node::start(81).await);
    introduce(&[&a, &b], false);
    let asks = (0..300u32).map(|n| {
        let (mesh, to) = (a.mesh.clone(), b.id());
        let lane = Lane::ALL[n as usize % Lane::ALL.len()];
        tokio::spawn(async move {
            let body = Bytes::copy_from_slice(&n.to_be_bytes());
            (n, mesh.request(to, lane, kind::ECHO, body, PATIENCE).await)
        })
    });
    for ask in asks.collect::<Vec<_>>() {
        let (n, got) = ask.await.expect("no panic");
        assert_eq!(got.expect("an answer")[2..], n.to_be_bytes());
    }
}
