//! `qb relay add|register|list|remove`: which relays the site trusts, and to which org it belongs there.

use std::time::Duration;

use qb_model::action::Action;
use qb_model::charter::Charter;
use qb_model::envelope::Envelope;
use qb_model::intent::Intent;
use qb_model::trust::{TrustEntry, TrustState};
use qb_model::words::{fingerprint, words};
use qb_model::{Name, PublicKey};
use qb_portal::view::Head;
use serde::{Deserialize, Serialize};

use crate::args::relay::RelayCommand;
use crate::change::Change;
use crate::client::Client;
use crate::client::connect::{Target, connect};
use crate::client::memory::Memory;
use crate::config;
use crate::ctx::{Ctx, Session};
use crate::door::{Door, RelayUrl};
use crate::error::{CliError, Exit};
use crate::out::table::{Column, Table};
use crate::out::text::now;

use super::watch::{Shown, once};

/// Where sites register.
const REGISTER: &str = "/v1/register";
/// How long the door may take to show what it just accepted.
const LOGGED: Duration = Duration::from_secs(10);

/// What a relay is shown to register a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// 1.
    pub v: u8,
    /// The charter's envelope (JSON text).
    pub charter: String,
    /// The trust log, oldest entry first.
    pub trust: Vec<TrustEntry>,
    /// The envelope of the intent `relay.register` (JSON text).
    pub intent: String,
}

/// A relay as `-o json` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RelayView {
    /// Its address.
    pub url: String,
    /// Its key.
    pub key: PublicKey,
    /// The key's fingerprint.
    pub fingerprint: String,
    /// The org that the site belongs to there.
    pub org: Option<Name>,
    /// Whether it is among the doors of this computer.
    pub door: bool,
}

/// Runs a verb.
///
/// # Errors
/// What went wrong.
pub async fn run(ctx: &Ctx, verb: RelayCommand) -> Result<(), CliError> {
    match verb {
        RelayCommand::Add { url, relay_key, org } => add(ctx, &url, relay_key, org.as_ref()).await,
        RelayCommand::Register { url, org } => register(ctx, &url, &org).await,
        RelayCommand::List => list(ctx).await,
        RelayCommand::Remove { relay } => remove(ctx, &relay).await,
    }
}

/// A client of a relay that nobody logged in at.
pub(super) async fn stranger(ctx: &Ctx, url: &RelayUrl) -> Result<Client, CliError> {
    let here = ctx.here()?;
    let target = Target { door: Door::Relay(url.clone()), site: here.config.id, memory: Memory::default() };
    let connection = connect(&target).await.map_err(|cause| {
        CliError::unreachable(format!("{url} cannot be reached: {cause}.")).remedy("is the address right?")
    })?;
    Ok(Client::new(target, connection, ctx.out.clone()))
}

/// The key that a relay's door names. It is compared or shown before anything rests on it.
async fn key_at(client: &Client, url: &RelayUrl) -> Result<PublicKey, CliError> {
    let challenge = client.challenge().await.map_err(|mut error| {
        error.remedy = Some(format!("{url} answers, but not as a relay of qb: is the address right?"));
        error
    })?;
    Ok(challenge.server_key)
}

/// Compares the key that answered with the one that somebody was told.
///
/// # Errors
/// They differ.
pub fn compare(url: &RelayUrl, answered: &PublicKey, told: Option<&PublicKey>) -> Result<String, CliError> {
    let said = format!("{url}\n  key          {answered}\n  fingerprint  {}", fingerprint(&answered.0));
    match told {
        Some(told) if told == answered => Ok(format!("{said}\n  It is the key of --relay-key.")),
        Some(told) => Err(CliError::refused(format!(
            "Another key answers at {url}: {}, not {}.",
            fingerprint(&answered.0),
            fingerprint(&told.0)
        ))
        .remedy("ask whoever runs the relay for its key; nothing was sent")),
        None => Ok(format!(
            "{said}\n  words        {}\n  Trust on first use: compare the words with whoever runs the relay, or give --relay-key KEY.",
            words(&answered.0).join(" ")
        )),
    }
}

