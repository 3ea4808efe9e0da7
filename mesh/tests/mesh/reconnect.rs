//! Peers that go and come back.

use qb_mesh::{Lane, PeerEvent};
use tokio::net::TcpListener;

use crate::support::{Node, introduce, soon, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_restarts_on_its_address_is_reconnected() {
    let (a, b) = (Node::start(120).await, Node::start(121).await);
    introduce(&[&a], false);
    let (id, address) = (b.id(), b.mesh.listen_address());
    b.mesh.set_roster([a.id(), id].into());
    a.mesh.set_roster([a.id(), id].into());
    a.mesh.learn_addresses(id, vec![address]);
    a.mesh.set_wanted([id].into());
    a.sees(id).await;
    a.echo(&b, Lane::Raft).await;

    let Node { mesh, task, .. } = b;
    drop(mesh);
    task.shutdown().await;
    a.told(PeerEvent::Closed(id)).await;

    // Whoever listens here now takes dials and hangs up: each one fails, and is made again.
    let refuser = TcpListener::bind(address).await.expect("the address is free again");
    for _ in 0..3 {
        let (socket, _) = soon("a dial", refuser.accept()).await.expect("a connection");
        drop(socket);
    }
    drop(refuser);
    assert_eq!(a.mesh.addresses()[&id], [address], "kept although dials failed");

    let b = Node::start_at(121, address, [5; 32]).await;
    b.mesh.set_roster([a.id(), id].into());
    a.sees(id).await;
    a.echo(&b, Lane::Raft).await;
    b.echo(&a, Lane::Raft).await;
    let events = || a.seen.events.borrow().clone();
    until("three events", || events().len() >= 3).await;
    let (up, down) = (PeerEvent::Connected(id), PeerEvent::Closed(id));
    for (at, event) in events().into_iter().enumerate() {
        assert_eq!(event, if at % 2 == 0 { up } else { down }, "they alternate");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wanted_peer_is_dialled_once_its_address_is_known() {
    let (a, b) = (Node::start(130).await, Node::start(131).await);
    let all = [a.id(), b.id()];
    a.mesh.set_roster(all.into());
    b.mesh.set_roster(all.into());
    a.mesh.set_wanted(all.into());
    // A first address that leads nowhere does no harm.
    let dead = "127.0.7.132:9".parse().expect("an address");
    a.mesh.learn_addresses(b.id(), vec![dead]);
    a.mesh.learn_addresses(b.id(), vec![b.mesh.listen_address()]);
    a.sees(b.id()).await;
    b.sees(a.id()).await;
    assert_eq!(a.mesh.addresses()[&b.id()], [b.mesh.listen_address(), dead]);
    let mut peers = a.mesh.watch_peers();
    let rtt = peers.wait_for(|peers| peers.values().any(|peer| peer.rtt.is_some()));
    soon("a round trip time", rtt).await.expect("the mesh runs");
}
