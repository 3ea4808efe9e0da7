//! Preflight, the gathering: every node opens the driver's ports, every node probes every other.
//! The judgement is the model's. Changes nothing; the ports close when the run is over.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use qb_drivers::{Driver, Served};
use qb_exec::probe::{ProbeTarget, Responders, probe};
use qb_model::NodeId;
use qb_model::action::{NodeRole, PlacedNode};
use qb_model::assignment::KUBEADM;
use qb_model::preflight::{Finding, HostCheck, Port, Probe, ProbeResult, judge, pairs};
use qb_model::state::{NodePhase, SiteState};
use tokio::time::Instant;

use crate::node::Node;
use crate::rpc::{OpenAnswer, OpenPorts, ProbeAnswer, ProbeRequest, Target, kind};

/// How long ports stay open for one run, at most.
const OPEN_FOR: Duration = Duration::from_secs(20);
/// Deadline of opening ports on a node.
const OPEN_DEADLINE: Duration = Duration::from_secs(4);
/// Deadline of one probe.
const PROBE_DEADLINE: Duration = Duration::from_millis(1_500);
/// Deadline of one node's probes.
const PROBES_DEADLINE: Duration = Duration::from_secs(15);
/// Most targets of one probe request.
const MAX_TARGETS: usize = 512;
/// Probes that one node has under way at once.
const AT_ONCE: usize = 64;

/// What a run found.
pub struct Run {
    /// Findings, errors first.
    pub findings: Vec<Finding>,
    /// Hosts.
    pub hosts: u32,
    /// Ordered pairs.
    pub pairs: u32,
    /// Probes.
    pub probes: u32,
    /// How long it took.
    pub took: Duration,
}

/// One run's ports on this node, open as long as this lives.
struct OpenRun {
    run: u64,
    busy: Vec<(Port, String)>,
    _responders: Responders,
}

/// Ports that this node has open for a run.
#[derive(Default)]
pub struct OpenRuns(Mutex<Option<OpenRun>>);

impl OpenRuns {
    /// Opens ports for a run; another run's ports close. Asked again, says the same again.
    pub async fn open(&self, node: &Arc<Node>, wanted: OpenPorts) -> OpenAnswer {
        let facts = node.facts();
        if let Some(open) = &*self.lock()
            && open.run == wanted.run
        {
            return OpenAnswer { busy: open.busy.clone(), facts };
        }
        *self.lock() = None;
        let (responders, busy) = Responders::open(node.config.address, &wanted.ports, node.id()).await;
        *self.lock() = Some(OpenRun { run: wanted.run, busy: busy.clone(), _responders: responders });
        OpenAnswer { busy, facts }
    }

