//! A cluster that comes about in spite of what happens meanwhile.

use std::time::Instant;

use anyhow::{Result, ensure};
use qb_tests::fleet::{AGENT, ENTER, EXEC, FAR, Fleet};
use qb_tests::kubernetes::Version;
use qb_tests::lab::Host;

use super::CLUSTER;

/// How often agent and executor are killed while a node enters.
const KILLS: usize = 3;

/// A name of the API server that is in no DNS.
const ENDPOINT: &str = "k8s.lyon.example";
/// Other networks than those that a cluster has by itself, and a name of a customer's balancer.
const SETTINGS: [&str; 6] =
    ["--pods", "192.168.16.0/20", "--services", "172.16.0.0/12", "--endpoint", ENDPOINT];

/// Kills agent and executor of a host once each of these files is there: each marks how far kubeadm has come.
fn kill_at(host: &Host, marks: [&str; KILLS]) -> Result<()> {
    for mark in marks {
        host.eventually(ENTER, &format!("{mark} is there"), |host| {
            ensure!(host.exec(&["test", "-s", mark])?.code == 0, "it is not");
            Ok(())
        })?;
        host.ok(&["systemctl", "kill", "--signal=SIGKILL", AGENT, EXEC])?;
        host.is_active(EXEC)?;
        host.is_active(AGENT)?;
    }
    Ok(())
}

/// The first node's API server stands for a customer's balancer, by a name that only the certificate knows.
fn has_settings(fleet: &Fleet, at: &Host) -> Result<()> {
    let by_name = format!("--server=https://{ENDPOINT}:6443");
    at.shell(&format!("echo '{} {ENDPOINT}' >>/etc/hosts", at.address()))?;
    let asks = [by_name.as_str(), "get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}"];
    let service = at.kubectl(CLUSTER, &asks)?.ended(0)?.stdout;
    ensure!(service == "172.16.0.1", "the first service has {service}");
    at.shell(&format!("sed -i '/{ENDPOINT}/d' /etc/hosts"))?;
    let ask = ["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.podIP}"];
    let pods = at.kubectl(CLUSTER, &ask)?.ended(0)?.stdout;
    ensure!(pods.split(' ').all(|ip| ip.starts_with("192.168.")), "pods have {pods}");
    let shown = fleet.local(at, &format!("/clusters/{CLUSTER}"))?;
    ensure!(shown["settings"]["pods"] == "192.168.16.0/20", "shown are {}", shown["settings"]);
    Ok(())
}

fn well(fleet: &Fleet, at: &Host, members: &[u8]) -> Result<()> {
    fleet.await_kubernetes(at, CLUSTER, members)?;
    fleet.await_nodes(at, CLUSTER, members, Version::First)
}

/// SIGKILL of agent and executor in the middle of an init and of two joins, the WAN gone during one of them.
fn ragged(fleet: &Fleet, nodes: &[Host]) -> Result<()> {
    let [first, second, third] = nodes else { unreachable!("three hosts") };
    fleet.create_kubernetes(CLUSTER, &SETTINGS)?;
    fleet.order(&["cluster", "attach", CLUSTER, "h2"])?;
    kill_at(
        first,
        ["/etc/kubernetes/pki/ca.crt", "/etc/kubernetes/admin.conf", "/etc/kubernetes/manifests/etcd.yaml"],
    )?;
    well(fleet, first, &[2])?;

    // Two etcd members carry no loss: both come at once, and pass through two quickly.
    fleet.order(&["cluster", "attach", CLUSTER, "--control-plane", "h3,h4"])?;
    fleet.lab.wan_off(FAR)?;
    kill_at(
        second,
        ["/etc/kubernetes/pki/ca.crt", "/etc/kubernetes/kubelet.conf", "/etc/kubernetes/manifests/etcd.yaml"],
    )?;
    well(fleet, first, &[2, 3, 4])?;
    fleet.lab.wan_on(FAR)?;
    fleet.watch_anew(&[2])?;
    fleet.deploy_web(first, CLUSTER)?;
    fleet.await_paths(first, CLUSTER, &[2, 3, 4])?;
    has_settings(fleet, first)?;

    fleet.order(&["cluster", "detach", CLUSTER, "h4"])?;
    third.eventually(ENTER, "it is in the pool", |host| {
        let node = fleet.node_at(host, "h4")?;
        ensure!(node.state == "pool", "it is {}: {:?}", node.state, node.waiting_on);
        Ok(())
    })?;
    well(fleet, first, &[2, 3])
}

#[test]
fn a_cluster_comes_about_in_spite_of_kills() -> Result<()> {
    let begun = Instant::now();
    let (fleet, nodes) = Fleet::of_kubernetes("t-k8s-faults", "lyon", 2..=4)?;
    let done = ragged(&fleet, &nodes);
    eprintln!("{:>16} {:6.1} s", "faults", begun.elapsed().as_secs_f32());
    done.map_err(|e| anyhow::anyhow!("{e:#}\n{}\n{}", fleet.journals(), fleet.kubernetes_journals(CLUSTER)))
}
