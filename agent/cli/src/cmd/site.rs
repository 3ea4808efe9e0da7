//! `qb site create|list|use|status|enroll`.

use std::path::PathBuf;

use qb_model::action::{KeyClass, NewKey};
use qb_model::charter::{Charter, CharterBody, CharterRelay, Founder, Recovery};
use qb_model::dsse::SecretKey;
use qb_model::words::{fingerprint, words};
use qb_model::{Name, Nonce16, PublicKey, SiteId};
use qb_portal::view::SiteView;

use crate::args::site::{CreateArgs, EnrollArgs, SiteCommand, UseArgs};
use crate::config::{self, SiteConfig};
use crate::ctx::{Ctx, Session, read_charter};
use crate::door::Door;
use crate::enrol;
use crate::error::{CliError, sentence};
use crate::files;
use crate::keyfile::{KeyFile, Kind};
use crate::out::paint::{Paint, Tone};
use crate::out::table::{Column, Table};
use crate::out::text::{Clock, clean, count, names, now, plural, short_hash};
use crate::out::waiting;

use super::watch::{Shown, show};

/// Runs a verb.
///
/// # Errors
/// What went wrong.
pub async fn run(ctx: &Ctx, verb: SiteCommand) -> Result<(), CliError> {
    match verb {
        SiteCommand::Create(args) => create(ctx, &args),
        SiteCommand::List => list(ctx),
        SiteCommand::Use(args) => choose(ctx, &args),
        // Needs an exit code of its own: the dispatcher takes it.
        SiteCommand::Verify => super::verify::run(ctx).await.map(drop),
        SiteCommand::Status => status(&ctx.session().await?).await,
        SiteCommand::Enroll(args) => enroll(ctx, &args),
    }
}

fn login_name() -> Option<Name> {
    ["USER", "LOGNAME"]
        .iter()
        .find_map(|v| std::env::var(v).ok())
        .and_then(|n| n.to_ascii_lowercase().parse().ok())
}

fn recovery(args: &CreateArgs) -> Result<Option<Recovery>, CliError> {
    let Some(path) = &args.recovery_key else { return Ok(None) };
    let text = files::read_text(path, 4096)?;
    let mut keys: Vec<PublicKey> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() {
        return Err(CliError::usage(format!("{} holds no public key.", path.display())));
    }
    Ok(Some(Recovery { threshold: 1, keys }))
}

fn absent(path: &std::path::Path) -> Result<(), CliError> {
    if path.symlink_metadata().is_ok() {
        return Err(CliError::usage(format!("{} exists.", path.display()))
            .remedy("choose another name, or move it away"));
    }
    Ok(())
}

/// The relays that the charter names: clap lets neither the address nor the key come alone.
fn relays(args: &CreateArgs) -> Vec<CharterRelay> {
    let both = args.relay.iter().zip(args.relay_key);
    both.map(|(url, key)| CharterRelay { url: url.to_string(), key }).collect()
}

/// The doors of a new site: as given, and its relay after them.
fn doors(args: &CreateArgs) -> Vec<Door> {
    let Some(url) = &args.relay else { return args.doors.clone() };
    let own = if args.doors.is_empty() { vec![Door::local()] } else { args.doors.clone() };
    own.into_iter().chain([Door::Relay(url.clone())]).collect()
}

/// The charter, signed by the founder's key.
fn found(
    args: &CreateArgs,
    admin: &Name,
    recovery: Option<Recovery>,
    public: &PublicKey,
    secret: &SecretKey,
) -> Result<Charter, CliError> {
    let founder = Founder {
        admin: admin.clone(),
        name: args.person.clone().unwrap_or_else(|| admin.to_string()),
        keys: vec![NewKey { key: *public, class: KeyClass::Cli, expires_ms: None }],
    };
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce)
        .map_err(|e| CliError::failed(format!("The system gives no random bytes: {e}.")))?;
    let body = CharterBody {
        v: 1,
        name: args.name.clone(),
        nonce: Nonce16(nonce),
        founders: vec![founder],
        recovery,
        relays: relays(args),
        issued_ms: now(),
    };
    Charter::verify(&body.sign(&[secret]).to_bytes()).map_err(|e| CliError::usage(sentence(&e.to_string())))
}

