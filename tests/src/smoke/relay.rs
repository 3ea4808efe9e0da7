//! The second door: the same site through a relay, with the same commands.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{LATE, SOON, Smoke};
use crate::command::Ran;
use crate::views::{Head, Node};
use crate::wait::eventually;

/// The cluster that is ordered through the relay.
const CLUSTER: &str = "clus300";
/// Exit code of `qb` where only the relay says something.
const RELAY_SAYS: i32 = 5;

impl Smoke {
    /// The relay's door, as `qb` takes it.
    fn far(&self) -> Result<String> {
        Ok(format!("relay:{}", self.relay.as_ref().context("there is no relay")?.url()))
    }

    /// Runs `qb` at the relay's door.
    fn through(&self, args: &[&str]) -> Result<Ran> {
        self.site.qb.run(&[&["--door", &self.far()?], args].concat())
    }

    /// A document as the relay shows it.
    fn shown(&self, args: &[&str]) -> Result<Value> {
        self.site.qb.json(&[&["--door", &self.far()?], args].concat())
    }
}

/// The site is tied to an org by its owner's signature, before anybody is let in: agents then knock
/// through the relay as well.
pub(super) fn register(smoke: &mut Smoke) -> Result<()> {
    let url = smoke.relay.as_ref().context("there is no relay")?.url();
    let before = smoke.through(&["node", "list"])?;
    ensure!(before.code == 3, "a site that nobody registered is shown: {}", before.stdout);
    smoke.site.qb.ok(&["relay", "register", &url, "--org", "acme", "-y"])?;
    eventually(SOON, "machines are shown by the relay", || {
        let nodes = smoke.shown(&["node", "list"])?;
        let seen = nodes.as_array().map_or(0, Vec::len);
        ensure!(seen > 0 && nodes[0]["state"] == "waiting", "{nodes}");
        Ok(())
    })?;
    // By name it would be the relay's word which machine that is.
    let refused = smoke.through(&["node", "authorize", "--waiting", "-y"])?.ended(3)?;
    ensure!(refused.stderr.contains("fingerprint"), "{}", refused.stderr);
    ensure!(!smoke.site.view()?.founded, "somebody founded it");
    Ok(())
}

/// Both doors show the same, and what the relay shows is proved from the charter.
pub(super) fn views(smoke: &mut Smoke) -> Result<()> {
    let same = |smoke: &mut Smoke| -> Result<()> {
        let key = |n: &Node| (n.id.clone(), n.name.clone(), n.state.clone(), n.generation, n.labels.clone());
        let near: Vec<_> = smoke.site.nodes()?.iter().map(key).collect();
        let far: Vec<Node> = serde_json::from_value(smoke.shown(&["node", "list"])?)?;
        ensure!(far.iter().map(key).collect::<Vec<_>>() == near, "the relay shows {far:?}");
        let head: Head = serde_json::from_value(smoke.shown(&["site", "status"])?["head"].clone())?;
        ensure!(head == smoke.site.head()?, "the relay shows head {}", head.index);
        Ok(())
    };
    eventually(SOON, "both doors show the same", || same(smoke))?;
    eventually(SOON, "every door is verified", || {
        let ran = smoke.site.qb.ok(&["site", "verify"])?;
        ensure!(ran.stdout.contains("relay:"), "the relay's door is not looked at: {}", ran.stdout);
        Ok(())
    })
}

/// An order through the relay is done when a node has signed that it is.
pub(super) fn order(smoke: &mut Smoke) -> Result<()> {
    smoke.through(&["node", "label", "node-2", "far=yes", "-y"])?.ended(0)?;
    ensure!(smoke.node("node-2")?.labels.contains(&"far=yes".to_owned()), "it has no such label");
    let intents = smoke.shown(&["intent", "list"])?;
    let last = &intents[0];
    ensure!(last["state"] == "done" && last["receipt"].is_string(), "no receipt: {last}");
    smoke.through(&["node", "label", "node-2", "far-", "-y"])?.ended(0)?;
    smoke.through(&["audit", "verify"])?.ended(0).map(drop)
}