async fn add(ctx: &Ctx, url: &RelayUrl, told: Option<PublicKey>, org: Option<&Name>) -> Result<(), CliError> {
    let client = stranger(ctx, url).await?;
    let key = key_at(&client, url).await?;
    ctx.out.say(&compare(url, &key, told.as_ref())?);
    let mut session = ctx.session_past(url).await?;
    let trust = super::audit::trust(&session).await?;
    match trust.relays().get(&key) {
        Some(known) if known.url.parse().is_ok_and(|known: RelayUrl| known == *url) => {
            ctx.out.hint(&format!("{} trusts this relay already.", session.here.name));
        }
        Some(known) => {
            let text = format!("{} trusts this key already, at {}.", session.here.name, known.url);
            return Err(CliError::refused(text).remedy(format!("first: qb relay remove {key}")));
        }
        None => {
            let again = format!("qb relay add {url} --relay-key {key}");
            let change = Change::new(Action::RelayAdd { url: url.to_string(), key }, again);
            let Some(view) = session.change(&change).await? else { return Ok(()) };
            let next = org.is_none().then(|| format!("qb relay register {url} --org ORG"));
            session.accepted(&view, &format!("the relay {url} is trusted"), next.as_deref())?;
        }
    }
    known(&session, url, key)?;
    match org {
        Some(org) => tie(&mut session, &client, url, key, org).await,
        None => Ok(()),
    }
}

/// Remembers a relay's key, and makes it a door after the others.
fn known(session: &Session<'_>, url: &RelayUrl, key: PublicKey) -> Result<(), CliError> {
    session.remember(|m| {
        m.relays.insert(url.clone(), key);
    })?;
    as_door(session.ctx, &session.here.name, &session.here.config.doors, url)
}

fn as_door(ctx: &Ctx, name: &Name, doors: &[Door], url: &RelayUrl) -> Result<(), CliError> {
    let door = Door::Relay(url.clone());
    if doors.contains(&door) {
        return Ok(());
    }
    let mut doors = if doors.is_empty() { vec![Door::local()] } else { doors.to_vec() };
    doors.push(door.clone());
    put_doors(ctx, name, &doors, &format!("add \"{door}\""))
}

fn put_doors(ctx: &Ctx, name: &Name, doors: &[Door], by_hand: &str) -> Result<(), CliError> {
    let mut written = true;
    config::edit(&ctx.paths.config, |text| {
        let changed = config::with_doors(text, name, doors);
        written = changed.is_some();
        Ok(changed.unwrap_or_else(|| text.to_owned()))
    })?;
    if !written {
        // The site is changed by now: a list that people wrote in their own way is no failure.
        ctx.out.say(&format!(
            "The doors of {name} are written in a way that qb does not change: {by_hand} in config.toml."
        ));
    }
    Ok(())
}

async fn register(ctx: &Ctx, url: &RelayUrl, org: &Name) -> Result<(), CliError> {
    let client = stranger(ctx, url).await?;
    let key = key_at(&client, url).await?;
    let here = ctx.here()?;
    let charter = ctx.charter(&here)?;
    match ctx.session_past(url).await {
        Ok(mut session) => {
            let trust = super::audit::trust(&session).await?;
            check_trusted(&trust, url, &key, session.here.name.as_str())?;
            known(&session, url, key)?;
            tie(&mut session, &client, url, key, org).await
        }
        // A site that nobody founded yet can have machines behind a relay only.
        Err(error) if error.exit == Exit::Unreachable && never_seen(ctx, &here.name)? => {
            let trust = TrustState::from_charter(&charter);
            check_trusted(&trust, url, &key, here.name.as_str()).map_err(|_| error)?;
            ctx.out.hint("No door of the site answers yet; its charter names this relay.");
            let mut session = Session::nowhere(ctx, here, client.door().clone());
            session.remember(|m| {
                m.relays.insert(url.clone(), key);
            })?;
            by_charter(&mut session, &client, &charter, (key, org)).await?;
            as_door(ctx, &session.here.name, &session.here.config.doors, url)?;
            registered(&session, url, org)
        }
        Err(error) => Err(error),
    }
}

