//! `qb intent list|show|sign|send|withdraw|release`.

use std::time::Duration;

use qb_model::Digest;
use qb_model::action::Action;
use qb_model::dsse::Purpose;
use qb_model::envelope::Envelope;
use qb_portal::view::{IntentState, IntentView, Says};

use crate::args::rest::IntentCommand;
use crate::change::Change;
use crate::ctx::{Ctx, Session};
use crate::error::{CliError, sentence};
use crate::files;
use crate::out::paint::Paint;
use crate::out::table::{Cell, Column, Table};
use crate::out::text::{Clock, clean, plural};
use crate::out::{marks, waiting};

use super::watch::{Shown, show};

/// Longest envelope in bytes.
const ENVELOPE: u64 = 96 * 1024;

/// Runs a verb.
///
/// # Errors
/// What went wrong.
pub async fn run(ctx: &Ctx, verb: IntentCommand) -> Result<(), CliError> {
    let mut session = ctx.session().await?;
    match verb {
        IntentCommand::List => list(&session).await,
        IntentCommand::Show { intent } => show_one(&session, &intent).await,
        IntentCommand::Send { intent } => send(&session, &intent).await,
        IntentCommand::Sign { intent } => super::cosign::run(&mut session, &intent).await,
        IntentCommand::Withdraw { intent } => withdraw(&mut session, &intent).await,
        IntentCommand::Release { intent } => release(&mut session, &intent).await,
    }
}

/// The intent that a text names: id or digest, or the unique beginning of one.
///
/// # Errors
/// None or several.
pub fn find<'a>(intents: &'a [IntentView], text: &str) -> Result<&'a IntentView, CliError> {
    let upper = text.to_ascii_uppercase();
    let is = |i: &&IntentView| i.id.as_str().starts_with(&upper) || crate::out::text::begins(&i.digest, text);
    let found: Vec<&IntentView> = intents.iter().filter(is).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(CliError::failed(format!("The site remembers no intent {}.", clean(text)))
            .remedy("qb intent list")),
        all => Err(CliError::usage(format!("{} names {}.", clean(text), plural(all.len(), "intent")))
            .remedy("the whole id or digest")),
    }
}

/// The table of `qb intent list`.
pub fn table(intents: &[IntentView], clock: &Clock, paint: &Paint) -> Table {
    let mut table = Table::new([
        Column::new("ID"),
        Column::new("STATE"),
        Column::cut("BY", 5),
        Column::cut("TIME", 4),
        Column::cut("WHAT", 3),
        Column::cut("WHY", 1),
    ]);
    for intent in intents {
        let (tone, word) = marks::intent(intent.state);
        let why = intent.detail.clone().or_else(|| intent.waiting_on.as_ref().map(waiting::short));
        let row: [Cell; 6] = [
            intent.id.as_str().chars().take(8).collect::<String>().into(),
            Cell::state(tone, word, paint),
            intent.by.as_str().into(),
            intent.at.map(|at| clock.moment(at)).unwrap_or_default().into(),
            intent.sentence.as_str().into(),
            why.unwrap_or_default().into(),
        ];
        table.row(row);
    }
    table
}

async fn list(session: &Session<'_>) -> Result<(), CliError> {
    let ctx = session.ctx;
    show(ctx, true, async || {
        let mut intents = Vec::new();
        for view in session.api.intents().await? {
            intents.push(session.honest(view).await?);
        }
        let table = table(&intents, &ctx.out.clock(), &ctx.out.paint);
        let text = if table.is_empty() { String::new() } else { ctx.out.render(&table) };
        let lines = intents.iter().map(line).collect();
        let items = intents.into_iter().map(|i| (i.digest.to_string(), i)).collect();
        Ok(Shown { items, text, footer: None, lines })
    })
    .await
}

fn line(intent: &IntentView) -> String {
    let id: String = intent.id.as_str().chars().take(8).collect();
    format!("{id} {} {}", marks::intent(intent.state).1, clean(&intent.sentence))
}

/// The intent that a text names, asked of the site.
///
/// # Errors
/// None or several, or no door answers.
pub async fn resolve(session: &Session<'_>, text: &str) -> Result<IntentView, CliError> {
    if let Ok(digest) = text.parse::<Digest>() {
        return session.honest(session.api.intent(&digest, Duration::ZERO).await?).await;
    }
    let intents = session.api.intents().await?;
    session.honest(find(&intents, text)?.clone()).await
}

async fn show_one(session: &Session<'_>, text: &str) -> Result<(), CliError> {
    let ctx = session.ctx;
    show(ctx, false, async || {
        let intent = resolve(session, text).await?;
        let page = page(&intent, &ctx.out.clock(), &ctx.out.paint);
        let lines = vec![line(&intent)];
        Ok(Shown { items: vec![(intent.digest.to_string(), intent)], text: page, footer: None, lines })
    })
    .await
}

