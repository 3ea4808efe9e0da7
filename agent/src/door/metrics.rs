//! Metrics in the text format of Prometheus.

use std::fmt::{Display, Write as _};

use qb_portal::view::{AlertView, NodeView};

use super::views::Seen;

/// Gauges as text.
#[derive(Default)]
struct Gauges {
    out: String,
}

impl Gauges {
    /// One gauge, with a value for each of its label sets.
    fn put<V: Display>(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (String, V)>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in values {
            let _ = writeln!(self.out, "{name}{labels} {value}");
        }
    }

    fn one(&mut self, name: &str, help: &str, value: u64) {
        self.put(name, help, [(String::new(), value)]);
    }
}

/// A label's value, as the format wants it.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The metrics of what this door sees, and of the alerts that fire.
pub fn text(seen: &Seen<'_>, alerts: &[AlertView]) -> String {
    let mut all = Gauges::default();
    all.one("qb_raft_term", "Raft term.", seen.raft.term);
    all.one("qb_raft_leader", "1 if this node leads.", u64::from(seen.raft.is_leader()));
    all.one("qb_raft_applied", "Last applied log index.", seen.state.applied());
    all.one("qb_raft_voters", "Voters.", seen.raft.voters.len() as u64);
    all.one("qb_peers_connected", "Connected peers.", seen.connected.len() as u64);
    all.one("qb_audit_records", "Records in the audit chain.", seen.state.chain_head().0);
    let views = seen.nodes();
    let mut nodes = std::collections::BTreeMap::<String, u64>::new();
    for node in &views {
        let word = format!("{:?}", node.state).to_lowercase();
        *nodes.entry(format!("{{state=\"{word}\"}}")).or_default() += 1;
    }
    all.put("qb_nodes", "Nodes by state.", nodes);
    hosts(&mut all, &views);
    let clusters = seen.clusters().into_iter().map(|c| {
        let word = format!("{:?}", c.state).to_lowercase();
        (format!("{{cluster=\"{}\",state=\"{word}\"}}", c.name), 1)
    });
    all.put("qb_cluster_state", "1 for the state that each cluster is in.", clusters);
    firing(&mut all, alerts);
    all.out
}

/// What hosts say of themselves. A node that nobody heard of has no value.
fn hosts(all: &mut Gauges, nodes: &[NodeView]) {
    type Figure = (&'static str, &'static str, fn(&NodeView) -> Option<u64>);
    const FIGURES: [Figure; 6] = [
        ("qb_node_memory_used_bytes", "Used memory.", |n| n.memory_used_bytes),
        ("qb_node_memory_bytes", "Memory.", |n| Some(n.facts.as_ref()?.memory_bytes)),
        ("qb_node_disk_bytes", "Size of the file system of the agent's state.", |n| n.disk_bytes),
        ("qb_node_disk_free_bytes", "Free bytes on it.", |n| n.disk_free_bytes),
        ("qb_node_uptime_seconds", "Time since the boot.", |n| n.uptime_s),
        ("qb_node_report_age_milliseconds", "Age of the last report.", |n| n.report_age_ms),
    ];
    let label = |n: &NodeView| format!("{{node=\"{}\"}}", n.name);
    let load = nodes.iter().filter_map(|n| Some((label(n), f64::from(n.load_milli?) / 1_000.0)));
    all.put("qb_node_load1", "Load average over one minute.", load);
    for (name, help, get) in FIGURES {
        all.put(name, help, nodes.iter().filter_map(|n| Some((label(n), get(n)?))));
    }
}

fn firing(all: &mut Gauges, alerts: &[AlertView]) {
    let firing = alerts.iter().filter(|a| a.resolved.is_none()).map(|a| {
        let labels =
            [("rule", &a.rule), ("severity", &a.severity), ("layer", &a.layer), ("subject", &a.subject)];
        let labels = labels.map(|(name, value)| format!("{name}=\"{}\"", quoted(value)));
        (format!("{{{}}}", labels.join(",")), 1)
    });
    all.put("qb_alert_firing", "1 for each alert that fires.", firing);
}

#[cfg(test)]
mod tests {
    use super::*;
    use qb_model::Millis;

    #[test]
    fn an_alert_that_fires_is_a_line_and_a_resolved_one_is_not() {
        let alert = AlertView {
            rule: "node-silent".into(),
            severity: "critical".into(),
            layer: "host".into(),
            subject: "a\"b\\c\n".into(),
            text: String::new(),
            since: Millis(1),
            resolved: None,
            remedy: None,
        };
        let over = AlertView { resolved: Some(Millis(2)), subject: "over".into(), ..alert.clone() };
        let mut all = Gauges::default();
        firing(&mut all, &[alert, over]);
        let line =
            r#"qb_alert_firing{rule="node-silent",severity="critical",layer="host",subject="a\"b\\c\n"} 1"#;
        assert_eq!(all.out.lines().skip(2).collect::<Vec<_>>(), [line]);
    }
}
