//! Upgrades of the agents over the mesh, on the hosts of `story.rs`: a good version reaches every node, one
//! that never gets ready is left by the first node itself, and no other begins it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use qb_tests::fleet::{AGENT, EXEC, Fleet, LATE, beside};
use qb_tests::lab::Host;

/// Variable that names the folder of programs of another version than the packages'.
const NEXT: &str = "QB_NEXT";
/// What the programs there say that they are.
const VERSION: &str = "0.1.1";
/// A version that no node ever runs.
const BROKEN: &str = "0.1.2";

/// The programs of the other version, as `just portable-next` makes them.
fn next() -> Result<PathBuf> {
    let dir = beside(NEXT, "portable-next")?;
    for program in ["qb-agent", "qb-exec"] {
        ensure!(
            dir.join(program).is_file(),
            "no {program} in {}: just portable-next, or set {NEXT}",
            dir.display()
        );
    }
    Ok(dir)
}

/// A bundle of the agent in the admin's files, of the programs in a folder.
fn bundle(fleet: &Fleet, version: &str, from: &Path) -> Result<String> {
    let path = fleet.dir.path().join(format!("agent-{version}.qbb")).display().to_string();
    let from = from.display().to_string();
    let args = ["bundle", "build", "--driver", "agent", "--version", version, "--from", &from, "-o", &path];
    fleet.run(&args)?.ended(0)?;
    Ok(path)
}

/// Waits until both programs of a host run this version, by what systemd runs and what the agent says.
fn runs(fleet: &Fleet, host: &Host, version: &str) -> Result<()> {
    host.eventually(LATE, &format!("it runs {version}"), |host| {
        for program in ["/run/qb/bin/qb-agent", "/run/qb/bin/qb-exec"] {
            let said = host.ok(&[program, "--version"])?.stdout;
            ensure!(said.trim().ends_with(version), "{program} is {said}");
        }
        for unit in [AGENT, EXEC] {
            let state = host.property(unit, "ActiveState")?;
            ensure!(state == "active", "{unit} is {state}");
        }
        let nodes = fleet.local(host, "/nodes")?;
        let own = nodes.as_array().and_then(|all| all.iter().find(|n| n["name"] == host.name().as_str()));
        let agent = own.map(|n| n["facts"]["agent"].clone()).unwrap_or_default();
        ensure!(agent == version, "the site sees {agent}");
        Ok(())
    })
}

/// A good version: one node first, then every other, and what they carry runs on.
pub(super) fn rolls(fleet: &Fleet, hosts: &[Host], first: &str) -> Result<()> {
    let before = hosts.iter().map(Host::workloads).collect::<Result<Vec<_>>>()?;
    let file = bundle(fleet, VERSION, &next()?)?;
    fleet.far(&["agent", "upgrade", &file, "--first", first, "-y", "--wait=80s"])?.ended(0)?;
    hosts.iter().try_for_each(|host| runs(fleet, host, VERSION))?;
    for (host, before) in hosts.iter().zip(before) {
        let now = host.workloads()?;
        ensure!(now == before, "units of {} were {before:?}, now {now:?}", host.name());
    }
    Ok(())
}

/// A version whose agent ends at once: the first node goes back, the others never begin.
pub(super) fn halts(fleet: &Fleet, hosts: &[Host], first: &str) -> Result<()> {
    let (dir, good) = (fleet.dir.path().join("broken"), next()?);
    std::fs::create_dir_all(&dir)?;
    std::fs::copy("/bin/false", dir.join("qb-agent")).context("no program that fails")?;
    std::fs::copy(good.join("qb-exec"), dir.join("qb-exec"))?;
    let file = bundle(fleet, BROKEN, &dir)?;
    let ran = fleet.far(&["agent", "upgrade", &file, "--first", first, "-y", "--wait=80s"])?;
    ensure!(ran.code != 0, "a broken version went through: {}", ran.stdout);
    let host = hosts.iter().find(|host| host.name() == first).context("no such host")?;
    host.eventually(LATE, "the upgrade is halted", |host| {
        let upgrade = fleet.local(host, "")?["agent_upgrade"].clone();
        ensure!(upgrade["state"] == "halted", "it is {upgrade}");
        Ok(())
    })?;
    hosts.iter().try_for_each(|host| runs(fleet, host, VERSION))?;
    for other in hosts.iter().filter(|host| host.name() != first) {
        let versions = other.ok(&["ls", "/var/lib/qb/exec/versions"])?.stdout;
        let journal = other.journal(EXEC)?;
        ensure!(!journal.contains(BROKEN), "{} began it too: {versions}", other.name());
    }
    Ok(())
}
