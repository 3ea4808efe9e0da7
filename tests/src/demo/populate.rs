//! `--populated`: the way to a site with clusters, by the commands that a person would type. Started
//! again on a site that has them, it does nothing.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::screen;
use crate::site::Site;
use crate::wait::eventually;

/// The cluster that is filled.
const FULL: &str = "clus100";
/// Its nodes.
const NODES: usize = 3;
/// The cluster that stays empty.
const EMPTY: &str = "clus101";
/// How long nodes may take to come in, and a cluster to serve.
const LIMIT: Duration = Duration::from_secs(60);

/// Goes there, from wherever the site is.
pub(super) fn run(site: &mut Site) -> Result<()> {
    if site.nodes()?.iter().any(|n| n.state == "waiting") {
        typed(site, &["node", "authorize", "--waiting", "-y"])?;
    }
    eventually(LIMIT, "all nodes are in", || {
        let nodes = site.nodes()?;
        let in_pool = |n: &&crate::views::Node| n.state == "waiting" || n.report_age_ms.is_none();
        let missing: Vec<_> = nodes.iter().filter(in_pool).filter(|n| n.state != "revoked").collect();
        ensure!(missing.is_empty(), "{} is {}", missing[0].name, missing[0].state);
        Ok(())
    })?;
    for name in [FULL, EMPTY] {
        if !has(site, name)? {
            typed(site, &["cluster", "create", name, "-y"])?;
        }
    }
    let members = site.cluster(FULL)?.members.len();
    if members < NODES {
        typed(site, &["cluster", "attach", FULL, "-n", &(NODES - members).to_string(), "-y"])?;
    }
    eventually(LIMIT, "clus100 is ready", || {
        let cluster = site.cluster(FULL)?;
        let why = cluster.waiting_on.map(|w| w.text).unwrap_or_default();
        ensure!(cluster.state == "ready" && cluster.members.len() >= NODES, "it is {}: {why}", cluster.state);
        Ok(())
    })?;
    for args in [["cluster", "list"], ["node", "list"]] {
        typed(site, &args)?;
    }
    screen::populated(site)
}

fn has(site: &mut Site, name: &str) -> Result<bool> {
    Ok(site.clusters()?.iter().any(|c| c.name == name))
}

fn typed(site: &Site, args: &[&str]) -> Result<()> {
    screen::command(args);
    site.qb.show(args)
}
