//! Clusters, the way that `qb` orders them.

use std::net::TcpListener;

use anyhow::{Context as _, Result, ensure};

use super::{LATE, SOON, Smoke};
use crate::views::Cluster;
use crate::wait::eventually;

/// The first cluster.
const FIRST: &str = "clus100";
/// The small one with explicit roles.
const SECOND: &str = "clus101";
/// The port that every node of a cluster needs.
const NODE_PORT: u16 = 10250;

/// Waits until a cluster serves with so many members, all through and well.
pub(super) fn wait_ready(smoke: &mut Smoke, name: &str, members: usize) -> Result<Cluster> {
    eventually(LATE, &format!("{name} ready with {members} members"), || {
        let cluster = smoke.site.cluster(name)?;
        let why = cluster.waiting_on.as_ref().map(|w| w.text.clone()).unwrap_or_default();
        ensure!(cluster.state == "ready", "it is {}: {why}", cluster.state);
        ensure!(cluster.members.len() == members, "{} members", cluster.members.len());
        for member in &cluster.members {
            let through = ["initialize", "join"].contains(&member.done.as_str());
            ensure!(through, "{} is through {}", member.host, member.done);
            ensure!(member.unwell.is_empty(), "{}: {}", member.host, member.unwell.join(", "));
            let address = smoke.site.agent(&member.host)?.spec.address;
            let served = TcpListener::bind((address, NODE_PORT)).is_err();
            ensure!(served, "nothing listens at port {NODE_PORT} of {}", member.host);
        }
        Ok(cluster)
    })
}

/// Creates a cluster and expects it to be empty.
pub(super) fn create_named(smoke: &mut Smoke, name: &str) -> Result<()> {
    smoke.site.qb.ok(&["cluster", "create", name, "-y"])?;
    let cluster = smoke.site.cluster(name)?;
    ensure!(cluster.state == "empty" && cluster.members.is_empty(), "{name} is {}", cluster.state);
    Ok(())
}

/// An empty cluster; the bundle comes with the driver. Every door hears of it.
pub(super) fn create(smoke: &mut Smoke) -> Result<()> {
    create_named(smoke, FIRST)?;
    super::proofs::doors(smoke)
}

/// A plan says what would be and changes nothing.
pub(super) fn plan(smoke: &mut Smoke) -> Result<()> {
    let before = (smoke.site.head()?, smoke.site.desired()?);
    let plan = smoke.site.qb.json(&["cluster", "attach", FIRST, "-n", "3", "--plan"])?;
    let nodes = plan["nodes"].as_array().context("the plan has no nodes")?;
    ensure!(nodes.len() == 3 && plan["rejected"].is_null(), "the plan is {plan}");
    for node in nodes {
        let steps = node["stages"].as_array().map_or(0, Vec::len);
        ensure!(steps == 2 && node["role"] == "control-plane", "the plan has {node}");
    }
    ensure!(nodes.iter().filter(|n| n["first"] == true).count() == 1, "not one node is the first");
    ensure!((smoke.site.head()?, smoke.site.desired()?) == before, "the plan changed the site");
    Ok(())
}

/// Three nodes, chosen by the plan.
pub(super) fn attach(smoke: &mut Smoke) -> Result<()> {
    smoke.site.qb.ok(&["cluster", "attach", FIRST, "-n", "3", "-y"]).map(drop)
}

/// The cluster serves, in three racks, with real processes on its ports.
pub(super) fn ready(smoke: &mut Smoke) -> Result<()> {
    let cluster = wait_ready(smoke, FIRST, 3)?;
    ensure!(cluster.members.iter().all(|m| m.role == "control-plane"), "not all are control plane");
    for member in &cluster.members {
        let agent = smoke.site.agent(&member.host)?;
        ensure!(agent.cluster_dirs().len() == 1, "{} has no directory of its cluster", member.host);
    }
    Ok(())
}

