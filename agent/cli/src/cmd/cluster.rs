//! `qb cluster create|list|show|detach|delete`; the other verbs have files of their own.

use qb_model::action::{Action, NodeRole};
use qb_model::intent::ObjectRef;
use qb_model::settings::{self, ChosenSettings, Settings};
use qb_model::{Generation, Name, NodeId};
use qb_portal::view::{ClusterView, NodeView};

use crate::agree::Ask;
use crate::args::Format;
use crate::args::cluster::{ClusterCommand, CreateArgs};
use crate::args::rest::RowArgs;
use crate::change::Change;
use crate::ctx::{Ctx, Session};
use crate::error::CliError;
use crate::out::paint::{Paint, Tone};
use crate::out::table::{Cell, Column, Table};
use crate::out::text::{Clock, clean, plural, short_hash, span};
use crate::out::{marks, rows, waiting};

use super::follow::{Goal, follow};
use super::node::{find, role_word, words};
use super::watch::{Shown, show};
use super::{access, attach, bundle, cluster_backup, cluster_kept, cluster_upgrade};

/// Runs a verb.
///
/// # Errors
/// What went wrong.
pub async fn run(ctx: &Ctx, verb: ClusterCommand) -> Result<(), CliError> {
    // These find their own way, or need none.
    match &verb {
        ClusterCommand::Kubeconfig(args) => return access::kubeconfig_of(ctx, args).await,
        ClusterCommand::Credential { cluster } => return access::credential(ctx, cluster).await,
        ClusterCommand::Proxy(args) => return access::proxy(ctx, args).await,
        _ => {}
    }
    let mut session = ctx.session().await?;
    match verb {
        ClusterCommand::Create(args) => create(&mut session, args).await,
        ClusterCommand::List(rows) => list(&session, &rows).await,
        ClusterCommand::Show { cluster } => show_one(&session, &cluster).await,
        ClusterCommand::Attach(args) => attach::run(&mut session, args).await,
        ClusterCommand::Detach { cluster, nodes } => detach(&mut session, &cluster, nodes).await,
        ClusterCommand::Upgrade(args) => cluster_upgrade::run(&mut session, &args).await,
        ClusterCommand::Halt { cluster } => cluster_upgrade::halt(&mut session, &cluster).await,
        ClusterCommand::Backup { cluster } => cluster_backup::run(&mut session, &cluster).await,
        ClusterCommand::Restore(args) => cluster_backup::restore(&mut session, &args).await,
        ClusterCommand::Label(args) => cluster_kept::mark(&mut session, &args, false).await,
        ClusterCommand::Taint(args) => cluster_kept::mark(&mut session, &args, true).await,
        ClusterCommand::Addon(verb) => cluster_kept::addon(&mut session, &verb).await,
        ClusterCommand::Delete { cluster } => delete(&mut session, &cluster).await,
        // Done before.
        ClusterCommand::Kubeconfig(_) | ClusterCommand::Credential { .. } | ClusterCommand::Proxy(_) => {
            Ok(())
        }
    }
}

fn driver(cluster: &ClusterView) -> String {
    let rehearsal = if cluster.rehearsal { " (rehearsal)" } else { "" };
    let name = if cluster.rehearsal && cluster.driver.as_str() == "rehearsal" {
        String::new()
    } else {
        rehearsal.to_owned()
    };
    format!("{} {}{name}", cluster.driver, cluster.version)
}

fn members(cluster: &ClusterView, role: NodeRole) -> usize {
    cluster.members.iter().filter(|m| m.role == role).count()
}

/// The table of `qb cluster list`.
pub fn table(clusters: &[ClusterView], wide: bool, clock: &Clock, paint: &Paint) -> Table {
    let mut columns = vec![
        Column::new("NAME"),
        Column::new("STATE"),
        Column::cut("DRIVER", 5),
        Column::number("CONTROL", 4),
        Column::number("WORKERS", 4),
        Column::cut("SINCE", 3),
        Column::cut("WHY", 1),
    ];
    if wide {
        columns.extend(["ENDPOINT", "BUNDLE", "GENERATION"].map(|h| Column::cut(h, 2)));
    }
    let mut table = Table::new(columns);
    for cluster in clusters {
        let (tone, word) = marks::cluster(cluster);
        let mut row: Vec<Cell> = vec![
            cluster.name.as_str().into(),
            Cell::state(tone, word, paint),
            driver(cluster).into(),
            members(cluster, NodeRole::ControlPlane).to_string().into(),
            members(cluster, NodeRole::Worker).to_string().into(),
            clock.ago(cluster.since).into(),
            cluster.waiting_on.as_ref().map(waiting::short).unwrap_or_default().into(),
        ];
        if wide {
            row.push(cluster.endpoint.clone().unwrap_or_default().into());
            row.push(short_hash(&cluster.bundle.0).into());
            row.push(cluster.generation.to_string().into());
        }
        table.row(row);
    }
    table
}

