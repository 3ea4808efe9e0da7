//! Following an upgrade of agents to its end. Doors come and go meanwhile: each agent starts again.

use std::collections::BTreeMap;
use std::time::Duration;

use qb_portal::view::{AgentUpgradeState, AgentUpgradeView, IntentView, NodeView};
use tokio::time::Instant;

use crate::ctx::{Ctx, Session};
use crate::error::{CliError, Exit};
use crate::out::paint::{Paint, Tone};
use crate::out::redraw::Redraw;
use crate::out::text::{Clock, plural, span};
use crate::out::waiting;

use super::agent::{line, table};

/// How often the door is asked.
const EVERY: Duration = Duration::from_millis(500);
/// How long is waited for each node, if nothing else is said: its start, its proof, and a margin.
const PATIENCE_A_NODE: Duration = Duration::from_secs(180);
/// How long a door may be away before following ends: its own agent is upgraded, too.
const AWAY: Duration = Duration::from_secs(120);
/// Cells of the bar.
const BAR: usize = 16;

/// What an upgrade's view means for who follows it.
///
/// # Errors
/// It was halted, or another one took its place.
pub fn ended(upgrade: Option<&AgentUpgradeView>, intent: &IntentView) -> Result<bool, CliError> {
    let Some(upgrade) = upgrade.filter(|u| u.intent == intent.digest) else {
        return Err(CliError::failed("Another upgrade took the place of this one.").remedy("qb agent list"));
    };
    match upgrade.state {
        AgentUpgradeState::Rolling => Ok(false),
        AgentUpgradeState::Done => Ok(true),
        AgentUpgradeState::Halted => {
            let wait = upgrade.waiting_on.as_ref();
            let why = wait.map_or_else(|| "is halted".to_owned(), waiting::short);
            let error = CliError::failed(format!("The upgrade {}.", why.trim_end_matches('.')));
            Err(error.remedy(wait.and_then(waiting::way_out).unwrap_or_else(|| "qb agent list".to_owned())))
        }
    }
}

/// The block on a terminal.
pub fn block(upgrade: &AgentUpgradeView, nodes: &[NodeView], clock: &Clock, paint: &Paint) -> Vec<String> {
    let bar = paint.bar(upgrade.done.into(), upgrade.nodes.into(), BAR);
    let of = plural(upgrade.nodes as usize, "node");
    let head = format!(
        "{} agents  {bar}  {} of {of} run {}",
        paint.marked(Tone::Busy),
        upgrade.done,
        upgrade.version
    );
    let mut lines = vec![head];
    lines.extend(table(nodes, clock, paint).render(paint, false, None).lines().map(|l| format!("  {l}")));
    if let Some(wait) = &upgrade.waiting_on {
        lines.extend(waiting::lines(wait, clock).into_iter().map(|l| format!("  {l}")));
    }
    lines.push("  Ctrl-C leaves it running".to_owned());
    lines
}

struct View<'a> {
    ctx: &'a Ctx,
    redraw: Option<Redraw>,
    told: BTreeMap<String, String>,
}

impl View<'_> {
    fn show(&mut self, upgrade: &AgentUpgradeView, nodes: &[NodeView]) {
        let out = &self.ctx.out;
        if out.quiet {
            return;
        }
        let clock = out.clock();
        if let Some(redraw) = &mut self.redraw {
            redraw.draw(&block(upgrade, nodes, &clock, &out.err));
            return;
        }
        for node in nodes.iter().filter(|n| n.agent_upgrade.as_ref().is_some_and(|u| u.since.is_some())) {
            let said = line(node);
            if self.told.get(node.name.as_str()) != Some(&said) {
                out.say(&format!("{} {said}", clock.time(clock.now)));
                self.told.insert(node.name.to_string(), said);
            }
        }
    }
}

/// Follows until it is done, halted, the time to wait is over, or Ctrl-C.
///
/// # Errors
/// Anything but done.
pub async fn follow(session: &mut Session<'_>, view: &IntentView) -> Result<(), CliError> {
    let out = &session.ctx.out;
    if session.ctx.globals.no_wait {
        out.hint("It goes on. Look: qb agent list --watch");
        return if out.documents() { out.document(view) } else { Ok(()) };
    }
    tokio::select! {
        result = until(session, view) => result,
        _ = tokio::signal::ctrl_c() => {
            if out.live {
                // The terminal has shown ^C in the middle of a line.
                out.say("");
            }
            Err(CliError::interrupted("Left running. Nothing was undone.")
                .remedy("qb agent list --watch, or qb agent stop"))
        }
    }
}

async fn until(session: &mut Session<'_>, view: &IntentView) -> Result<(), CliError> {
    let out = &session.ctx.out;
    let redraw = (out.live && !out.documents()).then(|| Redraw::new(console::Term::stderr()));
    let ctx = session.ctx;
    let mut shown = View { ctx, redraw, told: BTreeMap::new() };
    let (begun, mut heard) = (Instant::now(), Instant::now());
    loop {
        match look(session).await {
            Ok((upgrade, nodes)) => {
                heard = Instant::now();
                if let Some(upgrade) = &upgrade {
                    shown.show(upgrade, &nodes);
                }
                if ended(upgrade.as_ref(), view)? {
                    return done(session, upgrade.as_ref(), begun);
                }
                let count = u32::try_from(nodes.len()).unwrap_or(u32::MAX).max(1);
                let patience = session.ctx.globals.wait.unwrap_or(PATIENCE_A_NODE.saturating_mul(count));
                if begun.elapsed() >= patience {
                    return Err(late(patience, upgrade.as_ref()));
                }
            }
            // The agent of this door may be the one that starts again: it forgot the session.
            Err(error) if matches!(error.exit, Exit::Unreachable | Exit::Refused) => {
                if heard.elapsed() > AWAY {
                    return Err(error);
                }
                match session.reopen().await {
                    Err(error) if error.exit != Exit::Unreachable => return Err(error),
                    _ => {}
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn look(session: &Session<'_>) -> Result<(Option<AgentUpgradeView>, Vec<NodeView>), CliError> {
    let site = session.api.site().await?;
    let mut nodes = session.api.nodes().await?;
    nodes.retain(|n| n.agent_upgrade.is_some());
    Ok((site.agent_upgrade, nodes))
}

/// The time to wait is over.
pub fn late(patience: Duration, upgrade: Option<&AgentUpgradeView>) -> CliError {
    let after = span(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
    let wait = upgrade.and_then(|u| u.waiting_on.as_ref());
    let why = wait.map_or_else(|| "works".to_owned(), waiting::short);
    CliError::still_going(format!("Still going after {after}: the upgrade {}.", why.trim_end_matches('.')))
        .remedy("qb agent list --watch, or qb agent stop")
}

fn done(session: &Session<'_>, upgrade: Option<&AgentUpgradeView>, begun: Instant) -> Result<(), CliError> {
    let out = &session.ctx.out;
    let Some(upgrade) = upgrade else { return Ok(()) };
    if out.documents() {
        return out.document(upgrade);
    }
    let took = span(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
    let mark = out.err.marked(Tone::Good);
    let all = plural(upgrade.nodes as usize, "node");
    out.hint(&format!("{mark} {all} run agent {} after {took}.  next: qb agent list", upgrade.version));
    Ok(())
}
