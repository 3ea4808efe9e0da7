//! Preflight, the judgement: what was found on and between nodes, against what roles need.
//! Gathering is the agent's; nothing here asks the system.

mod network;
mod overlap;

use serde::{Deserialize, Serialize};

use crate::action::NodeRole;
use crate::facts::Facts;
use crate::ids::{HostName, NodeId};
use crate::settings::Settings;

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A port that a role listens on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// Transport.
    pub proto: Proto,
    /// Number.
    pub port: u16,
    /// What listens there.
    pub service: String,
}

/// What a role needs of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirements {
    /// Logical processors.
    pub cores: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Free bytes of disk.
    pub disk_free_bytes: u64,
    /// Ports that must be free and reachable.
    pub ports: Vec<Port>,
}

/// A host as preflight saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCheck {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub host: HostName,
    /// The role it is to have.
    pub role: NodeRole,
    /// What it is; none if it did not answer.
    pub facts: Option<Facts>,
    /// Ports that could not be bound, with the system's reason.
    pub busy: Vec<(Port, String)>,
    /// True if the node already serves this cluster, so that its ports are rightly taken.
    pub serving: bool,
}

/// How a probe of one port of one node from another ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeResult {
    /// The right node answered.
    Ok {
        /// Round trip in microseconds.
        rtt_us: u32,
    },
    /// Connection refused.
    Refused,
    /// No answer before the deadline.
    Dropped,
    /// Something else answered.
    WrongAnswer,
    /// Could not be tried: the system's reason.
    Failed {
        /// The reason.
        reason: String,
    },
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Sender.
    pub from: NodeId,
    /// Answerer.
    pub to: NodeId,
    /// The port.
    pub port: Port,
    /// What happened.
    pub result: ProbeResult,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; stops nothing.
    Warning,
    /// Stops the attach.
    Error,
}

/// One thing that is not as a role needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable code, e.g. `NET-REFUSED`.
    pub code: String,
    /// How bad.
    pub severity: Severity,
    /// Host name, or `a > b` for a pair.
    pub subject: String,
    /// The sentence, with the number that proves it.
    pub text: String,
    /// What to type, and where.
    pub remedy: String,
}

/// A probe that must be made: nothing less than its answer is green.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Expected {
    /// Answerer.
    pub to: NodeId,
    /// The port.
    pub port: Port,
    /// Sender.
    pub from: NodeId,
}

/// A known finding: code, and what `qb preflight explain` says of it.
const CODES: [(&str, &str); 12] = [
    (
        "HOST-CORES",
        "The machine has fewer processors than its role needs. Give the virtual machine more, choose another machine, or give this one a smaller role.",
    ),
    (
        "HOST-DISK",
        "The file system that holds the agent's state has less free space than the role needs. Free some, or move the agent's state to a larger file system.",
    ),
    (
        "HOST-MEMORY",
        "The machine has less memory than its role needs. Add some, choose another machine, or give this one a smaller role.",
    ),
    (
        "HOST-NAME-DUPLICATE",
        "Two machines have one host name, as cloned images do. Kubernetes knows nodes by name and would mix them up. Rename all but one and restart their agents.",
    ),
    (
        "HOST-SILENT",
        "The node did not answer the preflight in time, so nothing is known of it. The agent may be stopped, the machine off, or the network between cut. A node that is not checked is never attached.",
    ),
    (
        "NET-DROPPED",
        "Packets to this port vanish: no answer and no refusal. That is what a firewall that drops does, on either machine or between them.",
    ),
    (
        "NET-ONE-WAY",
        "One direction works and the way back does not. Nodes then look healthy to some and dead to others. The firewall of the machine that cannot be reached is the usual cause.",
    ),
    (
        "NET-OVERLAP",
        "An address of the machine lies in a network that the cluster takes for itself: its pods', its services', or the one between its hosts. Packets to that address would end in the cluster. Networks are chosen when a cluster is created: create one with --pods and --services that no machine is in.",
    ),
    (
        "NET-REFUSED",
        "The machine answers, but refuses this port. A firewall that rejects does that, or the agent ended while it held the port open for the check.",
    ),
    (
        "NET-UNTRIED",
        "A probe that must be made has no answer on record: the sender stopped, or its system refused to send. What was not tried is not taken for granted.",
    ),
    (
        "NET-WRONG-HOST",
        "Something answered, but not the node that should have. Two machines share the address, or a middlebox answers for it.",
    ),
    (
        "PORT-BUSY",
        "A port that the role needs is taken by a program that runs already. Stop and disable that program, or choose another machine.",
    ),
];

/// What a finding's code means and what its usual causes are.
pub fn explain(code: &str) -> Option<&'static str> {
    CODES.iter().find(|(known, _)| *known == code).map(|(_, text)| *text)
}

/// Every finding's code, sorted.
pub fn codes() -> impl Iterator<Item = &'static str> {
    CODES.iter().map(|(code, _)| *code)
}

/// The probes that must be made: every port that a node's role listens on, from every other node,
/// sorted by answerer, port and sender.
pub fn pairs(hosts: &[HostCheck], needs: &dyn Fn(NodeRole) -> Requirements) -> Vec<Expected> {
    let mut out = Vec::new();
    for to in hosts {
        for port in needs(to.role).ports {
            let others = hosts.iter().filter(|from| from.node != to.node);
            out.extend(others.map(|from| Expected { to: to.node, port: port.clone(), from: from.node }));
        }
    }
    out.sort_unstable();
    out.dedup();
    out
}