async fn list(session: &Session<'_>, rows: &RowArgs) -> Result<(), CliError> {
    let ctx = session.ctx;
    let wanted = rows::Wanted::read(rows, rows::CLUSTERS)?;
    show(ctx, true, async || {
        let mut clusters = session.api.clusters().await?;
        let all = clusters.len();
        wanted.apply(&mut clusters);
        let table = table(&clusters, ctx.out.format == Format::Wide, &ctx.out.clock(), &ctx.out.paint);
        let empty = (all == 0).then(|| "No cluster yet.  Next: qb cluster create clus100".to_owned());
        let empty = empty.or(rows::left_out(clusters.len(), all, "cluster"));
        let text = if table.is_empty() { String::new() } else { ctx.out.render(&table) };
        let lines = clusters.iter().map(line).collect();
        let items = clusters.into_iter().map(|c| (c.name.to_string(), c)).collect();
        Ok(Shown { items, text, footer: empty, lines })
    })
    .await
}

fn line(cluster: &ClusterView) -> String {
    let why = cluster.waiting_on.as_ref().map(waiting::short).unwrap_or_default();
    format!("{} {} {why}", cluster.name, marks::cluster(cluster).1)
}

async fn show_one(session: &Session<'_>, name: &Name) -> Result<(), CliError> {
    let ctx = session.ctx;
    show(ctx, false, async || {
        let cluster = session.api.cluster(name).await?;
        let text = page(&cluster, &ctx.out.clock(), &ctx.out.paint);
        let lines = vec![line(&cluster)];
        Ok(Shown { items: vec![(cluster.name.to_string(), cluster)], text, footer: None, lines })
    })
    .await
}

/// The page of `qb cluster show`.
pub fn page(cluster: &ClusterView, clock: &Clock, paint: &Paint) -> String {
    let (tone, word) = marks::cluster(cluster);
    let state = paint.tone(tone, &format!("{} {word}", paint.mark(tone)));
    let mut out = format!("{}  {state}  {}", cluster.name, driver(cluster));
    if let Some(endpoint) = &cluster.endpoint {
        out.push_str(&format!("  {}", clean(endpoint)));
    }
    out.push('\n');
    if cluster.rehearsal {
        let text = "rehearsal: real processes in folders, no Kubernetes";
        out.push_str(&format!("{}\n", paint.tone(Tone::Rehearsal, text)));
    }
    if let Some(settings) = &cluster.settings {
        out.push_str(&format!("pods {}, services {}\n", settings.pods, settings.services));
        if let Some(first) = settings.first_endpoint() {
            let more = settings.endpoints.iter().skip(1).map(|endpoint| format!(", {endpoint}"));
            out.push_str(&format!("API at {first}{}\n", more.collect::<String>()));
        }
    }
    if let Some(wait) = &cluster.waiting_on {
        out.push_str(&format!("{}\n", waiting::lines(wait, clock).join("\n")));
    }
    if !cluster.members.is_empty() {
        let columns = [Column::new("NODE"), Column::new("ROLE"), Column::new("DONE"), Column::cut("NOW", 2)];
        let mut table = Table::new(columns);
        for member in &cluster.members {
            let now = match (&member.work, &member.waiting_on) {
                (Some(w), _) if w.error.is_some() => w.error.clone().unwrap_or_default(),
                (Some(w), _) if w.state != "done" => {
                    format!("{} {} of {}: {}", w.stage, w.step, w.steps, w.title)
                }
                (_, Some(wait)) => waiting::short(wait),
                _ => member.unwell.join(", "),
            };
            table.row([
                member.host.as_str().into(),
                role_word(member.role).into(),
                member.done.as_str().into(),
                now.into(),
            ]);
        }
        out.push('\n');
        out.push_str(&table.render(paint, true, None));
    }
    out.push_str(&upkeep(cluster, clock, paint));
    out.push_str(&cluster_kept::page(cluster, clock, paint));
    let ran: Vec<_> = cluster.stages.iter().filter_map(|s| s.began.map(|b| (s, b))).collect();
    if !ran.is_empty() {
        out.push('\n');
    }
    for (stage, began) in ran {
        let (tone, took) = match stage.ended {
            Some(ended) => (Tone::Good, span(ended.since(began))),
            None => (Tone::Busy, span(clock.now.since(began))),
        };
        out.push_str(&format!(
            "{} {:<11} {:>3} of {:<3} {took:>9}\n",
            paint.marked(tone),
            clean(&stage.word),
            stage.done,
            stage.of
        ));
    }
    out.push_str(&super::preflight::findings(&cluster.findings, paint));
    out
}

