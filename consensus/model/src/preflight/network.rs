//! The findings between nodes.

use std::collections::BTreeMap;

use super::{Expected, Finding, HostCheck, Port, Probe, ProbeResult, Proto, error, port_text};
use crate::ids::NodeId;

/// From this many senders on, one finding speaks for all that failed towards a port in one way:
/// a closed port of one node among a hundred is one cause, not ninety-nine.
const FOLD: usize = 4;

/// How a pair failed. The order is that of reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Failure {
    Refused,
    Dropped,
    /// This direction refused or dropped, the way back is open.
    OneWay {
        refused: bool,
    },
    WrongHost,
    Untried,
}

impl Failure {
    fn code(self) -> &'static str {
        match self {
            Self::Refused => "NET-REFUSED",
            Self::Dropped => "NET-DROPPED",
            Self::OneWay { .. } => "NET-ONE-WAY",
            Self::WrongHost => "NET-WRONG-HOST",
            Self::Untried => "NET-UNTRIED",
        }
    }
}

/// Who failed, each with the system's reason if there is one.
type Senders<'a> = Vec<(NodeId, Option<&'a str>)>;

struct Picture<'a> {
    hosts: BTreeMap<NodeId, &'a HostCheck>,
    /// By sender, answerer, transport and number. Of two answers the worse counts.
    results: BTreeMap<(NodeId, NodeId, Proto, u16), &'a ProbeResult>,
}

/// Adds the findings of all expected probes.
pub(super) fn judge(hosts: &[HostCheck], probes: &[Probe], expected: &[Expected], out: &mut Vec<Finding>) {
    let mut picture =
        Picture { hosts: hosts.iter().map(|host| (host.node, host)).collect(), results: BTreeMap::new() };
    for probe in probes {
        let key = (probe.from, probe.to, probe.port.proto, probe.port.port);
        let kept = picture.results.entry(key).or_insert(&probe.result);
        if matches!(kept, ProbeResult::Ok { .. }) {
            *kept = &probe.result;
        }
    }
    let mut failed: BTreeMap<(NodeId, &Port, Failure), Senders<'_>> = BTreeMap::new();
    for pair in expected {
        if let Some((failure, reason)) = picture.failure(pair) {
            failed.entry((pair.to, &pair.port, failure)).or_default().push((pair.from, reason));
        }
    }
    for ((to, port, failure), senders) in failed {
        let senders_of_port = expected.iter().filter(|pair| pair.to == to && pair.port == *port).count();
        let to = picture.name(to);
        if senders.len() >= FOLD {
            let who = format!("{} nodes > {to}", senders.len());
            let many = format!(", from {} of {senders_of_port} nodes", senders.len());
            out.push(finding(failure, &who, &to, port, &many, senders[0].1));
        } else {
            for (from, reason) in senders {
                let who = format!("{} > {to}", picture.name(from));
                out.push(finding(failure, &who, &to, port, "", reason));
            }
        }
    }
}

impl<'a> Picture<'a> {
    fn name(&self, node: NodeId) -> String {
        self.hosts.get(&node).map_or_else(|| node.to_string(), |host| host.host.to_string())
    }

    fn is_silent(&self, node: NodeId) -> bool {
        self.hosts.get(&node).is_some_and(|host| host.facts.is_none())
    }

    fn result(&self, from: NodeId, to: NodeId, port: &Port) -> Option<&'a ProbeResult> {
        self.results.get(&(from, to, port.proto, port.port)).copied()
    }

    /// How an expected probe failed; none if the right node answered, or if another finding
    /// already names the cause.
    fn failure(&self, pair: &Expected) -> Option<(Failure, Option<&'a str>)> {
        let is_busy = self.hosts.get(&pair.to).is_some_and(|host| {
            !host.serving
                && host.busy.iter().any(|(p, _)| (p.proto, p.port) == (pair.port.proto, pair.port.port))
        });
        if is_busy || self.is_silent(pair.from) || self.is_silent(pair.to) {
            return None;
        }
        let back_is_open =
            matches!(self.result(pair.to, pair.from, &pair.port), Some(ProbeResult::Ok { .. }));
        match self.result(pair.from, pair.to, &pair.port) {
            Some(ProbeResult::Ok { .. }) => None,
            Some(ProbeResult::Refused) if back_is_open => Some((Failure::OneWay { refused: true }, None)),
            Some(ProbeResult::Dropped) if back_is_open => Some((Failure::OneWay { refused: false }, None)),
            Some(ProbeResult::Refused) => Some((Failure::Refused, None)),
            Some(ProbeResult::Dropped) => Some((Failure::Dropped, None)),
            Some(ProbeResult::WrongAnswer) => Some((Failure::WrongHost, None)),
            Some(ProbeResult::Failed { reason }) => Some((Failure::Untried, Some(reason))),
            None => Some((Failure::Untried, None)),
        }
    }
}

fn finding(failure: Failure, who: &str, to: &str, port: &Port, many: &str, reason: Option<&str>) -> Finding {
    let port_name = port_text(port);
    let firewall = format!("firewall-cmd --permanent --add-port={port_name} && firewall-cmd --reload");
    let open = format!("on {to}: {firewall}");
    let listens = match port.proto {
        Proto::Tcp => "-ltnp",
        Proto::Udp => "-lunp",
    };
    let (text, remedy) = match failure {
        Failure::Refused => (
            format!("{port_name} refused{many}, the {} needs it", port.service),
            format!("on {to}: ss {listens} 'sport = :{}'; if the agent listens: {firewall}", port.port),
        ),
        Failure::Dropped => (format!("{port_name} dropped{many}: no answer to any try"), open),
        Failure::OneWay { refused } => {
            let how = if refused { "refused" } else { "dropped" };
            (format!("{port_name} {how}{many}; the way back is open"), open)
        }
        Failure::WrongHost => (
            format!("{port_name} is answered by something other than {to}{many}"),
            format!(
                "on {to}: ip -brief address, then on the sender: ip neigh; two machines may share the address"
            ),
        ),
        Failure::Untried => (
            format!("{port_name} was not tried{many}: {}", reason.unwrap_or("0 answers came back")),
            format!("qb preflight again; if it stays, on the sender: qb doctor (towards {to})"),
        ),
    };
    error(failure.code(), who, text, remedy)
}
