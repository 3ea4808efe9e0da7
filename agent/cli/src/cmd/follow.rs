//! Following a change of a cluster to its end: a block of lines on a terminal, one line a change
//! otherwise. Ctrl-C leaves it running and says so.

use std::time::Duration;

use qb_model::{Digest, Millis, Name, NodeId, Version};
use qb_portal::view::{ClusterState, ClusterUpgradeState, ClusterView, IntentState, IntentView};
use tokio::time::Instant;

use crate::ctx::Session;
use crate::error::{CliError, Exit};
use crate::out::progress::{block, changes, errors};
use crate::out::redraw::Redraw;
use crate::out::text::{clean, plural, span};
use crate::out::waiting;

/// How often the door is asked.
const EVERY: Duration = Duration::from_millis(300);
/// How long is waited if nothing else is said.
const PATIENCE: Duration = Duration::from_secs(600);
/// The same for an upgrade: minutes for each control plane node.
const UPGRADE_PATIENCE: Duration = Duration::from_secs(7_200);
/// How long a door may be away before following ends: it can be restarted, or lead no more.
const AWAY: Duration = Duration::from_secs(30);

/// What ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// The cluster serves with all its members.
    Serves,
    /// All its members run this version.
    Upgraded(Version),
    /// Every control plane node keeps the backup that this intent asked for.
    BackedUp(Digest),
    /// Its store is restored, and all control plane nodes serve again.
    Restored,
    /// These nodes are no members any more.
    Left(Vec<NodeId>),
    /// The cluster is gone.
    Gone,
}

/// Whether a cluster, or its absence, is the goal. `intent` is what became of the intent.
pub fn reached(goal: &Goal, cluster: Option<&ClusterView>, intent: IntentState) -> bool {
    match (goal, cluster) {
        (Goal::Gone, cluster) => cluster.is_none(),
        (_, None) => false,
        (Goal::Upgraded(version), Some(c)) => intent == IntentState::Done && c.version == *version,
        (Goal::BackedUp(asked), Some(c)) => {
            let mut kept = c.members.iter().filter_map(|m| m.upkeep.as_ref()).peekable();
            kept.peek().is_some() && kept.all(|u| u.backups.iter().any(|b| b.asked == Some(*asked)))
        }
        (Goal::Restored, Some(c)) => intent == IntentState::Done && c.state == ClusterState::Ready,
        (Goal::Left(nodes), Some(c)) => {
            intent == IntentState::Done && !c.members.iter().any(|m| nodes.contains(&m.node))
        }
        (Goal::Serves, Some(c)) => {
            let busy =
                c.members.iter().any(|m| m.done != "join" && m.done != "initialize" && m.done != "ready");
            match intent {
                IntentState::Done => c.state == ClusterState::Ready,
                _ => {
                    c.state == ClusterState::Ready
                        && !busy
                        && !c.members.is_empty()
                        && c.stages.iter().all(|s| s.ended.is_some())
                }
            }
        }
    }
}

/// A cluster as it was before a change that began then: what it went through earlier is no news.
pub fn before(cluster: &ClusterView, since: Millis) -> ClusterView {
    let mut old = cluster.clone();
    for stage in &mut old.stages {
        stage.began = stage.began.filter(|began| *began < since);
        stage.ended = stage.ended.filter(|ended| *ended < since);
    }
    for member in &mut old.members {
        member.work = member.work.take().filter(|work| work.since < since);
    }
    old
}

/// What stops a change for good, as an error.
///
/// # Errors
/// Findings, or a rejection after all.
pub fn stopped(cluster: Option<&ClusterView>, intent: &IntentView) -> Result<(), CliError> {
    if intent.state == IntentState::Rejected {
        return crate::change::verdict(intent);
    }
    // What went wrong on a node is what the cluster waits for now.
    let halted = cluster.and_then(|c| c.upgrade.as_ref()).filter(|u| u.intent == intent.digest);
    if let (Some(c), true) = (cluster, halted.is_some_and(|u| u.state == ClusterUpgradeState::Halted)) {
        let why = c.waiting_on.as_ref().map(|w| format!(" {}", clean(&w.text))).unwrap_or_default();
        let error = CliError::failed(format!("The upgrade of {} is halted: it{why}.", c.name));
        let remedy = c.waiting_on.as_ref().and_then(waiting::way_out);
        return Err(error.remedy(remedy.unwrap_or_else(|| format!("qb cluster show {}", c.name))));
    }
    match cluster {
        Some(c) if c.state == ClusterState::Preflight && errors(c) > 0 => {
            let members: Vec<&str> = c.members.iter().map(|m| m.host.as_str()).collect();
            Err(CliError::findings(format!("Preflight stops this: {}.", plural(errors(c), "error"))).remedy(
                format!(
                    "put that right and it goes on by itself, or: qb cluster detach {} {}",
                    c.name,
                    members.join(" ")
                ),
            ))
        }
        _ => Ok(()),
    }
}

struct View<'a> {
    session: &'a Session<'a>,
    label: String,
    since: Millis,
    redraw: Option<Redraw>,
    last: Option<ClusterView>,
}

impl View<'_> {
    fn show(&mut self, cluster: Option<&ClusterView>) {
        let out = &self.session.ctx.out;
        if out.quiet {
            return;
        }
        let Some(cluster) = cluster else { return };
        let clock = out.clock();
        match &mut self.redraw {
            Some(redraw) => redraw.draw(&block(cluster, &self.label, &clock, &out.err)),
            None => {
                if self.last.is_none() && cluster.rehearsal {
                    out.say(&format!("rehearsal {}: real processes in folders, no Kubernetes", cluster.name));
                }
                let old = self.last.clone().unwrap_or_else(|| before(cluster, self.since));
                for line in changes(Some(&old), cluster, &clock) {
                    out.say(&line);
                }
            }
        }
        self.last = Some(cluster.clone());
    }
}