/// What control plane nodes do for themselves: when certificates end, which backups they keep.
fn upkeep(cluster: &ClusterView, clock: &Clock, paint: &Paint) -> String {
    let kept: Vec<_> = cluster.members.iter().filter_map(|m| Some((m, m.upkeep.as_ref()?))).collect();
    if kept.is_empty() {
        return String::new();
    }
    let columns = [
        Column::new("NODE"),
        Column::new("CERTIFICATES"),
        Column::new("LAST BACKUP"),
        Column::number("KEPT", 2),
    ];
    let (mut table, mut troubles) = (Table::new(columns), String::new());
    for (member, upkeep) in kept {
        let left = upkeep.ends.since(clock.now);
        let certificates = match (upkeep.certificate.is_empty(), left) {
            (true, _) => "cannot be read".to_owned(),
            (false, 0) => "have ended".to_owned(),
            (false, left) => format!("end in {}", span(left)),
        };
        let last = upkeep.backups.first();
        let last = last.map(|b| format!("{} {}", clock.ago(b.taken), short_hash(&b.digest.0)));
        table.row([
            member.host.as_str().into(),
            certificates.into(),
            last.unwrap_or_else(|| "none".to_owned()).into(),
            upkeep.backups.len().to_string().into(),
        ]);
        if !upkeep.trouble.is_empty() {
            let mark = paint.marked(Tone::Broken);
            let (trouble, remedy) = (clean(&upkeep.trouble), clean(&upkeep.remedy));
            troubles.push_str(&format!("{mark} {} {trouble}\n  {remedy}\n", member.host));
        }
    }
    format!("\n{}{troubles}", table.render(paint, true, None))
}

/// What is chosen of the cluster's networks and endpoints; none where it is as without.
///
/// # Errors
/// A choice that cannot be.
pub fn chosen_settings(args: &CreateArgs) -> Result<Option<ChosenSettings>, CliError> {
    let refused = |e: &dyn std::fmt::Display| {
        let remedy = "qb cluster create NAME --driver kubeadm --pods 10.244.0.0/16 --services 10.96.0.0/16";
        Err(CliError::usage(format!("These settings cannot be: {e}.")).remedy(remedy))
    };
    let mut settings = Settings::default();
    settings.pods = args.pods.unwrap_or(settings.pods);
    settings.services = args.services.unwrap_or(settings.services);
    for (at, text) in args.endpoints.iter().enumerate() {
        let digits = |port: &str| !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit());
        let (endpoint, port) = match text.rsplit_once(':') {
            Some((endpoint, port)) if digits(port) => (endpoint, Some(port)),
            _ => (&**text, None),
        };
        match (at, port.map(str::parse::<u16>)) {
            (_, None) => {}
            (0, Some(Ok(port))) => settings.port = port,
            (0, Some(Err(_))) => return refused(&format_args!("{text:?} has no port from 1 to 65535")),
            _ => return refused(&format_args!("{text:?} has a port: only the first endpoint may have one")),
        }
        match endpoint.parse() {
            Ok(endpoint) => settings.endpoints.push(endpoint),
            Err(e) => return refused(&e),
        }
    }
    if let Err(e) = settings.check() {
        return refused(&e);
    }
    let chosen = settings.chosen();
    match settings::check(&args.driver, chosen.as_ref()) {
        Ok(()) => Ok(chosen),
        Err(e) => refused(&e),
    }
}

