//! `qb node list|show|label|revoke`.

use qb_model::action::{Action, Label, NodeRole, RevokeMode};
use qb_model::intent::ObjectRef;
use qb_portal::view::{NodeState, NodeView};

use crate::agree::Ask;
use crate::args::Format;
use crate::args::node::{NodeCommand, Then};
use crate::args::rest::RowArgs;
use crate::change::Change;
use crate::ctx::{Ctx, Session};
use crate::error::CliError;
use crate::out::paint::Paint;
use crate::out::table::{Cell, Column, Table};
use crate::out::text::{Clock, age, bytes, clean, names, percent, plural};
use crate::out::{marks, plan, rows, waiting};

use super::watch::{Shown, show};

/// Runs a verb.
///
/// # Errors
/// What went wrong.
pub async fn run(ctx: &Ctx, verb: NodeCommand) -> Result<(), CliError> {
    let mut session = ctx.session().await?;
    match verb {
        NodeCommand::List(rows) => list(&session, &rows).await,
        NodeCommand::Show { node } => show_one(&session, &node).await,
        NodeCommand::Authorize(args) => super::authorize::run(&mut session, args).await,
        NodeCommand::Label { node, labels } => label(&mut session, &node, &labels).await,
        NodeCommand::Revoke { node, then } => revoke(&mut session, &node, then).await,
    }
}

/// The node that a text names: its name, or the unique beginning of its name, fingerprint or key.
///
/// # Errors
/// None or several.
pub fn find<'a>(nodes: &'a [NodeView], text: &str) -> Result<&'a NodeView, CliError> {
    if let Some(node) = nodes.iter().find(|n| n.name.as_str() == text || n.id.to_string() == text) {
        return Ok(node);
    }
    let begins = |n: &&NodeView| {
        n.name.as_str().starts_with(text)
            || n.fingerprint.starts_with(text)
            || (text.len() >= 8 && n.id.to_string().starts_with(text))
    };
    let found: Vec<&NodeView> = nodes.iter().filter(begins).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => {
            let known: Vec<&str> = nodes.iter().map(|n| n.name.as_str()).collect();
            let error = CliError::usage(format!("No node {}.", clean(text)));
            Err(match crate::config::nearest(text, &known) {
                Some(near) => error.remedy(format!("the nearest is {near}")),
                None => error.remedy("qb node list"),
            })
        }
        several => {
            let all: Vec<&str> = several.iter().map(|n| n.name.as_str()).collect();
            let text = format!("{} names {}: {}.", clean(text), plural(all.len(), "node"), names(&all));
            Err(CliError::usage(text).remedy("the full name; Tab completes"))
        }
    }
}

