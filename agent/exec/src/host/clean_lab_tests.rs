//! The whole circle in a network namespace of the test's own, as root, with the host's own programs.
use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::Command;

use qb_drivers::host_step::{NetworkMember, PodNetwork};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::*;
use crate::host::record::take;
use crate::host::redact::Redactor;
use crate::host::run::HostPrograms;

/// A namespace that goes with the test.
struct Net(String);

impl Net {
    fn new() -> Self {
        let net = Self(format!("qb-test-{}-clean", std::process::id()));
        run("ip", &["netns", "add", &net.0]);
        net.enter("ip", "link set lo up");
        net
    }

    fn enter(&self, program: &str, args: &str) {
        let args: Vec<_> = ["netns", "exec", &self.0, program].into_iter().chain(args.split(' ')).collect();
        run("ip", &args);
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The network of the one with this slot among these.
fn network(own: u16, peers: &[u16]) -> PodNetwork {
    let member = |slot: u16| NetworkMember {
        host: format!("h{slot}").parse().unwrap(),
        address: format!("10.99.0.{}", slot + 1),
        slot,
    };
    PodNetwork {
        own: member(own),
        peers: peers.iter().map(|slot| member(*slot)).collect(),
        pods: "10.244.0.0/16".parse().unwrap(),
        overlay: "10.245.0.0/16".parse().unwrap(),
    }
}

async fn circle(net: &Net, place: &mut Place) {
    let tree = place.root.join("bin");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("kubelet"), "#!/bin/sh\necho Kubernetes v1.36.2\n").unwrap();
    fs::set_permissions(tree.join("kubelet"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    place.host.programs = Box::new(HostPrograms {
        root: "/".into(),
        bin: tree,
        cwd: "/".into(),
        redactor: Arc::new(Redactor::default()),
        tell: Tell::default(),
    });
    // So that tables of nftables are looked at.
    place.write("usr/sbin/nft", "");
    place.write("proc/modules", "overlay 1 0 - Live 0x0\n");
    let host = &place.host;
    record::apply(host).await.unwrap();
    let recorded = fs::read(host.dir.path().join("record.json")).unwrap();
    let wanted = network(0, &[1, 2]);
    assert!(!network::check(host, &wanted).await.unwrap());
    network::apply(host, &wanted).await.unwrap();
    assert!(network::check(host, &wanted).await.unwrap());
    assert!(!network::check(host, &network(0, &[1])).await.unwrap());
    network::set_peers(host, &network(0, &[1]).peers).await.unwrap();
    assert!(network::check(host, &network(0, &[1])).await.unwrap());
    // As after a boot.
    net.enter("ip", "link del qb-vx0");
    net.enter("iptables", "-t nat -F QB-POD-NAT");
    assert!(!network::check(host, &network(0, &[1])).await.unwrap());
    network::restore(host).await.unwrap();
    assert!(network::check(host, &network(0, &[1])).await.unwrap());
    // What kubelet, kube-proxy and plugins do.
    net.enter("ip", "link add cni0 type bridge");
    net.enter("ip", "addr add 10.244.0.1/24 dev cni0");
    net.enter("ip", "link set cni0 up");
    net.enter("ip", "link add veth12345678 type veth peer name vethpeer");
    net.enter("ip", "link set veth12345678 master cni0");
    for iptables in ["iptables", "ip6tables"] {
        net.enter(iptables, "-t mangle -N KUBE-KUBELET-CANARY");
        net.enter(iptables, "-t nat -N KUBE-SERVICES");
        net.enter(iptables, "-t nat -N KUBE-SEP-A");
        net.enter(iptables, "-t nat -A KUBE-SERVICES -j KUBE-SEP-A");
        net.enter(iptables, "-t nat -I PREROUTING -m comment --comment kubernetes-portals -j KUBE-SERVICES");
        net.enter(iptables, "-t filter -N CNI-FORWARD");
        net.enter(iptables, "-t filter -A FORWARD -j CNI-FORWARD");
    }
    place.soil();
    // A second record does not overwrite the first, and what is left is found.
    record::apply(host).await.unwrap();
    assert_eq!(fs::read(host.dir.path().join("record.json")).unwrap(), recorded);
    assert!(!check(host).await.unwrap());
    let error = apply_compared(host).await.unwrap_err();
    for part in ["link cni0", "chain v4 filter QB-POD-FORWARD", "path /etc/kubernetes", "more"] {
        assert!(error.text.contains(part), "{part}: {}", error.text);
    }
    apply(host).await.unwrap();
    let found = differences(host).await.unwrap();
    assert_eq!((line(&found.left), line(&found.foreign)), (String::new(), String::new()));
    assert!(check(host).await.unwrap());
    assert!(check_compared(host).await.unwrap());
    apply_compared(host).await.unwrap();
    apply(host).await.unwrap();
}

#[test]
fn a_host_that_left_is_as_it_was() {
    let net = Net::new();
    net.enter("ip", "link add eth0 type veth peer name wire");
    net.enter("ip", "addr add 10.99.0.1/24 dev eth0");
    net.enter("ip", "link set wire up");
    net.enter("ip", "link set eth0 up");
    // Rules of an admin: what they say, and how often they were met, stays.
    net.enter("iptables", "-N ADMIN");
    net.enter("iptables", "-A FORWARD -j ADMIN");
    net.enter("iptables", "-A ADMIN -s 192.0.2.0/24 -m comment --comment KUBE-SERVICES -j DROP");
    let file = File::open(format!("/run/netns/{}", net.0)).unwrap();
    std::thread::scope(|scope| {
        let body = || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(circle(&net, &mut place()));
        };
        scope.spawn(body).join().unwrap();
    });
    net.enter("iptables", "-C ADMIN -s 192.0.2.0/24 -m comment --comment KUBE-SERVICES -j DROP");
    net.enter("iptables", "-C FORWARD -j ADMIN");
}

/// Mounts that go with the test, whatever it did.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        while rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).is_ok() {}
    }
}

