//! Metrics in the text format of Prometheus.

use std::fmt::Write as _;

use super::views::Seen;

/// The metrics of what this door sees.
pub fn text(seen: &Seen<'_>) -> String {
    let mut out = String::new();
    let mut gauge = |name: &str, help: &str, values: &[(String, u64)]| {
        // Writing to a string does not fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in values {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let plain = |value: u64| vec![(String::new(), value)];
    gauge("qb_raft_term", "Raft term.", &plain(seen.raft.term));
    gauge("qb_raft_leader", "1 if this node leads.", &plain(u64::from(seen.raft.is_leader())));
    gauge("qb_raft_applied", "Last applied log index.", &plain(seen.state.applied()));
    gauge("qb_raft_voters", "Voters.", &plain(seen.raft.voters.len() as u64));
    gauge("qb_peers_connected", "Connected peers.", &plain(seen.connected.len() as u64));
    gauge("qb_audit_records", "Records in the audit chain.", &plain(seen.state.chain_head().0));
    let mut nodes = std::collections::BTreeMap::<String, u64>::new();
    for node in seen.nodes() {
        let word = format!("{:?}", node.state).to_lowercase();
        *nodes.entry(format!("{{state=\"{word}\"}}")).or_default() += 1;
    }
    gauge("qb_nodes", "Nodes by state.", &nodes.into_iter().collect::<Vec<_>>());
    let clusters: Vec<(String, u64)> = seen
        .clusters()
        .into_iter()
        .map(|c| {
            let word = format!("{:?}", c.state).to_lowercase();
            (format!("{{cluster=\"{}\",state=\"{word}\"}}", c.name), 1)
        })
        .collect();
    gauge("qb_cluster_state", "1 for the state that each cluster is in.", &clusters);
    out
}
