//! Who gets in, and who is put out.

use std::time::Duration;

use bytes::Bytes;
use qb_mesh::{Lane, MeshConfig, MeshError, PeerEvent, RequestError, SecretKey};

use crate::support::{Node, PATIENCE, introduce, kind, soon, three};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_refused_on_the_mesh_port() {
    let (member, stranger) = (Node::start(90).await, Node::start(91).await);
    member.mesh.set_roster([member.id()].into());
    // The stranger believes that both are members.
    stranger.mesh.set_roster([member.id(), stranger.id()].into());
    stranger.mesh.learn_addresses(member.id(), vec![member.mesh.listen_address()]);
    let short = Duration::from_secs(2);
    let got = stranger.mesh.request(member.id(), Lane::Control, kind::ECHO, Bytes::new(), short).await;
    assert!(matches!(got, Err(RequestError::Closed | RequestError::NotConnected { .. })), "{got:?}");
    assert!(member.mesh.connected().is_empty());
    assert!(member.seen.events.borrow().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removal_from_the_roster_closes_connections_at_once() {
    let [a, b, c] = three(100).await;
    a.echo(&b, Lane::Raft).await;
    a.echo(&b, Lane::Bulk).await;
    b.echo(&a, Lane::Control).await;
    let (mesh, to) = (b.mesh.clone(), a.id());
    let poll =
        tokio::spawn(
            async move { mesh.request(to, Lane::Control, kind::POLL, Bytes::new(), PATIENCE).await },
        );
    a.mesh.set_roster([a.id(), c.id()].into());
    a.misses(b.id()).await;
    a.told(PeerEvent::Closed(b.id())).await;
    b.told(PeerEvent::Closed(a.id())).await;
    let got = soon("the poll's end", poll).await.expect("no panic");
    assert!(got.is_err(), "{got:?}");
    let got = a.mesh.request(b.id(), Lane::Raft, kind::ECHO, Bytes::new(), PATIENCE).await;
    assert!(matches!(got, Err(RequestError::NotConnected { .. })), "{got:?}");
    // The others are untouched, and the way back in is the roster.
    a.echo(&c, Lane::Raft).await;
    a.mesh.set_roster([a.id(), b.id(), c.id()].into());
    a.sees(b.id()).await;
    b.sees(a.id()).await;
    a.echo(&b, Lane::Raft).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sites_do_not_mix() {
    let a = Node::start(110).await;
    let b = Node::start_at(111, "127.0.7.111:0".parse().expect("an address"), [6; 32]).await;
    introduce(&[&a, &b], false);
    let got = a.mesh.request(b.id(), Lane::Raft, kind::ECHO, Bytes::new(), PATIENCE).await;
    assert_eq!(got, Err(RequestError::Closed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_port_is_an_error() {
    let a = Node::start(115).await;
    let config = MeshConfig {
        secret_key: SecretKey::new([116; 32]),
        listen: a.mesh.listen_address(),
        knock_listen: None,
        site_tag: [5; 32],
    };
    let got = qb_mesh::Mesh::start(config, a.seen.clone()).await;
    assert!(matches!(got.map(|_| ()), Err(MeshError::Listen { .. })));
}
