//! `qb node authorize`: machines are let in by the keys that were compared. The first time, this
//! founds the site on the node whose door answers, through a relay on the first that is named; the
//! group grows from there.

use std::time::Duration;

use qb_model::action::{Action, AuthorizedNode};
use qb_model::{Digest, NodeId};
use qb_portal::view::{Head, NodeState, NodeView, SiteView};

use crate::agree::{Ask, Author};
use crate::args::node::AuthorizeArgs;
use crate::change::Change;
use crate::client::memory::Memory;
use crate::ctx::Session;
use crate::error::CliError;
use crate::out::paint::Paint;
use crate::out::table::{Column, Table};
use crate::out::text::{Clock, bytes, plural};
use crate::sentence::{self, Hosts};

use super::compare;
use super::node::{find, words};

/// Most nodes in one intent.
const MOST: usize = 400;
/// How long the founding is waited for.
const FOUNDING: Duration = Duration::from_secs(60);

/// What a person compares before they sign.
pub fn table(nodes: &[&NodeView], clock: &Clock) -> Table {
    let mut table = Table::new([
        Column::new("NAME"),
        Column::new("FINGERPRINT"),
        Column::new("WORDS"),
        Column::cut("ADDRESS", 5),
        Column::number("CORES", 3),
        Column::number("MEMORY", 3),
        Column::cut("KNOCKED", 2),
    ]);
    for node in nodes {
        let facts = node.facts.as_ref();
        table.row([
            node.name.as_str().into(),
            node.fingerprint.as_str().into(),
            node.words.as_str().into(),
            facts.and_then(|f| f.addresses.first().cloned()).unwrap_or_default().into(),
            facts.map(|f| f.cores.to_string()).unwrap_or_default().into(),
            facts.map(|f| bytes(f.memory_bytes)).unwrap_or_default().into(),
            clock.ago(node.since).into(),
        ]);
    }
    table
}

/// The chosen nodes, all waiting.
///
/// # Errors
/// A name is not one that waits, or there are none.
pub fn choose<'a>(
    nodes: &'a [NodeView],
    names: &[String],
    waiting: bool,
) -> Result<Vec<&'a NodeView>, CliError> {
    let knocks: Vec<&NodeView> = nodes.iter().filter(|n| n.state == NodeState::Waiting).collect();
    if waiting {
        if knocks.is_empty() {
            return Err(CliError::failed("No machine waits to be authorized.")
                .remedy("put the enrolment file on a machine and start qb-agent: qb site enroll -o FILE"));
        }
        return Ok(knocks);
    }
    let mut chosen: Vec<&NodeView> = Vec::new();
    for name in names {
        let node = find(nodes, name)?;
        if node.state != NodeState::Waiting && !node.probation {
            let word = crate::out::marks::node_word(node.state);
            return Err(CliError::failed(format!("{} is authorized already: it is {word}.", node.name)));
        }
        if !chosen.iter().any(|n| n.id == node.id) {
            chosen.push(node);
        }
    }
    Ok(chosen)
}

/// The members of an authorization, sorted by node.
///
/// # Errors
/// A node whose knock the door does not show.
pub fn members(nodes: &[&NodeView]) -> Result<Vec<AuthorizedNode>, CliError> {
    let mut out = Vec::with_capacity(nodes.len());
    for node in nodes {
        // Whoever lifts probation looks at a member: no knock is compared again.
        let lifted = node.probation.then_some(Digest([0; 32]));
        let knock: Digest = node.knock.or(lifted).ok_or_else(|| {
            CliError::failed(format!("The door shows no knock of {}.", node.name))
                .remedy("try again in a second, or at another door")
        })?;
        out.push(AuthorizedNode { node: node.id, host: node.name.clone(), knock });
    }
    out.sort_by_key(|n| n.node);
    Ok(out)
}

/// Runs the verb.
///
/// # Errors
/// What went wrong.
pub async fn run(session: &mut Session<'_>, args: AuthorizeArgs) -> Result<(), CliError> {
    let nodes = session.api.nodes().await?;
    let names = words(args.nodes)?;
    let chosen = choose(&nodes, &names, args.waiting)?;
    if chosen.len() > MOST {
        return Err(CliError::usage(format!(
            "{} are too many for one intent, which names at most {MOST}.",
            plural(chosen.len(), "node")
        )));
    }
    let out = &session.ctx.out;
    if !out.documents() && !out.quiet {
        let width = out.live.then(|| usize::from(console::Term::stderr().size().1));
        let text = table(&chosen, &out.clock()).render(&out.err, out.heads, width);
        out.say(text.trim_end());
        out.say("Compare fingerprint or words with `qb-agent id` on the machine.");
    }
    if session.at_relay() && session.ctx.globals.plan.is_none() {
        compare::by_console(session, &chosen, &names)?;
    }
    let site = session.api.site().await?;
    let again = if args.waiting { "--waiting".to_owned() } else { names.join(" ") };
    if site.founded {
        return authorize(session, &chosen, Ask::YesNo, &again).await;
    }
    found(session, &site, &nodes, &chosen, &again).await
}

