//! `--watch`: a list that is shown again on every change.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::ctx::Ctx;
use crate::error::CliError;
use crate::out::redraw::Redraw;

/// How often the door is asked.
const EVERY: Duration = Duration::from_millis(500);

/// What is shown: documents with a name each, and all of them as text.
pub struct Shown<T> {
    /// The documents, by name.
    pub items: Vec<(String, T)>,
    /// As a table or page.
    pub text: String,
    /// The line below it, on stderr.
    pub footer: Option<String>,
    /// One short line an item, for pipes.
    pub lines: Vec<String>,
}

/// Prints once.
///
/// # Errors
/// stdout is closed.
pub fn once<T: Serialize>(ctx: &Ctx, shown: &Shown<T>, list: bool) -> Result<(), CliError> {
    use crate::args::Format;
    match ctx.out.format {
        Format::Json | Format::Yaml if list => {
            ctx.out.document(&shown.items.iter().map(|(_, item)| item).collect::<Vec<_>>())?;
        }
        Format::Json | Format::Yaml => {
            for (_, item) in &shown.items {
                ctx.out.document(item)?;
            }
        }
        Format::Name => {
            ctx.out.print(&shown.items.iter().map(|(name, _)| format!("{name}\n")).collect::<String>())?;
        }
        Format::Table | Format::Wide => ctx.out.print(&shown.text)?,
    }
    if let Some(footer) = &shown.footer {
        ctx.out.hint(footer);
    }
    Ok(())
}

/// Prints once, or with `--watch` again and again until Ctrl-C.
///
/// # Errors
/// The door does not answer, or stdout is closed.
pub async fn show<T, F>(ctx: &Ctx, list: bool, fetch: F) -> Result<(), CliError>
where
    T: Serialize,
    F: AsyncFn() -> Result<Shown<T>, CliError>,
{
    if !ctx.globals.watch {
        return once(ctx, &fetch().await?, list);
    }
    let mut redraw = ctx.out.width.map(|_| Redraw::new(console::Term::stdout()));
    let mut before: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let shown = fetch().await?;
        match &mut redraw {
            Some(redraw) if !ctx.out.documents() => {
                let mut lines: Vec<String> = shown.text.lines().map(str::to_owned).collect();
                lines.extend(shown.footer.clone());
                lines.push("live, Ctrl-C ends".to_owned());
                redraw.draw(&lines);
            }
            _ => changed(ctx, &shown, &mut before)?,
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn changed<T: Serialize>(
    ctx: &Ctx,
    shown: &Shown<T>,
    before: &mut BTreeMap<String, String>,
) -> Result<(), CliError> {
    let clock = ctx.out.clock();
    for ((name, item), line) in shown.items.iter().zip(&shown.lines) {
        let key =
            if ctx.out.documents() { serde_json::to_string(item).unwrap_or_default() } else { line.clone() };
        if before.get(name) == Some(&key) {
            continue;
        }
        if ctx.out.documents() {
            ctx.out.line(item)?;
        } else {
            ctx.out.print(&format!("{} {line}", clock.time(clock.now)))?;
        }
        before.insert(name.clone(), key);
    }
    Ok(())
}
