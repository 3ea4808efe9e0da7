//! What is to be kept inside a cluster and is not: labels and taints of nodes, add-ons.

use crate::board::{Board, Keeping};
use crate::ids::Millis;
use crate::state::{Cluster, SiteState};
use crate::waiting::WaitingOn;

/// What a member says of a thing that is kept, if it speaks of what is wanted now.
pub fn told<'a>(
    state: &'a SiteState,
    board: &'a Board,
    cluster: &'a Cluster,
) -> impl Iterator<Item = &'a Keeping> {
    let wanted = |kept: &&Keeping| match &kept.addon {
        Some(addon) => cluster.addons.get(addon).is_some_and(|a| a.cites.digest == kept.cites),
        None => cluster.marks.values().any(|m| m.cites.digest == kept.cites),
    };
    let reports = state.members(&cluster.name).filter_map(|n| board.get(&n.node));
    reports.flat_map(|heard| &heard.report.keeping).filter(wanted)
}

/// The first thing that is not as it should be.
pub(super) fn of(state: &SiteState, board: &Board, cluster: &Cluster) -> Option<WaitingOn> {
    let failed = told(state, board, cluster).filter(|kept| !kept.text.is_empty());
    let failed: Vec<&Keeping> = failed.collect();
    let first = failed.first()?;
    let name = &cluster.name;
    let (code, what, command) = match &first.addon {
        Some(addon) => {
            let gone = cluster.addons.get(addon).is_some_and(|a| a.removed);
            let word = if gone { "removed" } else { "applied" };
            let command = format!("qb cluster addon list {name}");
            ("cluster.addon", format!("add-on {addon}, which is not {word}"), command)
        }
        None => (
            "cluster.label",
            "labels of nodes that are not set".to_owned(),
            format!("qb cluster show {name}"),
        ),
    };
    let since = failed.iter().map(|kept| kept.since).min().unwrap_or(Millis(0));
    let text = format!("has {what}: {}", first.text);
    let more = (failed.len() - 1) as u32;
    Some(WaitingOn { more, ..WaitingOn::person(code, name.as_str(), text, since, ("operator", command)) })
}