#[test]
fn mounts_go_and_what_lies_behind_them_stays() {
    let place = place();
    fs::remove_file(place.root.join("proc/self/mountinfo")).unwrap();
    std::os::unix::fs::symlink("/proc/self/mountinfo", place.root.join("proc/self/mountinfo")).unwrap();
    // A disk of its own for images, mounted by the admin before.
    let kept = place.root.join("var/lib/etcd");
    let mount = |at: &Path| {
        fs::create_dir_all(at).unwrap();
        run("mount", &["-t", "tmpfs", "qb-test", at.to_str().unwrap()]);
        Mounted(at.to_owned())
    };
    let _kept = mount(&kept);
    let mut before = place.record();
    let seen = take::mounted(&place.root).unwrap();
    let below =
        seen.iter().filter_map(|m| Some((m.below(&place.root)?.display().to_string(), m.kind.clone())));
    before.put(Kind::Mount, below, |_, _| true);
    // One below another, one bound from elsewhere, and one that somebody holds.
    let pod = place.root.join("var/lib/kubelet/pods/a");
    let _pod = mount(&pod);
    let _deeper = mount(&pod.join("volumes/b"));
    place.write("srv/precious", "theirs");
    let bound = pod.join("volumes/c");
    fs::create_dir_all(&bound).unwrap();
    run("mount", &["--bind", place.root.join("srv").to_str().unwrap(), bound.to_str().unwrap()]);
    let _bound = Mounted(bound);
    let busy = place.root.join("run/qb/containerd/x");
    let _busy = mount(&busy);
    let _held = File::create(busy.join("file")).unwrap();
    place.write("var/lib/etcd/member/wal", "x");
    trees::unmount_all(&place.host, &before).unwrap();
    trees::remove_all(&place.host, &before).unwrap();
    let now = take::mounted(&place.root).unwrap();
    let now: Vec<_> = now.iter().filter_map(|m| m.below(&place.root)).collect();
    assert_eq!(now, [Path::new("/var/lib/etcd")]);
    assert!(place.has("srv/precious") && place.has("var/lib/etcd") && !place.has("var/lib/etcd/member"));
    assert!(!place.has("var/lib/kubelet") && !place.has("run/qb/containerd"));
}
