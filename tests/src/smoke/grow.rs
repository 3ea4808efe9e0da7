//! From nothing to a pool with three voters.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::{LATE, SOON, Smoke};
use crate::relay::Relay;
use crate::wait::eventually;

/// Agents of the site.
const AGENTS: usize = 5;
/// Port of the relay, at localhost.
const RELAY_PORT: u16 = 18_401;
/// Voters that a site of five grows to.
const VOTERS: usize = 3;

/// The site's files, and the agents with them.
pub(super) fn create(smoke: &mut Smoke) -> Result<()> {
    let relay = Relay::open(smoke.relay_dir.path(), RELAY_PORT, &smoke.binaries)?;
    let site = &mut smoke.site;
    site.create_at(&relay)?;
    smoke.relay = Some(relay);
    let site = &mut smoke.site;
    ensure!(site.enrolment.is_file(), "there is no enrolment file");
    let enrolment = std::fs::read_to_string(&site.enrolment)?;
    ensure!(
        !enrolment.contains("seed\":\"") && !enrolment.contains("secret"),
        "the enrolment file has a secret"
    );
    site.start()?;
    smoke.remember()?;
    ensure!(!smoke.site.view()?.founded, "nobody founded it");
    Ok(())
}

/// All knock, and are listed with what an admin compares.
pub(super) fn knock(smoke: &mut Smoke) -> Result<()> {
    let waiting = eventually(SOON, "five nodes wait", || {
        let waiting = smoke.nodes_in("waiting")?;
        ensure!(waiting.len() == AGENTS, "{} wait", waiting.len());
        Ok(waiting)
    })?;
    for (at, node) in waiting.iter().enumerate() {
        let facts = node.facts.as_ref();
        ensure!(node.words.split(' ').count() == 6, "{}: words {:?}", node.name, node.words);
        ensure!(facts.is_some_and(|f| f.cores > 0 && f.memory_bytes > 0), "{}: no facts", node.name);
        ensure!(facts.is_some_and(|f| f.zone == format!("rack-{}", at % 3 + 1)), "{}: no zone", node.name);
        ensure!(node.knock.is_some() && node.generation == 0, "{}: no knock", node.name);
    }
    Ok(())
}

/// The first authorization founds the site.
pub(super) fn authorize(smoke: &mut Smoke) -> Result<()> {
    // Without agreement nothing is sent.
    smoke.site.qb.run(&["node", "authorize", "--waiting"])?.ended(2)?;
    ensure!(!smoke.site.view()?.founded, "founded without a signature");
    smoke.site.qb.ok(&["node", "authorize", "--waiting", "-y"])?;
    let view = smoke.site.view()?;
    ensure!(view.founded && view.id.parse::<qb_model::SiteId>()? == smoke.id()?, "not founded");
    Ok(())
}

/// All come in, and report.
pub(super) fn pool(smoke: &mut Smoke) -> Result<()> {
    eventually(SOON, "five nodes in the pool, reporting", || {
        let pool = smoke.nodes_in("pool")?;
        ensure!(pool.len() == AGENTS, "{} in the pool", pool.len());
        let silent = pool.iter().find(|n| n.report_age_ms.is_none_or(|age| age > 3_000));
        ensure!(silent.is_none(), "no report of {:?}", silent.map(|n| &n.name));
        Ok(())
    })
}

/// The voters grow from one to three, and spread over three racks.
pub(super) fn grow(smoke: &mut Smoke) -> Result<()> {
    eventually(LATE, "three voters in three racks", || {
        let voters = smoke.site.view()?.voters;
        let names: Vec<&str> = voters.iter().map(|v| v.host.as_str()).collect();
        ensure!(voters.len() == VOTERS && voters.iter().all(|v| v.connected), "voters are {names:?}");
        ensure!(voters.iter().any(|v| v.leader), "no leader is known");
        let nodes = smoke.site.nodes()?;
        let voting = nodes.iter().filter(|n| n.roles.iter().any(|r| r == "voter"));
        let zones: BTreeSet<&str> = voting.filter_map(|n| Some(n.facts.as_ref()?.zone.as_str())).collect();
        ensure!(zones.len() == VOTERS, "the voters {names:?} stand in {zones:?}");
        Ok(())
    })
}
