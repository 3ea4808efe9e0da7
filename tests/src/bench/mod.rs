//! Figures of a whole site: one JSON line each on stdout, nothing asserted.
//!
//! The programs are the ones beside this one, or those in `QB_BIN_DIR`.

mod admission;
mod attach;
mod builds;
pub mod hosts;
mod idle;
pub mod kubernetes;
mod links;
mod package;
mod portal;
mod through;
mod writes;

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use qb_model::SiteId;
use serde_json::{Value, json};

use crate::binaries::Binaries;
use crate::relay::Relay;
use crate::signing::Signatory;
use crate::site::{ADMIN, Layout, Site};
use crate::wait::eventually;

/// Addresses of the site.
const NET: [u8; 3] = [127, 0, 2];
/// Name of the site.
const NAME: &str = "bench";
/// Port of its relay.
const RELAY_PORT: u16 = 18_403;
/// How long anything that is not measured may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What is measured besides.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Sites that are made for the figures of admission.
    pub sites: u32,
    /// Times that the leader is killed.
    pub kills: u32,
    /// Cold and incremental builds, which take minutes.
    pub builds: bool,
}

/// A site that is measured.
struct Bench {
    site: Site,
    relay: Relay,
    owner: Signatory,
    id: SiteId,
}

/// Measures everything.
///
/// # Errors
/// Something that is measured does not happen at all.
pub fn run(wanted: Wanted) -> Result<()> {
    let binaries = Binaries::find()?.with_relay()?;
    let build = binaries.dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    print("setup", &json!({ "build": build, "cores": cores(), "bin_dir": binaries.dir }))?;
    builds::sizes(&binaries)?;
    let pinned = tempfile::tempdir()?;
    let binaries = binaries.pinned(pinned.path())?;
    package::measure(&binaries)?;
    let mut admission = admission::Samples::default();
    for last in (1..=wanted.sites).map(|n| n == wanted.sites) {
        let temp = tempfile::Builder::new().prefix("qb-bench-").tempdir()?;
        let mut bench = Bench::found(temp.path(), &binaries)?;
        let measured = admission::measure(&mut bench, &mut admission)
            .and_then(|()| if last { steady(&mut bench, wanted) } else { Ok(()) });
        if let Err(e) = measured {
            eprintln!("{}", bench.site.tails(15));
            return Err(e);
        }
        bench.site.stop()?;
    }
    admission.print()?;
    links::measure(&binaries)?;
    if wanted.builds {
        builds::times()?;
    }
    Ok(())
}

/// The figures of a site that is complete.
fn steady(bench: &mut Bench, wanted: Wanted) -> Result<()> {
    bench.wait_voters()?;
    idle::measure(bench)?;
    writes::latency(bench)?;
    through::measure(bench)?;
    attach::measure(bench)?;
    writes::failover(bench, wanted.kills)?;
    portal::measure(bench)
}

impl Bench {
    /// A site of five agents, founded on the first one; the others wait.
    fn found(dir: &Path, binaries: &Binaries) -> Result<Self> {
        let layout = Layout { dir: dir.to_owned(), name: NAME.to_owned(), net: NET };
        let mut site = Site::open(&layout, binaries)?;
        site.ports_free()?;
        let relay = Relay::open(dir, RELAY_PORT, binaries)?;
        site.create_at(&relay)?;
        site.start()?;
        site.qb.ok(&["relay", "register", &relay.url(), "--org", "bench", "-y"])?;
        eventually(LIMIT, "all agents knock", || {
            let waiting = site.nodes()?.len();
            ensure!(waiting == site.agents.len(), "{waiting} knock");
            Ok(())
        })?;
        site.qb.ok(&["node", "authorize", "node-1", "-y"])?;
        let id = site.view()?.id.parse()?;
        let owner = Signatory::of_file(ADMIN, &site.qb.keys().join(format!("{NAME}.key")))?;
        Ok(Self { site, relay, owner, id })
    }

    /// Waits until three voters are there and connected.
    fn wait_voters(&mut self) -> Result<()> {
        eventually(LIMIT, "three voters", || {
            let voters = self.site.view()?.voters;
            let connected = voters.iter().filter(|v| v.connected).count();
            ensure!(voters.len() == 3 && connected == 3, "{connected} of {} are connected", voters.len());
            ensure!(voters.iter().any(|v| v.leader), "no leader is known");
            Ok(())
        })
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Prints a figure with its members; its name comes first.
fn print(figure: &str, members: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let rest = members.to_string();
    writeln!(out, "{{\"figure\":\"{figure}\",{}", rest.trim_start_matches('{'))?;
    out.flush().context("stdout is closed")
}

/// Milliseconds with three decimals.
fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Prints the spread of some times.
fn spread(figure: &str, samples: &[Duration]) -> Result<()> {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let at = |part: usize| sorted.get((sorted.len() * part / 100).min(sorted.len().saturating_sub(1)));
    let figure_ms = |part| at(part).copied().map(ms);
    print(
        figure,
        &json!({ "unit": "ms", "n": sorted.len(),
            "min": figure_ms(0), "median": figure_ms(50), "p99": figure_ms(99), "max": figure_ms(100),
        }),
    )
}
