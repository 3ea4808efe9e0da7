//! A cluster's whole life, in stages; each may rely on those before it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use qb_tests::fleet::{ENTER, Fleet, LATE, stages};
use qb_tests::kubernetes::Version;
use qb_tests::lab::Host;
use qb_tests::wait::eventually;

use super::CLUSTER;

struct Life {
    fleet: Fleet,
    /// Hosts 2 to 6.
    nodes: Vec<Host>,
    /// Each as it was in the pool.
    before: BTreeMap<u8, BTreeSet<String>>,
    /// The numbers of control plane nodes.
    control: Vec<u8>,
    /// And of workers.
    workers: Vec<u8>,
}

type Stage = (&'static str, fn(&mut Life) -> Result<()>);

const STAGES: &[Stage] = &[
    ("create", order),
    ("attach-3", attach_three),
    ("nodes", nodes),
    ("attach-2", attach_two),
    ("pods", pods),
    ("kubectl", kubectl),
    ("power-cut", power_cut),
    ("restart", restart),
    ("loss", loss),
    ("detach-worker", detach_worker),
    ("replace", replace),
    ("restore", restore),
    ("renew", renew),
    ("upgrade", upgrade),
    ("delete", delete),
    ("clean", clean),
];

#[test]
fn a_cluster_lives_on_real_hosts() -> Result<()> {
    let begun = Instant::now();
    let (fleet, nodes) = Fleet::of_kubernetes("t-k8s", "lyon", 2..=6)?;
    eprintln!("{:>16} {:6.1} s", "site", begun.elapsed().as_secs_f32());
    let before = nodes.iter().map(|host| Ok((host.index(), host.picture()?))).collect::<Result<_>>()?;
    let mut life = Life { fleet, nodes, before, control: Vec::new(), workers: Vec::new() };
    for (name, stage) in STAGES {
        let began = Instant::now();
        let done = stage(&mut life);
        eprintln!("{name:>16} {:6.1} s", began.elapsed().as_secs_f32());
        if let Err(e) = done {
            bail!(
                "{name}: {e:#}\n{}\n{}\n{}",
                life.fleet.journals(),
                life.fleet.kubernetes_journals(CLUSTER),
                stages(&life.fleet, &life.nodes[0], CLUSTER).unwrap_or_default()
            );
        }
    }
    Ok(())
}

impl Life {
    fn host(&self, index: u8) -> &Host {
        self.nodes.iter().find(|host| host.index() == index).unwrap_or_else(|| unreachable!("a node"))
    }

    fn members(&self) -> Vec<u8> {
        let mut all = [&self.control[..], &self.workers[..]].concat();
        all.sort_unstable();
        all
    }

    /// A control plane node to ask.
    fn first(&self) -> &Host {
        self.host(self.control[0])
    }

    /// All that there is to a cluster that is well.
    fn well(&self) -> Result<()> {
        let members = self.members();
        self.fleet.await_kubernetes(self.first(), CLUSTER, &members)?;
        self.fleet.await_nodes(self.first(), CLUSTER, &members, Version::First)?;
        self.fleet.await_paths(self.first(), CLUSTER, &members)
    }

    /// Who is what, as the site has it.
    fn learn(&mut self) -> Result<()> {
        let shown = self.fleet.local(&self.nodes[0], &format!("/clusters/{CLUSTER}"))?;
        let members = shown["members"].as_array().context("no members")?;
        let of = |role: &str| -> Vec<u8> {
            let all = members.iter().filter(|m| m["role"] == role);
            let mut numbers: Vec<_> =
                all.filter_map(|m| m["host"].as_str()?.strip_prefix('h')?.parse().ok()).collect();
            numbers.sort_unstable();
            numbers
        };
        (self.control, self.workers) = (of("control-plane"), of("worker"));
        Ok(())
    }
}

fn order(life: &mut Life) -> Result<()> {
    life.fleet.create_kubernetes(CLUSTER, &[])
}

/// The plan chooses three nodes; the first has the cluster alone for a moment, the others join one by one.
fn attach_three(life: &mut Life) -> Result<()> {
    life.fleet.order(&["cluster", "attach", CLUSTER, "-n", "3"])?;
    let at = &life.nodes[0];
    eventually(LATE, "three members are named", || {
        let shown = life.fleet.local(at, &format!("/clusters/{CLUSTER}"))?;
        let count = shown["members"].as_array().map_or(0, Vec::len);
        ensure!(count == 3, "{count} members: {}", shown["waiting_on"]["text"]);
        Ok(())
    })?;
    life.learn()?;
    life.fleet.await_kubernetes(life.first(), CLUSTER, &life.members())?;
    ensure!(life.control.len() == 3 && life.workers.is_empty(), "{:?} and {:?}", life.control, life.workers);
    Ok(())
}

/// Kubernetes says the same, and has what the bundle's manifests say.
fn nodes(life: &mut Life) -> Result<()> {
    life.fleet.await_nodes(life.first(), CLUSTER, &life.members(), Version::First)?;
    for i in &life.control {
        let about = ["-n", "kube-system", "get", "configmap", "qb-about", "-o", "jsonpath={.data.version}"];
        let said = life.host(*i).kubectl(CLUSTER, &about)?.ended(0)?.stdout;
        ensure!(said == Version::First.to_string(), "the bundle's manifest says {said}");
    }
    Ok(())
}

fn attach_two(life: &mut Life) -> Result<()> {
    let rest: Vec<_> =
        life.nodes.iter().filter(|host| !life.control.contains(&host.index())).map(Host::name).collect();
    let names: Vec<_> = rest.iter().map(String::as_str).collect();
    life.fleet.order(&[&["cluster", "attach", CLUSTER], &names[..]].concat())?;
    life.fleet.await_kubernetes(life.first(), CLUSTER, &[2, 3, 4, 5, 6])?;
    life.learn()?;
    ensure!(life.control.len() == 3 && life.workers.len() == 2, "{:?} and {:?}", life.control, life.workers);
    life.fleet.await_nodes(life.first(), CLUSTER, &life.members(), Version::First)
}

fn pods(life: &mut Life) -> Result<()> {
    // Those that came later never saw a store without a leader.
    life.fleet.watch_anew(&life.control[..1])?;
    life.fleet.deploy_web(life.first(), CLUSTER)?;
    life.well()
}

/// The admin's own kubectl, through the relay.
fn kubectl(life: &mut Life) -> Result<()> {
    let ran = life.fleet.far(&["kubectl", CLUSTER, "--", "get", "nodes", "-o", "name"])?.ended(0)?;
    ensure!(ran.stdout.lines().count() == life.members().len(), "it prints {}", ran.stdout);
    Ok(())
}

/// A worker without power for a moment comes back by itself, with its pod network.
fn power_cut(life: &mut Life) -> Result<()> {
    let index = life.workers[0];
    life.host(index).kill()?;
    life.fleet.lab.boot_again([index])?;
    life.well()
}

/// Agents and executors may go at any time: nothing of the cluster is theirs.
fn restart(life: &mut Life) -> Result<()> {
    for host in &life.nodes {
        let kubelet = host.property("kubelet.service", "MainPID")?;
        host.ok(&["systemctl", "restart", "qb-exec.service", "qb-agent.service"])?;
        ensure!(host.property("kubelet.service", "MainPID")? == kubelet, "{}: another kubelet", host.name());
    }
    life.well()
}

/// A control plane node falls silent for good: the site and the cluster go on, and it is revoked.
fn loss(life: &mut Life) -> Result<()> {
    let lost = life.control.pop().context("a control plane node")?;
    life.fleet.lab.unplug(lost)?;
    life.host(lost).kill()?;
    let (name, worker) = (format!("h{lost}"), life.host(life.workers[0]));
    worker.eventually(LATE, "the API is there", |host| {
        let ran = host.exec(&["curl", "-sk", "-m", "2", "https://127.0.0.1:6444/readyz"])?;
        ensure!(ran.stdout == "ok", "it says {} {}", ran.stdout, ran.code);
        Ok(())
    })?;
    life.fleet.order(&["node", "revoke", &name, "--confirm", &name])?;
    life.fleet.await_nodes(life.first(), CLUSTER, &life.members(), Version::First)?;
    let members = etcd_members(life.first())?;
    ensure!(members.len() == 2, "etcd has {members:?}");
    life.nodes.retain(|host| host.index() != lost);
    life.fleet.lab.host(lost).wipe()?;
    life.fleet.watch_anew(&life.control)?;
    life.well()
}

/// A worker is drained and leaves; its host is as it was.
fn detach_worker(life: &mut Life) -> Result<()> {
    let gone = life.workers.pop().context("a worker")?;
    let name = format!("h{gone}");
    life.fleet.order(&["cluster", "detach", CLUSTER, &name])?;
    let host = life.host(gone);
    host.eventually(ENTER, "its node is in the pool", |host| {
        let node = life.fleet.node_at(host, &name)?;
        ensure!(node.state == "pool", "it is {}: {:?}", node.state, node.waiting_on);
        Ok(())
    })?;
    host.await_picture(&life.before[&gone], LATE)?;
    life.well()
}

/// It takes the place of the control plane node that was lost.
fn replace(life: &mut Life) -> Result<()> {
    let members = life.members();
    let fresh =
        life.nodes.iter().find(|host| !members.contains(&host.index())).context("a node in the pool")?;
    let name = fresh.name();
    life.fleet.order(&["cluster", "attach", CLUSTER, "--control-plane", &name])?;
    let mut members = members;
    members.push(fresh.index());
    members.sort_unstable();
    life.fleet.await_kubernetes(life.first(), CLUSTER, &members)?;
    life.learn()?;
    ensure!(life.control.len() == 3, "control plane nodes are {:?}", life.control);
    let members = etcd_members(life.first())?;
    ensure!(members.len() == 3, "etcd has {members:?}");
    life.well()
}

/// The store goes back to a backup: what was written since is gone, all nodes are in again.
fn restore(life: &mut Life) -> Result<()> {
    let (members, at) = (life.members(), life.control[0]);
    let note = |life: &Life, name: &str| -> Result<()> {
        life.first().kubectl(CLUSTER, &["create", "configmap", name])?.ended(0).map(drop)
    };
    note(life, "before")?;
    let ran = life.fleet.near(at, &["cluster", "backup", CLUSTER, "-y"])?;
    ran.ended(0)?;
    note(life, "after")?;
    let host = format!("h{at}");
    let shown = life.fleet.near(at, &["cluster", "show", CLUSTER, "-o", "json"])?.ended(0)?.json()?;
    let own = shown["members"].as_array().into_iter().flatten().find(|m| m["host"] == *host);
    let kept = own.context("a member")?["upkeep"]["backups"].as_array().cloned().unwrap_or_default();
    let newest = kept.first().context("no backup")?;
    let digest = newest["digest"].as_str().context("a digest")?;
    life.fleet.order(&["cluster", "restore", CLUSTER, digest, "--on", &host, "--confirm", CLUSTER])?;
    life.fleet.await_kubernetes(life.host(at), CLUSTER, &members)?;
    life.learn()?;
    life.fleet.watch_anew(&[at])?;
    life.well()?;
    let names = life.first().kubectl(CLUSTER, &["get", "configmap", "-o", "name"])?.ended(0)?.stdout;
    ensure!(names.contains("configmap/before") && !names.contains("configmap/after"), "it has {names}");
    Ok(())
}

/// A certificate that has ended is renewed without anybody's order, and the cluster serves again. The kubelet lets a
/// part wait for up to five minutes that was ended so often as in this run.
fn renew(life: &mut Life) -> Result<()> {
    let host = life.first();
    host.shell(
        r#"set -e
        cd /etc/kubernetes/pki
        openssl x509 -x509toreq -in apiserver.crt -signkey apiserver.key -out /root/again.csr
        names="$(openssl x509 -in apiserver.crt -noout -ext subjectAltName | tail -n 1 | sed 's/IP Address/IP/g; s/^ *//')"
        printf 'subjectAltName=%s
extendedKeyUsage=serverAuth
' "$names" >/root/again.conf
        openssl x509 -req -in /root/again.csr -CA ca.crt -CAkey ca.key -days -1 -extfile /root/again.conf             -set_serial 7 -out apiserver.crt
        rm /root/again.csr /root/again.conf"#,
    )?;
    host.eventually(ENTER * 2, "the certificate is renewed", |host| {
        let ask =
            ["openssl", "x509", "-in", "/etc/kubernetes/pki/apiserver.crt", "-noout", "-checkend", "86400"];
        let ran = host.exec(&ask)?;
        ensure!(ran.code == 0, "{}", ran.stdout.trim());
        let said = host.shell("journalctl -u qb-exec -o cat | tail -n 30")?.stdout;
        ensure!(said.contains("certificates of the control plane are renewed"), "it goes on: {said}");
        Ok(())
    })?;
    life.well()
}

/// The next version, node by node.
fn upgrade(life: &mut Life) -> Result<()> {
    let file = life.fleet.kubernetes_bundle(Version::Second)?;
    life.fleet.near(life.control[0], &["bundle", "push", &file])?.ended(0)?;
    let version = Version::Second.to_string();
    life.fleet.order(&["cluster", "upgrade", CLUSTER, "--version", &version])?;
    let members = life.members();
    eventually(ENTER, "every node has the next version", || {
        life.fleet.await_nodes(life.first(), CLUSTER, &members, Version::Second)
    })?;
    life.fleet.await_paths(life.first(), CLUSTER, &members)
}

fn delete(life: &mut Life) -> Result<()> {
    life.fleet.order(&["cluster", "delete", CLUSTER, "--confirm", CLUSTER])?;
    for host in &life.nodes {
        host.eventually(ENTER, "its node is in the pool", |host| {
            let node = life.fleet.node_at(host, &host.name())?;
            ensure!(node.state == "pool", "it is {}: {:?}", node.state, node.waiting_on);
            Ok(())
        })?;
    }
    Ok(())
}

/// Every host is as it was before its first attach.
fn clean(life: &mut Life) -> Result<()> {
    life.nodes.iter().try_for_each(|host| host.await_picture(&life.before[&host.index()], LATE))
}

/// etcd's members, as one of them has them.
fn etcd_members(at: &Host) -> Result<Vec<String>> {
    Ok(at.etcdctl(CLUSTER, &["member", "list"])?.stdout.lines().map(str::to_owned).collect())
}
