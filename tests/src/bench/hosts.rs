//! What the packages cost on hosts of a laboratory: size, time to knock, time to be ready, memory, processor.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::{ms, print};
use crate::fleet::{AGENT, EXEC, Fleet, LATE};
use crate::lab::{Host, Kind};
use crate::signals;
use crate::views::Node;
use crate::wait::eventually;

/// Hosts that are installed one after the other, each watched at the relay's door.
const HOSTS: [u8; 5] = [2, 3, 4, 5, 6];
/// Starts of the agent that are timed.
const STARTS: usize = 12;
/// How long the processor's time is counted.
const SPAN: Duration = Duration::from_secs(60);
/// Pause between two looks at whether to go on.
const LOOK: Duration = Duration::from_millis(100);
/// What the agent is beside: a small agent that many machines have.
const BESIDE: &str = "prometheus-node-exporter.service";

/// Measures the packages that are built.
///
/// # Errors
/// There are none, or this machine cannot have a laboratory.
pub fn run() -> Result<()> {
    let mut fleet = Fleet::create("bench-hosts", "lyon")?;
    fleet.create_site()?;
    let hosts = fleet.machines(HOSTS, &Kind::default().with(["prometheus-node-exporter"]))?;
    fleet.explained(|fleet| {
        sizes(fleet)?;
        knocks(fleet, &hosts)?;
        fleet.authorize(&hosts)?;
        starts(&hosts[4])?;
        idle(fleet, &hosts)
    })
}

/// Bytes of each package, and what it takes on a disk.
fn sizes(fleet: &Fleet) -> Result<()> {
    for name in ["qb-agent", "qb-relay", "qb"] {
        for (format, path) in [("deb", fleet.packages.deb(name)?), ("rpm", fleet.packages.rpm(name)?)] {
            print(
                "package",
                &json!({ "name": name, "format": format, "bytes": std::fs::metadata(path)?.len() }),
            )?;
        }
    }
    let far = fleet.lab.host(crate::fleet::FAR);
    installed(&far, "qb-relay")
}

fn installed(host: &Host, name: &str) -> Result<()> {
    let said = host.ok(&["dpkg-query", "-W", "-f", "${Installed-Size}", name])?.stdout;
    print("installed", &json!({ "name": name, "kib": said.trim().parse::<u64>()? }))
}

/// From dpkg's end to the sight of the machine at the relay's door, one host after the other.
fn knocks(fleet: &Fleet, hosts: &[Host]) -> Result<()> {
    let line = fleet.install_line()?;
    for host in hosts {
        let began = Instant::now();
        host.exec_within(LATE, &["sh", "-c", &line])?.ended(0)?;
        let installed = Instant::now();
        eventually(LATE, "it waits at the relay's door", || {
            let nodes: Vec<Node> = fleet.shown(&["node", "list"])?;
            ensure!(nodes.iter().any(|n| n.name == host.name() && n.state == "waiting"), "not yet");
            Ok(())
        })?;
        let (line_ms, seen) = (ms(installed - began), ms(installed.elapsed()));
        print("install", &json!({ "host": host.name(), "line_ms": line_ms, "visible_after_dpkg_ms": seen }))?;
    }
    installed(&hosts[0], "qb-agent")
}

/// From systemd's start of the agent to READY=1, as systemd has it, the version's choice included.
fn starts(host: &Host) -> Result<()> {
    let mut all = Vec::new();
    for _ in 0..STARTS {
        host.ok(&["systemctl", "restart", AGENT])?;
        let at = |name: &str| -> Result<u64> { Ok(host.property(AGENT, name)?.parse()?) };
        let (left, main, ready) = (
            at("InactiveExitTimestampMonotonic")?,
            at("ExecMainStartTimestampMonotonic")?,
            at("ActiveEnterTimestampMonotonic")?,
        );
        all.push((ready - main, ready - left));
    }
    all.sort_unstable();
    let median = all[all.len() / 2];
    let (least, most) = (all[0].0, all[all.len() - 1].0);
    print(
        "ready",
        &json!({ "starts": all.len(), "median_ms": median.0 / 1_000, "least_ms": least / 1_000,
            "most_ms": most / 1_000, "with_pick_median_ms": median.1 / 1_000 }),
    )
}

/// Memory and processor of the services that idle, beside one that is known.
fn idle(fleet: &Fleet, hosts: &[Host]) -> Result<()> {
    let far = fleet.lab.host(crate::fleet::FAR);
    let units: Vec<_> = hosts
        .iter()
        .flat_map(|host| [AGENT, EXEC, BESIDE].map(|unit| (host, unit)))
        .chain([(&far, crate::fleet::RELAY)])
        .collect();
    let read = || units.iter().map(|(host, unit)| sample(host, unit)).collect::<Result<Vec<_>>>();
    let before = read()?;
    let began = Instant::now();
    while began.elapsed() < SPAN {
        signals::check()?;
        std::thread::sleep(LOOK);
    }
    let after = read()?;
    // As it is at the end: voters are made of followers in the meantime.
    let nodes: Vec<Node> = serde_json::from_value(fleet.local(&hosts[0], "/nodes")?)?;
    let took = began.elapsed().as_secs_f64() * rustix::param::clock_ticks_per_second() as f64;
    for (((host, unit), before), after) in units.iter().zip(before).zip(after) {
        let cpu = after.ticks.saturating_sub(before.ticks) as f64 / took;
        let roles = nodes.iter().find(|n| n.name == host.name()).map(|n| n.roles.join(" "));
        print(
            "service",
            &json!({ "host": host.name(), "unit": unit, "roles": roles, "pss_kib": after.pss_kib,
                "cpu_percent": (cpu * 1e4).round() / 1e2, "over_ms": ms(SPAN) }),
        )?;
    }
    Ok(())
}

/// A service at a moment.
struct Sample {
    ticks: u64,
    pss_kib: u64,
}

fn sample(host: &Host, unit: &str) -> Result<Sample> {
    let pid = host.property(unit, "MainPID")?;
    let text = |file: &str| -> Result<String> {
        Ok(String::from_utf8_lossy(&host.read_file(&format!("/proc/{pid}/{file}"))?).into_owned())
    };
    let (stat, rollup) = (text("stat")?, text("smaps_rollup")?);
    // The name may hold anything but ends with the last parenthesis; user and system time are the
    // 12th and 13th fields behind it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).context("no such field");
    let pss = rollup.lines().find_map(|l| l.strip_prefix("Pss:"));
    let pss_kib = pss.and_then(|l| l.split_whitespace().next()).context("no line Pss")?.parse()?;
    Ok(Sample { ticks: field(11)? + field(12)?, pss_kib })
}
