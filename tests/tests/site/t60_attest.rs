//! What voters sign is proved from the charter, whatever dies: the leader, all of them; and while the
//! group grows.

use anyhow::{Context as _, Result, ensure};
use qb_tests::site::Site;
use qb_tests::wait::eventually;
use serde_json::Value;

use super::{SOON, authorized, grown, told};

#[test]
fn the_view_is_proved_through_growth_a_dead_leader_and_a_restart() {
    let mut fixture = authorized(61).expect("a site starts");
    let result = proved_throughout(&mut fixture.site);
    told(&fixture, result);
}

fn proved_throughout(site: &mut Site) -> Result<()> {
    verified(site, 5, 0)?;
    grown(site)?;
    // The founder alone signed that three vote; two of these three sign from now on.
    verified(site, 5, 1)?;
    let before = index(&verified(site, 5, 1)?)?;

    let leader = site.leader()?;
    site.agent(&leader)?.kill();
    site.qb.ok(&["cluster", "create", "clus100", "-y"])?;
    // What is proved follows what is so within about a second.
    eventually(SOON, "the order is in what is proved", || {
        let after = index(&verified(site, 4, 1)?)?;
        ensure!(after > before, "{before} {after}");
        Ok(())
    })?;

    site.kill();
    site.start()?;
    verified(site, 5, 1)?;
    let status = site.qb.ok(&["site", "status"])?;
    ensure!(status.stdout.contains("verified, "), "{}", status.stdout);
    Ok(())
}

#[test]
fn without_a_majority_the_view_is_not_called_fresh() {
    let mut fixture = authorized(62).expect("a site starts");
    let result = majority_gone(&mut fixture.site);
    told(&fixture, result);
}

fn majority_gone(site: &mut Site) -> Result<()> {
    grown(site)?;
    verified(site, 5, 1)?;
    let voters: Vec<String> = site.view()?.voters.into_iter().map(|v| v.host).collect();
    for voter in &voters[1..] {
        site.agent(voter)?.kill();
    }
    // What is shown from now on was signed before: the signed time stands, and the door says why.
    let left = voters.first().context("there are voters")?;
    let socket = site.agent(left)?.socket();
    let path = site.path("/attestation");
    eventually(SOON, "the door says that nobody leads", || {
        let shown: Value = qb_tests::http::get(&socket, &path)?;
        ensure!(shown["why"].as_str().is_some_and(|w| w.contains("no leader")), "{}", shown["why"]);
        Ok(())
    })?;
    let one: Value = qb_tests::http::get(&socket, &path)?;
    let other: Value = qb_tests::http::get(&socket, &path)?;
    ensure!(one["checkpoint"]["body"] == other["checkpoint"]["body"], "somebody signed alone");
    for voter in &voters[1..] {
        site.start_one(voter)?;
    }
    verified(site, 5, 1).map(drop)
}

/// Waits until so many doors are proved, with a chain of at least so many links.
fn verified(site: &mut Site, doors: usize, links: usize) -> Result<Value> {
    eventually(SOON, "the doors are proved", || {
        let ran = site.qb.run(&["site", "verify", "-o", "json"])?;
        let shown: Value = serde_json::from_str(&ran.stdout).with_context(|| ran.stderr.clone())?;
        let all = shown["doors"].as_array().context("no doors")?;
        let proved = all.iter().filter(|d| d["verified"] == true).count();
        ensure!(proved == doors && ran.code == 0, "{}: {shown}", ran.code);
        let document: Value = site.get("/attestation")?;
        let have = document["voters"].as_array().map_or(0, Vec::len);
        ensure!(have >= links, "{have} links");
        Ok(shown)
    })
}

fn index(shown: &Value) -> Result<u64> {
    let doors = shown["doors"].as_array().context("no doors")?;
    doors.iter().filter_map(|d| d["index"].as_u64()).max().context("no index")
}