fn never_seen(ctx: &Ctx, name: &Name) -> Result<bool, CliError> {
    Ok(Memory::load(&ctx.paths.memory(name))?.head.is_none())
}

fn check_trusted(trust: &TrustState, url: &RelayUrl, key: &PublicKey, site: &str) -> Result<(), CliError> {
    if trust.relays().contains_key(key) {
        return Ok(());
    }
    let print = fingerprint(&key.0);
    let at = |r: &&qb_model::trust::Relay| r.url.parse().is_ok_and(|u: RelayUrl| u == *url);
    let text = match trust.relays().values().find(at) {
        Some(_) => format!("Another key answers at {url} than the one that {site} trusts: {print}."),
        None => format!("{site} does not trust the relay {url} (key {print})."),
    };
    Err(CliError::refused(text).remedy(format!("qb relay add {url} --org ORG")))
}

/// Registers: orders it at the site, so that it is in the trust log, and shows that log to the relay.
async fn tie(
    session: &mut Session<'_>,
    client: &Client,
    url: &RelayUrl,
    key: PublicKey,
    org: &Name,
) -> Result<(), CliError> {
    let charter = session.ctx.charter(&session.here)?;
    if session.api.head().await?.index == 0 && session.ctx.globals.plan.is_none() {
        by_charter(session, client, &charter, (key, org)).await?;
        return registered(session, url, org);
    }
    let mut trust = super::audit::trust(session).await?;
    if trust.relays().get(&key).and_then(|r| r.org.as_ref()) != Some(org) {
        let again = format!("qb relay register {url} --org {org}");
        let change = Change::new(Action::RelayRegister { org: org.clone(), key }, again);
        let Some(view) = session.change(&change).await? else { return Ok(()) };
        let begun = tokio::time::Instant::now();
        trust = super::audit::trust(session).await?;
        while trust.log().iter().all(|entry| entry.digest != view.digest) && begun.elapsed() < LOGGED {
            tokio::time::sleep(Duration::from_millis(200)).await;
            trust = super::audit::trust(session).await?;
        }
    }
    let intent = registration_of(trust.log(), &key, org).ok_or_else(|| {
        CliError::failed("The site accepted it, and its log does not show it yet.")
            .remedy(format!("qb relay register {url} --org {org}"))
    })?;
    present(client, &charter, trust.log().to_vec(), intent).await?;
    registered(session, url, org)
}

/// The intent in a trust log that ties the site to an org.
pub fn registration_of(log: &[TrustEntry], key: &PublicKey, org: &Name) -> Option<Vec<u8>> {
    let is = |entry: &&TrustEntry| {
        let intent = Envelope::parse(&entry.envelope).ok().and_then(|e| Intent::parse(e.payload()).ok());
        intent.is_some_and(|intent| {
            matches!(&intent.action, Action::RelayRegister { org: o, key: k } if o == org && k == key)
        })
    };
    log.iter().rev().find(is).map(|entry| entry.envelope.clone())
}

/// Registers a site that is not founded yet: the charter is all that is known of it.
async fn by_charter(
    session: &mut Session<'_>,
    client: &Client,
    charter: &Charter,
    (key, org): (PublicKey, &Name),
) -> Result<(), CliError> {
    let change = Change::new(Action::RelayRegister { org: org.clone(), key }, "qb relay register");
    let author = session.founder()?;
    let site = charter.site_id().0;
    let head = Head { index: 0, hash: site, trust: site, log_time: now() };
    let intent = session.draft(&change, &author, &head)?;
    session.agree(&author, &crate::sentence::of(&change.action, &change.hosts), &change.ask)?;
    let envelope = intent
        .sign(&[&session.key()?.secret])
        .map_err(|e| CliError::usage(crate::error::sentence(&e.to_string())))?;
    present(client, charter, Vec::new(), envelope.to_bytes()).await
}

async fn present(
    client: &Client,
    charter: &Charter,
    trust: Vec<TrustEntry>,
    intent: Vec<u8>,
) -> Result<(), CliError> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let form = Registration { v: 1, charter: text(charter.envelope()), trust, intent: text(&intent) };
    let _: serde_json::Value = client.post(REGISTER, &form).await?;
    Ok(())
}

