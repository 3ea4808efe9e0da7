//! Whether the machine's clock can be right, and what is stamped where it cannot. A clock that is slow
//! does no harm: time in the log never goes back. One that is far ahead would take the whole site along
//! for ever, so that nothing that an admin signs would be valid any more.

use std::time::Instant;

use jiff::Timestamp;
use qb_model::Millis;

/// No agent of this version was built earlier: 2026-01-01.
const EARLIEST: Millis = Millis(1_767_225_600_000);
/// How long a site may have been off, in milliseconds: 10 years. While it runs, its log has an entry
/// each hour.
const OFF: u64 = 10 * 365 * qb_model::limits::DAY_MS;
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

impl Known {
    /// It is certainly later than this.
    fn passed(self) -> Millis {
        self.log.max(self.charter)
    }

    fn is_late(self, now: Millis) -> bool {
        now > self.passed().plus(OFF)
    }

    fn is_early(self, now: Millis) -> bool {
        now < EARLIEST || now.plus(BEHIND) < self.passed()
    }
}

/// The time to stamp and to judge by: the clock's if that can be right; otherwise what has certainly
/// passed, and how long this process has run since it knew that. Never one that has passed.
#[derive(Debug)]
pub struct SiteClock {
    since: (Millis, Instant),
}

impl SiteClock {
    /// One that knows nothing yet.
    pub fn new(at: Instant) -> Self {
        Self { since: (Millis(0), at) }
    }

    /// The site's time, while the machine's clock says `now`; `at` is by the monotonic clock.
    pub fn read(&mut self, now: Millis, at: Instant, known: Known) -> Millis {
        let passed = known.passed();
        let ran = at.saturating_duration_since(self.since.1).as_millis();
        let mine = self.since.0.plus(u64::try_from(ran).unwrap_or(u64::MAX));
        if passed > mine {
            self.since = (passed, at);
        }
        if known.is_late(now) || known.is_early(now) { mine.max(passed) } else { now.max(passed) }
    }
}

/// What is wrong with the clock at `now`, and what to type; none if it can be right.
pub fn wrong(now: Millis, known: Known) -> Option<String> {
    (known.is_early(now) || known.is_late(now)).then(|| {
        format!("the clock is at {}, which cannot be right: set it, `timedatectl set-ntp true`", utc(now))
    })
}

/// A time as people read it; far ones as a number.
pub fn utc(at: Millis) -> String {
    let time = i64::try_from(at.0).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| format!("{} ms", at.0), |t| t.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_that_cannot_be_right_is_told() {
        const CHARTER: u64 = 1_795_000_000_000;
        const DAY: u64 = 86_400_000;
        const YEAR: u64 = 365 * DAY;
        // (the clock, the log's last stamp, whether it can be right, what is stamped)
        for (now, log, right, stamp) in [
            (CHARTER, 0, true, CHARTER),
            (CHARTER + DAY, CHARTER + DAY + 1_000, true, CHARTER + DAY + 1_000),
            (CHARTER + DAY, CHARTER + 3 * DAY, false, CHARTER + 3 * DAY),
            (7_000, 0, false, CHARTER),
            (0, CHARTER + DAY, false, CHARTER + DAY),
            (CHARTER - 1_000, 0, true, CHARTER),
            (CHARTER - DAY, 0, false, CHARTER),
            (CHARTER + 9 * YEAR, CHARTER, true, CHARTER + 9 * YEAR),
            (CHARTER + 11 * YEAR, CHARTER + 2 * YEAR, true, CHARTER + 11 * YEAR),
            (CHARTER + 11 * YEAR, CHARTER + DAY - 1, false, CHARTER + DAY - 1),
            (4_102_444_800_000, CHARTER, false, CHARTER),
            (u64::MAX, 0, false, CHARTER),
        ] {
            let known = Known { charter: Millis(CHARTER), log: Millis(log) };
            let told = wrong(Millis(now), known);
            assert_eq!(told.is_none(), right, "{now} {log}: {told:?}");
            assert!(told.is_none_or(|t| t.contains("timedatectl set-ntp true")), "{now}");
            let at = Instant::now();
            let mut clock = SiteClock::new(at);
            assert_eq!(clock.read(Millis(now), at, known), Millis(stamp), "{now} {log}");
            // Three seconds later its time has gone on, whatever the machine's clock does.
            let later = at + Duration::from_secs(3);
            let reads = clock.read(Millis(if right { now + 3_000 } else { now }), later, known);
            let gone = if right { (now + 3_000).max(log) } else { stamp + 3_000 };
            assert_eq!(reads, Millis(gone), "{now} {log}");
            // It is set, and at once that is the time.
            let set = Millis(stamp + 5_000);
            assert_eq!(clock.read(set, later, known), set, "{now} {log}");
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
