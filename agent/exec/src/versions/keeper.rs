//! What the executor remembers between two looks at an upgrade: for how long a phase has lasted, and which
//! restart was asked for when.

use std::time::Duration;

use qb_model::ids::Millis;
use tokio::time::Instant;

use super::state::Program;
use super::trial::Phase;

/// Pauses before the same restart is asked for again: the first, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// What the executor remembers of its looks.
#[derive(Default)]
pub(super) struct Keeper {
    phase: Option<(Phase, Instant)>,
    /// The restart that was asked for last, when, and the pause before it is again.
    asked: Option<(Program, Instant, Duration)>,
    trouble: String,
}

impl Keeper {
    /// For how long this phase has lasted.
    pub(super) fn waited(&mut self, phase: Option<Phase>) -> Millis {
        let Some(phase) = phase else {
            self.phase = None;
            return Millis(0);
        };
        match &self.phase {
            Some((held, since)) if *held == phase => {
                Millis(u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX))
            }
            _ => {
                self.phase = Some((phase, Instant::now()));
                self.trouble.clear();
                Millis(0)
            }
        }
    }

    /// Whether a restart is to be asked for now.
    pub(super) fn due(&mut self, which: Program) -> bool {
        let pause = match self.asked {
            Some((asked, at, pause)) if asked == which && at.elapsed() < pause => return false,
            Some((asked, _, pause)) if asked == which => (pause * 2).min(AGAIN.1),
            _ => AGAIN.0,
        };
        self.asked = Some((which, Instant::now(), pause));
        true
    }

    /// Nothing is to be restarted.
    pub(super) fn nothing_asked(&mut self) {
        self.asked = None;
    }

    /// What stood in the way lately; empty if nothing.
    pub(super) fn trouble(&self) -> &str {
        &self.trouble
    }

    /// Notes what stands in the way, and says so once.
    pub(super) fn note(&mut self, why: String) {
        if self.trouble != why {
            tracing::error!("{why}");
            self.trouble = why;
        }
    }
}