/// Compares what was found with what roles need, and with the networks of `settings` where the cluster has
/// any. No finding means that the attach may go on.
///
/// The order is the same everywhere: errors first, then by subject, then by code. Causes hide their
/// effects: pairs with a silent host and ports that are busy bring no further findings.
pub fn judge(
    hosts: &[HostCheck],
    probes: &[Probe],
    needs: &dyn Fn(NodeRole) -> Requirements,
    expected: &[Expected],
    settings: Option<&Settings>,
) -> Vec<Finding> {
    let mut out = Vec::new();
    for host in hosts {
        match &host.facts {
            None => out.push(silent(host)),
            Some(facts) => resources(host, facts, &needs(host.role), &mut out),
        }
        busy(host, &mut out);
    }
    duplicates(hosts, &mut out);
    network::judge(hosts, probes, expected, &mut out);
    if let Some(settings) = settings {
        overlap::judge(hosts, settings, &mut out);
    }
    out.sort_by(|a, b| {
        let key =
            |f: &Finding| (std::cmp::Reverse(f.severity), f.subject.clone(), f.code.clone(), f.text.clone());
        key(a).cmp(&key(b))
    });
    out
}

/// Whether findings stop an attach.
pub fn stops(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Error)
}

fn error(code: &str, subject: &str, text: String, remedy: String) -> Finding {
    Finding { code: code.to_owned(), severity: Severity::Error, subject: subject.to_owned(), text, remedy }
}

fn role_text(role: NodeRole) -> &'static str {
    match role {
        NodeRole::ControlPlane => "a control plane node",
        NodeRole::Worker => "a worker",
    }
}

fn silent(host: &HostCheck) -> Finding {
    let text = "answers none of the checks: 0 facts, 0 probes".to_owned();
    let remedy = format!("on {}: systemctl status qb-agent, then qb doctor", host.host);
    error("HOST-SILENT", host.host.as_str(), text, remedy)
}

fn resources(host: &HostCheck, facts: &Facts, needs: &Requirements, out: &mut Vec<Finding>) {
    let name = host.host.as_str();
    let role = role_text(host.role);
    if facts.cores < needs.cores {
        let text = format!("has {}, {role} needs {}", count(facts.cores, "core"), needs.cores);
        out.push(error("HOST-CORES", name, text, other_machine(name)));
    }
    if facts.memory_bytes < needs.memory_bytes {
        let (have, need) = (bytes(facts.memory_bytes), bytes(needs.memory_bytes));
        let text = format!("has {have} of memory, {role} needs {need}");
        out.push(error("HOST-MEMORY", name, text, other_machine(name)));
    }
    if facts.disk_free_bytes < needs.disk_free_bytes {
        let (have, need) = (bytes(facts.disk_free_bytes), bytes(needs.disk_free_bytes));
        let text = format!("has {have} of disk free under the agent's state, {role} needs {need}");
        out.push(error(
            "HOST-DISK",
            name,
            text,
            format!("on {name}: du -xhd2 /var | sort -h | tail, and free some"),
        ));
    }
}

fn other_machine(name: &str) -> String {
    format!("attach another node instead of {name}: qb node list --where state:pool")
}

fn busy(host: &HostCheck, out: &mut Vec<Finding>) {
    if host.serving {
        return;
    }
    for (port, reason) in &host.busy {
        let text = format!("{} is taken, the {} needs it: {reason}", port_text(port), port.service);
        let flag = match port.proto {
            Proto::Tcp => "-ltnp",
            Proto::Udp => "-lunp",
        };
        let remedy =
            format!("on {}: ss {flag} 'sport = :{}', and stop what listens there", host.host, port.port);
        out.push(error("PORT-BUSY", host.host.as_str(), text, remedy));
    }
}

fn duplicates(hosts: &[HostCheck], out: &mut Vec<Finding>) {
    let mut names: Vec<&HostName> = hosts.iter().map(|host| &host.host).collect();
    names.sort_unstable();
    for group in names.chunk_by(|a, b| a == b).filter(|group| group.len() > 1) {
        let name = group[0];
        let text = format!("is the name of {} nodes", group.len());
        let remedy = format!(
            "on all but one of them: hostnamectl set-hostname NAME && systemctl restart qb-agent (now: {name})"
        );
        out.push(error("HOST-NAME-DUPLICATE", name.as_str(), text, remedy));
    }
}

/// `8472/udp`.
fn port_text(port: &Port) -> String {
    let proto = match port.proto {
        Proto::Tcp => "tcp",
        Proto::Udp => "udp",
    };
    format!("{}/{proto}", port.port)
}

fn count(n: u32, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// A size in binary units, two significant digits under 10.
fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (n, 0);
    while value >= 10 * 1024 && unit + 1 < UNITS.len() {
        value /= 1024;
        unit += 1;
    }
    if value >= 1024 && unit + 1 < UNITS.len() {
        let tenths = value * 10 / 1024;
        return if tenths.is_multiple_of(10) {
            format!("{} {}", tenths / 10, UNITS[unit + 1])
        } else {
            format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit + 1])
        };
    }
    format!("{value} {}", UNITS[unit])
}

#[cfg(test)]
mod tests;
