//! A site where each node's executor is a process of its own beside the agent.

use anyhow::{Context as _, Result, ensure};
use qb_tests::binaries::Binaries;
use qb_tests::site::Site;
use qb_tests::wait::eventually;

use crate::{Fixture, SOON, cluster_is, made, pooled, started, told, waiting};

/// A site whose agents have their executors beside them.
fn apart(net: u8) -> Result<Fixture> {
    let mut fixture = made(net)?;
    let program = Binaries::find()?.with_exec()?.exec;
    for agent in &mut fixture.site.agents {
        agent.executor = Some(program.clone());
    }
    Ok(fixture)
}

#[test]
fn a_cluster_lives_by_executors_that_are_killed() {
    let mut fixture = apart(34).and_then(started).and_then(pooled).expect("a site starts");
    let result = killed(&mut fixture.site);
    told(&fixture, result);
}

fn killed(site: &mut Site) -> Result<()> {
    site.qb.ok(&["cluster", "create", "clus100", "-y"])?;
    site.qb.ok(&["cluster", "attach", "clus100", "node-2", "node-3", "-y", "--no-wait"])?;
    // At whatever step it is: each start goes on a little further. The agents stay.
    let agents = [site.agent("node-2")?.pid()?, site.agent("node-3")?.pid()?];
    for _ in 0..4 {
        for name in ["node-2", "node-3"] {
            site.agent(name)?.kill_executor();
            site.agent(name)?.start_executor()?;
        }
    }
    cluster_is(site, "clus100", "ready")?;
    // Away, it is the one thing that the order waits for, and said so.
    site.agent("node-4")?.kill_executor();
    site.qb.ok(&["cluster", "attach", "clus100", "node-4", "-y", "--no-wait"])?;
    eventually(SOON, "the node says that its executor is away", || {
        let nodes = site.nodes()?;
        let node = nodes.iter().find(|n| n.name == "node-4").context("node-4")?;
        let said = format!("{:?}", node.waiting_on);
        ensure!(said.contains("the executor"), "{said}");
        Ok(())
    })?;
    site.agent("node-4")?.start_executor()?;
    cluster_is(site, "clus100", "ready")?;
    let now = [site.agent("node-2")?.pid()?, site.agent("node-3")?.pid()?];
    ensure!(agents == now, "agents lived on");
    site.qb.ok(&["cluster", "detach", "clus100", "node-4", "-y"])?;
    site.qb.ok(&["cluster", "delete", "clus100", "--confirm", "clus100", "-y"])?;
    for agent in &site.agents {
        let left = agent.cluster_dirs();
        ensure!(left.is_empty(), "{}: {left:?}", agent.spec.name);
    }
    Ok(())
}

#[test]
fn an_agent_starts_without_its_executor_and_knocks_when_it_is_there() {
    let mut fixture = apart(35).expect("a site is made");
    let result = late(&mut fixture.site);
    told(&fixture, result);
}

fn late(site: &mut Site) -> Result<()> {
    let agent = site.agent("node-5")?;
    let program = agent.executor.take();
    agent.options = vec![format!("--exec-socket={}", agent.state.join("exec.sock").display())];
    // Every door answers, though nobody carries out anything behind one of them.
    site.start()?;
    waiting(site, 4)?;
    let agent = site.agent("node-5")?;
    let log = agent.tail(50);
    ensure!(log.contains("waiting for the executor"), "{log}");
    agent.executor = program;
    agent.start_executor()?;
    waiting(site, 5)?;
    site.qb.ok(&["node", "authorize", "--waiting", "-y"])?;
    eventually(SOON, "it is in the pool", || {
        let pool = site.nodes()?.iter().filter(|n| n.state == "pool" && n.waiting_on.is_none()).count();
        ensure!(pool == 5, "{pool}");
        Ok(())
    })
}