fn create(ctx: &Ctx, args: &CreateArgs) -> Result<(), CliError> {
    let name = &args.name;
    if ctx.config.site.contains_key(name) {
        return Err(
            CliError::usage(format!("There is a site {name} on this computer.")).remedy("qb site list")
        );
    }
    let admin = args
        .admin
        .clone()
        .or_else(login_name)
        .ok_or_else(|| CliError::usage("Say who you are: --admin ID."))?;
    let publisher: Name =
        format!("{}-publisher", name.as_str().chars().take(53).collect::<String>()).parse()?;
    let enrolment = args.enroll.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.enroll.json")));
    let charter_path = ctx.paths.charter(name);
    let (key_path, publisher_path) = (ctx.paths.key(name.as_str()), ctx.paths.key(publisher.as_str()));
    for path in [&enrolment, &charter_path, &key_path, &publisher_path] {
        absent(path)?;
    }
    let recovery = recovery(args)?;
    let passphrase = ctx.passphrases.for_new(args.no_passphrase)?;
    if passphrase.is_none() {
        ctx.out.hint("The keys have no passphrase: whoever reads their files is you.");
    }
    let (file, secret) = KeyFile::create(&key_path, Kind::Admin, passphrase.as_ref().map(|p| p.as_str()))?;
    KeyFile::create(&publisher_path, Kind::Publisher, passphrase.as_ref().map(|p| p.as_str()))?;
    let charter = found(args, &admin, recovery, &file.public, &secret)?;
    files::write(&charter_path, charter.envelope(), 0o644, true)?;
    files::write(&enrolment, &enrol::build(&charter, &args.seeds)?, 0o644, true)?;
    let site = SiteConfig {
        id: charter.site_id(),
        charter: charter_path,
        doors: doors(args),
        key: Some(name.clone()),
        publisher_key: Some(publisher),
        known_nodes: Vec::new(),
        seeds: args.seeds.clone(),
    };
    config::edit(&ctx.paths.config, |text| {
        Ok(config::with_current(&config::with_site(text, name, &site)?, name))
    })?;
    created(ctx, name, &charter, &enrolment, &file.public)
}

fn created(
    ctx: &Ctx,
    name: &Name,
    charter: &Charter,
    enrolment: &std::path::Path,
    key: &PublicKey,
) -> Result<(), CliError> {
    let id = charter.site_id();
    if ctx.out.documents() {
        let document = serde_json::json!({
            "v": 1, "name": name, "id": id, "words": site_words(id),
            "key": key, "enrolment": enrolment.display().to_string(),
        });
        return ctx.out.document(&document);
    }
    let file = enrolment.display();
    ctx.out.print(&format!(
        "site       {name}\nid         {id}\nwords      {}\nyour key   {}\nenrolment  {file}\n",
        site_words(id),
        fingerprint(&key.0),
    ))?;
    ctx.out.hint(&format!(
        "Next\n  1  copy {file} to each machine as /etc/qb/site.enroll.json and start qb-agent; it prints the same words\n  2  qb node authorize --waiting\n  3  qb cluster create NAME"
    ));
    if charter.body().recovery.is_none() {
        ctx.out
            .hint("One key governs this site until you add a second owner or a recovery key: qb admin add");
    }
    Ok(())
}

/// The six words of a site.
pub fn site_words(id: SiteId) -> String {
    words(&id.0.0).join(" ")
}

fn list(ctx: &Ctx) -> Result<(), CliError> {
    let mut table = Table::new([
        Column::new(""),
        Column::new("NAME"),
        Column::new("ID"),
        Column::cut("KEY", 4),
        Column::cut("DOORS", 2),
    ]);
    let mut documents = Vec::new();
    for (name, site) in &ctx.config.site {
        let current = ctx.config.current.as_ref() == Some(name);
        let doors: Vec<String> = site.doors.iter().map(Door::to_string).collect();
        let id: String = site.id.to_string().chars().take(11).collect();
        let key = site.key.as_ref().map(Name::to_string).unwrap_or_default();
        table.row([
            if current { "*" } else { " " }.into(),
            name.as_str().into(),
            id.into(),
            key.into(),
            doors.join(" ").into(),
        ]);
        documents.push(serde_json::json!({"name": name, "id": site.id, "current": current, "doors": doors, "key": site.key}));
    }
    match ctx.out.format {
        crate::args::Format::Json | crate::args::Format::Yaml => ctx.out.document(&documents),
        crate::args::Format::Name => {
            ctx.out.print(&ctx.config.site.keys().map(|n| format!("{n}\n")).collect::<String>())
        }
        _ if table.is_empty() => {
            ctx.out.hint("No site on this computer.  Next: qb site create NAME");
            Ok(())
        }
        _ => ctx.out.print(&ctx.out.render(&table)),
    }
}

fn choose(ctx: &Ctx, args: &UseArgs) -> Result<(), CliError> {
    let known = args.site.parse::<Name>().ok().filter(|n| ctx.config.site.contains_key(n));
    let name = match known {
        Some(name) => name,
        None if std::path::Path::new(&args.site).is_file() => add(ctx, args)?,
        None => {
            let names: Vec<&str> = ctx.config.site.keys().map(Name::as_str).collect();
            let error = CliError::usage(format!(
                "{} is neither a site of this computer nor a file.",
                clean(&args.site)
            ));
            return Err(match config::nearest(&args.site, &names) {
                Some(near) => error.remedy(format!("qb site use {near}")),
                None => error.remedy("qb site list"),
            });
        }
    };
    config::edit(&ctx.paths.config, |text| {
        let text = config::with_current(text, &name);
        if args.doors.is_empty() {
            return Ok(text);
        }
        config::with_doors(&text, &name, &args.doors).ok_or_else(|| {
            CliError::usage(format!(
                "The doors of {name} are written in a way that qb does not change: edit config.toml."
            ))
        })
    })?;
    ctx.out.hint(&format!("The current site is {name}."));
    Ok(())
}

