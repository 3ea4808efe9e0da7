//! The applied state: the machine, how far it has applied, and its snapshot on disk.
//!
//! A voter drives it through the consensus library (`raft`), a follower by itself; both apply the
//! same entries by the same code, so a node can change from one to the other and keep its state.
//!
//! Invariants: the snapshot on disk is complete and checksummed or absent; what the log purges is
//! covered by it; an installed snapshot is durable before the installation returns.

mod file;
mod raft;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use crate::machine::{Machine, MachineError};
use crate::wire::{LogPos, WirePayload, WireSnapshotMeta, WireStoredMembership};

pub use file::SnapshotError;
pub(crate) use file::SnapshotInfo;
pub(crate) use raft::MachineStore;

/// Why an entry or a snapshot was not applied. All but `Refused` end the process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error("entry {0} does not follow what is applied")]
    Order(u64),
    #[error("entry {index}: {source}")]
    Machine { index: u64, source: MachineError },
    #[error("snapshot refused: {0}")]
    Refused(String),
    #[error("snapshot not stored: {0}")]
    Disk(String),
}

struct Core {
    machine: Box<dyn Machine>,
    meta: WireSnapshotMeta,
    snapshot: Option<SnapshotInfo>,
}

/// The applied state. Clones share it.
#[derive(Clone)]
pub(crate) struct State {
    core: Arc<Mutex<Core>>,
    applied: watch::Sender<Option<LogPos>>,
    /// One at a time writes a snapshot file.
    writing: Arc<tokio::sync::Mutex<()>>,
    dir: PathBuf,
}

impl State {
    /// Loads the snapshot in `dir`, if there is one, into `machine`.
    pub(crate) fn open(dir: PathBuf, mut machine: Box<dyn Machine>) -> Result<Self, SnapshotError> {
        let mut meta = WireSnapshotMeta::default();
        let mut snapshot = None;
        if let Some((info, bytes)) = file::load(&dir)? {
            machine.install(&bytes).map_err(|e| SnapshotError::Refused(e.to_string()))?;
            machine.applied_batch(info.meta.last.map_or(0, |at| at.index));
            meta = info.meta.clone();
            snapshot = Some(info);
        }
        Ok(Self {
            applied: watch::Sender::new(meta.last),
            core: Arc::new(Mutex::new(Core { machine, meta, snapshot })),
            writing: Arc::default(),
            dir,
        })
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        // A panic of the machine is caught inside and reported as poison, never swallowed.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the state has applied.
    pub(crate) fn applied(&self) -> Option<LogPos> {
        *self.applied.borrow()
    }

    /// Follows [`State::applied`].
    pub(crate) fn watch_applied(&self) -> watch::Receiver<Option<LogPos>> {
        self.applied.subscribe()
    }

    /// What a snapshot taken now would cover.
    pub(crate) fn meta(&self) -> WireSnapshotMeta {
        self.core().meta.clone()
    }

    /// The last applied membership.
    pub(crate) fn membership(&self) -> WireStoredMembership {
        self.core().meta.membership.clone()
    }

    /// The snapshot on disk.
    pub(crate) fn snapshot_info(&self) -> Option<SnapshotInfo> {
        self.core().snapshot.clone()
    }

    /// Asks the machine whether it would install `snapshot`.
    pub(crate) fn verify(&self, snapshot: &[u8]) -> Result<(), ApplyError> {
        self.core().machine.verify(snapshot).map_err(|e| ApplyError::Refused(e.to_string()))
    }

    /// Applies entries that follow one another and what is applied; returns an outcome for each.
    pub(crate) fn apply(&self, entries: Vec<(LogPos, WirePayload)>) -> Result<Vec<Vec<u8>>, ApplyError> {
        let mut core = self.core();
        let mut outcomes = Vec::with_capacity(entries.len());
        for (at, payload) in entries {
            outcomes.push(core.apply_one(at, payload)?);
        }
        if let Some(last) = core.meta.last.filter(|_| !outcomes.is_empty()) {
            core.machine.applied_batch(last.index);
            drop(core);
            self.applied.send_replace(Some(last));
        }
        Ok(outcomes)
    }

    /// Replaces the state by a peer's snapshot. Durable when it returns.
    pub(crate) async fn install(&self, meta: WireSnapshotMeta, bytes: Bytes) -> Result<(), ApplyError> {
        let _writing = self.writing.lock().await;
        {
            let mut core = self.core();
            core.machine.install(&bytes).map_err(|e| ApplyError::Refused(e.to_string()))?;
            core.meta = meta.clone();
            core.machine.applied_batch(meta.last.map_or(0, |at| at.index));
        }
        self.applied.send_replace(meta.last);
        self.write(meta, bytes).await.map_err(|e| ApplyError::Disk(e.to_string()))
    }

    /// Writes a snapshot of the state as it is now, unless the one on disk is it already.
    pub(crate) async fn persist(&self) -> Result<(WireSnapshotMeta, Bytes), SnapshotError> {
        let _writing = self.writing.lock().await;
        let (meta, bytes) = {
            let core = self.core();
            (core.meta.clone(), Bytes::from(core.machine.snapshot()))
        };
        if self.snapshot_info().is_none_or(|info| info.meta != meta) {
            self.write(meta.clone(), bytes.clone()).await?;
        }
        Ok((meta, bytes))
    }

    /// The snapshot on disk, read and checked.
    pub(crate) async fn read_snapshot(&self) -> Result<Option<(SnapshotInfo, Bytes)>, SnapshotError> {
        let _writing = self.writing.lock().await;
        let Some(info) = self.snapshot_info() else {
            return Ok(None);
        };
        let path = info.path.clone();
        let read = tokio::task::spawn_blocking(move || file::read(&path)).await;
        let (info, bytes) = read.map_err(|e| SnapshotError::Task(e.to_string()))??;
        Ok(Some((info, bytes)))
    }

    /// Returns once no snapshot is being written.
    pub(crate) async fn settle(&self) {
        drop(self.writing.lock().await);
    }

    async fn write(&self, meta: WireSnapshotMeta, bytes: Bytes) -> Result<(), SnapshotError> {
        let dir = self.dir.clone();
        let write = tokio::task::spawn_blocking(move || file::write(&dir, meta, &bytes)).await;
        let info = write.map_err(|e| SnapshotError::Task(e.to_string()))??;
        self.core().snapshot = Some(info);
        Ok(())
    }
}

impl Core {
    fn apply_one(&mut self, at: LogPos, payload: WirePayload) -> Result<Vec<u8>, ApplyError> {
        let index = at.index;
        // Positions are ordered by term and leader first: neither ever decreases. That no index is
        // left out is the library's promise to a voter, and checked by a follower on arrival.
        if self.meta.last.is_some_and(|last| index <= last.index || at < last) {
            return Err(ApplyError::Order(index));
        }
        let outcome = match payload {
            WirePayload::Blank => Vec::new(),
            WirePayload::Membership(membership) => {
                self.meta.membership = WireStoredMembership { at: Some(at), membership };
                Vec::new()
            }
            WirePayload::Command(command) => self.command(index, &command)?,
        };
        self.meta.last = Some(at);
        Ok(outcome)
    }

    fn command(&mut self, index: u64, command: &[u8]) -> Result<Vec<u8>, ApplyError> {
        let machine = &mut self.machine;
        // A panic would stop every replica at the same entry without a word; this names the entry.
        catch_unwind(AssertUnwindSafe(|| machine.apply(index, command)))
            .unwrap_or_else(|_| Err(MachineError("panicked".into())))
            .map_err(|source| ApplyError::Machine { index, source })
    }
}

#[cfg(test)]
mod tests;
