//! What agents cost while nothing happens: memory and processor time, by role.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{Bench, ms, print};
use crate::signals;

/// How long the processor's time is counted.
const SPAN: Duration = Duration::from_secs(20);
/// Pause between two looks at whether to go on.
const LOOK: Duration = Duration::from_millis(100);

/// One agent at a moment.
struct Sample {
    ticks: u64,
    pss_kib: u64,
}

/// Reads every agent twice.
pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let nodes = bench.site.nodes()?;
    let pids = bench.site.agents.iter().map(|a| a.pid()).collect::<Result<Vec<_>>>()?;
    let before = pids.iter().map(|p| sample(*p)).collect::<Result<Vec<_>>>()?;
    let began = Instant::now();
    while began.elapsed() < SPAN {
        signals::check()?;
        std::thread::sleep(LOOK);
    }
    let took = began.elapsed();
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    for ((agent, pid), before) in bench.site.agents.iter().zip(&pids).zip(&before) {
        let after = sample(*pid)?;
        let roles = nodes.iter().find(|n| n.name == agent.spec.name).map(|n| n.roles.join(" "));
        let role = match roles.as_deref() {
            Some("") | None => "follower",
            Some(roles) if roles.contains("leader") => "leader",
            Some(_) => "voter",
        };
        let cpu = after.ticks.saturating_sub(before.ticks) as f64 / per_second / took.as_secs_f64();
        print(
            "idle",
            &json!({ "role": role, "node": agent.spec.name, "pss_kib": after.pss_kib,
                "cpu_percent": (cpu * 1e4).round() / 1e2, "over_ms": ms(took),
            }),
        )?;
    }
    Ok(())
}

fn sample(pid: u32) -> Result<Sample> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("an agent ended")?;
    // The name may hold anything but ends with the last parenthesis; user and system time are the
    // 12th and 13th fields behind it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).context("no such field");
    Ok(Sample { ticks: field(11)? + field(12)?, pss_kib: pss_kib(pid)? })
}

/// Memory of a process, with its share of what it shares.
pub(super) fn pss_kib(pid: u32) -> Result<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("a process ended")?;
    let pss = rollup.lines().find_map(|l| l.strip_prefix("Pss:"));
    Ok(pss.and_then(|l| l.split_whitespace().next()).context("no line Pss")?.parse()?)
}
