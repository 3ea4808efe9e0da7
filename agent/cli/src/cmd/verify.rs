//! `qb site verify`: what the doors show, proved from the pinned charter, compared with one another and
//! with what this computer has seen. Also asked for before something is signed.

use futures::future::join_all;
use qb_model::attest::{Attestation, Attested, Differ, Unverified, Verdict, compare, judge_door, verify};
use qb_model::{Digest, Millis, SiteId};
use qb_portal::view::SiteView;

use crate::client::memory::Memory;
use crate::ctx::{Ctx, Session};
use crate::error::{CliError, Exit, sentence};
use crate::out::paint::{Paint, Tone};
use crate::out::table::{Cell, Column, Table};
use crate::out::text::{Clock, age, clean, count, short_hash};

/// What a door showed.
#[derive(Debug, Clone)]
pub enum Shown {
    /// An attestation that verifies.
    Proved(Box<Attested>),
    /// One that does not; with the door's own hint.
    Unproved(Unverified, Option<String>),
    /// Nothing: why.
    Silent(String),
}

/// What is to be thought of a door.
#[derive(Debug, Clone)]
pub struct Row {
    /// The door.
    pub door: String,
    /// What it showed.
    pub shown: Shown,
    /// The verdict; none if it showed nothing.
    pub verdict: Option<Verdict>,
}

/// Verifies what a door handed out.
pub fn read(site: SiteId, document: &Attestation) -> Shown {
    let why = document.why.clone();
    match document.decode().and_then(|proof| verify(site, &proof)) {
        Ok(seen) => Shown::Proved(Box::new(seen)),
        Err(error) => Shown::Unproved(error, why),
    }
}

/// Judges every door against the memory, then the doors against one another.
pub fn judged(doors: Vec<(String, Shown)>, memory: &Memory, now: Millis) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (door, shown) in doors {
        let verdict = match &shown {
            Shown::Proved(seen) => {
                let own = judge_door(memory.attested.as_ref(), memory.shown.get(&door), seen, now);
                let other = rows.iter().find_map(|row| match &row.shown {
                    Shown::Proved(before) => compare(before, seen),
                    _ => None,
                });
                Some(other.unwrap_or(own))
            }
            Shown::Unproved(why, _) => Some(Verdict::Unverified(why.clone())),
            Shown::Silent(_) => None,
        };
        rows.push(Row { door, shown, verdict });
    }
    rows
}

/// The verdict on the site: what must not be counts for more than what is well, and what is well for
/// more than a door that is dark.
pub fn overall(rows: &[Row]) -> Verdict {
    let rank = |verdict: &Verdict| match verdict {
        Verdict::Split { .. } => 0,
        Verdict::RolledBack { .. } => 1,
        Verdict::Unverified(Unverified::None) => 5,
        Verdict::Unverified(_) => 2,
        Verdict::Verified { .. } => 3,
        Verdict::StaleSince(_) => 4,
    };
    let newest = |verdict: &Verdict| match verdict {
        Verdict::Verified { age_ms } => *age_ms,
        Verdict::StaleSince(at) => u64::MAX - at.0,
        _ => 0,
    };
    let verdicts = rows.iter().filter_map(|row| row.verdict.as_ref());
    let worst = verdicts.min_by_key(|verdict| (rank(verdict), newest(verdict)));
    worst.cloned().unwrap_or(Verdict::Unverified(Unverified::None))
}

/// The state word's tone.
pub fn tone(verdict: &Verdict) -> Tone {
    match verdict {
        Verdict::Verified { .. } => Tone::Good,
        Verdict::StaleSince(_) => Tone::Unknown,
        Verdict::Unverified(Unverified::None) => Tone::Unknown,
        _ => Tone::Broken,
    }
}

fn whole_age(ms: u64) -> String {
    if ms < 60_000 { format!("{} s", ms / 1_000) } else { age(ms) }
}

/// The verdict in one line.
pub fn words(verdict: &Verdict, clock: &Clock) -> String {
    match verdict {
        Verdict::Verified { age_ms } => format!("verified, {} old", whole_age(*age_ms)),
        Verdict::StaleSince(at) => format!("stale since {}", clock.moment(*at)),
        Verdict::RolledBack { ours, theirs } => {
            format!(
                "unverified: rolled back to index {}, index {} was seen before",
                count(*theirs),
                count(*ours)
            )
        }
        Verdict::Split { index, what, .. } => {
            format!("SPLIT VIEW: index {} has two {}", count(*index), what.word())
        }
        Verdict::Unverified(why) => format!("unverified: {why}"),
    }
}