/// A port that something else has stops an attach, with the reason; freed, the attach goes on.
pub(super) fn preflight(smoke: &mut Smoke) -> Result<()> {
    create_named(smoke, SECOND)?;
    let pool = smoke.nodes_in("pool")?;
    let [control, worker] = pool.as_slice() else { anyhow::bail!("{} nodes in the pool", pool.len()) };
    let address = smoke.site.agent(&worker.name)?.spec.address;
    let squatter = TcpListener::bind((address, NODE_PORT)).context("the port is taken already")?;
    let args = ["cluster", "attach", SECOND, "--control-plane", &control.name, &worker.name, "-y"];
    let ran = smoke.site.qb.run(&args)?.ended(6)?;
    ensure!(ran.stderr.contains("PORT-BUSY"), "qb says {}", ran.stderr);
    let cluster = smoke.site.cluster(SECOND)?;
    let why = cluster.waiting_on.context("it waits for nothing")?;
    ensure!(why.code == "cluster.preflight" && why.text.contains("PORT-BUSY"), "it waits: {}", why.text);
    ensure!(cluster.state == "preflight", "it is {}", cluster.state);
    ensure!(smoke.site.agent(&worker.name)?.cluster_dirs().is_empty(), "the host was changed");
    drop(squatter);
    wait_ready(smoke, SECOND, 2).map(drop)
}

/// The roles are the ones that were ordered.
pub(super) fn roles(smoke: &mut Smoke) -> Result<()> {
    let cluster = smoke.site.cluster(SECOND)?;
    let mut roles: Vec<&str> = cluster.members.iter().map(|m| m.role.as_str()).collect();
    roles.sort_unstable();
    ensure!(roles == ["control-plane", "worker"], "the roles are {roles:?}");
    ensure!(smoke.nodes_in("pool")?.is_empty(), "there are nodes in the pool");
    // Nobody is left to be attached.
    smoke.site.qb.run(&["cluster", "attach", SECOND, "-n", "1", "-y"])?.ended(1).map(drop)
}

/// A node leaves: back in the pool, its host as it was.
pub(super) fn detach(smoke: &mut Smoke) -> Result<()> {
    let cluster = smoke.site.cluster(SECOND)?;
    let worker = cluster.members.into_iter().find(|m| m.role == "worker").context("no worker")?.host;
    smoke.site.qb.ok(&["cluster", "detach", SECOND, &worker, "-y"])?;
    is_back(smoke, &worker)?;
    wait_ready(smoke, SECOND, 1).map(drop)
}

/// A node is in the pool and has nothing of a cluster left.
fn is_back(smoke: &mut Smoke, name: &str) -> Result<()> {
    eventually(SOON, &format!("{name} is back in the pool"), || {
        let node = smoke.node(name)?;
        ensure!(node.state == "pool" && node.cluster.is_none(), "it is {}", node.state);
        let agent = smoke.site.agent(name)?;
        ensure!(agent.cluster_dirs().is_empty(), "a directory of a cluster is left");
        TcpListener::bind((agent.spec.address, NODE_PORT)).context("its port is still taken")?;
        Ok(())
    })
}

/// Deletes a cluster, and expects nothing of it to be left anywhere.
pub(super) fn delete_named(smoke: &mut Smoke, name: &str) -> Result<()> {
    let members = smoke.site.cluster(name)?.members;
    // Agreeing is not enough: the name has to be typed.
    smoke.site.qb.run(&["cluster", "delete", name, "-y"])?.ended(2)?;
    smoke.site.qb.ok(&["cluster", "delete", name, "--confirm", name])?;
    let left = smoke.site.clusters()?.into_iter().find(|c| c.name == name);
    ensure!(left.is_none(), "{name} is still there");
    members.iter().try_for_each(|m| is_back(smoke, &m.host))
}

/// Both clusters go; all nodes are back.
pub(super) fn delete(smoke: &mut Smoke) -> Result<()> {
    delete_named(smoke, SECOND)?;
    delete_named(smoke, FIRST)?;
    let pool = smoke.nodes_in("pool")?.len();
    ensure!(pool == 5, "{pool} nodes in the pool");
    Ok(())
}