async fn authorize(
    session: &mut Session<'_>,
    nodes: &[&NodeView],
    ask: Ask,
    again: &str,
) -> Result<(), CliError> {
    let action = Action::NodeAuthorize { nodes: members(nodes)? };
    let mut change = Change::new(action, format!("qb node authorize {again}"));
    change.ask = ask;
    change.hosts = hosts(nodes);
    let Some(view) = session.change(&change).await? else { return Ok(()) };
    remember(session, nodes)?;
    // The founding node is in the pool as well.
    let more = usize::from(change.ask == Ask::Agreed);
    let what = format!("{} in the pool", plural(nodes.len() + more, "node"));
    session.accepted(&view, &what, Some("qb cluster create clus100"))
}

fn hosts(nodes: &[&NodeView]) -> Hosts {
    nodes.iter().map(|n| (n.id, n.name.clone())).collect()
}

fn remember(session: &Session<'_>, nodes: &[&NodeView]) -> Result<(), CliError> {
    let ids: Vec<NodeId> = nodes.iter().map(|n| n.id).collect();
    session.remember(|m| m.nodes.extend(ids))
}

async fn found(
    session: &mut Session<'_>,
    site: &SiteView,
    all: &[NodeView],
    chosen: &[&NodeView],
    again: &str,
) -> Result<(), CliError> {
    let id = session.here.config.id;
    if site.head.index != 0 || site.head.hash != id.0 {
        let text = "The door says that the site is not founded, but shows a chain that has begun.";
        return Err(CliError::refused(text).remedy("try another door; qb doctor"));
    }
    // A machine that was not let in yet knows of no founding; this computer may.
    let memory = Memory::load(&session.ctx.paths.memory(&session.here.name))?;
    if memory.head.is_some_and(|head| head.index > 0) {
        let text = format!(
            "{} was founded already, and the machine behind this door is not let in: founding it again would split it.",
            session.here.name
        );
        return Err(CliError::refused(text)
            .remedy("use the door of a member: qb --door https://ADDRESS:8443 node list"));
    }
    if session.ctx.globals.expect.is_some() {
        return Err(CliError::usage(
            "--expect: founding a site is two intents, which have no common plan. Nothing was sent.",
        ));
    }
    let first = if session.at_relay() {
        // The relay hands the founding to the machine that it names.
        chosen.first().copied().ok_or_else(|| CliError::usage("No machine is named."))?
    } else {
        all.iter().find(|n| n.id == site.door.node).ok_or_else(|| {
            CliError::failed(format!("The door does not show its own node {} as waiting.", site.door.host))
                .remedy("try again in a second")
        })?
    };
    let others: Vec<&NodeView> = chosen.iter().copied().filter(|n| n.id != first.id).collect();
    let author = session.author().await?;
    let action = Action::SiteFound { nodes: members(&[first])? };
    if session.ctx.globals.plan.is_some() {
        let change = Change::new(action, format!("qb node authorize {again}"));
        session.change(&change).await?;
        session.ctx.out.hint(&format!("Then it would authorize {}.", plural(others.len(), "further node")));
        return Ok(());
    }
    let mut what = format!("found {} on {}", session.here.name, first.name);
    if !others.is_empty() {
        let named = Action::NodeAuthorize { nodes: members(&others)? };
        what = format!("{what} and {}", sentence::of(&named, &hosts(&others)));
    }
    session.agree(&author, &what, &Ask::YesNo)?;
    let view = send_founding(session, action, &author, &site.head).await?;
    remember(session, &[first])?;
    wait_founded(session).await?;
    if others.is_empty() {
        return session.accepted(&view, &format!("founded on {}", first.name), Some("qb node list"));
    }
    session.hint_accepted(&view, &format!("founded on {}", first.name));
    authorize(session, &others, Ask::Agreed, again).await
}

async fn send_founding(
    session: &mut Session<'_>,
    action: Action,
    author: &Author,
    head: &Head,
) -> Result<qb_portal::view::IntentView, CliError> {
    let change = Change::new(action, "qb node authorize");
    let intent = session.draft(&change, author, head)?;
    session.sign_and_send(&intent).await
}

async fn wait_founded(session: &Session<'_>) -> Result<(), CliError> {
    let begun = tokio::time::Instant::now();
    loop {
        if let Ok(site) = session.api.site().await
            && site.founded
            && site.head.index > 0
        {
            return Ok(());
        }
        if begun.elapsed() > FOUNDING {
            let text =
                format!("The site is not founded after {} s. Nothing else was sent.", FOUNDING.as_secs());
            return Err(CliError::still_going(text).remedy("qb site status, then the same command again"));
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

/// How a table of nodes to compare looks, for tests and docs.
pub fn rendered(nodes: &[&NodeView], clock: &Clock) -> String {
    table(nodes, clock).render(&Paint::PLAIN, true, None)
}
