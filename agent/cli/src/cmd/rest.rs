//! `qb alert` and `qb events`.

use qb_portal::view::AlertView;

use crate::args::rest::EventsArgs;
use crate::ctx::Ctx;
use crate::error::CliError;
use crate::out::paint::{Paint, Tone};
use crate::out::table::{Cell, Column, Table};
use crate::out::text::{Clock, clean};

use super::watch::{Shown, show};

/// The table of `qb alert list`.
pub fn alert_table(alerts: &[AlertView], clock: &Clock, paint: &Paint) -> Table {
    let mut table = Table::new([
        Column::new("SEVERITY"),
        Column::cut("WHAT", 3),
        Column::cut("SINCE", 5),
        Column::cut("LAYER", 2),
        Column::cut("CLEARS", 1),
    ]);
    for alert in alerts {
        let tone = match (alert.resolved, alert.severity.as_str()) {
            (Some(_), _) => Tone::Unknown,
            (None, "critical") => Tone::Broken,
            (None, _) => Tone::You,
        };
        let word = if alert.resolved.is_some() { "over" } else { alert.severity.as_str() };
        let clears = match alert.resolved {
            Some(at) => format!("over since {}", clock.moment(at)),
            None => alert.remedy.clone().unwrap_or_default(),
        };
        let row: [Cell; 5] = [
            Cell::state(tone, word, paint),
            format!("{} {}", alert.subject, alert.text).into(),
            clock.ago(alert.since).into(),
            alert.layer.as_str().into(),
            clears.into(),
        ];
        table.row(row);
    }
    table
}

/// An alert as a line of `--watch` into a pipe. Its sentence is left out: the number in it moves.
pub fn alert_line(alert: &AlertView) -> String {
    let word = if alert.resolved.is_some() { "over" } else { alert.severity.as_str() };
    clean(&format!("{word} {} {}", alert.rule, alert.subject))
}

/// What tells an alert apart: a rule fires once about one thing, and may have resolved often before.
fn alert_name(alert: &AlertView) -> String {
    clean(&format!("{} {} {}", alert.rule, alert.subject, alert.since.0))
}

/// `qb alert list`.
///
/// # Errors
/// What went wrong.
pub async fn alerts(ctx: &Ctx) -> Result<(), CliError> {
    let session = ctx.session().await?;
    show(ctx, true, async || {
        let alerts = session.api.alerts().await?;
        let table = alert_table(&alerts, &ctx.out.clock(), &ctx.out.paint);
        let text = if table.is_empty() { String::new() } else { ctx.out.render(&table) };
        let firing = alerts.iter().any(|a| a.resolved.is_none());
        let footer = (!firing).then(|| "Nothing is wrong.".to_owned());
        let lines = alerts.iter().map(alert_line).collect();
        let items = alerts.into_iter().map(|a| (alert_name(&a), a)).collect();
        Ok(Shown { items, text, footer, lines })
    })
    .await
}

/// `qb events`: until Ctrl-C, or the number that was asked for.
///
/// # Errors
/// The door does not answer, or stdout is closed.
pub async fn events(ctx: &Ctx, args: EventsArgs) -> Result<(), CliError> {
    let session = ctx.session().await?;
    let mut last = None;
    let mut seen = 0;
    loop {
        let mut events = session.api.events(last).await?;
        while let Ok(Some(event)) = events.next().await {
            last = Some(event.seq);
            if ctx.out.documents() {
                ctx.out.line(&event)?;
            } else {
                let at = ctx.out.clock().time(event.at);
                ctx.out.print(&format!(
                    "{at} {:<7} {}  {}",
                    clean(&event.kind),
                    clean(&event.subject),
                    clean(&event.text)
                ))?;
            }
            seen += 1;
            if args.max.is_some_and(|max| seen >= max) {
                return Ok(());
            }
        }
        // The door ended the stream, at a restart for instance: go on where it stopped.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}
