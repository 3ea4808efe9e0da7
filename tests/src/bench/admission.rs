//! From the order to authorize a node until it is in the pool.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{Bench, LIMIT, spread};
use crate::wait::eventually;

/// Times of single nodes.
#[derive(Default)]
pub(super) struct Samples {
    pool: Vec<Duration>,
    reporting: Vec<Duration>,
}

impl Samples {
    pub(super) fn print(&self) -> Result<()> {
        spread("authorize_to_pool", &self.pool)?;
        spread("authorize_to_first_report", &self.reporting)
    }
}

/// Authorizes the waiting nodes one by one; the time of the command itself is part of it.
pub(super) fn measure(bench: &mut Bench, samples: &mut Samples) -> Result<()> {
    let names: Vec<String> = bench.site.agents[1..].iter().map(|a| a.spec.name.clone()).collect();
    for name in names {
        eventually(LIMIT, "the node knocks", || node(bench, &name).map(drop))?;
        let began = Instant::now();
        bench.site.qb.ok(&["node", "authorize", &name, "-y"])?;
        eventually(LIMIT, "the node is in the pool", || {
            ensure!(node(bench, &name)?.state == "pool", "it waits");
            Ok(())
        })?;
        samples.pool.push(began.elapsed());
        eventually(LIMIT, "the node reports", || {
            ensure!(node(bench, &name)?.report_age_ms.is_some(), "no report");
            Ok(())
        })?;
        samples.reporting.push(began.elapsed());
    }
    Ok(())
}

fn node(bench: &mut Bench, name: &str) -> Result<crate::views::Node> {
    let nodes = bench.site.nodes()?;
    nodes.into_iter().find(|n| n.name == name).with_context(|| format!("no node {name}"))
}
