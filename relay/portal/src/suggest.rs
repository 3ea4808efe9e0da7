//! Which known name was meant.

use crate::limits::{SEGMENT_BYTES, SUGGEST_FROM};

/// Names in a list before "and 9 more".
const LISTED: usize = 3;

/// Up to three of the `known` names that are close to `name`, the closest first.
pub(crate) fn nearest<'a, S: AsRef<str>>(name: &str, known: &'a [S]) -> Vec<&'a str> {
    if name.is_empty() || name.len() > SEGMENT_BYTES {
        return Vec::new();
    }
    let most = (name.len() / 3).max(1);
    let mut found: Vec<(usize, &str)> = known
        .iter()
        .take(SUGGEST_FROM)
        .map(AsRef::as_ref)
        .filter(|k| k.len() <= SEGMENT_BYTES)
        .map(|k| (if k.starts_with(name) { 0 } else { distance(name, k) }, k))
        .filter(|(d, _)| *d <= most)
        .collect();
    found.sort_unstable();
    found.into_iter().take(LISTED).map(|(_, k)| k).collect()
}

/// `a, b, c and 9 more`.
pub(crate) fn list<S: AsRef<str>>(names: &[S]) -> String {
    let head: Vec<&str> = names.iter().take(LISTED).map(AsRef::as_ref).collect();
    let rest = names.len().saturating_sub(LISTED);
    let text = head.join(", ");
    if rest == 0 { text } else { format!("{text} and {rest} more") }
}

/// Levenshtein distance in bytes: names are ASCII.
fn distance(a: &str, b: &str) -> usize {
    let b = b.as_bytes();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (slot, cb) in row.iter_mut().skip(1).zip(b) {
            let change = diagonal + usize::from(ca != *cb);
            diagonal = *slot;
            left = change.min(diagonal + 1).min(left + 1);
            *slot = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}
