//! The demo: a whole site on this computer, which stays in `.qb-demo/` between two runs.
//!
//! Five agents on loopback addresses and a relay, run until Ctrl-C. What it orders (`--populated`), it orders with
//! the commands that a person would type, and shows them.

mod populate;
mod screen;

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::FlockOperation;

use crate::binaries::Binaries;
use crate::relay::Relay;
use crate::signals;
use crate::site::{Layout, Site};
use crate::wait::eventually;

/// The directory, below the current one.
const DIR: &str = ".qb-demo";
/// Addresses of the demo.
const NET: [u8; 3] = [127, 0, 0];
/// Name of the site.
const NAME: &str = "demo";
/// Port of the relay, at localhost.
const RELAY_PORT: u16 = 8480;
/// The org at the relay that the site belongs to.
const ORG: &str = "acme";
/// How often the agents are looked after.
const LOOK: Duration = Duration::from_millis(200);
/// How long a founded site may take to have a leader again.
const LEADER_LIMIT: Duration = Duration::from_secs(30);
/// How long the agents may take to find each other.
const KNOCK_LIMIT: Duration = Duration::from_secs(20);
/// Lines of the log of an agent that ended by itself.
const TAIL: usize = 8;

/// What the demo is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// Authorize, create clusters, attach nodes.
    pub populated: bool,
    /// End with success once that state is reached.
    pub check: bool,
}

/// Runs the demo until it is asked to end.
///
/// # Errors
/// It cannot begin, or does not reach the state that is asked for.
pub fn run(wanted: Wanted) -> Result<ExitCode> {
    let layout = Layout { dir: PathBuf::from(DIR), name: NAME.to_owned(), net: NET };
    let binaries = Binaries::find()?.with_relay()?;
    let mut site = Site::open(&layout, &binaries)?;
    let _lock = lock(&site.dir)?;
    site.ports_free().context("another demo, or other agents, seem to run")?;
    let result = bring_up(&mut site, &binaries, wanted)
        .and_then(|relay| if wanted.check { Ok(relay) } else { look_after(&mut site, relay) });
    screen::stopping(&site);
    let stopped = site.stop();
    screen::stopped(DIR);
    match result {
        Err(e) if e.is::<signals::Interrupted>() || signals::asked() => Ok(ExitCode::SUCCESS),
        Err(e) => Err(e),
        Ok(_) => stopped.map(|()| ExitCode::SUCCESS),
    }
}

/// One demo per directory. The lock is given up when the program ends, however it ends.
fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            bail!("another demo runs in {}: stop it first, with Ctrl-C where it was started", dir.display())
        }
        Err(e) => Err(e).with_context(|| format!("cannot lock {}", path.display())),
    }
}

fn bring_up(site: &mut Site, binaries: &Binaries, wanted: Wanted) -> Result<Relay> {
    ensure!(
        TcpListener::bind((Ipv4Addr::LOCALHOST, RELAY_PORT)).is_ok(),
        "in use: localhost:{RELAY_PORT}, where the demo's relay listens; `ss -lntp` shows who it is"
    );
    let relay = Relay::open(&site.dir, RELAY_PORT, binaries)?;
    if !site.is_created() {
        site.create_at(&relay)?;
    }
    write_env(site, binaries)?;
    start(site)?;
    register(site, &relay)?;
    screen::running(site, &relay, DIR)?;
    if wanted.populated {
        populate::run(site)?;
    } else {
        screen::next(site, &relay, DIR)?;
    }
    Ok(relay)
}

/// Ties the site to an org of the relay, once: where it is tied already nothing is signed.
fn register(site: &Site, relay: &Relay) -> Result<()> {
    let url = relay.url();
    let known = site.qb.json(&["relay", "list"])?;
    let trusted = known.as_array().is_some_and(|all| all.iter().any(|r| r["url"] == url.as_str()));
    ensure!(trusted, "{DIR}/ is of an earlier qb, whose site knows no relay: remove it to begin anew");
    site.qb.ok(&["relay", "register", &url, "--org", ORG, "-y"]).map(drop)
}

/// Starts what is not out for good, and waits until the site is as it was left.
fn start(site: &mut Site) -> Result<()> {
    for agent in &mut site.agents {
        agent.start()?;
    }
    let names: Vec<String> = site.agents.iter().map(|a| a.spec.name.clone()).collect();
    for name in &names {
        if let Err(e) = site.start_one(name) {
            signals::check()?;
            let ended = site.agent(name)?.ended().is_some();
            // A node that was revoked ends at once: the others go on without it.
            ensure!(ended, "{e:#}");
            screen::ended(site.agent(name)?, TAIL);
        }
    }
    if !site.view()?.founded {
        let all = names.len();
        return eventually(KNOCK_LIMIT, "all agents knock", || {
            let waiting = site.nodes()?.len();
            ensure!(waiting == all, "{waiting} of {all} knock");
            Ok(())
        });
    }
    eventually(LEADER_LIMIT, "the site has a leader", || site.leader().map(drop))
}

/// Watches over the agents until the program is asked to end.
fn look_after(site: &mut Site, mut relay: Relay) -> Result<Relay> {
    let mut relay_told = false;
    let mut told = vec![false; site.agents.len()];
    for (told, agent) in told.iter_mut().zip(&mut site.agents) {
        *told = agent.ended().is_some();
    }
    loop {
        signals::check()?;
        for (told, agent) in told.iter_mut().zip(&mut site.agents) {
            if !*told && agent.ended().is_some() {
                *told = true;
                screen::ended(agent, TAIL);
            }
        }
        if !relay_told && relay.ended() {
            relay_told = true;
            screen::relay_ended(&relay, TAIL);
        }
        std::thread::sleep(LOOK);
    }
}

/// What a shell needs to talk to the demo: `. .qb-demo/env`.
fn write_env(site: &Site, binaries: &Binaries) -> Result<()> {
    let quoted = |path: &Path| format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"));
    let text = format!(
        "# . {DIR}/env\nexport QB_CONFIG={}\nexport PATH={}:\"$PATH\"\n",
        quoted(&site.qb.config),
        quoted(&binaries.dir)
    );
    let path = site.dir.join("env");
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}
