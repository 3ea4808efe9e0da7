//! Strangers at the knock port.

use bytes::Bytes;
use qb_mesh::limits::{KNOCK_BODY, KNOCK_BURST};
use qb_mesh::{KnockError, Lane, MeshError, RequestError};
use qb_model::NodeId;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::support::{Node, PATIENCE, kind, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_can_knock_and_is_told_much_for_little() {
    let (member, stranger) = (Node::start(170).await, Node::start(171).await);
    let address = member.mesh.knock_address().expect("a knock port");
    for expect in [None, Some(member.id())] {
        let (node, mut talk) = stranger.mesh.knock(address, expect).await.expect("a talk");
        assert_eq!(node, member.id());
        assert_eq!(talk.recv().await.expect("a challenge"), Bytes::from("challenge"));
        let large = Bytes::from(vec![0; KNOCK_BODY + 1]);
        assert!(matches!(talk.send(large).await, Err(KnockError::TooLarge { .. })));
        talk.send(Bytes::from(vec![9; KNOCK_BODY])).await.expect("sent");
        let admit = talk.recv().await.expect("the answer");
        assert_eq!(admit.len(), 3 << 20);
        assert!(admit.iter().all(|byte| *byte == 9));
        assert!(matches!(talk.recv().await, Err(KnockError::Closed(_))));
    }
    assert_eq!(*member.seen.knocks.lock().expect("a lock"), [stranger.id(); 2]);
    assert!(member.mesh.connected().is_empty());
    assert!(member.seen.events.borrow().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_than_expected_is_an_error() {
    let (member, stranger) = (Node::start(172).await, Node::start(173).await);
    let address = member.mesh.knock_address().expect("a knock port");
    let got = stranger.mesh.knock(address, Some(NodeId([1; 32]))).await;
    assert!(matches!(got, Err(MeshError::Knock { .. })), "{:?}", got.map(|_| ()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_knock_port_speaks_nothing_else() {
    let (member, stranger) = (Node::start(174).await, Node::start(175).await);
    let knock = member.mesh.knock_address().expect("a knock port");
    // Even a member gets no lane there.
    let all = [member.id(), stranger.id()];
    member.mesh.set_roster(all.into());
    stranger.mesh.set_roster(all.into());
    stranger.mesh.learn_addresses(member.id(), vec![knock]);
    let got = stranger.mesh.request(member.id(), Lane::Control, kind::ECHO, Bytes::new(), PATIENCE).await;
    assert!(matches!(got, Err(RequestError::NotConnected { .. })), "{got:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_knocks_too_often_is_hung_up_on() {
    let member = Node::start(176).await;
    let address = member.mesh.knock_address().expect("a knock port");
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..4 * KNOCK_BURST {
        let mut socket = TcpStream::connect(address).await.expect("the port is open");
        let mut byte = [0];
        // Who is let in hears the first byte of a handshake only after speaking; who is refused
        // is hung up on at once.
        let end = socket.read(&mut byte);
        match tokio::time::timeout(std::time::Duration::from_millis(100), end).await {
            Ok(Ok(0) | Err(_)) => refused += 1,
            _ => open.push(socket),
        }
    }
    assert!(refused >= 2 * KNOCK_BURST, "{refused} refused");
    assert!(open.len() >= KNOCK_BURST as usize, "{} let in", open.len());
    // A silent one is not kept either.
    let mut socket = open.swap_remove(0);
    let mut rest = Vec::new();
    let _ = soon("the end of a silent knock", socket.read_to_end(&mut rest)).await;
}
