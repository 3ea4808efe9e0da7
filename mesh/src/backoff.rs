//! How long to wait before a peer is dialled again. Pure.

use std::time::Duration;

use crate::limits::{BACKOFF_FIRST, BACKOFF_LAST};

/// The delay after so many failures in a row: doubles from the first to the last, and `random`
/// spreads it over its upper half, so that nodes that lost one peer do not return in step.
pub(crate) fn delay(failures: u32, random: u64) -> Duration {
    let full = BACKOFF_FIRST.saturating_mul(1 << failures.min(16)).min(BACKOFF_LAST);
    let half = full / 2;
    let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_micros(random % (spread + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_last_within_its_upper_half() {
        for (failures, low, high) in [
            (0, 25, 50),
            (1, 50, 100),
            (3, 200, 400),
            (6, 1600, 3200),
            (7, 2500, 5000),
            (u32::MAX, 2500, 5000),
        ] {
            for random in [0, 1, 12_345, u64::MAX] {
                let got = delay(failures, random);
                assert!(got >= Duration::from_millis(low), "{failures} {random}: {got:?}");
                assert!(got <= Duration::from_millis(high), "{failures} {random}: {got:?}");
            }
        }
    }
}
