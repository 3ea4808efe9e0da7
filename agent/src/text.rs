//! Text that others sent, made safe to show and bounded.

use qb_model::board::NodeReport;
use qb_model::facts::Facts;

/// Longest text of a fact, in characters.
const MAX_TEXT: usize = 128;
/// Most addresses of a node.
const MAX_ADDRESSES: usize = 16;

/// Longest text of a step or its error, in characters: what failed, and a command.
const MAX_STEP: usize = 512;

/// Cuts a text and drops control and direction-changing characters.
pub fn clean(text: &str) -> String {
    clean_to(text, MAX_TEXT)
}

/// As [`clean`], for a sentence of a few lines at most.
pub fn clean_line(text: &str) -> String {
    clean_to(text, MAX_STEP)
}

fn clean_to(text: &str, most: usize) -> String {
    text.chars()
        .filter(|c| {
            !c.is_control()
                && !matches!(*c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        })
        .take(most)
        .collect()
}

/// Cleans a report: what the node is, what it does, how its units are.
pub fn clean_report(mut report: NodeReport) -> NodeReport {
    report.bound();
    report.facts = clean_facts(report.facts);
    for unit in &mut report.units {
        unit.name = clean(&unit.name);
        unit.state = clean(&unit.state);
    }
    for kept in &mut report.keeping {
        (kept.text, kept.remedy) = (clean_line(&kept.text), clean_line(&kept.remedy));
    }
    if let Some(work) = &mut report.work {
        work.title = clean_to(&work.title, MAX_STEP);
        if let Some((error, remedy)) = &mut work.error {
            (*error, *remedy) = (clean_to(error, MAX_STEP), clean_to(remedy, MAX_STEP));
        }
    }
    if let Some(upkeep) = &mut report.upkeep {
        upkeep.certificate = clean(&upkeep.certificate);
        let (trouble, remedy) = &mut upkeep.trouble;
        (*trouble, *remedy) = (clean_line(trouble), clean_line(remedy));
    }
    report
}

/// Cleans what a node says of itself.
pub fn clean_facts(mut facts: Facts) -> Facts {
    facts.addresses.truncate(MAX_ADDRESSES);
    for text in facts.addresses.iter_mut().chain([
        &mut facts.os,
        &mut facts.kernel,
        &mut facts.arch,
        &mut facts.agent,
        &mut facts.zone,
    ]) {
        *text = clean(text);
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn control_and_direction_characters_go() {
        assert_eq!(clean("a\u{1b}[31mb\u{202e}c\n"), "a[31mbc");
        assert_eq!(clean(&"x".repeat(500)).len(), 128);
    }
}