/// What stands behind an intent's state, where that is a question.
fn proof(intent: &IntentView) -> &'static str {
    match (intent.says, &intent.receipt) {
        (Some(Says::Relay), _) => "none: no node of the site has signed for it",
        (Some(Says::Site), Some(_)) => "a receipt that a node of the site signed, verified here",
        _ => "",
    }
}

/// The page of `qb intent show`.
pub fn page(intent: &IntentView, clock: &Clock, paint: &Paint) -> String {
    let (tone, word) = marks::intent(intent.state);
    let state = paint.tone(tone, &format!("{} {word}", paint.mark(tone)));
    let mut out = format!("{}  {state}\n", clean(&intent.sentence));
    let mut row = |name: &str, text: String| {
        if !text.is_empty() {
            out.push_str(&format!("  {name:<8} {}\n", clean(&text)));
        }
    };
    row("id", intent.id.to_string());
    row("digest", intent.digest.to_string());
    row("by", intent.by.to_string());
    row("at", intent.at.map(|at| clock.moment(at)).unwrap_or_default());
    let refused = if intent.state == IntentState::Rejected { "refused" } else { "state" };
    row(refused, intent.detail.clone().unwrap_or_default());
    row("proof", proof(intent).to_owned());
    row("remedy", intent.remedy.clone().unwrap_or_default());
    if let Some(wait) = &intent.waiting_on {
        out.push_str(&format!("{}\n", waiting::lines(wait, clock).join("\n")));
    }
    out
}

/// The envelope that a text names on this computer: a file, or the beginning of the id of one that
/// is kept here.
///
/// # Errors
/// It cannot be read.
pub fn kept(session: &Session<'_>, text: &str) -> Result<Option<Vec<u8>>, CliError> {
    let path = std::path::Path::new(text);
    if path.is_file() {
        return files::read(path, ENVELOPE).map(Some);
    }
    let folder = session.ctx.paths.intents();
    let upper = text.to_ascii_uppercase();
    let entries =
        std::fs::read_dir(&folder).map(|e| e.flatten().take(1000).map(|e| e.path()).collect::<Vec<_>>());
    let mut found: Vec<_> = entries.unwrap_or_default();
    found.retain(|p| {
        p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(&upper) && n.ends_with(".json"))
    });
    match found.as_slice() {
        [one] if !upper.is_empty() => files::read(one, ENVELOPE).map(Some),
        _ => Ok(None),
    }
}

async fn send(session: &Session<'_>, text: &str) -> Result<(), CliError> {
    let bytes = kept(session, text)?.ok_or_else(|| {
        let text = format!("{} is neither a file nor one intent that is kept here.", clean(text));
        CliError::usage(text).remedy(format!("ls {}", session.ctx.paths.intents().display()))
    })?;
    let envelope = Envelope::parse(&bytes).map_err(|e| CliError::usage(sentence(&e.to_string())))?;
    if envelope.purpose() != Purpose::Intent {
        return Err(CliError::usage(format!("The envelope holds {}, not an intent.", envelope.purpose())));
    }
    let digest = envelope.digest();
    let view = session.deliver(bytes, &digest).await?;
    let file = session.ctx.paths.intents().join(format!("{}.json", view.id));
    // A file that stays is harmless: it expires.
    let _ = std::fs::remove_file(file);
    session.accepted(&view, &view.sentence.clone(), None)
}

/// A digest is taken as it is: the site may hear of the intent only later.
async fn digest_of(session: &Session<'_>, text: &str) -> Result<Digest, CliError> {
    match text.parse::<Digest>() {
        Ok(digest) => Ok(digest),
        Err(_) => Ok(resolve(session, text).await?.digest),
    }
}

async fn release(session: &mut Session<'_>, text: &str) -> Result<(), CliError> {
    let intent = digest_of(session, text).await?;
    let change = Change::new(Action::IntentRelease { intent }, format!("qb intent release {text}"));
    if let Some(view) = session.change(&change).await? {
        session.accepted(&view, "the intent goes on", Some(&format!("qb intent show {text}")))?;
    }
    Ok(())
}

async fn withdraw(session: &mut Session<'_>, text: &str) -> Result<(), CliError> {
    let digest = digest_of(session, text).await?;
    let change = Change::new(Action::IntentCancel { intent: digest }, format!("qb intent withdraw {text}"));
    if let Some(view) = session.change(&change).await? {
        session.accepted(&view, "the intent is withdrawn", None)?;
    }
    Ok(())
}