    /// Closes a run's ports.
    pub fn close(&self, run: u64) {
        let mut open = self.lock();
        if open.as_ref().is_some_and(|held| held.run == run) {
            *open = None;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<OpenRun>> {
        self.0.lock().expect("no code that holds the lock can panic")
    }
}

/// Longest life of a run's ports on this node.
pub fn ttl(wanted: &OpenPorts) -> Duration {
    Duration::from_millis(u64::from(wanted.ttl_ms.min(30_000)))
}

/// Probes others from this node.
pub async fn probe_all(node: &Arc<Node>, request: ProbeRequest) -> Result<ProbeAnswer, String> {
    if request.targets.len() > MAX_TARGETS {
        return Err(format!("{} targets, at most {MAX_TARGETS}", request.targets.len()));
    }
    let limit = Duration::from_millis(u64::from(request.deadline_ms.clamp(50, 5_000)));
    let from = node.id();
    let own = node.config.address;
    let mut jobs = Vec::new();
    for target in request.targets {
        let address: IpAddr =
            target.address.parse().map_err(|_| format!("{:?} is not an IP address", target.address))?;
        for port in target.ports.into_iter().take(64) {
            let what = ProbeTarget {
                from: own,
                to: SocketAddr::new(address, port.port),
                proto: port.proto,
                expect: target.node,
                serving: target.serving,
                limit,
            };
            jobs.push((target.node, port, what));
        }
    }
    use futures::StreamExt as _;
    let probes = futures::stream::iter(jobs)
        .map(|(to, port, what)| async move { Probe { from, to, port, result: probe(what).await } })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    Ok(probes)
}

/// What a run is about: nodes, their roles, and whether they serve already.
struct Host {
    node: NodeId,
    role: NodeRole,
    serving: bool,
    address: String,
}

fn hosts(state: &SiteState, placed: &[PlacedNode], cluster: Option<&qb_model::Name>) -> Vec<Host> {
    let mut hosts: Vec<Host> = placed
        .iter()
        .filter_map(|p| {
            let address = state.node(&p.node)?.address.clone()?;
            Some(Host { node: p.node, role: p.role, serving: false, address })
        })
        .collect();
    let members = cluster.into_iter().flat_map(|c| state.members(c));
    for member in members {
        let named = hosts.iter().any(|h| h.node == member.node);
        let joined = matches!(&member.phase, NodePhase::Attached { done: Some(d), .. }
            if *d >= qb_model::assignment::Stage::Initialize);
        if let (false, true, Some(address), Some(role)) =
            (named, joined, member.address.clone(), member.phase.role())
        {
            hosts.push(Host { node: member.node, role, serving: true, address });
        }
    }
    hosts
}

/// Checks nodes and the network between them, as if they were to have these roles in this cluster.
pub async fn run(
    node: &Arc<Node>,
    driver: &'static dyn Driver,
    placed: &[PlacedNode],
    cluster: Option<&qb_model::Name>,
) -> Run {
    let begun = Instant::now();
    let state = node.site();
    let hosts = hosts(&state, placed, cluster);
    let id = crate::events::now().0 ^ u64::from(std::process::id()) << 32;
    let checks = open_all(node, driver, &state, &hosts, id).await;
    let probes = probe_everywhere(node, driver, &hosts).await;
    for host in hosts.iter().filter(|h| !h.serving) {
        close(node, host.node, id).await;
    }
    let needs = |role: NodeRole| driver.requirements(role);
    let mut wanted = pairs(&checks, &needs);
    let serves = |n: &NodeId| checks.iter().any(|c| c.node == *n && c.serving);
    wanted.retain(|pair| {
        !serves(&pair.to) || !serves(&pair.from) && driver.served(&pair.port) != Served::Nothing
    });
    let settings = (driver.name() == KUBEADM).then(|| {
        let named = cluster.and_then(|name| state.cluster(name));
        // Nodes that are looked at for no cluster: one that chooses nothing.
        named.map(|c| c.settings.clone()).unwrap_or_default()
    });
    let findings = judge(&checks, &probes, &needs, &wanted, settings.as_ref());
    let count = hosts.len() as u32;
    Run {
        findings,
        hosts: count,
        pairs: count.saturating_mul(count.saturating_sub(1)),
        probes: probes.len() as u32,
        took: begun.elapsed(),
    }
}

async fn open_all(
    node: &Arc<Node>,
    driver: &dyn Driver,
    state: &SiteState,
    hosts: &[Host],
    run: u64,
) -> Vec<HostCheck> {
    let open = hosts.iter().map(|host| async move {
        let ports = if host.serving { Vec::new() } else { driver.requirements(host.role).ports };
        let wanted = OpenPorts { run, ports, ttl_ms: OPEN_FOR.as_millis() as u32 };
        let answer = if host.serving {
            let heard = node.board().get(&host.node).map(|h| h.report.facts.clone());
            heard.map(|facts| OpenAnswer { busy: Vec::new(), facts })
        } else if host.node == node.id() {
            Some(crate::handler::open_ports(node, wanted).await)
        } else {
            node.ask::<_, OpenAnswer>(host.node, kind::OPEN, &wanted, OPEN_DEADLINE).await.ok()
        };
        let record = state.node(&host.node)?;
        let (facts, busy) = match answer {
            Some(a) => (Some(crate::text::clean_facts(a.facts)), a.busy),
            None => (None, Vec::new()),
        };
        Some(HostCheck {
            node: host.node,
            host: record.host.clone(),
            role: host.role,
            facts,
            busy,
            serving: host.serving,
        })
    });
    futures::future::join_all(open).await.into_iter().flatten().collect()
}

/// What is probed of a node: what answers as a responder does, and what only takes connections.
fn targets(driver: &dyn Driver, to: &Host) -> Vec<Target> {
    let ports = driver.requirements(to.role).ports;
    let hears = |port: &Port| if to.serving { driver.served(port) } else { Served::Answers };
    let target = |serving, how| Target {
        node: to.node,
        address: to.address.clone(),
        ports: ports.iter().filter(|port| hears(port) == how).cloned().collect(),
        serving,
    };
    let both = [target(false, Served::Answers), target(true, Served::Accepts)];
    both.into_iter().filter(|target| !target.ports.is_empty()).collect()
}

async fn probe_everywhere(node: &Arc<Node>, driver: &dyn Driver, hosts: &[Host]) -> Vec<Probe> {
    let asks = hosts.iter().map(|from| async move {
        let others = hosts.iter().filter(|to| to.node != from.node && !(to.serving && from.serving));
        let targets: Vec<Target> = others.flat_map(|to| targets(driver, to)).collect();
        if targets.is_empty() {
            return Vec::new();
        }
        let request = ProbeRequest { targets, deadline_ms: PROBE_DEADLINE.as_millis() as u32 };
        let answer = if from.node == node.id() {
            probe_all(node, request).await.ok()
        } else {
            node.ask::<_, ProbeAnswer>(from.node, kind::PROBE, &request, PROBES_DEADLINE).await.ok()
        };
        // A node speaks for its own probes only.
        answer.unwrap_or_default().into_iter().filter(|p| p.from == from.node).map(bound).collect()
    });
    futures::future::join_all(asks).await.concat()
}

/// Cuts a reason that another node gave.
fn bound(mut probe: Probe) -> Probe {
    if let ProbeResult::Failed { reason } = &mut probe.result {
        *reason = crate::text::clean(reason);
    }
    probe
}

async fn close(node: &Arc<Node>, host: NodeId, run: u64) {
    let nothing = OpenPorts { run, ports: Vec::new(), ttl_ms: 0 };
    if host == node.id() {
        crate::handler::open_ports(node, nothing).await;
    } else if let Err(e) = node.ask::<_, OpenAnswer>(host, kind::OPEN, &nothing, OPEN_DEADLINE).await {
        // The ports close by themselves when their time is over.
        tracing::debug!(%host, "closing preflight ports: {e}");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What a cluster's own services hold is not asked for an answer that they do not give.
    #[test]
    fn a_node_that_serves_is_probed_where_it_can_answer() {
        let asked = |driver: &str, serving| -> Vec<(bool, Vec<u16>)> {
            let driver = qb_drivers::driver(&driver.parse().unwrap()).unwrap();
            let to = Host {
                node: NodeId([1; 32]),
                role: NodeRole::ControlPlane,
                serving,
                address: "10.0.0.1".into(),
            };
            let ports = |target: Target| (target.serving, target.ports.iter().map(|p| p.port).collect());
            targets(driver, &to).into_iter().map(ports).collect()
        };
        assert_eq!(asked("kubeadm", false), [(false, vec![10250, 8472, 6443, 2379, 2380])]);
        assert_eq!(asked("kubeadm", true), [(true, vec![10250, 6443, 2379, 2380])]);
        assert_eq!(asked("rehearsal", true), [(false, vec![10250, 8472]), (true, vec![6443])]);
    }
}
