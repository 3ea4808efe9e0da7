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
        Column::new("RULE"),
        Column::new("SUBJECT"),
        Column::cut("SINCE", 3),
        Column::cut("WHAT", 1),
    ]);
    for alert in alerts {
        let tone = match (alert.resolved, alert.severity.as_str()) {
            (Some(_), _) => Tone::Unknown,
            (None, "critical") => Tone::Broken,
            (None, _) => Tone::You,
        };
        let word = if alert.resolved.is_some() { "over" } else { alert.severity.as_str() };
        let row: [Cell; 5] = [
            Cell::state(tone, word, paint),
            alert.rule.as_str().into(),
            alert.subject.as_str().into(),
            clock.ago(alert.since).into(),
            alert.text.as_str().into(),
        ];
        table.row(row);
    }
    table
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
        let footer = alerts.is_empty().then(|| "Nothing is wrong.".to_owned());
        let lines =
            alerts.iter().map(|a| format!("{} {} {}", a.rule, clean(&a.subject), clean(&a.text))).collect();
        let items = alerts.into_iter().map(|a| (format!("{} {}", a.rule, a.subject), a)).collect();
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
