//! Whole sites of real processes: killed, cut, started again, and told wrong things. Every test has
//! an address range and a directory of its own.

mod t10_founding;
mod t20_faults;
mod t25_executor;
mod t27_bundles;
mod t30_bad_input;
mod t35_service;
mod t40_relay;
mod t45_hostile;
mod t45_schedules;
mod t50_monitoring;
mod t55_tokens;
mod t60_attest;
mod t65_tunnels;
mod t70_settings;

use std::time::Duration;

use anyhow::{Result, ensure};
use qb_tests::binaries::Binaries;
use qb_tests::site::{Layout, Site};
use qb_tests::wait::eventually;

/// How long anything may take that should take a second or so.
const SOON: Duration = Duration::from_secs(30);
/// How long the group may take to grow: nodes must have been stable for ten seconds.
const GROWN: Duration = Duration::from_secs(60);

/// A site of its own; its directory is removed in the end.
struct Fixture {
    site: Site,
    _dir: tempfile::TempDir,
}

/// Makes a site with addresses 127.0.`net`.11 to .15 and starts all its agents.
fn fresh(net: u8) -> Result<Fixture> {
    let fixture = made(net)?;
    started(fixture)
}

/// Starts all agents of a site.
fn started(mut fixture: Fixture) -> Result<Fixture> {
    fixture.site.start()?;
    Ok(fixture)
}

/// Makes a site whose agents do not run yet.
fn made(net: u8) -> Result<Fixture> {
    let dir = tempfile::Builder::new().prefix("qb").tempdir()?;
    let layout = Layout { dir: dir.path().join("s"), name: "lyon".into(), net: [127, 0, net] };
    let site = Site::open(&layout, &Binaries::find()?)?;
    site.ports_free()?;
    site.create()?;
    Ok(Fixture { site, _dir: dir })
}

/// Lets all nodes in and waits until they have said where they are.
fn authorized(net: u8) -> Result<Fixture> {
    pooled(fresh(net)?)
}

/// The same for a site whose agents run.
fn pooled(mut fixture: Fixture) -> Result<Fixture> {
    let site = &mut fixture.site;
    waiting(site, 5)?;
    site.qb.ok(&["node", "authorize", "--waiting", "-y"])?;
    eventually(SOON, "five nodes in the pool", || {
        let nodes = site.nodes()?;
        let there = nodes.iter().filter(|n| n.state == "pool" && n.waiting_on.is_none()).count();
        ensure!(there == 5, "{there}");
        Ok(())
    })?;
    Ok(fixture)
}

/// Waits until so many nodes knock.
fn waiting(site: &mut Site, count: usize) -> Result<()> {
    eventually(SOON, "machines knock", || {
        let waiting = site.nodes()?.iter().filter(|n| n.state == "waiting").count();
        ensure!(waiting == count, "{waiting}");
        Ok(())
    })
}

/// Waits until three nodes vote.
fn grown(site: &mut Site) -> Result<()> {
    eventually(GROWN, "three voters", || {
        let voters = site.view()?.voters.len();
        ensure!(voters == 3, "{voters}");
        Ok(())
    })
}

/// Waits until a cluster is in a state.
fn cluster_is(site: &mut Site, name: &str, state: &str) -> Result<()> {
    eventually(SOON, &format!("{name} is {state}"), || {
        let cluster = site.cluster(name)?;
        ensure!(cluster.state == state, "{}: {:?}", cluster.state, cluster.waiting_on);
        Ok(())
    })
}

/// Fails with the agents' last words.
fn told<T>(fixture: &Fixture, result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(e) => panic!("{e:#}\n{}", fixture.site.tails(15)),
    }
}
