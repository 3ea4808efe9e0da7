//! In network namespaces of the test's own, as root.
#![allow(clippy::unwrap_used)]
use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::{Command, Output};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::super::plan::{Networks, Seat, Seats, changes, conflict, wanted};
use super::*;

/// A namespace that goes with the test.
struct Net(String);

impl Net {
    fn new(name: &str) -> Self {
        let net = Self(format!("qb-test-{}-{name}", std::process::id()));
        tool("ip", &["netns", "add", &net.0]);
        net.ip("link set lo up");
        net
    }

    fn ip(&self, args: &str) -> String {
        let args: Vec<_> = ["-n", &self.0].into_iter().chain(args.split(' ')).collect();
        String::from_utf8(tool("ip", &args).stdout).unwrap()
    }

    /// Runs this with the kernel of the namespace.
    fn run<T: Send>(&self, work: impl AsyncFnOnce(Kernel) -> T + Send) -> T {
        let net = File::open(format!("/run/netns/{}", self.0)).unwrap();
        std::thread::scope(|scope| {
            let body = || {
                move_into_link_name_space(net.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async { work(Kernel::connect().unwrap()).await })
            };
            scope.spawn(body).join().unwrap()
        })
    }

    /// Brings it there; what was changed.
    fn converge(&self, seats: &Seats) -> Vec<Change> {
        self.run(async |kernel| {
            let actual = kernel.look(seats.own.address).await.unwrap();
            assert_eq!(conflict(seats.networks, &actual), None);
            let changes = changes(&wanted(seats, actual.link_mtu.unwrap(), false), &actual.overlay);
            for change in &changes {
                kernel.apply(change).await.unwrap();
            }
            changes
        })
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn tool(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn seat(slot: u16) -> Seat {
    Seat { slot, address: format!("10.99.0.{}", slot + 1).parse().unwrap() }
}

fn seats(own: u16, peers: &[u16]) -> Seats {
    let peers = peers.iter().map(|slot| seat(*slot)).collect();
    Seats { v: 1, own: seat(own), peers, networks: networks(), quiet_link_local: true }
}

fn networks() -> Networks {
    Networks { pods: "10.244.0.0/16".parse().unwrap(), overlay: "10.245.0.0/16".parse().unwrap() }
}

/// Two hosts with a wire between them, and a pod's address on each.
fn two(name: &str) -> (Net, Net) {
    let (one, other) = (Net::new(&format!("{name}-a")), Net::new(&format!("{name}-b")));
    one.ip(&format!("link add eth0 type veth peer name eth0 netns {}", other.0));
    for (net, slot) in [(&one, 0), (&other, 1)] {
        net.ip(&format!("addr add {}/24 dev eth0", seat(slot).address));
        net.ip("link set eth0 up");
        net.ip("link add cni0 type bridge");
        net.ip(&format!("addr add 10.244.{slot}.1/24 dev cni0"));
        net.ip("link set cni0 up");
    }
    (one, other)
}

/// Whether a packet of this many bytes comes over whole, and an answer back.
fn reaches(from: (&Net, &str), to: (&Net, &str), bytes: usize) -> bool {
    let bind = async |at: &str| {
        let socket = std::net::UdpSocket::bind((at, 0)).unwrap();
        // In whole packets or not at all.
        socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        socket
    };
    let there = to.0.run(async |_| bind(to.1).await);
    let here = from.0.run(async |_| bind(from.1).await);
    here.connect(there.local_addr().unwrap()).unwrap();
    here.send(&vec![7; bytes]).unwrap();
    let mut got = vec![0; bytes + 1];
    let Ok((read, who)) = there.recv_from(&mut got) else { return false };
    there.send_to(&got[..read], who).unwrap();
    who == here.local_addr().unwrap() && here.recv(&mut got).is_ok_and(|read| read == bytes)
}

#[test]
fn two_hosts_reach_each_others_pods() {
    let (one, other) = two("reach");
    let (at_one, at_other) = (seats(0, &[1]), seats(1, &[0]));
    assert!(!one.converge(&at_one).is_empty());
    other.converge(&at_other);
    // What is so, stays so.
    assert_eq!(one.converge(&at_one), []);
    assert_eq!(other.converge(&at_other), []);
    let pod = (&other, "10.244.1.1");
    // The largest packet of pods, less the headers of IP and UDP.
    assert!(reaches((&one, "10.244.0.1"), pod, 1450 - 28), "{}", one.ip("-d route"));
    // From the host itself, with the overlay's address, and the other way.
    assert!(reaches((&one, "10.245.0.1"), pod, 10));
    assert!(reaches(pod, (&one, "10.244.0.1"), 10));
    assert!(one.ip("link show qb-vx0").contains("mtu 1450"));
    assert!(one.ip("route").contains("unreachable 169.254.0.0/16"));
}

#[test]
fn two_hosts_of_a_cluster_with_networks_of_its_own() {
    let (one, other) = two("chosen");
    let chosen =
        Networks { pods: "192.168.16.0/20".parse().unwrap(), overlay: "100.127.0.0/16".parse().unwrap() };
    for (net, slot) in [(&one, 0), (&other, 1)] {
        net.ip(&format!("addr add 192.168.{}.1/24 dev cni0", 16 + slot));
        let seats = Seats { networks: chosen, ..seats(slot, &[1 - slot]) };
        net.converge(&seats);
        assert_eq!(net.converge(&seats), []);
    }
    let pod = (&other, "192.168.17.1");
    assert!(reaches((&one, "192.168.16.1"), pod, 1450 - 28), "{}", one.ip("-d route"));
    assert!(reaches((&one, "100.127.0.1"), pod, 10));
    // Back to others, as where a host left one cluster for another without a boot.
    one.converge(&seats(0, &[1]));
    let routes = one.ip("route");
    assert!(routes.contains("10.244.1.0/24 via 10.245.0.2") && !routes.contains("100.127"), "{routes}");
}

#[test]
fn a_peer_that_left_is_gone_and_what_others_made_stays() {
    let (one, _other) = two("left");
    one.ip("route add 192.168.77.0/24 via 10.99.0.2");
    one.converge(&seats(0, &[1, 2, 3]));
    one.converge(&seats(0, &[1]));
    let routes = one.ip("route");
    assert!(routes.contains("10.244.1.0/24 via 10.245.0.2") && !routes.contains("10.244.2.0"), "{routes}");
    assert!(routes.contains("192.168.77.0/24"), "{routes}");
    assert!(!one.ip("neigh show dev qb-vx0").contains("10.245.0.3"));
    // Somebody sets the link down, which takes its routes along, and changes what it was made of.
    one.ip("link set qb-vx0 down");
    assert_ne!(one.converge(&seats(0, &[1])), []);
    assert!(one.ip("route").contains("10.244.1.0/24 via 10.245.0.2"));
    one.ip("link del qb-vx0");
    one.ip("link add qb-vx0 type bridge");
    one.converge(&seats(0, &[1]));
    assert_eq!(one.converge(&seats(0, &[1])), []);
}

#[test]
fn a_network_of_others_is_seen() {
    let (one, _other) = two("foreign");
    one.ip("route add 10.244.9.0/24 via 10.99.0.2");
    let found = one.run(async |kernel| kernel.look(seat(0).address).await.unwrap());
    let (subnet, link) = conflict(networks(), &found).unwrap();
    assert_eq!((subnet.to_string(), link.as_str()), ("10.244.9.0/24".to_owned(), "eth0"));
}

#[test]
fn links_go_by_name_once() {
    let net = Net::new("links");
    net.ip("link add cni0 type bridge");
    net.ip("link add veth1 type veth peer name veth2");
    net.ip("link set veth1 master cni0");
    net.run(async |kernel| {
        let links = kernel.links().await.unwrap();
        assert_eq!(ports(&links, "cni0"), ["veth1".to_owned()].into());
        for _ in 0..2 {
            kernel.drop_link("veth1").await.unwrap();
            kernel.drop_link("cni0").await.unwrap();
        }
        let names: Vec<_> = kernel.links().await.unwrap().into_iter().map(|l| (l.name, l.kind)).collect();
        assert!(names.iter().all(|(name, _)| name != "cni0" && name != "veth1"), "{names:?}");
    });
}
