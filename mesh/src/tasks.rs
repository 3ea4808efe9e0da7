//! The tasks of a mesh: all are tracked, all end with it.

use std::future::Future;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Spawns tasks that end when the mesh does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Runs a future until it is done or the mesh stops, whichever is first.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            stop.run_until_cancelled_owned(task).await;
        });
    }

    /// Like [`spawn`](Self::spawn) for a task that the mesh cannot live without.
    pub(crate) fn spawn_vital(&self, task: impl Future<Output = ()> + Send + 'static) {
        let guard = self.stop.clone().drop_guard();
        self.spawn(async move {
            task.await;
            drop(guard);
        });
    }

    /// Whether the mesh has stopped.
    pub(crate) fn stopped(&self) -> bool {
        self.stop.is_cancelled()
    }
}

/// Owns the tasks of a mesh. Dropping it stops them all at their next await point.
#[derive(Debug)]
#[must_use = "dropping it stops the mesh"]
pub struct MeshTask {
    tasks: Tasks,
    _guard: DropGuard,
}

impl MeshTask {
    pub(crate) fn new(tasks: Tasks) -> Self {
        let guard = tasks.stop.clone().drop_guard();
        Self { tasks, _guard: guard }
    }

    /// Stops all tasks and waits until the last one is gone.
    pub async fn shutdown(self) {
        self.tasks.stop.cancel();
        self.tasks.tracker.close();
        self.tasks.tracker.wait().await;
    }

    /// Returns when the mesh has stopped, also by itself: then the process should end.
    pub async fn stopped(&self) {
        self.tasks.stop.cancelled().await;
    }
}
