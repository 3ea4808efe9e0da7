//! `qb cluster label|taint` and `qb cluster addon`: what qb keeps inside a cluster.

use std::collections::BTreeMap;
use std::path::Path;

use qb_model::Name;
use qb_model::action::{Action, Label, Taint, TaintEffect};
use qb_model::limits::ADDON_BYTES;
use qb_model::validate;
use qb_portal::view::{AddonState, AddonView, ClusterView, MemberView};

use crate::args::Format;
use crate::args::cluster::{AddonCommand, AddonSetArgs, MarkArgs};
use crate::change::Change;
use crate::ctx::Session;
use crate::error::CliError;
use crate::files;
use crate::out::paint::{Paint, Tone};
use crate::out::table::{Cell, Column, Table};
use crate::out::text::{Clock, clean, plural};

use super::cluster::expectation;
use super::node::relabel;
use super::watch::{Shown, show};

/// Bytes of a manifest's file that are looked at: more is too much by any count of line ends.
const FILE_BYTES: u64 = 4 * ADDON_BYTES as u64;

/// A taint by its words: `key=value:Effect` or `key:Effect`.
fn taint(text: &str) -> Option<Taint> {
    let (rest, effect) = text.rsplit_once(':')?;
    let effect = [TaintEffect::NoExecute, TaintEffect::NoSchedule, TaintEffect::PreferNoSchedule]
        .into_iter()
        .find(|e| e.word() == effect)?;
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    Some(Taint { key: key.to_owned(), effect, value: value.to_owned() })
}

/// Taints after a change: sorted by key and effect, each pair once.
///
/// # Errors
/// A word that is no change of a taint.
pub fn retaint(now: &[String], changes: &[String]) -> Result<Vec<Taint>, CliError> {
    let named = |t: Taint| ((t.key.clone(), t.effect), t);
    let mut all: BTreeMap<(String, TaintEffect), Taint> =
        now.iter().filter_map(|t| taint(t)).map(named).collect();
    for change in changes {
        match (taint(change), change.strip_suffix('-')) {
            (Some(new), _) => drop(all.insert((new.key.clone(), new.effect), new)),
            (None, Some(gone)) => match gone.rsplit_once(':') {
                Some((key, effect)) => all.retain(|(k, e), _| (k.as_str(), e.word()) != (key, effect)),
                None => all.retain(|(k, _), _| k != gone),
            },
            (None, None) => {
                return Err(CliError::usage(format!(
                    "{:?} is neither KEY=VALUE:EFFECT, KEY:EFFECT nor KEY-.",
                    clean(change)
                ))
                .remedy("effects are NoSchedule, PreferNoSchedule and NoExecute"));
            }
        }
    }
    Ok(all.into_values().collect())
}

/// The member of a name.
fn member<'a>(cluster: &'a ClusterView, name: &str) -> Result<&'a MemberView, CliError> {
    let found: Vec<&MemberView> = match cluster.members.iter().find(|m| m.host.as_str() == name) {
        Some(whole) => vec![whole],
        None => cluster.members.iter().filter(|m| m.host.as_str().starts_with(name)).collect(),
    };
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(CliError::failed(format!("{} has no node {}.", cluster.name, clean(name)))
            .remedy(format!("qb cluster show {}", cluster.name))),
        several => {
            let text = format!("{} names {}.", clean(name), plural(several.len(), "node"));
            Err(CliError::usage(text).remedy(format!("qb cluster show {}", cluster.name)))
        }
    }
}

/// `qb cluster label`, and `qb cluster taint` where `taints` says so.
///
/// # Errors
/// What went wrong.
pub async fn mark(session: &mut Session<'_>, args: &MarkArgs, taints: bool) -> Result<(), CliError> {
    let cluster = session.api.cluster(&args.cluster).await?;
    let at = member(&cluster, &args.node)?;
    let changes = |of: bool| if of { args.changes.as_slice() } else { &[] };
    let (labels, marks): (Vec<Label>, Vec<Taint>) =
        (relabel(&at.labels, changes(!taints))?, retaint(&at.taints, changes(taints))?);
    let action = Action::ClusterLabel {
        cluster: args.cluster.clone(),
        node: at.node,
        host: at.host.clone(),
        labels,
        taints: marks,
    };
    let verb = if taints { "taint" } else { "label" };
    let (name, host, words) = (&args.cluster, &at.host, args.changes.join(" "));
    let again = match taints {
        true => format!("qb cluster taint {name} {host} {words}"),
        false => format!("qb cluster label {name} {host} {words}"),
    };
    let mut change = Change::new(action, again);
    // The whole set is signed: it must be the one that was looked at.
    change.expect.push(expectation(&cluster));
    change.hosts.insert(at.node, at.host.clone());
    if let Some(view) = session.change(&change).await? {
        let what = format!("{verb}s of {} in {}", at.host, args.cluster);
        session.accepted(&view, &what, Some(&format!("qb cluster show {}", args.cluster)))?;
    }
    Ok(())
}

