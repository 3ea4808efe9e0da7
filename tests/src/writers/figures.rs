//! What came of requests, as figures. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

/// Gaps that a report names.
const GAPS: usize = 10;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// In which phase it was begun, by number.
    pub phase: usize,
    /// When it was begun, in microseconds since the first one.
    pub begun_us: u64,
    /// When its answer was there or it was given up.
    pub ended_us: u64,
    /// In which word it failed; none if it succeeded.
    pub failed: Option<String>,
}

/// Figures of some requests. All times are in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Requests that were begun.
    pub requests: usize,
    /// Of them, those that failed.
    pub failed: usize,
    /// What they failed with.
    pub errors: BTreeMap<String, usize>,
    /// The longest time without a good answer: what was answered may have been asked before.
    pub longest_gap_ms: f64,
    /// The longest time in which no request was begun that succeeded.
    pub longest_lost_ms: f64,
    /// The median time to a good answer.
    pub median_ms: f64,
    /// The time that 99 of 100 good answers took at most.
    pub p99_ms: f64,
    /// The longest time to a good answer.
    pub max_ms: f64,
}

/// A time without a good answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gap {
    /// When it began, in milliseconds since 1970.
    pub from_unix_ms: u64,
    /// How long it was.
    pub ms: f64,
    /// The phase in which it ended.
    pub phase: String,
}

/// One phase.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseFigures {
    /// What it was called.
    pub name: String,
    /// Its figures.
    #[serde(flatten)]
    pub figures: Figures,
}

/// All figures of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// When the first request was begun, in milliseconds since 1970.
    pub began_unix_ms: u64,
    /// Those of the whole run.
    #[serde(flatten)]
    pub all: Figures,
    /// Those of each phase. What is begun in one counts there, however late it ends; a gap counts where
    /// it ends.
    pub phases: Vec<PhaseFigures>,
    /// The longest times without a good answer.
    pub gaps: Vec<Gap>,
}

fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}

/// The report of a run whose phases were called `phases`.
pub fn report(began_unix_ms: u64, phases: &[String], records: &[Record]) -> Report {
    let gaps = gaps(records, |r| r.ended_us);
    let lost = self::gaps(records, |r| r.begun_us);
    let of = |phase: Option<usize>| {
        let here = |of: usize| phase.is_none_or(|phase| phase == of);
        let records: Vec<&Record> = records.iter().filter(|r| here(r.phase)).collect();
        let longest = |gaps: &[Between]| {
            ms(gaps.iter().filter(|g| here(g.phase)).map(|g| g.length).max().unwrap_or_default())
        };
        Figures { longest_gap_ms: longest(&gaps), longest_lost_ms: longest(&lost), ..figures(&records) }
    };
    let mut longest = gaps.clone();
    longest.sort_by_key(|g| std::cmp::Reverse(g.length));
    longest.truncate(GAPS);
    let name = |phase: usize| phases.get(phase).cloned().unwrap_or_default();
    Report {
        began_unix_ms,
        all: of(None),
        phases: (0..phases.len()).map(|n| PhaseFigures { name: name(n), figures: of(Some(n)) }).collect(),
        gaps: longest
            .iter()
            .map(|g| Gap {
                from_unix_ms: began_unix_ms + g.from / 1_000,
                ms: ms(g.length),
                phase: name(g.phase),
            })
            .collect(),
    }
}

/// The time between two successes that follow one another.
#[derive(Debug, Clone)]
struct Between {
    from: u64,
    length: u64,
    phase: usize,
}

/// The times between successes, by one of their moments. The run begins and ends with one: what fails
/// from the beginning or to the end is a gap as well.
fn gaps(records: &[Record], moment: impl Fn(&Record) -> u64) -> Vec<Between> {
    let mut good: Vec<(u64, usize)> =
        records.iter().filter(|r| r.failed.is_none()).map(|r| (moment(r), r.phase)).collect();
    // Later phases do not end before earlier ones began: the end is the last thing that was seen.
    if let Some(last) = records.iter().max_by_key(|r| moment(r)) {
        good.push((moment(last), last.phase));
    }
    good.sort_unstable();
    let mut from = 0;
    let mut between = Vec::with_capacity(good.len());
    for (at, phase) in good {
        between.push(Between { from, length: at - from, phase });
        from = at;
    }
    between
}

fn figures(records: &[&Record]) -> Figures {
    let mut errors = BTreeMap::<String, usize>::new();
    for word in records.iter().filter_map(|r| r.failed.as_ref()) {
        *errors.entry(word.clone()).or_default() += 1;
    }
    let mut took: Vec<u64> =
        records.iter().filter(|r| r.failed.is_none()).map(|r| r.ended_us - r.begun_us).collect();
    took.sort_unstable();
    let part = |percent: usize| {
        let place = (took.len() * percent).div_ceil(100).max(1) - 1;
        ms(took.get(place).copied().unwrap_or_default())
    };
    Figures {
        requests: records.len(),
        failed: errors.values().sum(),
        errors,
        median_ms: part(50),
        p99_ms: part(99),
        max_ms: part(100),
        ..Figures::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(phase: usize, begun: u64, ended: u64, failed: &str) -> Record {
        let failed = (!failed.is_empty()).then(|| failed.to_owned());
        Record { phase, begun_us: begun * 1_000, ended_us: ended * 1_000, failed }
    }

    #[test]
    fn gaps_are_told_by_answers_and_by_beginnings() {
        let names = ["before", "fault", "after"].map(str::to_owned);
        let records = [
            record(0, 0, 5, ""),
            record(0, 20, 28, ""),
            // Begun before the fault was over, answered long after: no new request, yet an answer.
            record(1, 40, 300, ""),
            record(1, 60, 1_060, "late"),
            record(1, 80, 85, "503"),
            record(1, 400, 1_400, "late"),
            record(2, 700, 703, ""),
            record(2, 720, 723, ""),
        ];
        let report = report(1_000_000, &names, &records);
        assert_eq!((report.all.requests, report.all.failed), (8, 3));
        assert_eq!(report.all.errors, BTreeMap::from([("503".into(), 1), ("late".into(), 2)]));
        // The last thing seen is a failure: from the last good answer to it is a gap, too.
        assert_eq!(report.all.longest_gap_ms, 1_400.0 - 723.0);
        assert_eq!(report.all.longest_lost_ms, 660.0);
        let of = |n: usize| {
            let f = &report.phases[n].figures;
            (f.requests, f.failed, f.longest_gap_ms, f.longest_lost_ms)
        };
        assert_eq!([of(0), of(1)], [(2, 0, 23.0, 20.0), (4, 3, 677.0, 20.0)]);
        assert_eq!(of(2), (2, 0, 403.0, 660.0));
        assert_eq!((report.all.median_ms, report.all.p99_ms, report.all.max_ms), (5.0, 260.0, 260.0));
        let gap = &report.gaps[1];
        assert_eq!((gap.from_unix_ms, gap.ms, gap.phase.as_str()), (1_000_300, 403.0, "after"));
    }

    #[test]
    fn a_run_without_a_success_is_one_gap() {
        let records = [record(0, 0, 1_000, "late"), record(0, 20, 1_020, "late")];
        let report = report(0, &["all".into()], &records);
        assert_eq!((report.all.failed, report.all.longest_gap_ms, report.all.max_ms), (2, 1_020.0, 0.0));
        assert_eq!(super::report(0, &[], &[]).all, Figures::default());
    }
}
