//! An attach of three rehearsal nodes: all of it, and the part that is qb's own.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Bench, LIMIT, ms, print};
use crate::signals;
use crate::views::{Cluster, Member};

/// Times that it is measured.
const RUNS: usize = 3;
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(2);
/// Title of the work that comes before a driver's first step.
const SUPPLIES: &str = "get supplies";

/// Attaches, deletes, attaches again.
pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    for run in 1..=RUNS {
        let name = format!("bench{run}");
        bench.site.qb.ok(&["cluster", "create", &name, "-y"])?;
        let began = Instant::now();
        bench.site.qb.ok(&["cluster", "attach", &name, "-n", "3", "-y", "--no-wait"])?;
        let ordered = began.elapsed();
        let (cluster, steps) = follow(bench, &name)?;
        let total = began.elapsed();
        let stages: serde_json::Map<_, _> = cluster
            .stages
            .iter()
            .filter_map(|s| Some((s.word.clone(), json!(s.ended?.saturating_sub(s.began?)))))
            .collect();
        print(
            "attach_3_nodes",
            &json!({ "unit": "ms", "run": run, "total": ms(total),
                "command": ms(ordered), "in_steps_sampled": ms(steps),
                "own": ms(total.saturating_sub(steps)), "stages": stages,
            }),
        )?;
        bench.site.qb.ok(&["cluster", "delete", &name, "--confirm", &name])?;
    }
    Ok(())
}

/// Looks until the cluster is ready; sums up the time in which any node reported a driver's step.
fn follow(bench: &mut Bench, name: &str) -> Result<(Cluster, Duration)> {
    let began = Instant::now();
    let mut steps = Duration::ZERO;
    let mut looked = Instant::now();
    loop {
        signals::check()?;
        let cluster = bench.site.cluster(name)?;
        let now = Instant::now();
        if cluster.members.iter().any(in_step) {
            steps += now - looked;
        }
        looked = now;
        if cluster.state == "ready" && cluster.members.len() == 3 {
            return Ok((cluster, steps));
        }
        ensure!(began.elapsed() < LIMIT, "{name} is {} after {} s", cluster.state, LIMIT.as_secs());
        std::thread::sleep(LOOK);
    }
}

fn in_step(member: &Member) -> bool {
    let work = member.work.as_ref();
    work.is_some_and(|w| w.title != SUPPLIES && !matches!(w.state.as_str(), "done" | "failed"))
}
