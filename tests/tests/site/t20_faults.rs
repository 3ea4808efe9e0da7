//! Processes die: the leader, a worker at every moment, a majority, all of them.

use anyhow::{Context as _, Result, ensure};
use qb_tests::site::Site;
use qb_tests::wait::eventually;

use super::{SOON, authorized, cluster_is, grown, told};

#[test]
fn an_attach_outlives_its_leader() {
    let mut fixture = authorized(31).expect("a site starts");
    let result = leader_killed(&mut fixture.site);
    told(&fixture, result);
}

fn leader_killed(site: &mut Site) -> Result<()> {
    grown(site)?;
    site.qb.ok(&["cluster", "create", "clus100", "-y"])?;
    let leader = site.leader()?;
    // Held, so that the attach is surely under way when the leader dies.
    let worker =
        site.agents.iter().map(|a| a.spec.name.clone()).find(|n| *n != leader).context("five agents")?;
    site.agent(&worker)?.set_held(true)?;
    site.qb.ok(&["cluster", "attach", "clus100", &worker, "-y", "--no-wait"])?;
    eventually(SOON, "the held step says so", || {
        let why = site.cluster("clus100")?.waiting_on.context("nothing is waited for")?;
        ensure!(why.text.contains(&worker), "{}", why.text);
        Ok(())
    })?;
    site.agent(&leader)?.kill();
    site.agent(&worker)?.set_held(false)?;
    cluster_is(site, "clus100", "ready")?;
    site.start_one(&leader)?;
    eventually(SOON, "the old leader has the same head", || {
        let (a, b) = (site.agent(&leader)?.socket(), site.agent(&worker)?.socket());
        let old: qb_tests::views::Head = qb_tests::http::get(&a, "/v1/sites/lyon/head")?;
        let new: qb_tests::views::Head = qb_tests::http::get(&b, "/v1/sites/lyon/head")?;
        ensure!(old.hash == new.hash && old.index == new.index, "{} {}", old.index, new.index);
        Ok(())
    })
}

#[test]
fn without_a_majority_nothing_changes_and_everything_says_why() {
    let mut fixture = authorized(32).expect("a site starts");
    let result = quorum_lost(&mut fixture.site);
    told(&fixture, result);
}

fn quorum_lost(site: &mut Site) -> Result<()> {
    grown(site)?;
    let voters: Vec<String> = site.view()?.voters.into_iter().map(|v| v.host).collect();
    let left = voters.first().context("there are voters")?.clone();
    for voter in &voters[1..] {
        site.agent(voter)?.kill();
    }
    let before = site.head()?;
    let door = format!("unix:{}", site.agent(&left)?.socket().display());
    eventually(SOON, "the site says that it has no leader", || {
        let ran = site.qb.ok(&["--door", &door, "site", "status"])?;
        let text = format!("{}{}", ran.stdout, ran.stderr);
        ensure!(text.contains("waits for a leader: 1 of 3 voters"), "{text}");
        Ok(())
    })?;
    let ran = site.qb.run(&["--door", &door, "cluster", "create", "clus100", "-y"])?;
    ensure!(ran.code != 0, "an order was taken without a majority: {}", ran.stderr);
    for voter in &voters[1..] {
        site.start_one(voter)?;
    }
    eventually(SOON, "orders are taken again", || {
        site.qb.ok(&["cluster", "create", "clus101", "-y"]).map(drop)
    })?;
    let after = site.head()?;
    ensure!(after.index > before.index, "the chain went on: {} {}", before.index, after.index);
    Ok(())
}

#[test]
fn a_voter_whose_log_is_gone_never_votes_under_its_old_number() {
    let mut fixture = authorized(38).expect("a site starts");
    let result = log_lost(&mut fixture.site);
    told(&fixture, result);
}

fn log_lost(site: &mut Site) -> Result<()> {
    grown(site)?;
    let before = site.view()?.voters;
    let lost = before.iter().find(|v| !v.leader).context("a follower")?.clone();
    let agent = site.agent(&lost.host)?;
    agent.kill();
    std::fs::remove_dir_all(agent.state.join("raft"))?;
    site.start_one(&lost.host)?;
    eventually(SOON, "another voter has its place, or itself under another number", || {
        let voters = site.view()?.voters;
        ensure!(voters.iter().all(|v| v.raft_id != lost.raft_id), "{} still votes: {voters:?}", lost.raft_id);
        ensure!(voters.len() == 3 && voters.iter().all(|v| v.connected), "{voters:?}");
        Ok(())
    })?;
    let said = site.agent(&lost.host)?.tail(200);
    ensure!(said.contains("votes again under a new seat"), "its log does not say why: {said}");
    // The others carry the site, whatever the one that forgot would say.
    let third = before.iter().find(|v| !v.leader && v.host != lost.host).context("another follower")?;
    site.agent(&third.host)?.kill();
    eventually(SOON, "orders are taken", || site.qb.ok(&["cluster", "create", "clus100", "-y"]).map(drop))
}

#[test]
fn a_worker_killed_again_and_again_still_joins() {
    let mut fixture = authorized(33).expect("a site starts");
    let result = killed_at_every_moment(&mut fixture.site);
    told(&fixture, result);
}

fn killed_at_every_moment(site: &mut Site) -> Result<()> {
    site.qb.ok(&["cluster", "create", "clus100", "-y"])?;
    site.qb.ok(&["cluster", "attach", "clus100", "node-2", "node-3", "-y", "--no-wait"])?;
    // At whatever step it is: each start goes on a little further.
    for _ in 0..6 {
        site.agent("node-3")?.kill();
        site.start_one("node-3")?;
    }
    cluster_is(site, "clus100", "ready")?;
    site.kill();
    let left = site.processes();
    ensure!(left.is_empty(), "processes outlive their agents: {left:?}");
    site.start()?;
    cluster_is(site, "clus100", "ready")?;
    site.qb.ok(&["cluster", "delete", "clus100", "--confirm", "clus100", "-y"])?;
    for agent in &site.agents {
        let left = agent.cluster_dirs();
        ensure!(left.is_empty(), "{}: {left:?}", agent.spec.name);
    }
    Ok(())
}
