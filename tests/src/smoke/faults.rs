//! Agents die at the worst moment; the site comes to where it was ordered to be.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::clusters::{create_named, delete_named, wait_ready};
use super::{LATE, SOON, Smoke};
use crate::wait::eventually;

/// The cluster whose attach loses the leader.
const THIRD: &str = "clus200";
/// The cluster whose attach loses the node.
const FOURTH: &str = "clus201";
/// Pause in which nothing must happen: several tries of a held step.
const QUIET: Duration = Duration::from_millis(600);

/// Begins an attach in which `held` cannot go on, and waits until that is where it stands.
fn attach_held(smoke: &mut Smoke, cluster: &str, nodes: &[&str], held: &str) -> Result<()> {
    create_named(smoke, cluster)?;
    smoke.site.agent(held)?.set_held(true)?;
    let args = [&["cluster", "attach", cluster, "--no-wait", "-y"], nodes].concat();
    smoke.site.qb.ok(&args)?;
    eventually(SOON, &format!("{cluster} waits for {held}"), || {
        let found = smoke.site.cluster(cluster)?;
        let why = found.waiting_on.context("it waits for nothing")?;
        ensure!(why.text.contains("held"), "it waits: {}", why.text);
        let others = found.members.iter().filter(|m| m.host != held);
        let behind: Vec<_> = others.filter(|m| m.done == "none").map(|m| m.host.clone()).collect();
        ensure!(behind.is_empty(), "{behind:?} did not begin");
        Ok(())
    })
}

/// The site has another leader than this one, or any.
fn wait_leader(smoke: &mut Smoke, not: &str) -> Result<()> {
    eventually(LATE, "a leader", || {
        let leader = smoke.site.leader()?;
        ensure!(leader != not, "{leader} is said to lead");
        Ok(())
    })
}

/// The leader dies while all other nodes are attached; another one finishes the order.
pub(super) fn leader_killed(smoke: &mut Smoke) -> Result<()> {
    let leader = smoke.site.leader()?;
    let pool = smoke.nodes_in("pool")?;
    let others: Vec<&str> = pool.iter().map(|n| n.name.as_str()).filter(|n| *n != leader).collect();
    let held = *others.last().context("there is no other node")?;
    attach_held(smoke, THIRD, &others, held)?;
    smoke.site.agent(&leader)?.kill();
    smoke.site.agent(held)?.set_held(false)?;
    wait_leader(smoke, &leader)?;
    wait_ready(smoke, THIRD, others.len())?;
    smoke.site.start_one(&leader)?;
    let chain = smoke.site.head()?;
    let socket = smoke.site.agent(&leader)?.socket();
    let path = smoke.site.path("/head");
    eventually(SOON, "the old leader has caught up", || {
        let head: crate::views::Head = crate::http::get(&socket, &path)?;
        ensure!(head.index >= chain.index, "it is at {} of {}", head.index, chain.index);
        Ok(())
    })
}

/// The node that is attached dies on the way and comes back.
pub(super) fn agent_killed(smoke: &mut Smoke) -> Result<()> {
    let pool = smoke.nodes_in("pool")?;
    let name = pool.first().context("the pool is empty")?.name.clone();
    attach_held(smoke, FOURTH, &[&name], &name)?;
    smoke.site.agent(&name)?.kill();
    smoke.site.agent(&name)?.set_held(false)?;
    smoke.site.start_one(&name)?;
    wait_ready(smoke, FOURTH, 1)?;
    // Its stand-ins die with it, and come back with it.
    smoke.site.agent(&name)?.kill();
    smoke.site.start_one(&name)?;
    wait_ready(smoke, FOURTH, 1).map(drop)
}

/// Everything dies at once and comes back with all state.
pub(super) fn all_killed(smoke: &mut Smoke) -> Result<()> {
    let before = (smoke.site.head()?.index, smoke.site.desired()?);
    let clusters = [THIRD, FOURTH].map(|name| smoke.site.cluster(name).map(|c| (name, c.members.len())));
    smoke.site.kill();
    eventually(SOON, "no process is left", || none_left(smoke))?;
    let revoked = revoked(&before.1);
    for agent in &mut smoke.site.agents {
        if !revoked.contains(&agent.spec.name) {
            agent.start()?;
        }
    }
    wait_leader(smoke, "")?;
    for cluster in clusters {
        let (name, members) = cluster?;
        wait_ready(smoke, name, members)?;
    }
    eventually(LATE, "every node reports", || {
        let nodes = smoke.site.nodes()?;
        let silent = nodes.iter().find(|n| n.state != "revoked" && n.report_age_ms.is_none_or(|a| a > 3_000));
        ensure!(silent.is_none(), "no report of {:?}", silent.map(|n| &n.name));
        Ok(())
    })?;
    let after = (smoke.site.head()?.index, smoke.site.desired()?);
    ensure!(after.0 >= before.0, "the chain went back from {} to {}", before.0, after.0);
    ensure!(after.1 == before.1, "the state is another: {} instead of {}", after.1, before.1);
    smoke.site.qb.ok(&["audit", "verify"])?;
    smoke.site.qb.ok(&["node", "label", "node-1", "after=restart", "-y"]).map(drop)
}

/// Names of the nodes that were revoked.
fn revoked(desired: &Value) -> Vec<String> {
    let nodes = desired["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let out = nodes.iter().filter(|n| n[2] == "revoked");
    out.filter_map(|n| n[1].as_str().map(str::to_owned)).collect()
}

fn none_left(smoke: &Smoke) -> Result<()> {
    let left = smoke.site.processes();
    ensure!(left.is_empty(), "still there: {}", left.join("; "));
    Ok(())
}

/// Everything ends when asked to, and nothing is left.
pub(super) fn stop(smoke: &mut Smoke) -> Result<()> {
    delete_named(smoke, THIRD)?;
    delete_named(smoke, FOURTH)?;
    for agent in &smoke.site.agents {
        let left = agent.cluster_dirs();
        ensure!(left.is_empty(), "{} is left", left[0].display());
    }
    smoke.site.stop()?;
    eventually(QUIET, "no process is left", || none_left(smoke))?;
    smoke.site.ports_free()
}
