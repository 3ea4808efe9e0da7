//! Text that others sent, made safe to show and bounded.

use qb_model::facts::Facts;

/// Longest text of a fact, in characters.
const MAX_TEXT: usize = 128;
/// Most addresses of a node.
const MAX_ADDRESSES: usize = 16;

/// Cuts a text and drops control and direction-changing characters.
pub fn clean(text: &str) -> String {
    text.chars()
        .filter(|c| {
            !c.is_control()
                && !matches!(*c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        })
        .take(MAX_TEXT)
        .collect()
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