/// The table of doors.
pub fn table(rows: &[Row], clock: &Clock, paint: &Paint) -> Table {
    let mut table = Table::new([
        Column::cut("DOOR", 3),
        Column::number("INDEX", 9),
        Column::new("HEAD"),
        Column::new("SIGNED"),
        Column::cut("VERDICT", 2),
    ]);
    for row in rows {
        let (index, head, signed) = match &row.shown {
            Shown::Proved(seen) => {
                (count(seen.index), short_hash(&seen.chain_head.0), clock.moment(seen.log_time))
            }
            _ => (String::new(), String::new(), String::new()),
        };
        let verdict = match (&row.verdict, &row.shown) {
            (Some(verdict), Shown::Unproved(_, Some(hint))) => {
                Cell::state(tone(verdict), &format!("{} ({hint})", words(verdict, clock)), paint)
            }
            (Some(verdict), _) => Cell::state(tone(verdict), &words(verdict, clock), paint),
            (None, Shown::Silent(why)) => Cell::state(Tone::Unknown, why, paint),
            (None, _) => Cell::from(""),
        };
        table.row([row.door.as_str().into(), index.into(), head.into(), signed.into(), verdict]);
    }
    table
}

/// What stands below the table: the verdict on the site and, if views differ, both.
pub fn below(rows: &[Row], clock: &Clock, paint: &Paint) -> String {
    let verdict = overall(rows);
    let mut out = format!("{} {}\n", paint.marked(tone(&verdict)), clean(&words(&verdict, clock)));
    if let Verdict::Split { ours, theirs, what, .. } = &verdict {
        let row = rows.iter().find(|row| row.verdict.as_ref() == Some(&verdict));
        let door = row.map_or("a door", |row| row.door.as_str());
        out.push_str(&format!("  seen before  {ours}\n  {door}  {theirs}\n"));
        let of = if *what == Differ::Trust { "administrators" } else { "the site" };
        out.push_str(&format!("  two histories of {of} are signed: sign nothing, and call another owner\n"));
    }
    out
}

fn document(site: SiteId, rows: &[Row], clock: &Clock) -> serde_json::Value {
    let verdict = overall(rows);
    let heads = |v: &Verdict| match v {
        Verdict::Split { index, what, ours, theirs } => {
            serde_json::json!({"index": index, "what": what.word(), "ours": ours, "theirs": theirs})
        }
        _ => serde_json::Value::Null,
    };
    let doors: Vec<_> = rows
        .iter()
        .map(|row| {
            let seen: Option<(u64, u64, Digest, Millis)> = match &row.shown {
                Shown::Proved(seen) => Some((seen.epoch, seen.index, seen.chain_head, seen.log_time)),
                _ => None,
            };
            let text = match (&row.verdict, &row.shown) {
                (Some(verdict), _) => words(verdict, clock),
                (None, Shown::Silent(why)) => why.clone(),
                (None, _) => String::new(),
            };
            serde_json::json!({
                "door": row.door, "verified": row.verdict.as_ref().is_some_and(Verdict::is_verified),
                "verdict": text, "epoch": seen.map(|s| s.0), "index": seen.map(|s| s.1),
                "head": seen.map(|s| s.2), "log_time": seen.map(|s| s.3),
                "split": row.verdict.as_ref().map(heads),
            })
        })
        .collect();
    serde_json::json!({
        "v": 1, "site": site, "verified": verdict.is_verified(), "verdict": words(&verdict, clock),
        "split": heads(&verdict), "doors": doors,
    })
}

