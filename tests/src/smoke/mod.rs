//! The smoke test: a fresh site, every verb, hostile intents, faults; unattended, in under a minute.
//!
//! One JSON line a stage on stdout; the first failure ends it with the logs on stderr.

mod clusters;
mod faults;
mod grow;
mod nodes;
mod proofs;
mod refusals;
mod relay;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use qb_model::{NodeId, SiteId};
use serde::Serialize;

use crate::binaries::Binaries;
use crate::relay::Relay;
use crate::signing::Signatory;
use crate::site::{ADMIN, Layout, Site};
use crate::views::Node;

/// Addresses of the site.
const NET: [u8; 3] = [127, 0, 1];
/// Name of the site.
const NAME: &str = "smoke";
/// How long anything that needs no timer of the site may take.
const SOON: Duration = Duration::from_secs(15);
/// How long what waits for a timer may take: stabilization of a new voter, an election after a crash.
const LATE: Duration = Duration::from_secs(40);
/// Lines of each log that a failure shows.
const TAIL: usize = 25;

/// What the stages share.
struct Smoke {
    site: Site,
    relay: Option<Relay>,
    /// The relay's files: none of the site's.
    relay_dir: tempfile::TempDir,
    binaries: Binaries,
    id: Option<SiteId>,
    owner: Option<Signatory>,
}

type Stage = (&'static str, fn(&mut Smoke) -> Result<()>);

/// The stages, in order.
const STAGES: &[Stage] = &[
    ("create", grow::create),
    ("knock", grow::knock),
    ("register", relay::register),
    ("authorize", grow::authorize),
    ("pool", grow::pool),
    ("grow", grow::grow),
    ("cluster", clusters::create),
    ("plan", clusters::plan),
    ("attach", clusters::attach),
    ("ready", clusters::ready),
    ("preflight", clusters::preflight),
    ("roles", clusters::roles),
    ("detach", clusters::detach),
    ("delete", clusters::delete),
    ("label", nodes::label),
    ("relay-views", relay::views),
    ("relay-order", relay::order),
    ("relay-cluster", relay::cluster),
    ("relay-killed", relay::killed),
    ("relay-strangers", relay::strangers),
    ("relay-waits", relay::waits),
    ("refuse-wrong-key", refusals::wrong_key),
    ("refuse-altered", refusals::altered_byte),
    ("refuse-other-site", refusals::other_site),
    ("refuse-expired", refusals::expired),
    ("refuse-replay", refusals::replayed),
    ("refuse-replay-after-rejection", refusals::replayed_after_rejection),
    ("refuse-stale", refusals::stale),
    ("refuse-role", refusals::role),
    ("refuse-key-class", refusals::key_class),
    ("refuse-last-owner", refusals::last_owner),
    ("refuse-malformed", refusals::malformed),
    ("refuse-oversized", refusals::oversized),
    ("audit", proofs::audit),
    ("doors", proofs::doors),
    ("tls", proofs::tls),
    ("revoke", nodes::revoke),
    ("wipe", nodes::wipe),
    ("leader-killed", faults::leader_killed),
    ("agent-killed", faults::agent_killed),
    ("all-killed", faults::all_killed),
    ("stop", faults::stop),
];

/// Runs the stages. With `keep`, the directory stays also after success.
///
/// # Errors
/// It could not begin.
pub fn run(keep: bool) -> Result<ExitCode> {
    let temp = tempfile::Builder::new().prefix("qb-smoke-").tempdir().context("no temporary directory")?;
    let layout = Layout { dir: temp.path().to_owned(), name: NAME.to_owned(), net: NET };
    let relay_dir = tempfile::Builder::new().prefix("qb-smoke-relay-").tempdir()?;
    let binaries = Binaries::find()?.with_relay()?.pinned(relay_dir.path())?;
    let site = Site::open(&layout, &binaries.pinned(temp.path())?)?;
    site.ports_free()?;
    let mut smoke = Smoke { site, relay: None, relay_dir, binaries, id: None, owner: None };
    let begun = Instant::now();
    for (name, stage) in STAGES {
        let began = Instant::now();
        let result = stage(&mut smoke);
        print(name, began.elapsed(), result.as_ref().err())?;
        if let Err(e) = result {
            eprintln!("{name}: {e:#}\n{}", smoke.site.tails(TAIL));
            drop(smoke);
            eprintln!("everything is stopped; its files stay in {}", temp.keep().display());
            return Ok(ExitCode::FAILURE);
        }
    }
    eprintln!("all stages in {:.1} s", begun.elapsed().as_secs_f32());
    eprintln!("{} passed, 0 failed", STAGES.len());
    drop(smoke);
    if keep {
        eprintln!("files: {}", temp.keep().display());
    }
    Ok(ExitCode::SUCCESS)
}

/// A line of output.
#[derive(Serialize)]
struct Line<'a> {
    stage: &'a str,
    ok: bool,
    ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

fn print(stage: &str, took: Duration, error: Option<&anyhow::Error>) -> Result<()> {
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let line = Line { stage, ok: error.is_none(), ms, detail: error.map(|e| format!("{e:#}")) };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(&line)?)?;
    out.flush().context("stdout is closed")
}

impl Smoke {
    fn owner(&self) -> Result<&Signatory> {
        self.owner.as_ref().context("the site was not created")
    }

    fn id(&self) -> Result<SiteId> {
        self.id.context("the site was not created")
    }

    /// Reads what `qb site create` left.
    fn remember(&mut self) -> Result<()> {
        let id = self.site.view()?.id;
        self.id = Some(id.parse()?);
        self.owner = Some(Signatory::of_file(ADMIN, &self.site.qb.keys().join(format!("{NAME}.key")))?);
        Ok(())
    }

    /// The nodes in a state, by name.
    fn nodes_in(&mut self, state: &str) -> Result<Vec<Node>> {
        Ok(self.site.nodes()?.into_iter().filter(|n| n.state == state).collect())
    }

    /// A node by its host name.
    fn node(&mut self, name: &str) -> Result<Node> {
        let nodes = self.site.nodes()?;
        nodes.into_iter().find(|n| n.name == name).with_context(|| format!("there is no node {name}"))
    }

    /// The key of a node.
    fn node_id(&mut self, name: &str) -> Result<NodeId> {
        Ok(self.node(name)?.id.parse()?)
    }
}