/// Texts of objects, with `-` replaced by the words on stdin.
///
/// # Errors
/// stdin cannot be read.
pub fn words(given: Vec<String>) -> Result<Vec<String>, CliError> {
    use std::io::Read as _;
    if given != ["-"] {
        return Ok(given);
    }
    let mut text = String::new();
    let read = std::io::stdin().take(1 << 20).read_to_string(&mut text);
    read.map_err(|e| CliError::usage(format!("stdin cannot be read: {e}.")))?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

fn place(node: &NodeView) -> String {
    match (&node.cluster, node.role) {
        (Some(cluster), Some(NodeRole::ControlPlane)) => format!("{cluster} control plane"),
        (Some(cluster), Some(NodeRole::Worker)) => format!("{cluster} worker"),
        (Some(cluster), None) => cluster.to_string(),
        (None, _) => String::new(),
    }
}

fn why(node: &NodeView) -> String {
    if node.state == NodeState::Waiting {
        return format!("to be authorized: {}", node.fingerprint);
    }
    if let Some(error) = node.work.as_ref().and_then(|w| w.error.as_ref()) {
        return clean(error);
    }
    node.waiting_on.as_ref().map(waiting::short).unwrap_or_default()
}

fn report(node: &NodeView, clock: &Clock) -> String {
    match (node.state, node.report_age_ms) {
        (NodeState::Waiting, _) => clock.ago(node.since),
        (_, Some(ms)) => age(ms),
        (_, None) => String::new(),
    }
}

/// How long a host is up.
fn up(seconds: u64) -> String {
    age(seconds.saturating_mul(1_000))
}

/// The table of `qb node list`.
pub fn table(nodes: &[NodeView], wide: bool, clock: &Clock, paint: &Paint) -> Table {
    let mut columns = vec![
        Column::new("NAME"),
        Column::new("STATE"),
        Column::cut("WHERE", 6),
        Column::cut("ZONE", 4),
        Column::number("CPU", 3),
        Column::number("MEM", 3),
        Column::number("DISK", 3),
        Column::cut("REPORT", 5),
        Column::cut("WHY", 1),
    ];
    if wide {
        let more =
            ["ADDRESS", "FINGERPRINT", "ROLES", "CORES", "FREE", "UP", "OS", "KERNEL", "AGENT", "SINCE"];
        columns.extend(more.map(|head| Column::cut(head, 2)));
    }
    let mut table = Table::new(columns);
    for node in nodes {
        let (tone, word) = marks::node(node);
        let facts = node.facts.as_ref();
        let cpu = node.load_milli.zip(facts).map(|(load, f)| percent(load.into(), u64::from(f.cores) * 1000));
        let memory = node.memory_used_bytes.zip(facts).map(|(used, f)| percent(used, f.memory_bytes));
        let disk = facts.map(|f| percent(f.disk_bytes.saturating_sub(f.disk_free_bytes), f.disk_bytes));
        let mut row: Vec<Cell> = vec![
            node.name.as_str().into(),
            Cell::state(tone, word, paint),
            place(node).into(),
            facts.map(|f| f.zone.clone()).unwrap_or_default().into(),
            cpu.unwrap_or_default().into(),
            memory.unwrap_or_default().into(),
            disk.unwrap_or_default().into(),
            report(node, clock).into(),
            why(node).into(),
        ];
        if wide {
            let fact =
                |f: fn(&qb_model::facts::Facts) -> String| Cell::from(facts.map(f).unwrap_or_default());
            row.push(fact(|f| f.addresses.first().cloned().unwrap_or_default()));
            row.push(node.fingerprint.as_str().into());
            row.push(node.roles.join(" ").into());
            row.push(fact(|f| f.cores.to_string()));
            row.push(node.disk_free_bytes.map(bytes).unwrap_or_default().into());
            row.push(node.uptime_s.map(up).unwrap_or_default().into());
            row.push(fact(|f| f.os.clone()));
            row.push(fact(|f| f.kernel.clone()));
            row.push(fact(|f| f.agent.clone()));
            row.push(clock.moment(node.since).into());
        }
        table.row(row);
    }
    table
}

/// The line below the table.
pub fn footer(nodes: &[NodeView]) -> String {
    let count = |state: NodeState| nodes.iter().filter(|n| n.state == state).count();
    let states =
        [NodeState::Waiting, NodeState::Pool, NodeState::Attached, NodeState::Detaching, NodeState::Revoked];
    let parts: Vec<String> = states
        .into_iter()
        .filter(|s| count(*s) > 0)
        .map(|s| format!("{} {}", count(s), marks::node_word(s)))
        .collect();
    let cluster = nodes.iter().find_map(|n| n.cluster.as_ref());
    let next = match (count(NodeState::Waiting), count(NodeState::Pool), cluster) {
        (1.., _, _) => "  Next: qb node authorize --waiting".to_owned(),
        (0, n @ 1.., Some(cluster)) => format!("  Next: qb cluster attach {cluster} -n {n}"),
        (0, 1.., None) => "  Next: qb cluster create clus100".to_owned(),
        _ => String::new(),
    };
    if nodes.is_empty() {
        return "No machine has knocked.  Next: qb site enroll -o FILE, then qb-agent on each machine"
            .to_owned();
    }
    format!("{}: {}.{next}", plural(nodes.len(), "machine"), parts.join(", "))
}

async fn list(session: &Session<'_>, rows: &RowArgs) -> Result<(), CliError> {
    let ctx = session.ctx;
    let wanted = rows::Wanted::read(rows, rows::NODES)?;
    show(ctx, true, async || {
        let mut nodes = session.api.nodes().await?;
        let all = nodes.len();
        wanted.apply(&mut nodes);
        let table = table(&nodes, ctx.out.format == Format::Wide, &ctx.out.clock(), &ctx.out.paint);
        let lines = nodes
            .iter()
            .map(|n| format!("{} {} {} {}", n.name, marks::node(n).1, place(n), why(n)))
            .collect();
        let below = rows::left_out(nodes.len(), all, "machine").unwrap_or_else(|| footer(&nodes));
        let text = if table.is_empty() { String::new() } else { ctx.out.render(&table) };
        let footer = Some(below);
        let items = nodes.into_iter().map(|n| (n.name.to_string(), n)).collect();
        Ok(Shown { items, text, footer, lines })
    })
    .await
}

async fn show_one(session: &Session<'_>, name: &str) -> Result<(), CliError> {
    let ctx = session.ctx;
    show(ctx, false, async || {
        let nodes = session.api.nodes().await?;
        let node = find(&nodes, name)?.clone();
        let text = page(&node, &ctx.out.clock(), &ctx.out.paint);
        let line = format!("{} {} {} {}", node.name, marks::node(&node).1, place(&node), why(&node));
        Ok(Shown { items: vec![(node.name.to_string(), node)], text, footer: None, lines: vec![line] })
    })
    .await
}

/// The page of `qb node show`.
pub fn page(node: &NodeView, clock: &Clock, paint: &Paint) -> String {
    let (tone, word) = marks::node(node);
    let head = format!("{} {word}", paint.mark(tone));
    let mut rows =
        vec![("state", format!("{}  since {}", paint.tone(tone, &head), clock.moment(node.since)))];
    let mut add = |name, text: String| {
        if !text.trim().is_empty() {
            rows.push((name, clean(&text)));
        }
    };
    add("where", place(node));
    add("words", node.words.clone());
    add("fingerprint", node.fingerprint.clone());
    add("roles", node.roles.join(", "));
    if node.probation {
        let lift = format!("no vote, no control plane; to lift it: qb node authorize {}", node.name);
        add("probation", lift);
    }
    add("labels", node.labels.join(", "));
    if let Some(f) = &node.facts {
        add("addresses", f.addresses.join(", "));
        add(
            "machine",
            format!(
                "{} cores, {} memory, {} of {} disk free",
                f.cores,
                bytes(f.memory_bytes),
                bytes(f.disk_free_bytes),
                bytes(f.disk_bytes)
            ),
        );
        if let (Some(used), true) = (node.memory_used_bytes, f.memory_bytes > 0) {
            let text = format!("{} of {} in use", bytes(used), bytes(f.memory_bytes));
            add("memory", format!("{text}, {}", percent(used, f.memory_bytes)));
        }
        add("system", format!("{}, kernel {}, {}", f.os, f.kernel, f.arch));
        add("agent", f.agent.clone());
        add("zone", f.zone.clone());
    }
    if let (Some(size @ 1..), Some(free)) = (node.disk_bytes, node.disk_free_bytes) {
        let used = size.saturating_sub(free);
        let text = format!("{} of {} in use, {}", bytes(used), bytes(size), percent(used, size));
        add("disk", format!("{text}, {} free", bytes(free)));
    }
    add("up", node.uptime_s.map(up).unwrap_or_default());
    add("report", report(node, clock));
    if let Some(work) = &node.work {
        add(
            "work",
            format!("{} {} of {}: {} ({})", work.stage, work.step, work.steps, work.title, work.state),
        );
        add("error", work.error.clone().unwrap_or_default());
    }
    let mut out = format!("{}\n", node.name);
    for (name, text) in rows {
        out.push_str(&format!("  {name:<12} {text}\n"));
    }
    if let Some(wait) = &node.waiting_on {
        out.push_str(&waiting::lines(wait, clock).join("\n"));
        out.push('\n');
    }
    out
}

/// Labels after a change: sorted by key, keys unique.
///
/// # Errors
/// A word that is neither `key=value` nor `key-`.
pub fn relabel(now: &[String], changes: &[String]) -> Result<Vec<Label>, CliError> {
    let split = |text: &str| text.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
    let mut labels: std::collections::BTreeMap<String, String> =
        now.iter().filter_map(|l| split(l)).collect();
    for change in changes {
        if let Some((key, value)) = split(change) {
            labels.insert(key, value);
        } else if let Some(key) = change.strip_suffix('-') {
            labels.remove(key);
        } else {
            return Err(CliError::usage(format!("{:?} is neither KEY=VALUE nor KEY-.", clean(change))));
        }
    }
    Ok(labels.into_iter().map(|(key, value)| Label { key, value }).collect())
}

async fn label(session: &mut Session<'_>, name: &str, changes: &[String]) -> Result<(), CliError> {
    let nodes = session.api.nodes().await?;
    let node = find(&nodes, name)?;
    let labels = relabel(&node.labels, changes)?;
    let action = Action::NodeLabel { node: node.id, labels };
    let again = format!("qb node label {} {}", node.name, changes.join(" "));
    let mut change = Change::new(action, again);
    change.expect.push((ObjectRef::Node(node.id), node.generation));
    change.hosts.insert(node.id, node.name.clone());
    if let Some(view) = session.change(&change).await? {
        session.accepted(&view, &format!("labels of {}", node.name), None)?;
    }
    Ok(())
}

async fn revoke(session: &mut Session<'_>, name: &str, then: Then) -> Result<(), CliError> {
    let nodes = session.api.nodes().await?;
    let node = find(&nodes, name)?;
    let mode = match then {
        Then::Isolate => RevokeMode::Isolate,
        Then::Wipe => RevokeMode::Wipe,
    };
    let mut change = Change::new(
        Action::NodeRevoke { node: node.id, then: mode },
        format!("qb node revoke {}{}", node.name, if then == Then::Wipe { " --then wipe" } else { "" }),
    );
    change.hosts.insert(node.id, node.name.clone());
    change.ask = Ask::Type(node.name.to_string());
    if let Some(view) = session.change(&change).await? {
        session.remember(|m| {
            m.nodes.remove(&node.id);
        })?;
        session.accepted(&view, &format!("{} is revoked", node.name), None)?;
    }
    Ok(())
}

/// The role in words, for other tables.
pub fn role_word(role: NodeRole) -> &'static str {
    plan::role(role)
}
