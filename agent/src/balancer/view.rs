//! What people see of the way to the API servers.

use std::fmt::Write as _;
use std::net::SocketAddr;

use qb_model::{Millis, Name};

use super::health::Rank;

/// What is known of the way to the API servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Where connections are taken; none while no port is open.
    pub listens: Option<SocketAddr>,
    /// Why the way is not as it should be, with the remedy.
    pub waits: Option<String>,
    /// The cluster that the servers are of.
    pub cluster: Option<Name>,
    /// The servers.
    pub servers: Vec<ServerView>,
    /// Connections that were cut, drained and refused since the agent started.
    pub ended: Ended,
}

/// How many connections ended in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// Cut, since their server took no connections.
    pub cut: u64,
    /// Drained, since their server left or was not ready for long.
    pub drained: u64,
    /// Closed, since no server was found for them in time.
    pub unserved: u64,
    /// Refused, since there were too many.
    pub refused: u64,
}

/// What is known of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerView {
    /// Where it is.
    pub at: SocketAddr,
    /// How it stands.
    pub rank: Rank,
    /// Since when it is dead or not ready.
    pub since: Option<Millis>,
    /// What it said last, if it is not ready.
    pub why: String,
    /// Connections to it.
    pub connections: usize,
}

impl Rank {
    /// One word for people and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Unknown => "unknown",
            Self::Suspect => "suspect",
            Self::NotReady => "not-ready",
            Self::Dead => "dead",
        }
    }
}

/// The view as metrics in the text format of Prometheus; nothing on a node of no such cluster.
pub fn metrics(view: &View) -> String {
    let mut out = String::new();
    let Some(cluster) = &view.cluster else { return out };
    let mut put = |name: &str, kind: &str, help: &str, values: Vec<(String, u64)>| {
        // Writing to a string does not fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(out, "{name}{{cluster=\"{cluster}\"{labels}}} {value}");
        }
    };
    let listens = u64::from(view.listens.is_some());
    put(
        "qb_api_listens",
        "gauge",
        "1 while the port of the balancer is open.",
        vec![(String::new(), listens)],
    );
    let states = view.servers.iter().map(|s| {
        let labels = format!(",server=\"{}\",state=\"{}\"", s.at, s.rank.word());
        (labels, 1)
    });
    put("qb_api_server_state", "gauge", "1 for how this node sees each API server.", states.collect());
    let connections =
        view.servers.iter().map(|s| (format!(",server=\"{}\"", s.at), s.connections as u64)).collect();
    put("qb_api_connections", "gauge", "Connections to each API server through the balancer.", connections);
    let Ended { cut, drained, unserved, refused } = view.ended;
    let ended = [("cut", cut), ("drained", drained), ("unserved", unserved), ("refused", refused)];
    let ended = ended.map(|(how, count)| (format!(",how=\"{how}\""), count)).to_vec();
    put("qb_api_connections_ended_total", "counter", "Connections that the balancer ended.", ended);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_view_is_metrics() {
        assert_eq!(metrics(&View::default()), "");
        let server = |n: u8, rank, connections| ServerView {
            at: SocketAddr::from(([10, 0, 0, n], 6443)),
            rank,
            since: None,
            why: String::new(),
            connections,
        };
        let view = View {
            listens: Some(SocketAddr::from(([127, 0, 0, 1], 6444))),
            waits: None,
            cluster: Some("c1".parse().unwrap()),
            servers: vec![server(1, Rank::Ready, 4), server(2, Rank::NotReady, 0)],
            ended: Ended { cut: 3, ..Ended::default() },
        };
        let text = metrics(&view);
        let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
        assert_eq!(
            lines,
            [
                r#"qb_api_listens{cluster="c1"} 1"#,
                r#"qb_api_server_state{cluster="c1",server="10.0.0.1:6443",state="ready"} 1"#,
                r#"qb_api_server_state{cluster="c1",server="10.0.0.2:6443",state="not-ready"} 1"#,
                r#"qb_api_connections{cluster="c1",server="10.0.0.1:6443"} 4"#,
                r#"qb_api_connections{cluster="c1",server="10.0.0.2:6443"} 0"#,
                r#"qb_api_connections_ended_total{cluster="c1",how="cut"} 3"#,
                r#"qb_api_connections_ended_total{cluster="c1",how="drained"} 0"#,
                r#"qb_api_connections_ended_total{cluster="c1",how="unserved"} 0"#,
                r#"qb_api_connections_ended_total{cluster="c1",how="refused"} 0"#,
            ]
        );
    }
}
