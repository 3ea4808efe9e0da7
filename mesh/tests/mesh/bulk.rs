//! What is urgent beside what is large: bundles never take the place of requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use qb_mesh::{Lane, limits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::{Node, PATIENCE, introduce, kind, soon, three, until};

/// A line between two nodes that can be cut or held, connection by connection.
struct Line {
    address: SocketAddr,
    /// Connections in the order in which they came.
    taken: watch::Receiver<Vec<Carried>>,
    accepts: JoinHandle<()>,
}

/// A connection on the line.
struct Carried {
    flows: watch::Sender<bool>,
    moves: JoinHandle<()>,
}

impl Line {
    async fn to(there: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.7.250:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (taken_out, taken) = watch::channel(Vec::new());
        let accepts = tokio::spawn(async move {
            while let Ok((here, _)) = listener.accept().await {
                let (flows, flowing) = watch::channel(true);
                let moves = tokio::spawn(carry(here, there, flowing));
                taken_out.send_modify(|all: &mut Vec<_>| all.push(Carried { flows, moves }));
            }
        });
        Self { address, taken, accepts }
    }

    async fn connections(&self, count: usize) {
        let mut taken = self.taken.clone();
        soon("a connection on the line", taken.wait_for(|all| all.len() >= count)).await.expect("it listens");
    }

    fn cut(&self, number: usize) {
        self.taken.borrow()[number].moves.abort();
    }

    fn hold(&self, number: usize, held: bool) {
        self.taken.borrow()[number].flows.send_replace(!held);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.accepts.abort();
        self.taken.borrow().iter().for_each(|carried| carried.moves.abort());
    }
}

async fn carry(here: TcpStream, there: SocketAddr, flowing: watch::Receiver<bool>) {
    let Ok(there) = TcpStream::connect(there).await else { return };
    let _ = (here.set_nodelay(true), there.set_nodelay(true));
    let ((from, to), (back, forth)) = (here.into_split(), there.into_split());
    tokio::select! {
        () = pump(from, forth, flowing.clone()) => {}
        () = pump(back, to, flowing) => {}
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut flowing: watch::Receiver<bool>,
) {
    let mut piece = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        if flowing.wait_for(|flows| *flows).await.is_err() || to.write_all(&piece[..read]).await.is_err() {
            return;
        }
    }
}

/// Two nodes of which the first reaches the second by a line only, and the second dials nobody.
async fn two_on_a_line(seed: u8) -> (Node, Node, Line) {
    let (a, b) = (Node::start(seed).await, Node::start(seed + 1).await);
    let line = Line::to(b.mesh.listen_address()).await;
    for node in [&a, &b] {
        node.mesh.set_roster([a.id(), b.id()].into());
    }
    a.mesh.learn_addresses(b.id(), vec![line.address]);
    (a, b, line)
}

fn connections(node: &Node) -> usize {
    node.mesh.watch_peers().borrow().values().next().map_or(0, |peer| peer.connections)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_leave_the_bulk_connection_alone_when_theirs_breaks() {
    let (a, b, line) = two_on_a_line(200).await;
    a.echo(&b, Lane::Control).await;
    line.connections(1).await;
    a.echo(&b, Lane::Blob).await;
    line.connections(2).await;
    line.cut(0);
    until("the end of the first connection", || connections(&a) == 1).await;
    a.echo(&b, Lane::Control).await;
    line.connections(3).await;
    assert_eq!(connections(&a), 2, "what is urgent has a connection of its own again");
    // Which is the one that it rides: it is answered while the other stands still.
    line.hold(1, true);
    a.echo(&b, Lane::Control).await;
    a.echo(&b, Lane::Raft).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_while_bulk_stands_still() {
    let (a, b, line) = two_on_a_line(210).await;
    a.echo(&b, Lane::Control).await;
    a.echo(&b, Lane::Blob).await;
    line.connections(2).await;
    line.hold(1, true);
    let chunks: Vec<_> = (0..12u8)
        .map(|n| {
            let (mesh, to, body) = (a.mesh.clone(), b.id(), Bytes::from(vec![n; 1 << 20]));
            tokio::spawn(async move { mesh.request(to, Lane::Blob, kind::ECHO, body, 10 * PATIENCE).await })
        })
        .collect();
    for _ in 0..50 {
        a.echo(&b, Lane::Control).await;
        a.echo(&b, Lane::Raft).await;
        b.echo(&a, Lane::Control).await;
    }
    line.hold(1, false);
    for (n, chunk) in chunks.into_iter().enumerate() {
        let got = soon("a chunk", chunk).await.expect("no panic").expect("an answer");
        assert_eq!(got[2..], vec![n as u8; 1 << 20]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_blobs_are_in_the_air_and_take_nobodys_place() {
    let (a, b) = (Node::start(220).await, Node::start(221).await);
    introduce(&[&a, &b], true);
    let wait = |lane: Lane, count: usize| {
        let ask = |_| {
            let (mesh, to) = (a.mesh.clone(), b.id());
            let deadline = 10 * PATIENCE;
            tokio::spawn(async move { mesh.request(to, lane, kind::POLL, Bytes::new(), deadline).await })
        };
        (0..count).map(ask).collect::<Vec<_>>()
    };
    let blobs = wait(Lane::Blob, 40);
    until("the first blobs", || b.seen.polls.load(Ordering::SeqCst) == limits::OUTSTANDING_BLOBS).await;
    // A full lane of each other kind runs beside them, and nothing is refused.
    let others: Vec<_> = [Lane::Raft, Lane::Control, Lane::Bulk]
        .into_iter()
        .flat_map(|lane| wait(lane, limits::OUTSTANDING_PER_LANE))
        .collect();
    let all = limits::OUTSTANDING_BLOBS + 3 * limits::OUTSTANDING_PER_LANE;
    until("all others", || b.seen.polls.load(Ordering::SeqCst) == all).await;
    b.seen.release.send_replace(true);
    for ask in blobs.into_iter().chain(others) {
        soon("an answer", ask).await.expect("no panic").expect("not refused");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_is_answered_while_everybody_fetches_from_everybody() {
    let nodes = Arc::new(three(230).await);
    let mut fetching = Vec::new();
    for from in 0..3usize {
        for to in (0..3).filter(|to| *to != from) {
            for _ in 0..16 {
                let nodes = nodes.clone();
                fetching.push(tokio::spawn(async move {
                    let (body, to) = (Bytes::from(vec![7; 1 << 20]), nodes[to].id());
                    nodes[from].mesh.request(to, Lane::Blob, kind::ECHO, body, 10 * PATIENCE).await
                }));
            }
        }
    }
    while fetching.iter().any(|chunk| !chunk.is_finished()) {
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            nodes[from].echo(&nodes[to], Lane::Control).await;
            nodes[from].echo(&nodes[to], Lane::Raft).await;
        }
    }
    for chunk in fetching {
        chunk.await.expect("no panic").expect("an answer");
    }
}
