//! `qb agent`: the agents of all nodes, and bringing them to another version. A zone becomes names of
//! nodes before anybody signs.

use qb_drivers::agent::check_form;
use qb_drivers::bundle::{Manifest, peek};
use qb_model::action::Action;
use qb_model::{Digest, Name, NodeId, Version};
use qb_portal::view::{
    AgentUpgradeState, AgentUpgradeView, BundleView, NodeState, NodeUpgradeState, NodeView, SiteView,
};

use crate::args::agent::{AgentCommand, UpgradeArgs};
use crate::change::Change;
use crate::ctx::{Ctx, Session};
use crate::error::{CliError, sentence};
use crate::files;
use crate::out::paint::{Paint, Tone};
use crate::out::table::{Cell, Column, Table};
use crate::out::text::{Clock, clean, plural, short_hash};
use crate::out::waiting;
use crate::sentence::Hosts;

use super::bundle;
use super::node::find;
use super::rollout::follow;
use super::watch::{Shown, show};

/// Bytes of an agent's bundle: its two programs packed, three times. It is held in memory.
const AGENT_BYTES: u64 = 48 << 20;

/// Runs a verb.
///
/// # Errors
/// What went wrong.
pub async fn run(ctx: &Ctx, verb: AgentCommand) -> Result<(), CliError> {
    match verb {
        AgentCommand::List => {
            let session = ctx.session().await?;
            show(ctx, true, async || {
                let (site, nodes) = (session.api.site().await?, session.api.nodes().await?);
                Ok(listed(ctx, &site, nodes))
            })
            .await
        }
        AgentCommand::Upgrade(args) => upgrade(&mut ctx.session().await?, &args).await,
        AgentCommand::Stop => stop(&mut ctx.session().await?).await,
    }
}

/// How far a node is, as a word with its mark.
pub fn word(state: NodeUpgradeState) -> (Tone, &'static str) {
    match state {
        NodeUpgradeState::Waits => (Tone::Unknown, "waits"),
        NodeUpgradeState::Ordered => (Tone::Busy, "upgrading"),
        NodeUpgradeState::Done => (Tone::Good, "done"),
        NodeUpgradeState::Returned => (Tone::Broken, "returned"),
        NodeUpgradeState::Failed => (Tone::Broken, "failed"),
    }
}

/// The members among nodes: who waits at the door and who is out have no part in an upgrade.
fn members(nodes: Vec<NodeView>) -> Vec<NodeView> {
    let member = |n: &NodeView| !matches!(n.state, NodeState::Waiting | NodeState::Revoked);
    nodes.into_iter().filter(member).collect()
}

fn version(node: &NodeView) -> &str {
    node.facts.as_ref().map_or("", |f| f.agent.as_str())
}

/// The table of `qb agent list`.
pub fn table(nodes: &[NodeView], clock: &Clock, paint: &Paint) -> Table {
    let mut table = Table::new([
        Column::new("NODE"),
        Column::new("VERSION"),
        Column::new("UPGRADE"),
        Column::number("SINCE", 3),
        Column::cut("WHY", 4),
    ]);
    for node in nodes {
        let upgrade = node.agent_upgrade.as_ref();
        let cell = upgrade.map_or_else(Cell::default, |u| {
            let (tone, word) = word(u.state);
            Cell::state(tone, word, paint)
        });
        let since = upgrade.and_then(|u| u.since).map(|at| clock.ago(at)).unwrap_or_default();
        let why = upgrade.and_then(|u| u.why.as_deref()).map(clean).unwrap_or_default();
        table.row([node.name.as_str().into(), version(node).into(), cell, since.into(), why.into()]);
    }
    table
}

/// The upgrade in one sentence, and what to do.
pub fn summary(upgrade: &AgentUpgradeView, clock: &Clock) -> String {
    let of = format!("{} of {}", upgrade.done, plural(upgrade.nodes as usize, "node"));
    let version = &upgrade.version;
    match (upgrade.state, &upgrade.waiting_on) {
        (AgentUpgradeState::Done, _) => {
            format!("The last upgrade, to {version}, was done {} ago.", clock.ago(upgrade.since))
        }
        (_, Some(wait)) => format!("{of} run {version}.  {}", waiting::lines(wait, clock).join("")),
        (AgentUpgradeState::Rolling, None) => format!("{of} run {version}; the others follow."),
        (AgentUpgradeState::Halted, None) => format!("Halted: {of} run {version}."),
    }
}

fn listed(ctx: &Ctx, site: &SiteView, nodes: Vec<NodeView>) -> Shown<NodeView> {
    let clock = ctx.out.clock();
    let nodes = members(nodes);
    let text = ctx.out.render(&table(&nodes, &clock, &ctx.out.paint));
    let footer = site.agent_upgrade.as_ref().map(|u| summary(u, &clock));
    let lines = nodes.iter().map(line).collect();
    let items = nodes.into_iter().map(|n| (n.name.to_string(), n)).collect();
    Shown { items, text, footer, lines }
}

/// A node as one line: `web-01 0.2.0 done`.
pub fn line(node: &NodeView) -> String {
    let upgrade = node.agent_upgrade.as_ref();
    let word = upgrade.map(|u| format!(" {}", word(u.state).1)).unwrap_or_default();
    let why = upgrade.and_then(|u| u.why.as_deref()).map(|w| format!(": {}", clean(w))).unwrap_or_default();
    format!("{} {}{word}{why}", node.name, clean(version(node)))
}

