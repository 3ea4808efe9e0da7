//! Units as children of the executor: no init system, no root. They die with the executor.
//!
//! One thread does it all and lives as long as the executor. That is not only for order: the
//! kernel kills a child with `PR_SET_PDEATHSIG` when the *thread* that started it ends, so a child
//! that outlived a pool thread would die for no reason, and one that outlives the agent must not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use qb_model::ids::{Digest, Name};
use tokio::sync::oneshot;

use super::unit::Unit;
use super::{UnitHealth, UnitKey, UnitRecord};
use crate::dir::Dir;

/// How often running units are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How often one that is being stopped is.
const LOOK_STOPPING: Duration = Duration::from_millis(10);

/// A question or an order to the thread.
enum Request {
    Start { key: UnitKey, dir: Arc<Dir>, record: UnitRecord },
    Stop { key: UnitKey, done: oneshot::Sender<()> },
    Look { cluster: Name, reply: oneshot::Sender<Vec<(UnitHealth, Digest)>> },
    Close { done: oneshot::Sender<()> },
}

/// Requests that wait for the thread: each takes it microseconds, so that nobody waits long.
const QUEUED: usize = 64;

/// The handle. When the last one is dropped, everything is killed.
#[derive(Debug)]
pub(crate) struct Children {
    requests: mpsc::SyncSender<Request>,
}

impl Children {
    /// Starts the thread. `program` contains the stand-ins.
    pub(super) fn start(program: PathBuf) -> std::io::Result<Self> {
        let (requests, inbox) = mpsc::sync_channel(QUEUED);
        let task = Task { program, inbox, units: BTreeMap::new(), closing: None };
        std::thread::Builder::new().name("qb-units".to_owned()).spawn(move || task.run())?;
        Ok(Self { requests })
    }

    /// Runs a unit from now on; one with another record is replaced.
    pub(super) fn run(&self, key: UnitKey, dir: Arc<Dir>, record: UnitRecord) {
        // The thread ends after the last handle only.
        let _ = self.requests.send(Request::Start { key, dir, record });
    }

    /// Stops a unit; returns when its process is gone.
    pub(super) async fn stop(&self, key: UnitKey) {
        let (done, wait) = oneshot::channel();
        if self.requests.send(Request::Stop { key, done }).is_ok() {
            let _ = wait.await;
        }
    }

    /// The units of a cluster.
    pub(super) async fn look(&self, cluster: &Name) -> Vec<(UnitHealth, Digest)> {
        let (reply, wait) = oneshot::channel();
        if self.requests.send(Request::Look { cluster: cluster.clone(), reply }).is_err() {
            return Vec::new();
        }
        wait.await.unwrap_or_default()
    }

    /// Stops every unit and ends the thread; returns when all processes are gone.
    pub(super) async fn close(&self) {
        let (done, wait) = oneshot::channel();
        if self.requests.send(Request::Close { done }).is_ok() {
            let _ = wait.await;
        }
    }
}

struct Task {
    program: PathBuf,
    inbox: mpsc::Receiver<Request>,
    units: BTreeMap<UnitKey, Unit>,
    closing: Option<oneshot::Sender<()>>,
}

impl Task {
    fn run(mut self) {
        loop {
            let request = if self.units.is_empty() {
                self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.inbox.recv_timeout(self.pause())
            };
            match request {
                Ok(request) => self.take(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = Instant::now();
            let program = &self.program;
            self.units.retain(|key, unit| unit.tick(program, key, now));
            if self.units.is_empty() && self.closing.is_some() {
                break;
            }
        }
        // Processes that are left are killed as their handles are dropped; answer after that.
        self.units.clear();
        if let Some(done) = self.closing {
            let _ = done.send(());
        }
    }

    fn pause(&self) -> Duration {
        let stopping = self.units.values().any(|unit| unit.is_stopping());
        if stopping { LOOK_STOPPING } else { LOOK }
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Start { key, dir, record } => self.start(key, dir, record),
            Request::Stop { key, done } => match self.units.get_mut(&key) {
                None => drop(done.send(())),
                Some(unit) => unit.stop_for(Some(done)),
            },
            Request::Look { cluster, reply } => {
                let units = self.units.iter().filter(|(key, _)| key.cluster == cluster);
                let _ = reply.send(units.map(|(key, unit)| (unit.health(key), unit.record.mark())).collect());
            }
            Request::Close { done } => {
                for unit in self.units.values_mut() {
                    unit.stop_for(None);
                }
                self.closing = Some(done);
            }
        }
    }

    fn start(&mut self, key: UnitKey, dir: Arc<Dir>, record: UnitRecord) {
        if self.closing.is_some() {
            return;
        }
        if let Some(unit) = self.units.get_mut(&key) {
            return unit.replace(dir, record);
        }
        let mut unit = Unit::new(dir, record);
        unit.spawn(&self.program, &key, Instant::now());
        self.units.insert(key, unit);
    }
}