/// Lines of a manifest as they are signed.
///
/// # Errors
/// It is too large, empty, holds what hides text, or a Secret.
pub fn lines(text: &str) -> Result<Vec<String>, CliError> {
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    validate::manifest(&lines).map_err(|e| {
        CliError::usage(format!("The {e}."))
            .remedy("qb bundle build --help says what a bundle's manifests/ are")
    })?;
    let is_secret = |line: &String| {
        let bare: String = line.chars().filter(|c| !c.is_whitespace() && !matches!(c, '"' | '\'')).collect();
        let bare = bare.trim_start_matches(['-', '{']);
        bare == "kind:Secret" || bare.starts_with("kind:Secret,") || bare.contains(",kind:Secret,")
    };
    if lines.iter().any(is_secret) {
        return Err(CliError::refused(
            "The manifest holds a Secret: what is signed stands in the site's log and audit for good.",
        )
        .remedy("take it out, and make it with qb kubectl CLUSTER -- apply -f FILE"));
    }
    Ok(lines)
}

/// `qb cluster addon`.
///
/// # Errors
/// What went wrong.
pub async fn addon(session: &mut Session<'_>, verb: &AddonCommand) -> Result<(), CliError> {
    match verb {
        AddonCommand::Set(args) => set(session, args).await,
        AddonCommand::List { cluster } => list(session, cluster).await,
        AddonCommand::Remove { cluster, addon } => remove(session, cluster, addon).await,
    }
}

async fn set(session: &mut Session<'_>, args: &AddonSetArgs) -> Result<(), CliError> {
    let text = files::read_text(Path::new(&args.file), FILE_BYTES)?;
    let (cluster, addon, manifest) = (args.cluster.clone(), args.addon.clone(), lines(&text)?);
    let again = format!("qb cluster addon set {cluster} {addon} -f {}", args.file.display());
    let action = Action::ClusterAddonSet { cluster: cluster.clone(), addon: addon.clone(), manifest };
    if let Some(view) = session.change(&Change::new(action, again)).await? {
        let next = format!("qb cluster addon list {cluster}");
        session.accepted(&view, &format!("add-on {addon} of {cluster} is set"), Some(&next))?;
    }
    Ok(())
}

async fn remove(session: &mut Session<'_>, cluster: &Name, addon: &Name) -> Result<(), CliError> {
    let action = Action::ClusterAddonRemove { cluster: cluster.clone(), addon: addon.clone() };
    let change = Change::new(action, format!("qb cluster addon remove {cluster} {addon}"));
    if let Some(view) = session.change(&change).await? {
        let next = format!("qb cluster addon list {cluster}");
        session.accepted(&view, &format!("add-on {addon} of {cluster} is removed"), Some(&next))?;
    }
    Ok(())
}

/// The mark and the word of an add-on.
fn state(addon: &AddonView) -> (Tone, &'static str) {
    match (addon.state, addon.removed) {
        (AddonState::Failed, _) => (Tone::Broken, "failed"),
        (AddonState::Applied, false) => (Tone::Good, "applied"),
        (_, true) => (Tone::Busy, "leaving"),
        (AddonState::Waits, false) => (Tone::Busy, "waits"),
    }
}

/// The table of `qb cluster addon list`.
pub fn table(addons: &[AddonView], clock: &Clock, paint: &Paint) -> Table {
    let columns = [
        Column::new("ADD-ON"),
        Column::new("STATE"),
        Column::number("LINES", 3),
        Column::cut("SINCE", 2),
        Column::cut("WHY", 1),
    ];
    let mut table = Table::new(columns);
    for addon in addons {
        let (tone, word) = state(addon);
        let why = if addon.text.is_empty() {
            String::new()
        } else {
            format!("{}; {}", clean(&addon.text), clean(&addon.remedy))
        };
        table.row([
            addon.name.as_str().into(),
            Cell::state(tone, word, paint),
            addon.lines.to_string().into(),
            clock.ago(addon.since).into(),
            why.into(),
        ]);
    }
    table
}

async fn list(session: &Session<'_>, name: &Name) -> Result<(), CliError> {
    let ctx = session.ctx;
    show(ctx, true, async || {
        let addons = session.api.cluster(name).await?.addons;
        let table = table(&addons, &ctx.out.clock(), &ctx.out.paint);
        let footer = addons.is_empty().then(|| {
            format!("{name} has no add-on.  Next: qb cluster addon set {name} NAME -f manifest.yaml")
        });
        // What failed is worth its whole text: kubectl says where the fault is.
        let wide = ctx.out.format == Format::Wide;
        let mut text = if table.is_empty() { String::new() } else { ctx.out.render(&table) };
        for addon in addons.iter().filter(|a| !wide && !a.text.is_empty()) {
            text.push_str(&format!("\n{}: {}\n  {}\n", addon.name, clean(&addon.text), clean(&addon.remedy)));
        }
        let lines = addons.iter().map(|a| format!("{} {} {}", a.name, state(a).1, clean(&a.text))).collect();
        let items = addons.into_iter().map(|a| (a.name.to_string(), a)).collect();
        Ok(Shown { items, text, footer, lines })
    })
    .await
}

/// What `qb cluster show` says of labels and add-ons; empty if there are none.
pub fn page(cluster: &ClusterView, clock: &Clock, paint: &Paint) -> String {
    let mut out = String::new();
    for member in cluster.members.iter().filter(|m| !m.labels.is_empty() || !m.taints.is_empty()) {
        let words: Vec<String> = member.labels.iter().chain(&member.taints).map(|w| clean(w)).collect();
        out.push_str(&format!("  {}  {}\n", member.host, words.join(", ")));
    }
    if !out.is_empty() {
        out.insert_str(0, "\nLabels and taints that qb keeps:\n");
    }
    if !cluster.addons.is_empty() {
        out.push('\n');
        out.push_str(&table(&cluster.addons, clock, paint).render(paint, true, None));
    }
    out
}