/// A cluster, from nothing to nothing, through the relay.
pub(super) fn cluster(smoke: &mut Smoke) -> Result<()> {
    smoke.through(&["cluster", "create", CLUSTER, "-y"])?.ended(0)?;
    let plan = smoke.shown(&["cluster", "attach", CLUSTER, "-n", "2", "--plan"])?;
    ensure!(plan["nodes"].as_array().map_or(0, Vec::len) == 2, "the plan is {plan}");
    smoke.through(&["preflight"])?.ended(0)?;
    smoke.through(&["cluster", "attach", CLUSTER, "-n", "2", "-y"])?.ended(0)?;
    super::clusters::wait_ready(smoke, CLUSTER, 2)?;
    smoke.through(&["cluster", "delete", CLUSTER, "--confirm", CLUSTER])?.ended(0).map(drop)
}

/// Without the relay nothing on site is missing; when it is back it shows what happened.
pub(super) fn killed(smoke: &mut Smoke) -> Result<()> {
    smoke.relay.as_mut().context("there is no relay")?.kill();
    ensure!(smoke.through(&["node", "list"])?.code == 4, "somebody answers in the relay's place");
    smoke.site.qb.ok(&["node", "label", "node-3", "meanwhile=yes", "-y"])?;
    smoke.relay.as_mut().context("there is no relay")?.start()?;
    eventually(LATE, "the relay shows what happened", || {
        let far: Vec<Node> = serde_json::from_value(smoke.shown(&["node", "list"])?)?;
        let node = far.iter().find(|n| n.name == "node-3").context("node-3 is not shown")?;
        ensure!(node.labels.contains(&"meanwhile=yes".to_owned()), "its labels are {:?}", node.labels);
        Ok(())
    })?;
    smoke.site.qb.ok(&["node", "label", "node-3", "meanwhile-", "-y"]).map(drop)
}

/// A key that is no admin's gets nothing from the relay.
pub(super) fn strangers(smoke: &mut Smoke) -> Result<()> {
    smoke.site.qb.ok(&["key", "new", "nobody", "--no-passphrase"])?;
    let refused = smoke.through(&["--key", "nobody", "node", "list"])?;
    ensure!(refused.code == 3, "a stranger's key: exit {}: {}", refused.code, refused.stderr.trim());
    Ok(())
}

/// With the whole site away an order waits at the relay, says so, and is carried out once.
pub(super) fn waits(smoke: &mut Smoke) -> Result<()> {
    let before = smoke.site.head()?;
    smoke.site.kill();
    let ran =
        smoke.through(&["node", "label", "node-4", "late=yes", "-y", "--wait=1s"])?.ended(RELAY_SAYS)?;
    ensure!(ran.stderr.contains("The relay says"), "qb says {}", ran.stderr);
    smoke.site.start()?;
    eventually(LATE, "the order arrives", || {
        let labels = smoke.node("node-4")?.labels;
        ensure!(labels.contains(&"late=yes".to_owned()), "its labels are {labels:?}");
        Ok(())
    })?;
    eventually(SOON, "the relay has the receipt", || {
        let last = smoke.shown(&["intent", "list"])?[0].clone();
        ensure!(last["state"] == "done" && last["receipt"].is_string(), "{last}");
        Ok(())
    })?;
    let orders = smoke.shown(&["audit", "list"])?;
    let count = |text: &str| orders.to_string().matches(text).count();
    ensure!(count("late=yes") <= 1, "the order is in the audit log {} times", count("late=yes"));
    ensure!(smoke.site.head()?.index > before.index, "the chain did not go on");
    smoke.site.qb.ok(&["node", "label", "node-4", "late-", "-y"]).map(drop)
}
