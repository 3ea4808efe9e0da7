//! The demo: a whole site on this computer, which stays in `.qb-demo/` between two runs.
//!
//! Five agents on loopback addresses, run until Ctrl-C. What it orders (`--populated`), it orders with
//! the commands that a person would type, and shows them.

mod populate;
mod screen;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::FlockOperation;

use crate::binaries::Binaries;
use crate::signals;
use crate::site::{Layout, Site};
use crate::wait::eventually;

/// The directory, below the current one.
const DIR: &str = ".qb-demo";
/// Addresses of the demo.
const NET: [u8; 3] = [127, 0, 0];
/// Name of the site.
const NAME: &str = "demo";
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
    let binaries = Binaries::find()?;
    let mut site = Site::open(&layout, &binaries)?;
    let _lock = lock(&site.dir)?;
    site.ports_free().context("another demo, or other agents, seem to run")?;
    let result = bring_up(&mut site, &binaries, wanted)
        .and_then(|()| if wanted.check { Ok(()) } else { look_after(&mut site) });
    screen::stopping(&site);
    let stopped = site.stop();
    screen::stopped(DIR);
    match result {
        Err(e) if e.is::<signals::Interrupted>() || signals::asked() => Ok(ExitCode::SUCCESS),
        Err(e) => Err(e),
        Ok(()) => stopped.map(|()| ExitCode::SUCCESS),
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

fn bring_up(site: &mut Site, binaries: &Binaries, wanted: Wanted) -> Result<()> {
    if !site.is_created() {
        site.create()?;
    }
    write_env(site, binaries)?;
    start(site)?;
    screen::running(site, DIR)?;
    if wanted.populated {
        populate::run(site)?;
    } else {
        screen::next(site, DIR)?;
    }
    Ok(())
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
fn look_after(site: &mut Site) -> Result<()> {
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
