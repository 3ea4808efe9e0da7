//! `waiting_on` as sentences: why nothing happens, since when, and what clears it.

use qb_model::waiting::{Clears, WaitingOn};

use super::text::{Clock, clean};

/// `lyon-r2-03 waits for an administrator to authorize it. 2 min.`
pub fn sentence(waiting: &WaitingOn, clock: &Clock) -> String {
    let text = waiting.text.trim_end_matches('.');
    format!("{} {}. {}.", clean(&waiting.subject), clean(text), clock.ago(waiting.since))
}

/// What clears it, as one line.
pub fn way_out(waiting: &WaitingOn) -> Option<String> {
    let command = waiting.command.as_ref().map(|c| clean(c));
    let command = match (&waiting.host, command) {
        (Some(host), Some(command)) => Some(format!("on {}: {command}", clean(host))),
        (None, command) => command,
        (Some(_), None) => None,
    };
    match waiting.clears {
        Clears::Itself => Some("Clears by itself.".to_owned()),
        Clears::Person => command,
        Clears::Never => {
            Some(command.map_or("Nothing clears it.".to_owned(), |c| format!("Nothing clears it: {c}")))
        }
    }
}

/// Both, and how many more causes there are.
pub fn lines(waiting: &WaitingOn, clock: &Clock) -> Vec<String> {
    let mut lines = vec![sentence(waiting, clock)];
    if let Some(way_out) = way_out(waiting) {
        lines.push(format!("  {way_out}"));
    }
    if waiting.more > 0 {
        lines.push(format!("  and {} more", super::text::plural(waiting.more as usize, "cause")));
    }
    lines
}

/// The short form for a row of a table.
pub fn short(waiting: &WaitingOn) -> String {
    clean(&waiting.text)
}
