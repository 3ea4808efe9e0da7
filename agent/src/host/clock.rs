//! Whether the machine's clock can be right. Nothing is decided by it: time is the leader's stamp in
//! the log, and who is trusted is decided by signatures.

use jiff::Timestamp;
use qb_model::Millis;

/// No agent of this version was built earlier: 2026-01-01.
const EARLIEST: Millis = Millis(1_767_225_600_000);
/// How long after its charter a site may live, in milliseconds: 50 years.
const LATEST_AFTER: u64 = 50 * 365 * qb_model::limits::DAY_MS;
/// How far behind the site's last entry a clock may be, in milliseconds: clocks differ.
const BEHIND: u64 = 600_000;

/// What is known of the time besides the clock.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// When the site's charter was signed.
    pub charter: Millis,
    /// The leader's stamp of the last entry that this node has; 0 without one.
    pub log: Millis,
}

/// What is wrong with the clock at `now`, and what to type; none if it can be right.
pub fn wrong(now: Millis, known: Known) -> Option<String> {
    let early = now < EARLIEST || now.plus(BEHIND) < known.log.max(known.charter);
    let late = now > known.charter.plus(LATEST_AFTER);
    (early || late).then(|| {
        let side = if early { "slow" } else { "fast" };
        format!("the clock is at {}, which is too {side}: set it, `timedatectl set-ntp true`", utc(now))
    })
}

/// A time as people read it; far ones as a number.
pub fn utc(at: Millis) -> String {
    let time = i64::try_from(at.0).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| format!("{} ms", at.0), |t| t.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_cannot_be_right_is_told() {
        const CHARTER: u64 = 1_795_000_000_000;
        const DAY: u64 = 86_400_000;
        // (the clock, the log's last stamp, what is wrong)
        for (now, log, want) in [
            (CHARTER, 0, None),
            (CHARTER + DAY, CHARTER + DAY + 1_000, None),
            (CHARTER + DAY, CHARTER + 3 * DAY, Some("slow")),
            (7_000, 0, Some("slow")),
            (0, 0, Some("slow")),
            (CHARTER - 1_000, 0, None),
            (CHARTER - DAY, 0, Some("slow")),
            (CHARTER + 40 * 365 * DAY, CHARTER, None),
            (4_102_444_800_000, CHARTER, Some("fast")),
            (u64::MAX, u64::MAX, Some("fast")),
        ] {
            let known = Known { charter: Millis(CHARTER), log: Millis(log) };
            let told = wrong(Millis(now), known);
            assert_eq!(told.is_some(), want.is_some(), "{now} {log}: {told:?}");
            assert!(told.is_none_or(|t| t.contains(want.unwrap()) && t.contains("timedatectl")), "{now}");
        }
    }

    #[test]
    fn times_are_dates() {
        for (at, want) in [
            (0, "1970-01-01 00:00 UTC"),
            (4_102_444_800_000, "2100-01-01 00:00 UTC"),
            (u64::MAX, "18446744073709551615 ms"),
        ] {
            assert_eq!(utc(Millis(at)), want);
        }
    }
}