fn add(ctx: &Ctx, args: &UseArgs) -> Result<Name, CliError> {
    let (charter, seeds) = read_charter(std::path::Path::new(&args.site))?;
    let (name, id) = (charter.body().name.clone(), charter.site_id());
    if let Some(site) = ctx.config.site.get(&name) {
        if site.id == id {
            return Ok(name);
        }
        return Err(CliError::refused(format!(
            "There is another site {name} on this computer: {}.",
            site.id
        ))
        .remedy(format!("the file's site is {id}")));
    }
    let path = ctx.paths.charter(&name);
    files::write(&path, charter.envelope(), 0o644, false)?;
    let site = SiteConfig {
        id,
        charter: path,
        doors: args.doors.clone(),
        key: ctx.globals.key.clone(),
        publisher_key: None,
        known_nodes: Vec::new(),
        seeds,
    };
    config::edit(&ctx.paths.config, |text| config::with_site(text, &name, &site))?;
    ctx.out.hint(&format!("Site {name}: compare its words with somebody who knows them: {}", site_words(id)));
    Ok(name)
}

fn enroll(ctx: &Ctx, args: &EnrollArgs) -> Result<(), CliError> {
    let here = ctx.here()?;
    let seeds = if args.seeds.is_empty() { &here.config.seeds } else { &args.seeds };
    let bytes = enrol::build(&ctx.charter(&here)?, seeds)?;
    let Some(path) = ctx.file() else { return ctx.out.print(&String::from_utf8_lossy(&bytes)) };
    files::write(path, &bytes, 0o644, false)?;
    ctx.out.hint(&format!(
        "Written to {}: copy it to each machine as /etc/qb/site.enroll.json.",
        path.display()
    ));
    Ok(())
}

async fn status(session: &Session<'_>) -> Result<(), CliError> {
    let ctx = session.ctx;
    show(ctx, false, async || {
        let site = session.api.site().await?;
        let (tone, proof) = super::verify::line(session, &site).await?;
        let text = page(&site, &ctx.out.clock(), &ctx.out.paint)
            + &format!("  {:<9} {} {}\n", "proof", ctx.out.paint.marked(tone), clean(&proof));
        let lines = vec![text.replace('\n', "; ")];
        Ok(Shown { items: vec![(site.name.to_string(), site)], text, footer: None, lines })
    })
    .await
}

/// How many voters answer, and what may fail.
pub fn voters(site: &SiteView) -> String {
    if !site.founded {
        return "not founded yet".to_owned();
    }
    let answer = site.voters.iter().filter(|v| v.connected || v.node == site.door.node).count();
    let leader =
        site.voters.iter().find(|v| v.leader).map(|v| format!(", leader {}", v.host)).unwrap_or_default();
    format!("{answer} of {} voters answer{leader}, {} may fail", site.voters.len(), site.may_fail)
}

/// The page of `qb site status`.
pub fn page(site: &SiteView, clock: &Clock, paint: &Paint) -> String {
    let tone = match (site.founded, site.leader, site.waiting_on.is_empty()) {
        (false, ..) => Tone::You,
        (true, None, _) => Tone::Broken,
        (true, Some(_), true) => Tone::Good,
        (true, Some(_), false) => Tone::Busy,
    };
    let c = &site.counts;
    let nodes = plural((c.waiting + c.pool + c.attached + c.detaching) as usize, "machine");
    let trust = if site.trust == "provisional" {
        "provisional: add a second owner or a recovery key"
    } else {
        site.trust.as_str()
    };
    let state = format!("{}, hash {}", count(site.head.index), short_hash(&site.head.hash.0));
    let mut out = format!("{} {}  {}\n", paint.marked(tone), site.name, voters(site));
    let mut row = |name: &str, text: String| out.push_str(&format!("  {name:<9} {}\n", clean(&text)));
    row("id", site.id.to_string());
    row("words", site.words.clone());
    row("trust", trust.to_owned());
    row("nodes", format!("{nodes}: {} waiting, {} pool, {} attached", c.waiting, c.pool, c.attached));
    row("clusters", site.clusters.to_string());
    row("state", state);
    row("door", format!("{}, agent {}", site.door.host, site.door.agent));
    for relay in &site.relays {
        let hosts: Vec<&str> = relay.links.iter().map(|l| l.host.as_str()).collect();
        let links =
            if hosts.is_empty() { "no link".to_owned() } else { format!("linked by {}", names(&hosts)) };
        row("relay", format!("{}, {links}", relay.url));
    }
    for wait in &site.waiting_on {
        out.push_str(&format!("{}\n", waiting::lines(wait, clock).join("\n")));
    }
    out
}