/// Asks every configured door, proves what they show, compares.
///
/// # Errors
/// There is no site, or the memory cannot be read or written.
pub async fn run(ctx: &Ctx) -> Result<Exit, CliError> {
    let here = ctx.here()?;
    ctx.charter(&here)?;
    let site = here.config.id;
    let asks = ctx.doors(&here).into_iter().map(|door| {
        let here = here.clone();
        async move {
            let name = door.to_string();
            let shown =
                async { ctx.session_at(here.clone(), vec![door]).await?.api.attestation().await }.await;
            let shown = match shown {
                Ok(document) => read(site, &document),
                Err(error) => Shown::Silent(error.text.trim_end_matches('.').to_owned()),
            };
            (name, shown)
        }
    });
    let doors = join_all(asks).await;
    let path = ctx.paths.memory(&here.name);
    let mut memory = Memory::load(&path)?;
    let clock = ctx.out.clock();
    let rows = judged(doors, &memory, clock.now);
    remember(&mut memory, &rows);
    memory.save(&path)?;
    if ctx.out.documents() {
        ctx.out.document(&document(site, &rows, &clock))?;
    } else {
        let text = ctx.out.render(&table(&rows, &clock, &ctx.out.paint));
        ctx.out.print(&(text + &below(&rows, &clock, &ctx.out.paint)))?;
    }
    let silent = rows.iter().all(|row| row.verdict.is_none());
    Ok(match overall(&rows) {
        _ if silent => Exit::Unreachable,
        Verdict::Verified { .. } => Exit::Done,
        _ => Exit::Failed,
    })
}

/// What contradicts is not learned from: the next run must see it again.
fn remember(memory: &mut Memory, rows: &[Row]) {
    for row in rows {
        if let (Shown::Proved(seen), Some(verdict)) = (&row.shown, &row.verdict)
            && !verdict.forbids_signing()
        {
            memory.saw(&row.door, seen);
        }
    }
}

/// The row of the door that a session goes through; what it shows is remembered.
async fn here(session: &Session<'_>) -> Result<Row, CliError> {
    let door = session.api.client.door().to_string();
    let shown = match session.api.attestation().await {
        Ok(document) => read(session.here.config.id, &document),
        Err(error) => Shown::Silent(error.text),
    };
    let memory = Memory::load(&session.ctx.paths.memory(&session.here.name))?;
    let rows = judged(vec![(door, shown)], &memory, session.ctx.out.clock().now);
    session.remember(|memory| remember(memory, &rows))?;
    rows.into_iter().next().ok_or_else(|| CliError::failed("No door was judged."))
}

/// The line of `qb site status`.
///
/// # Errors
/// The memory cannot be read or written.
pub async fn line(session: &Session<'_>, site: &SiteView) -> Result<(Tone, String), CliError> {
    if !site.founded {
        return Ok((Tone::Unknown, "not founded yet: nobody signs".to_owned()));
    }
    let row = here(session).await?;
    Ok(match &row.verdict {
        Some(verdict) => (tone(verdict), words(verdict, &session.ctx.out.clock())),
        None => (Tone::Unknown, "unverified: this door hands out no proof".to_owned()),
    })
}

/// Before something is signed: refuses at a door whose view is forked or rolled back, warns of one that
/// is old or not proved. A door without a proof is no reason to stop: the anchor still binds.
///
/// # Errors
/// Nothing must be signed over this view.
pub async fn guard(session: &Session<'_>) -> Result<(), CliError> {
    let row = here(session).await?;
    let clock = session.ctx.out.clock();
    match &row.verdict {
        Some(verdict) if verdict.forbids_signing() => {
            let text = format!("{}: {}. Nothing was signed.", row.door, words(verdict, &clock));
            Err(CliError::refused(text).remedy("qb site verify"))
        }
        Some(Verdict::StaleSince(at)) => {
            session.ctx.out.hint(&format!("{}: this view is stale since {}.", row.door, clock.moment(*at)));
            Ok(())
        }
        Some(Verdict::Verified { .. }) => Ok(()),
        None | Some(Verdict::Unverified(Unverified::None)) => {
            // New for a site that was proved before: whoever carries the view may have taken it away.
            let memory = Memory::load(&session.ctx.paths.memory(&session.here.name))?;
            if memory.attested.is_some() {
                session.ctx.out.hint(&format!("{}: this door hands out no proof any more.", row.door));
            }
            Ok(())
        }
        Some(verdict) => {
            session.ctx.out.hint(&sentence(&format!("{}: {}", row.door, words(verdict, &clock))));
            Ok(())
        }
    }
}
