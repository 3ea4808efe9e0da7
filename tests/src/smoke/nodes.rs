//! Single nodes: labels, and the two ways out.

use anyhow::{Context as _, Result, ensure};

use super::{SOON, Smoke};
use crate::wait::eventually;

/// Labels are set and removed.
pub(super) fn label(smoke: &mut Smoke) -> Result<()> {
    let name = "node-2";
    let generation = smoke.node(name)?.generation;
    smoke.site.qb.ok(&["node", "label", name, "disk=fast", "room=a", "-y"])?;
    let node = smoke.node(name)?;
    ensure!(node.labels == ["disk=fast", "room=a"], "the labels are {:?}", node.labels);
    ensure!(node.generation > generation, "its generation is still {generation}");
    smoke.site.qb.ok(&["node", "label", name, "room-", "-y"])?;
    let labels = smoke.node(name)?.labels;
    ensure!(labels == ["disk=fast"], "the labels are {labels:?}");
    Ok(())
}

/// Revokes a node of the pool that has no vote, so that the others need not be filled up first.
fn revoke_one(smoke: &mut Smoke, then: &str) -> Result<String> {
    let pool = smoke.nodes_in("pool")?;
    let gone = pool.into_iter().find(|n| n.roles.is_empty()).context("every node votes")?.name;
    // Agreeing is not enough: the name has to be typed.
    smoke.site.qb.run(&["node", "revoke", &gone, "--then", then, "-y"])?.ended(2)?;
    smoke.site.qb.ok(&["node", "revoke", &gone, "--then", then, "--confirm", &gone])?;
    let state = smoke.node(&gone)?.state;
    ensure!(state == "revoked", "{gone} is {state}");
    Ok(gone)
}

/// A revoked node is out for good: nobody orders it anything.
pub(super) fn revoke(smoke: &mut Smoke) -> Result<()> {
    let gone = revoke_one(smoke, "isolate")?;
    let agent = smoke.site.agent(&gone)?;
    eventually(SOON, "the node knows", || {
        let said = agent.tail(10);
        ensure!(said.contains("this node was revoked"), "it says: {said}");
        Ok(())
    })?;
    ensure!(agent.ended().is_none(), "its workloads should stay, but its agent ended");
    let labelled = smoke.site.qb.run(&["node", "label", &gone, "a=b", "-y"])?;
    ensure!(labelled.code != 0, "a revoked node was given a label");
    // As it would be after a restart of the machine: still out.
    smoke.site.agent(&gone)?.kill();
    smoke.site.start_one(&gone)?;
    let waiting = smoke.nodes_in("waiting")?;
    ensure!(waiting.is_empty(), "{gone} knocks again and is listed");
    smoke.site.agent(&gone)?.stop()
}

/// A node that is wiped deletes its keys and ends.
pub(super) fn wipe(smoke: &mut Smoke) -> Result<()> {
    let gone = revoke_one(smoke, "wipe")?;
    let agent = smoke.site.agent(&gone)?;
    let status = agent.wait_ended(SOON)?;
    ensure!(!status.success(), "it ended as if asked to");
    ensure!(agent.tail(10).contains("revoked"), "it says: {}", agent.tail(10));
    let keys = agent.state.join("identity");
    ensure!(!keys.exists(), "its keys are left in {}", keys.display());
    agent.kill();
    Ok(())
}
