//! Alerts and the last hour, as every door shows them.

use anyhow::{Context as _, Result, ensure};
use qb_tests::http;
use qb_tests::site::Site;
use qb_tests::views::{Alert, History};
use qb_tests::wait::eventually;

use super::{GROWN, SOON, authorized, cluster_is, grown, told};

/// The alerts as the door of one agent tells them.
fn alerts(site: &mut Site, door: &str) -> Result<Vec<Alert>> {
    let socket = site.agent(door)?.socket();
    http::get(&socket, &site.path("/alerts"))
}

/// Waits until an alert fires at a door.
fn fires(site: &mut Site, door: &str, rule: &str, subject: &str) -> Result<Alert> {
    eventually(SOON, &format!("{rule} about {subject} fires at {door}"), || {
        let all = alerts(site, door)?;
        let found = all.iter().find(|a| a.rule == rule && a.subject == subject && a.resolved.is_none());
        found.cloned().with_context(|| format!("{all:?}"))
    })
}

/// Waits until it is listed as resolved, once, and fires no more.
fn resolves(site: &mut Site, door: &str, first: &Alert) -> Result<()> {
    eventually(GROWN, &format!("{} about {} is over at {door}", first.rule, first.subject), || {
        let all = alerts(site, door)?;
        let mut same = all.iter().filter(|a| a.rule == first.rule && a.subject == first.subject);
        let (alone, more) = (same.next().context("it is not listed")?, same.count());
        ensure!(alone.resolved.is_some() && more == 0, "{all:?}");
        ensure!(alone.since == first.since, "its beginning moved: {alone:?}, {first:?}");
        Ok(())
    })
}

/// The voters and the others, the leader first.
fn roles(site: &mut Site) -> Result<(Vec<String>, Vec<String>)> {
    let leader = site.leader()?;
    let voters: Vec<String> = site.view()?.voters.into_iter().map(|v| v.host).collect();
    let all: Vec<String> = site.agents.iter().map(|a| a.spec.name.clone()).collect();
    let (mut votes, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|n| voters.contains(n));
    votes.sort_by_key(|n| *n != leader);
    Ok((votes, others))
}

#[test]
fn a_node_that_dies_is_an_alert_at_every_door_until_it_is_back() {
    let mut fixture = authorized(151).expect("a site starts");
    let result = silent(&mut fixture.site);
    told(&fixture, result);
}

fn silent(site: &mut Site) -> Result<()> {
    grown(site)?;
    let (voters, others) = roles(site)?;
    let (door, victim) = (others.first().context("two do not vote")?, others.last().context("two")?);
    site.agent(victim)?.kill();
    let alert = fires(site, door, "node-silent", victim)?;
    ensure!(alert.severity == "warning" && alert.text.contains("no report for"), "{alert:?}");
    let shown = site.qb.ok(&["alert", "list"])?.stdout;
    ensure!(shown.contains(victim) && shown.contains("systemctl status qb-agent"), "{shown}");
    // Every other door has heard of it, so whoever leads next has.
    for agent in site.agents.iter().filter(|a| a.spec.name != *victim) {
        http::events(&agent.socket(), &site.path("/events?after=0"), |text| {
            text.contains("(warning node-silent)")
        })?;
    }
    // The leader dies too: the next one knows the alert with its beginning, and names the old leader.
    let leader = voters.first().context("there are voters")?;
    site.agent(leader)?.kill();
    let dead = fires(site, door, "node-silent", leader)?;
    ensure!(dead.severity == "critical", "a voter is needed: {dead:?}");
    let again = fires(site, door, "node-silent", victim)?;
    ensure!(again.since == alert.since, "its beginning moved: {again:?}, {alert:?}");
    for (name, first) in [(victim, &alert), (leader, &dead)] {
        site.start_one(name)?;
        resolves(site, door, first)?;
    }
    // Every door tells what it heard of, each thing once.
    let socket = site.agent(door)?.socket();
    let events = http::events(&socket, &site.path("/events?after=0"), |text| {
        text.matches("node-silent is over").count() >= 2
    })?;
    let of_victim = |what: &str| {
        let lines =
            events.lines().filter(|l| l.contains("\"alert\"") && l.contains(&format!("\"{victim}\"")));
        lines.filter(|l| l.contains(what)).count()
    };
    ensure!((of_victim("warning node-silent"), of_victim("is over")) == (1, 1), "{events}");
    history(site, door, victim)
}

fn history(site: &mut Site, door: &str, node: &str) -> Result<()> {
    let socket = site.agent(door)?.socket();
    let of_node = site.path(&format!("/nodes/{node}/history"));
    let one: History = http::get(&socket, &of_node)?;
    ensure!(one.node.as_deref() == Some(node) && one.step_ms == 15_000, "{one:?}");
    let sample = one.samples.last().context("nothing was heard")?;
    ensure!(sample.nodes == 1 && sample.memory_used_bytes > 0 && sample.disk_used_bytes > 0, "{sample:?}");
    ensure!(one.samples.windows(2).all(|w| w[0].at < w[1].at), "oldest first: {one:?}");
    let all: History = http::get(&socket, &site.path("/history"))?;
    ensure!(all.node.is_none() && all.samples.iter().any(|s| s.nodes == 5), "{all:?}");
    Ok(())
}

#[test]
fn a_cluster_without_its_control_plane_is_an_alert() {
    let mut fixture = authorized(152).expect("a site starts");
    let result = degraded(&mut fixture.site);
    told(&fixture, result);
}

fn degraded(site: &mut Site) -> Result<()> {
    grown(site)?;
    let (voters, others) = roles(site)?;
    let (door, control) = (voters.first().context("voters")?, others.first().context("others")?);
    site.qb.ok(&["cluster", "create", "clus100", "-y"])?;
    site.qb.ok(&["cluster", "attach", "clus100", control, "-y"])?;
    cluster_is(site, "clus100", "ready")?;
    site.agent(control)?.kill();
    let alert = fires(site, door, "cluster-degraded", "clus100")?;
    ensure!(alert.severity == "critical" && alert.text.contains(control), "{alert:?}");
    site.start_one(control)?;
    resolves(site, door, &alert)
}

#[test]
fn a_door_that_finds_no_leader_says_so() {
    let mut fixture = authorized(153).expect("a site starts");
    let result = leaderless(&mut fixture.site);
    told(&fixture, result);
}

fn leaderless(site: &mut Site) -> Result<()> {
    grown(site)?;
    let (voters, others) = roles(site)?;
    let door = others.first().context("others")?;
    for voter in &voters[1..] {
        site.agent(voter)?.kill();
    }
    let alert = fires(site, door, "site-leader", "lyon")?;
    ensure!(alert.severity == "critical" && alert.text.contains("1 of 3 voters answer"), "{alert:?}");
    for voter in &voters[1..] {
        site.start_one(voter)?;
    }
    eventually(SOON, "the door finds a leader", || {
        let all = alerts(site, door)?;
        ensure!(all.iter().all(|a| a.rule != "site-leader"), "{all:?}");
        Ok(())
    })
}