/// A bundle that is to be ordered, and its file if it is not at the site yet.
struct Chosen {
    digest: Digest,
    version: Version,
    file: Option<(Vec<u8>, Manifest)>,
}

async fn choose(session: &Session<'_>, text: &str) -> Result<Chosen, CliError> {
    let path = std::path::Path::new(text);
    if path.is_file() {
        let bytes = files::read(path, AGENT_BYTES)?;
        let (digest, manifest) = peek(&bytes).map_err(|e| CliError::usage(sentence(&e.to_string())))?;
        check_form(&manifest).map_err(|e| CliError::usage(sentence(&e.to_string())))?;
        return Ok(Chosen { digest, version: manifest.version.clone(), file: Some((bytes, manifest)) });
    }
    let bundle = held(&session.api.bundles().await?, text)?;
    Ok(Chosen { digest: bundle.digest, version: bundle.version, file: None })
}

/// The agent's bundle at the site whose digest begins so.
///
/// # Errors
/// None, several, another driver's, or no publisher's that the site accepts.
pub fn held(bundles: &[BundleView], text: &str) -> Result<BundleView, CliError> {
    let other = |name: &Name| {
        CliError::usage(format!("Bundle {} is of driver {name}, not an agent's.", clean(text)))
            .remedy("qb bundle list")
    };
    bundle::held(bundles, text, qb_drivers::agent::AGENT, other)
}

/// The first wave: names as nodes, or every node of a zone.
///
/// # Errors
/// A name is no member's, or the zone has nobody.
pub fn first_wave(args: &UpgradeArgs, nodes: &[NodeView]) -> Result<Vec<NodeId>, CliError> {
    let mut first: Vec<NodeId> = match &args.first_zone {
        Some(zone) => {
            let there = |n: &&NodeView| n.facts.as_ref().is_some_and(|f| f.zone == *zone);
            let all: Vec<NodeId> = nodes.iter().filter(there).map(|n| n.id).collect();
            if all.is_empty() {
                return Err(CliError::usage(format!("No node says that it is in zone {}.", clean(zone)))
                    .remedy("qb node list, then --first NODE,NODE"));
            }
            all
        }
        None => args.first.iter().map(|text| find(nodes, text).map(|n| n.id)).collect::<Result<_, _>>()?,
    };
    first.sort_unstable();
    first.dedup();
    Ok(first)
}

/// The nodes that a bundle's programs do not run on: said before anybody signs.
///
/// # Errors
/// Names one of them.
pub fn fits(manifest: &Manifest, nodes: &[NodeView]) -> Result<(), CliError> {
    let other =
        |n: &&NodeView| n.facts.as_ref().is_some_and(|f| !f.arch.is_empty() && f.arch != manifest.arch);
    match nodes.iter().find(other) {
        None => Ok(()),
        Some(node) => {
            let arch = node.facts.as_ref().map(|f| clean(&f.arch)).unwrap_or_default();
            Err(CliError::usage(format!("The bundle is for {}, {} is {arch}.", manifest.arch, node.name))
                .remedy("an upgrade names one bundle for all nodes: upgrade the packages of such a site"))
        }
    }
}

async fn upgrade(session: &mut Session<'_>, args: &UpgradeArgs) -> Result<(), CliError> {
    let nodes = members(session.api.nodes().await?);
    let first = first_wave(args, &nodes)?;
    let chosen = choose(session, &args.bundle).await?;
    if let Some((_, manifest)) = &chosen.file {
        fits(manifest, &nodes)?;
    }
    if let (Some((bytes, _)), None) = (chosen.file, session.ctx.globals.plan) {
        let view = bundle::push_bytes(session, bytes).await?;
        session.ctx.out.hint(&format!("Pushed agent {} ({}).", view.version, short_hash(&view.digest.0)));
    }
    let hosts: Hosts = nodes.iter().map(|n| (n.id, n.name.clone())).collect();
    let names: Vec<&str> = first.iter().filter_map(|n| hosts.get(n)).map(|h| h.as_str()).collect();
    let again =
        format!("qb agent upgrade {} --first {} --batch {}", chosen.digest, names.join(","), args.batch);
    let (bundle, version, batch) = (chosen.digest, chosen.version, args.batch);
    let mut change = Change::new(Action::AgentUpgrade { bundle, version, first, batch }, again);
    change.hosts = hosts;
    let Some(view) = session.change(&change).await? else { return Ok(()) };
    let what = sentence(&crate::sentence::of(&change.action, &change.hosts));
    session.hint_accepted(&view, what.trim_end_matches('.'));
    follow(session, &view).await
}

async fn stop(session: &mut Session<'_>) -> Result<(), CliError> {
    let site = session.api.site().await?;
    let running = site.agent_upgrade.filter(|u| u.state == AgentUpgradeState::Rolling);
    let Some(running) = running else {
        return Err(CliError::failed("No upgrade of agents goes on.").remedy("qb agent list"));
    };
    let change = Change::new(Action::AgentUpgradeStop { upgrade: running.intent }, "qb agent stop");
    if let Some(view) = session.change(&change).await? {
        let what = format!("the upgrade to {} is halted", running.version);
        session.accepted(&view, &what, Some("qb agent list"))?;
    }
    Ok(())
}