async fn look(
    session: &Session<'_>,
    name: &Name,
    view: &IntentView,
) -> Result<(Option<ClusterView>, IntentView), CliError> {
    let cluster = match session.api.cluster(name).await {
        Ok(cluster) => Some(cluster),
        Err(e) if e.problem.as_ref().is_some_and(|p| p.status == 404) => None,
        Err(e) => return Err(e),
    };
    let intent = session.api.intent(&view.digest, Duration::ZERO).await?;
    Ok((cluster, session.honest(intent).await?))
}

/// Follows until the goal, a stop, the time to wait or Ctrl-C.
///
/// # Errors
/// Anything but the goal.
pub async fn follow(
    session: &Session<'_>,
    view: &IntentView,
    name: &Name,
    goal: Goal,
) -> Result<(), CliError> {
    let globals = &session.ctx.globals;
    let id: String = view.id.as_str().chars().take(8).collect();
    if globals.no_wait {
        session.ctx.out.hint(&format!("It goes on. Look: qb cluster show {name} --watch"));
        return if session.ctx.out.documents() { session.ctx.out.document(view) } else { Ok(()) };
    }
    tokio::select! {
        result = until(session, view, name, &goal, &id) => result,
        _ = tokio::signal::ctrl_c() => {
            if session.ctx.out.live {
                // The terminal has shown ^C in the middle of a line.
                session.ctx.out.say("");
            }
            Err(CliError::interrupted(format!("Left running: intent {id}. Nothing was undone."))
                .remedy(format!("qb cluster show {name} --watch")))
        }
    }
}

async fn until(
    session: &Session<'_>,
    view: &IntentView,
    name: &Name,
    goal: &Goal,
    id: &str,
) -> Result<(), CliError> {
    let out = &session.ctx.out;
    let usual = if matches!(goal, Goal::Upgraded(_) | Goal::Restored) { UPGRADE_PATIENCE } else { PATIENCE };
    let patience = session.ctx.globals.wait.unwrap_or(usual);
    let redraw = (out.live && !out.documents()).then(|| Redraw::new(console::Term::stderr()));
    // An attach starts its stages anew; what leaves finds those of the attach before.
    let since = if *goal == Goal::Serves { Millis(0) } else { view.at.unwrap_or_default() };
    let mut shown = View { session, label: id.to_owned(), since, redraw, last: None };
    let (begun, mut heard) = (Instant::now(), Instant::now());
    loop {
        match look(session, name, view).await {
            Ok((cluster, intent)) => {
                heard = Instant::now();
                shown.show(cluster.as_ref());
                if reached(goal, cluster.as_ref(), intent.state) {
                    return done(session, name, goal, cluster.as_ref(), begun);
                }
                if let Err(error) = stopped(cluster.as_ref(), &intent) {
                    let findings = cluster.map(|c| c.findings).unwrap_or_default();
                    out.say(super::preflight::findings(&findings, &out.err).trim_end());
                    return Err(error);
                }
                if begun.elapsed() >= patience {
                    return Err(late(patience, cluster.as_ref(), &intent, view.id.as_str()));
                }
            }
            Err(error) if error.exit != Exit::Unreachable || heard.elapsed() > AWAY => return Err(error),
            Err(_) => {}
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// The time to wait is over.
pub fn late(patience: Duration, cluster: Option<&ClusterView>, intent: &IntentView, id: &str) -> CliError {
    let wait = cluster.and_then(|c| c.waiting_on.as_ref()).or(intent.waiting_on.as_ref());
    let why = wait
        .map_or_else(|| "it works".to_owned(), |w| format!("{} {}", w.subject, w.text.trim_end_matches('.')));
    let after = span(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
    let error = CliError::still_going(format!("Still going after {after}: {why}. Nothing was undone."));
    match wait.and_then(waiting::way_out).filter(|w| w != "Clears by itself.") {
        Some(way_out) => error.remedy(way_out),
        None => error.remedy(format!("qb intent show {id} --watch")),
    }
}

fn done(
    session: &Session<'_>,
    name: &Name,
    goal: &Goal,
    cluster: Option<&ClusterView>,
    begun: Instant,
) -> Result<(), CliError> {
    let out = &session.ctx.out;
    if out.documents() {
        return match cluster {
            Some(cluster) => out.document(cluster),
            None => Ok(()),
        };
    }
    let took = span(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
    let mark = out.err.marked(crate::out::paint::Tone::Good);
    let what = match goal {
        Goal::Serves => {
            let endpoint = cluster
                .and_then(|c| c.endpoint.as_ref())
                .map(|e| format!(" at {}", crate::out::text::clean(e)));
            format!("{name} serves{}", endpoint.unwrap_or_default())
        }
        Goal::Upgraded(version) => format!("{name} runs {version} on all its nodes"),
        Goal::BackedUp(_) => format!("the store of {name} is backed up on all its control plane nodes"),
        Goal::Restored => format!("the store of {name} is restored, its control plane serves"),
        Goal::Left(nodes) => format!("{} back in the pool", plural(nodes.len(), "node")),
        Goal::Gone => format!("{name} is gone, its nodes are back in the pool"),
    };
    let next =
        if *goal == Goal::Gone { "qb node list".to_owned() } else { format!("qb cluster show {name}") };
    // What was ordered is signed for; how far it got is not.
    let whose = if session.remote() { ", as the relay shows it" } else { "" };
    out.hint(&format!("{mark} {what} after {took}{whose}.  next: {next}"));
    Ok(())
}
