//! One unit: its process, its pauses, its end.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qb_model::ids::Millis;
use tokio::sync::oneshot;

use super::process::Process;
use super::{UnitHealth, UnitKey, UnitRecord, UnitState};
use crate::clock;
use crate::dir::Dir;

/// A unit that ran this long starts its pauses over.
const STEADY: Duration = Duration::from_secs(30);
/// Doublings of the pause before a restart; the bundle bounds the pause itself.
const DOUBLINGS: u32 = 16;

enum State {
    Running { process: Process, since: Instant },
    Pausing { until: Instant },
    Stopping { process: Process, kill_at: Instant },
}

/// See the module.
pub(super) struct Unit {
    dir: Arc<Dir>,
    pub(super) record: UnitRecord,
    state: State,
    since: Millis,
    restarts: u32,
    /// Restarts since it last ran steadily.
    streak: u32,
    /// What takes its place when it has stopped.
    next: Option<(Arc<Dir>, UnitRecord)>,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Unit {
    /// One that does not run yet.
    pub(super) fn new(dir: Arc<Dir>, record: UnitRecord) -> Self {
        Self {
            dir,
            record,
            state: State::Pausing { until: Instant::now() },
            since: clock::now(),
            restarts: 0,
            streak: 0,
            next: None,
            waiting: Vec::new(),
        }
    }

    /// How it is.
    pub(super) fn health(&self, key: &UnitKey) -> UnitHealth {
        let (state, pid) = match &self.state {
            State::Running { process, .. } => (UnitState::Running, Some(process.id())),
            State::Pausing { .. } => (UnitState::Restarting, None),
            State::Stopping { process, .. } => (UnitState::Stopping, Some(process.id())),
        };
        UnitHealth {
            name: key.stand_in.name().to_owned(),
            state,
            restarts: self.restarts,
            since: self.since,
            pid,
        }
    }

    /// Whether it was asked to stop.
    pub(super) fn is_stopping(&self) -> bool {
        matches!(self.state, State::Stopping { .. })
    }

    /// Stops it for good, and says so when it is gone.
    pub(super) fn stop_for(&mut self, done: Option<oneshot::Sender<()>>) {
        self.next = None;
        self.waiting.extend(done);
        self.stop();
    }

    /// Puts another record in its place, unless it is this one.
    pub(super) fn replace(&mut self, dir: Arc<Dir>, record: UnitRecord) {
        if self.is_stopping() || self.record != record {
            self.next = Some((dir, record));
            self.stop();
        }
    }

    fn set(&mut self, state: State) {
        self.state = state;
        self.since = clock::now();
    }

    /// Starts its process; one that cannot be started is tried again after a pause.
    pub(super) fn spawn(&mut self, program: &Path, key: &UnitKey, now: Instant) {
        match Process::spawn(program, &self.dir, key.stand_in, &self.record.config) {
            Ok(process) => self.set(State::Running { process, since: now }),
            Err(error) => {
                tracing::warn!(unit = key.stand_in.name(), cluster = %key.cluster, %error, "unit cannot be started");
                self.pause(now);
            }
        }
    }

    /// Waits before the next start, twice as long each time.
    fn pause(&mut self, now: Instant) {
        let defaults = self.record.defaults;
        let grown = u64::from(defaults.restart_first_ms) << self.streak.min(DOUBLINGS);
        let pause = Duration::from_millis(grown.min(u64::from(defaults.restart_most_ms)));
        self.streak = self.streak.saturating_add(1);
        self.set(State::Pausing { until: now + pause });
    }

    /// Asks the process to end. One that does not run is done with at the next look.
    fn stop(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Pausing { until: Instant::now() });
        self.state = match state {
            State::Running { process, .. } => {
                process.terminate();
                self.since = clock::now();
                let patience = Duration::from_millis(u64::from(self.record.defaults.stop_ms));
                State::Stopping { process, kill_at: Instant::now() + patience }
            }
            State::Stopping { process, kill_at } => State::Stopping { process, kill_at },
            // Nothing runs: an empty stop.
            State::Pausing { .. } => State::Stopping { process: Process::none(), kill_at: Instant::now() },
        };
    }

    /// Looks at the process; false if the unit is gone for good.
    pub(super) fn tick(&mut self, program: &Path, key: &UnitKey, now: Instant) -> bool {
        match &mut self.state {
            State::Running { process, since } => {
                process.bound_log(&self.dir, key.stand_in);
                let Some(status) = process.ended() else {
                    return true;
                };
                if now.duration_since(*since) >= STEADY {
                    self.streak = 0;
                }
                tracing::warn!(unit = key.stand_in.name(), cluster = %key.cluster, %status, "unit ended, it is started again");
                self.pause(now);
                true
            }
            State::Pausing { until } if *until <= now => {
                self.restarts = self.restarts.saturating_add(1);
                self.spawn(program, key, now);
                true
            }
            State::Pausing { .. } => true,
            State::Stopping { process, kill_at } => {
                if process.ended().is_none() {
                    if *kill_at <= now {
                        process.kill();
                    }
                    return true;
                }
                process.forget(&self.dir, key.stand_in);
                for done in self.waiting.drain(..) {
                    let _ = done.send(());
                }
                let Some((dir, record)) = self.next.take() else {
                    return false;
                };
                *self = Self::new(dir, record);
                self.spawn(program, key, now);
                true
            }
        }
    }
}
