//! What real Kubernetes by qb costs on hosts of a laboratory: an attach of three control plane nodes with what of it
//! is qb's own, the same work by a script, and how long clients are interrupted when such a node is lost.

mod script;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{ms, print, spread};
use crate::fleet::{ENTER, EXEC, Fleet, LATE};
use crate::lab::Host;
use crate::signals;

/// The cluster.
const CLUSTER: &str = "c1";
/// Control plane nodes.
const CONTROL: [u8; 3] = [2, 3, 4];
/// The worker that clients are on.
const WORKER: u8 = 5;
/// Words in the titles of steps that are another's work: of kubeadm, containerd, kubelet, or a wait for those.
const OTHERS: [&str; 6] =
    ["import images", "make the cluster", "join c1", "enable the kubelet", "wait ", "container runtime"];
/// How long writers write before a fault, and after it.
const BEFORE: Duration = Duration::from_secs(4);
const AFTER: Duration = Duration::from_secs(12);
/// Pause between two looks at what is awaited.
const LOOK: Duration = Duration::from_millis(20);
/// Where the writers' program is on the worker.
const WRITERS: &str = "/root/qb-writers";
/// Heartbeat and election timeout of etcd in milliseconds: as Kubernetes has it, and as qb sets it.
const TIMINGS: [(&str, u32, u32); 2] = [("tuned", 50, 500), ("default", 100, 1_000)];

/// Measures.
///
/// # Errors
/// There are no packages, or this machine cannot have a laboratory.
pub fn run(runs: u32) -> Result<()> {
    let (fleet, hosts) = Fleet::of_kubernetes("bench-k8s", "lyon", 2..=WORKER)?;
    let measured = attach(&fleet, &hosts)
        .and_then(|()| interruptions(&fleet, &hosts, runs))
        .and_then(|()| script::measure(&fleet, &hosts));
    measured
        .map_err(|e| anyhow::anyhow!("{e:#}\n{}\n{}", fleet.journals(), fleet.kubernetes_journals(CLUSTER)))
}

/// A step of the executor, as its journal has it.
#[derive(Debug, Clone)]
struct Step {
    stage: String,
    title: String,
    ms: u64,
    /// When it ended, in microseconds since 1970.
    ended_us: u64,
}

impl Step {
    fn is_others(&self) -> bool {
        OTHERS.iter().any(|words| self.title.contains(words))
    }
}

fn steps(host: &Host) -> Result<Vec<Step>> {
    let said = host.ok(&["journalctl", "-u", EXEC, "-o", "json", "--no-pager"])?.stdout;
    let step = |line: &str| -> Option<Step> {
        let entry: Value = serde_json::from_str(line).ok()?;
        let text = |name: &str| entry[name].as_str().map(str::to_owned);
        Some(Step {
            stage: text("QB_STAGE")?,
            title: text("MESSAGE")?,
            ms: text("QB_MS")?.parse().ok()?,
            ended_us: text("_SOURCE_REALTIME_TIMESTAMP")?.parse().ok()?,
        })
    };
    Ok(said.lines().filter_map(step).collect())
}

/// Three nodes become a cluster. What others' programs took on the way that all waited for is not qb's own: of the
/// nodes that prepare side by side it is the last one's, then the first node's, then those of both joins.
fn attach(fleet: &Fleet, hosts: &[Host]) -> Result<()> {
    fleet.create_kubernetes(CLUSTER, &[])?;
    let names = CONTROL.map(|i| format!("h{i}"));
    let order = ["cluster", "attach", CLUSTER, "--control-plane", &names.join(","), "-y", "--no-wait"];
    let began = Instant::now();
    fleet.near(CONTROL[0], &order)?;
    let through = |cluster: &Value| {
        let all = cluster["members"].as_array().map(Vec::as_slice).unwrap_or_default();
        all.len() == CONTROL.len() && cluster["state"] == "ready"
    };
    while !through(&fleet.local(&hosts[0], &format!("/clusters/{CLUSTER}"))?) {
        signals::check()?;
        ensure!(began.elapsed() < ENTER, "the cluster is not ready after {ENTER:?}");
        std::thread::sleep(LOOK);
    }
    let total = began.elapsed();
    let mut all: BTreeMap<u8, Vec<Step>> = BTreeMap::new();
    for host in &hosts[..CONTROL.len()] {
        all.insert(host.index(), steps(host)?);
    }
    let of = |i: &u8, stage: &str| -> Vec<&Step> { all[i].iter().filter(|s| s.stage == stage).collect() };
    let end = |i: &u8| of(i, "prepare").iter().map(|s| s.ended_us).max();
    let last = CONTROL.iter().max_by_key(|i| end(i)).context("nobody prepared")?;
    let mut path = of(last, "prepare");
    for i in &CONTROL {
        path.extend(of(i, "initialize"));
        path.extend(of(i, "join"));
    }
    let sum = |others: bool| -> u64 { path.iter().filter(|s| s.is_others() == others).map(|s| s.ms).sum() };
    let total_ms = ms(total);
    print(
        "attach_3_real",
        &json!({ "total_ms": total_ms, "others_ms": sum(true), "own_ms": (total_ms - sum(true) as f64).round(),
            "own_steps_ms": sum(false) }),
    )?;
    for step in path {
        print("step", &json!({ "others": step.is_others(), "ms": step.ms, "what": step.title }))?;
    }
    fleet.order(&["cluster", "attach", CLUSTER, &format!("h{WORKER}")])?;
    fleet.await_kubernetes(&hosts[0], CLUSTER, &[2, 3, 4, 5])
}

