//! The executor's half: hands one piece of work to a helper and learns what became of it.
//!
//! ```text
//!   is one of this lane running?  with our mark: its end is awaited    (of an earlier life)
//!              | no               with another:  it is stopped first
//!   order file > start > told, told, ... > ended > result file
//! ```

use std::path::PathBuf;
use std::time::Duration;

use futures::future::BoxFuture;
use qb_drivers::RelPath;
use qb_model::ids::Digest;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use super::order::{HostOrder, HostResult, Lane, RESULT_BYTES, Reported};
use super::tell;
use crate::dir::Dir;
use crate::progress::StepError;

/// How often what is told is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// A helper to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HelperUnit {
    /// Its unit's name.
    pub(crate) name: String,
    /// What it does, for people.
    pub(crate) title: String,
    /// The file that it reads.
    pub(crate) file: PathBuf,
    /// What tells it from another one.
    pub(crate) mark: Digest,
    /// How long it may take.
    pub(crate) limit: Duration,
}

/// Who starts helpers; in tests a task.
pub(crate) trait Helpers: Send + Sync {
    /// Whether a helper of this name runs, and its mark, if it has one.
    fn running<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Option<Digest>>, StepError>>;
    /// Starts a helper and waits for its end: the init system's word for it, `done` if it is well. Given
    /// up, the helper goes on.
    fn run<'a>(&'a self, unit: &'a HelperUnit) -> BoxFuture<'a, Result<String, StepError>>;
    /// Waits until none of this name runs.
    fn ended<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StepError>>;
    /// Stops a helper with everything that it started.
    fn stop<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StepError>>;
}

/// Runs helpers, one at a time in each lane.
pub(crate) struct Runner {
    /// The directory of orders and results.
    dir: Dir,
    lanes: [Mutex<()>; Lane::ALL.len()],
}

/// Work for a helper.
pub(crate) struct Task<'a> {
    pub(crate) lane: Lane,
    /// What it is, for people.
    pub(crate) title: &'a str,
    pub(crate) order: HostOrder,
    /// How long it may take.
    pub(crate) limit: Duration,
}

impl Runner {
    /// In the executor's directory.
    pub(crate) fn open(root: &Dir) -> std::io::Result<Self> {
        let at: RelPath = "host".parse().map_err(std::io::Error::other)?;
        root.make_dirs(&at)?;
        Ok(Self { dir: root.sub(&at)?, lanes: Default::default() })
    }

    /// Has a helper do it. Given up or cancelled, the helper goes on: the same work later takes up with
    /// it, other work ends it first.
    ///
    /// # Errors
    /// What failed, and what to do.
    pub(crate) async fn run(
        &self,
        helpers: &dyn Helpers,
        task: Task<'_>,
        cancel: &CancellationToken,
        told: impl Fn(&str),
    ) -> Result<Reported, StepError> {
        let _one = self.lanes[task.lane as usize].lock().await;
        let bytes = serde_json::to_vec(&task.order).map_err(|_| StepError::damaged("the helper's order"))?;
        let unit = self.unit(&task, &bytes);
        let running = helpers.running(&unit.name).await?;
        let ended = async {
            match running {
                Some(Some(mark)) if mark == unit.mark => {
                    helpers.ended(&unit.name).await?;
                    Ok("done".to_owned())
                }
                found => {
                    if found.is_some() {
                        helpers.stop(&unit.name).await?;
                    }
                    self.place(task.lane, &bytes)?;
                    helpers.run(&unit).await
                }
            }
        };
        tokio::pin!(ended);
        let (mut look, shown) = (interval(LOOK), self.dir.path().join(task.lane.told()));
        let word = loop {
            tokio::select! {
                ended = &mut ended => break ended?,
                () = cancel.cancelled() => return Err(StepError::cancelled()),
                _ = look.tick() => told(&tell::told(&shown)),
            }
        };
        self.result(&unit, task.lane, &word)
    }

    fn unit(&self, task: &Task<'_>, bytes: &[u8]) -> HelperUnit {
        HelperUnit {
            name: task.lane.unit().to_owned(),
            title: format!("{}, cluster {}", task.title, task.order.cluster),
            file: self.dir.path().join(task.lane.file()),
            mark: Digest(Sha256::digest(bytes).into()),
            limit: task.limit,
        }
    }

    /// Puts the order where the helper looks, and takes away what is left of the one before.
    fn place(&self, lane: Lane, bytes: &[u8]) -> Result<(), StepError> {
        let error = |e: std::io::Error| StepError::disk("the helper's order", &e);
        for name in [lane.result(), lane.told()] {
            self.dir.remove(&path(name)?).map_err(error)?;
        }
        self.dir.write(&path(lane.file())?, bytes, 0o600).map_err(error)
    }

    fn result(&self, unit: &HelperUnit, lane: Lane, word: &str) -> Result<Reported, StepError> {
        let bytes = self.dir.read(&path(lane.result())?, RESULT_BYTES);
        let bytes = bytes.map_err(|e| StepError::disk("the helper's result", &e))?.unwrap_or_default();
        let result = serde_json::from_slice::<HostResult>(&bytes).ok();
        match result.filter(|result| result.mark == unit.mark) {
            Some(result) => match result.ended {
                Ok(reported) => Ok(reported),
                Err(error) => Err(StepError::new(error.text, error.remedy)),
            },
            None if word == "timeout" => Err(StepError::new(
                format!("it took more than {} s", unit.limit.as_secs()),
                "look at the load and the disks of this machine; the step is tried again",
            )),
            None => Err(StepError::new(
                format!("the helper ended as {word:?} and left no result"),
                format!("`journalctl -u {}` on this machine shows why; the step is tried again", unit.name),
            )),
        }
    }
}

fn path(name: &str) -> Result<RelPath, StepError> {
    name.parse().map_err(|e: qb_drivers::PathError| StepError::damaged(e))
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
