//! How long to wait before the next try.

use std::time::Duration;

use crate::limits::{RETRY_MAX, RETRY_MIN};

/// Doublings after which the pause stays at its longest.
const DOUBLINGS: u32 = 16;

/// The pause before try number `attempt` (the first is 0), drawn by `random` from the upper half of
/// a window that doubles: sites that lost one relay at once do not come back at once.
pub fn pause(attempt: u32, random: u64) -> Duration {
    let doubled = RETRY_MIN.saturating_mul(1 << attempt.min(DOUBLINGS));
    let window = doubled.min(RETRY_MAX);
    let half = window / 2;
    let span = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
    half + Duration::from_millis(random % span)
}

/// A random number for [`pause`]; without a random source the middle will do.
pub(crate) fn random() -> u64 {
    getrandom::u64().unwrap_or(1 << 20)
}
