//! S50 to S52: machines come in by a join token, without an administrator's hand.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use qb_tests::binaries::Binaries;
use qb_tests::site::{Layout, Site};
use qb_tests::wait::eventually;
use serde_json::Value;

use super::{Fixture, SOON, cluster_is, grown, told, waiting};

/// Three voters, and two machines that were not started.
fn three(net: u8) -> Result<Fixture> {
    let dir = tempfile::Builder::new().prefix("qb").tempdir()?;
    let layout = Layout { dir: dir.path().join("s"), name: "lyon".into(), net: [127, 0, net] };
    let mut site = Site::open(&layout, &Binaries::find()?)?;
    site.ports_free()?;
    site.create()?;
    for name in ["node-1", "node-2", "node-3"] {
        site.start_one(name)?;
    }
    waiting(&mut site, 3)?;
    site.qb.ok(&["node", "authorize", "--waiting", "-y"])?;
    grown(&mut site)?;
    Ok(Fixture { site, _dir: dir })
}

/// Mints a token into a file and gives it to machines. The secret half, to look for where it must not be.
fn minted(site: &mut Site, more: &[&str], machines: &[&str]) -> Result<String> {
    let file = site.dir.join("rack.token");
    let path = file.to_string_lossy().into_owned();
    let ran = site.qb.ok(&[&["token", "mint", "-y", "-o", path.as_str()], more].concat())?;
    let text = std::fs::read_to_string(&file)?;
    let secret = text.split_whitespace().nth(2).context("a token has three words")?.to_owned();
    ensure!(!format!("{}{}", ran.stdout, ran.stderr).contains(&secret), "the secret is printed");
    for name in machines {
        let agent = site.agent(name)?;
        let at = agent.state.join("join.token");
        std::fs::create_dir_all(&agent.state)?;
        private(&agent.state, 0o700)?;
        std::fs::copy(&file, &at)?;
        private(&at, 0o600)?;
    }
    std::fs::remove_file(&file)?;
    Ok(secret)
}

fn private(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?)
}

/// The secret is in no log and in no process's arguments or environment.
fn untold(site: &Site, secret: &str) -> Result<()> {
    for agent in &site.agents {
        let log = std::fs::read_to_string(&agent.log).unwrap_or_default();
        ensure!(!log.contains(secret), "{} logs the token", agent.spec.name);
        let Ok(pid) = agent.pid() else { continue };
        for part in ["cmdline", "environ"] {
            let bytes = std::fs::read(format!("/proc/{pid}/{part}"))?;
            ensure!(!String::from_utf8_lossy(&bytes).contains(secret), "{} shows the token", agent.spec.name);
        }
    }
    Ok(())
}

fn tokens(site: &mut Site) -> Result<Vec<Value>> {
    site.get("/tokens")
}

#[test]
fn one_token_lets_one_machine_in_on_probation() {
    let mut fixture = three(55).expect("a site starts");
    let result = one_of_two(&mut fixture.site);
    told(&fixture, result);
}

fn one_of_two(site: &mut Site) -> Result<()> {
    let racers = ["node-4", "node-5"];
    let secret = minted(site, &["--host", "node-?", "--label", "rack=r7"], &racers)?;
    ensure!(tokens(site)?[0]["left"] == 1);
    for name in racers {
        site.start_one(name)?;
    }
    let mut inside = String::new();
    eventually(SOON, "one of two machines is in", || {
        let nodes = site.nodes()?;
        let pool: Vec<_> =
            nodes.iter().filter(|n| racers.contains(&n.name.as_str()) && n.state == "pool").collect();
        ensure!(pool.len() == 1, "{}", pool.len());
        ensure!(pool[0].probation && pool[0].labels == ["rack=r7"], "{:?}", pool[0].labels);
        inside.clone_from(&pool[0].name);
        Ok(())
    })?;
    let outside = racers.into_iter().find(|r| *r != inside).context("two machines")?;
    eventually(SOON, "the other one is told why, and goes on knocking", || {
        let log = std::fs::read_to_string(&site.agent(outside)?.log)?;
        ensure!(log.contains("the join token has let in its 1 machines"), "{log}");
        ensure!(log.contains("qb token mint"), "no remedy: {log}");
        let waits = site.nodes()?.iter().any(|n| n.name == outside && n.state == "waiting");
        ensure!(waits, "{outside} does not wait");
        Ok(())
    })?;
    ensure!(tokens(site)?[0]["left"] == 0);
    eventually(SOON, "the token is erased where it was used", || {
        ensure!(!site.agent(&inside)?.state.join("join.token").exists());
        Ok(())
    })?;
    ensure!(site.agent(outside)?.state.join("join.token").exists());
    untold(site, &secret)?;
    probation(site, &inside)?;
    // One for another network lets nobody in; one for this network does, at the next start.
    site.agent(outside)?.kill();
    minted(site, &["--cidr", "10.0.0.0/8"], &[outside])?;
    site.start_one(outside)?;
    eventually(SOON, "it is told that it is elsewhere", || {
        let log = std::fs::read_to_string(&site.agent(outside)?.log)?;
        ensure!(log.contains("the token is not for machines at 127.0.0.1"), "{log}");
        Ok(())
    })?;
    site.agent(outside)?.kill();
    let second = minted(site, &["--cidr", "127.0.0.0/8"], &[outside])?;
    site.start_one(outside)?;
    eventually(SOON, "the other machine is in", || {
        let here = site.nodes()?.iter().any(|n| n.name == outside && n.state == "pool" && n.probation);
        ensure!(here, "{outside} is not in");
        Ok(())
    })?;
    untold(site, &second)?;
    // What a token let in is proved by the log, and by what the node kept: it comes back alone.
    site.qb.ok(&["audit", "verify"])?;
    site.agent(outside)?.kill();
    site.start_one(outside)?;
    eventually(SOON, "it is back", || {
        let node = site.nodes()?.into_iter().find(|n| n.name == outside).context("it is listed")?;
        ensure!(node.state == "pool" && node.waiting_on.is_none(), "{:?}", node.waiting_on);
        Ok(())
    })
}

/// No control plane until an administrator authorizes the node with a key that lasts.
fn probation(site: &mut Site, name: &str) -> Result<()> {
    site.qb.ok(&["cluster", "create", "clus100", "-y"])?;
    let attach = ["cluster", "attach", "clus100", "--control-plane", name, "-y"];
    let refused = site.qb.run(&attach)?;
    ensure!(refused.code != 0 && refused.stderr.contains("probation"), "{}", refused.stderr);
    ensure!(refused.stderr.contains("qb node authorize"), "no remedy: {}", refused.stderr);
    let page = site.qb.ok(&["node", "show", name])?;
    ensure!(
        page.stdout.contains("probation") && page.stdout.contains("qb node authorize"),
        "{}",
        page.stdout
    );
    site.qb.ok(&["node", "authorize", name, "-y"])?;
    eventually(SOON, "probation is lifted", || {
        let lifted = site.nodes()?.iter().any(|n| n.name == name && !n.probation);
        ensure!(lifted);
        Ok(())
    })?;
    site.qb.ok(&attach)?;
    cluster_is(site, "clus100", "ready")
}