/// What befalls a control plane node.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// Its power goes.
    Killed,
    /// Its network does.
    Silent,
}

/// Clients on the worker write through its balancer while a control plane node goes.
fn interruptions(fleet: &Fleet, hosts: &[Host], runs: u32) -> Result<()> {
    let worker = fleet.lab.host(WORKER);
    let program = std::env::current_exe()?.with_file_name("qb-writers");
    worker.push(&program, WRITERS)?;
    let conf = hosts[0].read_file("/etc/kubernetes/admin.conf")?;
    worker.write_file("/root/admin.conf", &conf, 0o600)?;
    for (timing, beat, election) in TIMINGS {
        for host in &hosts[..CONTROL.len()] {
            retime(host, beat, election)?;
            settled(fleet, hosts)?;
        }
        for (fault, word) in [(Fault::Killed, "killed"), (Fault::Silent, "silent")] {
            for leader in [true, false] {
                let (mut lost, mut gaps) = (Vec::new(), Vec::new());
                for _ in 0..runs {
                    signals::check()?;
                    let report = one(fleet, hosts, &worker, (fault, leader))?;
                    let at = |key: &str| {
                        report[key].as_f64().map(|ms| Duration::from_secs_f64(ms / 1e3)).context("no figure")
                    };
                    lost.push(at("longest_lost_ms")?);
                    gaps.push(at("longest_gap_ms")?);
                }
                let who = if leader { "leader" } else { "follower" };
                // Of new requests: from one that was answered well to the next one that was.
                spread(&format!("api_lost_{timing}_{word}_{who}"), &lost)?;
                spread(&format!("api_gap_{timing}_{word}_{who}"), &gaps)?;
            }
        }
    }
    Ok(())
}

fn one(fleet: &Fleet, hosts: &[Host], worker: &Host, (fault, leader): (Fault, bool)) -> Result<Value> {
    let leads = settled(fleet, hosts)?;
    let victim = if leader { leads } else { CONTROL.into_iter().rfind(|i| *i != leads).unwrap_or(leads) };
    let victim = fleet.lab.host(victim);
    let seconds = (BEFORE + AFTER).as_secs().to_string();
    let args = ["env", "-C", "/root", WRITERS, "--kubeconfig", "/root/admin.conf", "--seconds", &seconds];
    let ran = std::thread::scope(|scope| {
        let writes = scope.spawn(|| worker.exec_within(LATE, &args));
        std::thread::sleep(BEFORE);
        match fault {
            Fault::Killed => victim.kill()?,
            Fault::Silent => fleet.lab.unplug(victim.index())?,
        }
        writes.join().map_err(|_| anyhow::anyhow!("the writers' thread failed"))?
    })?;
    match fault {
        Fault::Killed => drop(fleet.lab.boot_again([victim.index()])?),
        Fault::Silent => fleet.lab.plug(victim.index())?,
    }
    ran.ended(0)?.json()
}

/// Waits until all three members of the store and all three API servers are well, and clients reach one; the host of
/// the store's leader.
fn settled(fleet: &Fleet, hosts: &[Host]) -> Result<u8> {
    let worker = fleet.lab.host(WORKER);
    let leads = hosts[0].eventually(ENTER, "the control plane is whole", |_| {
        let mut leader = None;
        for host in &hosts[..CONTROL.len()] {
            let (ready, member, leads) = health(host)?;
            ensure!(ready == "ok", "the API server of {} says {ready}", host.name());
            if member == leads {
                leader = Some(host.index());
            }
        }
        leader.context("no member says that it leads")
    })?;
    worker.eventually(LATE, "the balancer leads to an API server", |host| {
        let ran = host.exec(&["curl", "-sk", "-m", "2", "https://127.0.0.1:6444/readyz"])?;
        ensure!(ran.stdout == "ok", "it says {}", ran.stdout);
        Ok(())
    })?;
    Ok(leads)
}

/// What a host's API server says of itself, its member of the store, and who leads the store for it.
fn health(host: &Host) -> Result<(String, u64, u64)> {
    let url = format!("https://{}:6443/readyz", host.address());
    let ready = host.exec(&["curl", "-sk", "-m", "2", &url])?.stdout;
    let said = host.etcdctl(CLUSTER, &["endpoint", "status", "-w", "json"])?.json()?;
    let number = |value: &Value| value.as_u64().context("etcdctl prints something else");
    let status = &said[0]["Status"];
    Ok((ready, number(&status["header"]["member_id"])?, number(&status["leader"])?))
}

/// Gives a member of the store another timing; kubelet starts it anew.
fn retime(host: &Host, beat: u32, election: u32) -> Result<()> {
    let file = "/etc/kubernetes/manifests/etcd.yaml";
    host.shell(&format!(
        "sed -e 's/--heartbeat-interval=.*/--heartbeat-interval={beat}/' \
         -e 's/--election-timeout=.*/--election-timeout={election}/' {file} >/root/etcd.yaml; \
         cmp -s /root/etcd.yaml {file} || cp /root/etcd.yaml {file}"
    ))?;
    let wanted = format!("election-timeout={election}");
    host.eventually(ENTER, "the store runs with its timing", |host| {
        let ran = host.exec(&["pgrep", "-af", "^etcd "])?;
        ensure!(ran.stdout.contains(&wanted), "it runs as {}", ran.stdout);
        Ok(())
    })
}
