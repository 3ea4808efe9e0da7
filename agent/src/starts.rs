//! When the agent started, and whether it ended because it was asked to: what a crash loop is told by.

use std::path::{Path, PathBuf};
use std::time::Duration;

use qb_model::Millis;
use qb_model::board::RESTARTS_MS;
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};

/// Name of the file below the state.
pub const FILE: &str = "starts";
/// Starts that are kept: a loop of one a second is one after the first.
const MAX_STARTS: usize = 64;
/// Most bytes of the file.
const MAX_BYTES: u64 = 8 * 1024;
/// Unasked restarts in ten minutes that are not slowed: the first ones should be quick.
const QUICK: u32 = 3;
/// The longest pause before a start, within what systemd grants one by default (90 s).
const LONGEST: Duration = Duration::from_secs(30);

/// A start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Start {
    at: Millis,
    /// Whether it ended because it was asked to.
    asked: bool,
}

/// The latest starts, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Starts {
    all: Vec<Start>,
}

impl Starts {
    /// Notes a start.
    #[must_use]
    pub fn begun(mut self, at: Millis) -> Self {
        self.all.push(Start { at, asked: false });
        let over = self.all.len().saturating_sub(MAX_STARTS);
        self.all.drain(..over);
        self
    }

    /// Notes that the latest one ends because it was asked to.
    #[must_use]
    pub fn asked(mut self) -> Self {
        if let Some(last) = self.all.last_mut() {
            last.asked = true;
        }
        self
    }

    /// How many starts of the last ten minutes followed an end that nobody asked for. Times that lie
    /// ahead were written by a clock that was wrong, and count for nothing.
    pub fn unasked(&self, now: Millis) -> u32 {
        let lately = |at: Millis| at <= now && now.since(at) < RESTARTS_MS;
        let pairs = self.all.windows(2);
        let count = pairs.filter(|pair| !pair[0].asked && lately(pair[0].at) && lately(pair[1].at)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// How long to wait before a start goes on, so that a loop costs its machine nothing: systemd
    /// starts the agent again at once, and older ones know no growing pause.
    pub fn pause(&self, now: Millis) -> Duration {
        match self.unasked(now) {
            0..=QUICK => Duration::ZERO,
            more => Duration::from_secs(1 << (more - QUICK - 1).min(5)).min(LONGEST),
        }
    }
}

/// The starts on disk.
#[derive(Debug, Clone)]
pub struct Record {
    path: PathBuf,
    starts: Starts,
}

impl Record {
    /// Notes a start in the state at `state`. A file that is damaged or cannot be written is no reason
    /// not to start: the count begins anew, or lacks this start.
    pub fn begin(state: &Path, now: Millis) -> (Self, Option<FileError>) {
        let path = state.join(FILE);
        let held = files::read_bounded(&path, MAX_BYTES).ok().flatten();
        let starts: Starts = held.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let record = Self { path, starts: starts.begun(now) };
        let written = record.write();
        (record, written.err())
    }

    /// Notes that the agent ends because it was asked to.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn end(self) -> Result<(), FileError> {
        Self { starts: self.starts.asked(), ..self }.write()
    }

    /// The starts.
    pub fn starts(&self) -> &Starts {
        &self.starts
    }

    fn write(&self) -> Result<(), FileError> {
        let bytes = serde_json::to_vec(&self.starts).unwrap_or_default();
        // Two waits for the disk are what a start takes longest for. Lost with the power, it counts too little.
        files::write_unsynced(&self.path, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    /// Starts so many seconds before now; `true` after one that was asked to end.
    fn starts(list: &[(u64, bool)]) -> Starts {
        list.iter().fold(Starts::default(), |held, (ago, asked)| {
            let begun = held.begun(Millis(NOW - ago * 1_000));
            if *asked { begun.asked() } else { begun }
        })
    }

    #[test]
    fn restarts_that_nobody_asked_for_are_counted_for_ten_minutes() {
        for (list, want) in [
            (&[][..], 0),
            (&[(5, false)], 0),
            (&[(9, true), (5, true), (1, false)], 0),
            (&[(9, false), (5, true), (1, false)], 1),
            (&[(9, false), (5, false), (1, false)], 2),
            (&[(700, false), (1, false)], 0),
            (&[(599, false), (300, false), (200, false), (100, false)], 3),
            // A power cut a week ago, and a start now.
            (&[(600_000, false), (1, false)], 0),
        ] {
            assert_eq!(starts(list).unasked(Millis(NOW)), want, "{list:?}");
        }
        let held = starts(&[(9, false), (5, false)]);
        assert_eq!(held.unasked(Millis(NOW + 700_000)), 0, "it stayed up");
        assert_eq!(held.unasked(Millis(0)), 0, "the clock was set back");
        assert_eq!(held.unasked(Millis(u64::MAX)), 0, "or far ahead");
    }

    #[test]
    fn a_loop_is_slowed_and_bounded() {
        let pause = |count: usize| starts(&vec![(1, false); count]).pause(Millis(NOW)).as_secs();
        let all: Vec<u64> = (0..12).map(pause).collect();
        assert_eq!(all, [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(pause(10 * MAX_STARTS), 30);
        let many = starts(&vec![(1, false); 10 * MAX_STARTS]);
        assert_eq!(many.all.len(), MAX_STARTS);
        assert!((serde_json::to_vec(&many).unwrap().len() as u64) < MAX_BYTES);
    }

    #[test]
    fn a_damaged_file_begins_anew() {
        let dir = std::env::temp_dir().join(format!("qb-starts-{}", std::process::id()));
        files::make_dir(&dir).unwrap();
        let begin = |at| Record::begin(&dir, Millis(at)).0;
        begin(NOW);
        assert_eq!(begin(NOW + 1).starts().unasked(Millis(NOW + 1)), 1);
        begin(NOW + 2).end().unwrap();
        assert_eq!(begin(NOW + 3).starts().unasked(Millis(NOW + 3)), 2);
        std::fs::write(dir.join(FILE), b"{").unwrap();
        assert_eq!(begin(NOW + 4).starts().unasked(Millis(NOW + 4)), 0);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