/// The words that choose it again.
fn choice(chosen: &ChosenSettings) -> String {
    let mut words = String::new();
    for (flag, network) in [("--pods", chosen.pods), ("--services", chosen.services)] {
        words.extend(network.map(|network| format!(" {flag} {network}")));
    }
    for (at, endpoint) in chosen.endpoints.iter().flatten().enumerate() {
        let port = chosen.port.filter(|_| at == 0).map(|port| format!(":{port}")).unwrap_or_default();
        words.push_str(&format!(" --endpoint {endpoint}{port}"));
    }
    words
}

async fn create(session: &mut Session<'_>, args: CreateArgs) -> Result<(), CliError> {
    let settings = chosen_settings(&args)?;
    let bundle = bundle::choose(session, &args).await?;
    let version = args.version.unwrap_or(bundle.version);
    let action = Action::ClusterCreate {
        cluster: args.cluster.clone(),
        driver: args.driver.clone(),
        version,
        bundle: bundle.digest,
        settings: settings.clone(),
    };
    let words = settings.as_ref().map(choice).unwrap_or_default();
    let again = format!(
        "qb cluster create {} --driver {} --bundle {}{words}",
        args.cluster, args.driver, bundle.digest
    );
    let change = Change::new(action, again);
    if let Some(view) = session.change(&change).await? {
        let next = format!("qb cluster attach {} -n 3", args.cluster);
        session.accepted(&view, &format!("cluster {} is empty", args.cluster), Some(&next))?;
    }
    Ok(())
}

/// Chosen members of a cluster, sorted.
fn chosen<'a>(
    nodes: &'a [NodeView],
    names: &[String],
    cluster: &Name,
) -> Result<Vec<&'a NodeView>, CliError> {
    let mut out: Vec<&NodeView> = Vec::new();
    for name in names {
        let node = find(nodes, name)?;
        if node.cluster.as_ref() != Some(cluster) {
            return Err(CliError::failed(format!("{} is not in {cluster}.", node.name))
                .remedy(format!("qb cluster show {cluster}")));
        }
        if !out.iter().any(|n| n.id == node.id) {
            out.push(node);
        }
    }
    out.sort_by_key(|n| n.id);
    Ok(out)
}

async fn detach(session: &mut Session<'_>, name: &Name, given: Vec<String>) -> Result<(), CliError> {
    let (nodes, cluster) = (session.api.nodes().await?, session.api.cluster(name).await?);
    let names = words(given)?;
    let chosen = chosen(&nodes, &names, name)?;
    let ids: Vec<NodeId> = chosen.iter().map(|n| n.id).collect();
    let again = format!("qb cluster detach {name} {}", names.join(" "));
    let mut change = Change::new(Action::ClusterDetach { cluster: name.clone(), nodes: ids.clone() }, again);
    change.expect.push((ObjectRef::Cluster(name.clone()), cluster.generation));
    change.hosts = chosen.iter().map(|n| (n.id, n.name.clone())).collect();
    let Some(view) = session.change(&change).await? else { return Ok(()) };
    let leave = if ids.len() == 1 { "leaves" } else { "leave" };
    session.hint_accepted(&view, &format!("{} {leave} {name}", plural(ids.len(), "node")));
    follow(session, &view, name, Goal::Left(ids)).await
}

async fn delete(session: &mut Session<'_>, name: &Name) -> Result<(), CliError> {
    let cluster = session.api.cluster(name).await?;
    let mut change =
        Change::new(Action::ClusterDelete { cluster: name.clone() }, format!("qb cluster delete {name}"));
    change.expect.push((ObjectRef::Cluster(name.clone()), cluster.generation));
    change.ask = Ask::Type(name.to_string());
    let Some(view) = session.change(&change).await? else { return Ok(()) };
    session.hint_accepted(&view, &format!("{name} is taken down"));
    follow(session, &view, name, Goal::Gone).await
}

/// The generation of a cluster that an intent must name.
pub fn expectation(cluster: &ClusterView) -> (ObjectRef, Generation) {
    (ObjectRef::Cluster(cluster.name.clone()), cluster.generation)
}