fn registered(session: &Session<'_>, url: &RelayUrl, org: &Name) -> Result<(), CliError> {
    let name = &session.here.name;
    if session.ctx.out.documents() {
        let document = serde_json::json!({"v": 1, "site": session.here.config.id, "org": org, "relay": url});
        return session.ctx.out.document(&document);
    }
    session
        .ctx
        .out
        .say(&format!("{name} is registered to {org} at {url}.  next: qb --door relay:{url} site status"));
    Ok(())
}

/// The relays of a trust state, by address.
pub fn views(trust: &TrustState, doors: &[Door]) -> Vec<RelayView> {
    let view = |(key, relay): (&PublicKey, &qb_model::trust::Relay)| RelayView {
        url: relay.url.clone(),
        key: *key,
        fingerprint: fingerprint(&key.0),
        org: relay.org.clone(),
        door: relay.url.parse().is_ok_and(|url| doors.contains(&Door::Relay(url))),
    };
    let mut all: Vec<RelayView> = trust.relays().iter().map(view).collect();
    all.sort_by(|a, b| (&a.url, &a.key).cmp(&(&b.url, &b.key)));
    all
}

async fn list(ctx: &Ctx) -> Result<(), CliError> {
    let session = ctx.session().await?;
    let relays = views(&super::audit::trust(&session).await?, &session.here.config.doors);
    let mut table = Table::new([
        Column::new("URL"),
        Column::new("FINGERPRINT"),
        Column::new("ORG"),
        Column::cut("DOOR", 1),
    ]);
    for relay in &relays {
        table.row([
            relay.url.as_str().into(),
            relay.fingerprint.as_str().into(),
            relay.org.as_ref().map(Name::to_string).unwrap_or_default().into(),
            if relay.door { "yes" } else { "no" }.into(),
        ]);
    }
    let text = if relays.is_empty() { String::new() } else { ctx.out.render(&table) };
    let footer =
        relays.is_empty().then(|| format!("{} trusts no relay.  Next: qb relay add URL", session.here.name));
    let items = relays.into_iter().map(|r| (r.url.clone(), r)).collect();
    once(ctx, &Shown { items, text, footer, lines: Vec::new() }, true)
}

/// The relay that a text names: address, key, or the beginning of the fingerprint.
///
/// # Errors
/// None or several.
pub fn find<'a>(relays: &'a [RelayView], text: &str) -> Result<&'a RelayView, CliError> {
    let url = text.strip_prefix("relay:").unwrap_or(text).parse::<RelayUrl>().ok();
    let is = |relay: &&RelayView| {
        let same = url.is_some() && relay.url.parse().ok() == url;
        same || relay.key.to_string() == text || (text.len() >= 4 && relay.fingerprint.starts_with(text))
    };
    let found: Vec<&RelayView> = relays.iter().filter(is).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(CliError::usage(format!("The site trusts no relay {text}.")).remedy("qb relay list")),
        _ => Err(CliError::usage(format!("{text} names several relays.")).remedy("the whole key")),
    }
}

async fn remove(ctx: &Ctx, text: &str) -> Result<(), CliError> {
    let mut session = ctx.session().await?;
    let all = views(&super::audit::trust(&session).await?, &session.here.config.doors);
    let relay = find(&all, text)?;
    let change =
        Change::new(Action::RelayRemove { key: relay.key }, format!("qb relay remove {}", relay.key));
    let Some(view) = session.change(&change).await? else { return Ok(()) };
    // A second key at the same address is its own matter.
    if let Ok(url) = relay.url.parse::<RelayUrl>()
        && all.iter().filter(|other| other.url == relay.url).count() == 1
    {
        session.remember(|m| {
            m.relays.remove(&url);
        })?;
        let door = Door::Relay(url);
        if session.here.config.doors.contains(&door) {
            let rest: Vec<Door> = session.here.config.doors.iter().filter(|d| **d != door).cloned().collect();
            put_doors(ctx, &session.here.name, &rest, &format!("remove \"{door}\""))?;
        }
    }
    session.accepted(
        &view,
        &format!("the relay {} is not trusted any more", relay.url),
        Some("qb relay list"),
    )
}
