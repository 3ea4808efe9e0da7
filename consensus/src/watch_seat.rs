//! The tasks beside a Raft core: publish what it knows, snapshot by size, notice when it ends.

use std::sync::Arc;

use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::context::FatalReason;
use crate::limits::{SNAPSHOT_LOG_BYTES, WATCHDOG_LIMIT, WATCHDOG_PERIOD};
use crate::seat::Seat;
use crate::view::RaftView;

/// Publishes the view on each change, and asks for a snapshot when the log has grown.
pub(crate) async fn publish(seat: Arc<Seat>, view: watch::Sender<Arc<RaftView>>) {
    let mut metrics = seat.raft.metrics();
    let mut snapshot_at = seat.log.appended();
    loop {
        let now = metrics.borrow_watched().clone();
        if let Err(error) = &now.running_state {
            if !seat.cancel.is_cancelled() {
                seat.context.fail(FatalReason::Core(error.to_string()));
            }
            return;
        }
        let new = Arc::new(RaftView::of_seat(&now));
        view.send_if_modified(|old| {
            let changed = *old != new;
            *old = new;
            changed
        });
        let appended = seat.log.appended();
        if appended.saturating_sub(snapshot_at) >= SNAPSHOT_LOG_BYTES {
            snapshot_at = appended;
            if seat.raft.trigger().snapshot().await.is_err() {
                continue;
            }
        }
        tokio::select! {
            () = seat.cancel.cancelled() => return,
            changed = metrics.changed() => {
                if changed.is_err() {
                    if !seat.cancel.is_cancelled() {
                        seat.context.fail(FatalReason::Core("it is gone".into()));
                    }
                    return;
                }
            }
        }
    }
}

/// Reports a core that hangs and a log that failed: the group would wait for this node for ever.
pub(crate) async fn guard(seat: Arc<Seat>) {
    let mut tick = tokio::time::interval(WATCHDOG_PERIOD);
    loop {
        tokio::select! {
            () = seat.cancel.cancelled() => return,
            failure = seat.log.failed() => {
                seat.context.fail(FatalReason::Disk(failure.to_string()));
                return;
            }
            _ = tick.tick() => {}
        }
        let alive = timeout(WATCHDOG_LIMIT, seat.raft.with_raft_state(|_| ()));
        tokio::select! {
            () = seat.cancel.cancelled() => return,
            alive = alive => if alive.is_err() {
                seat.context.fail(FatalReason::Hung(WATCHDOG_LIMIT));
                return;
            }
        }
    }
}
