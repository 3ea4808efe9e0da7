//! The applied state as the consensus library sees it.

use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};

use super::State;
use crate::limits::APPLY_BATCH;
use crate::log::LogStore;
use crate::types::{
    LogId, Snapshot, SnapshotMeta, StoredMembership, Types, log_id, meta_from_wire, meta_to_wire,
    payload_to_wire, pos, stored_from_wire,
};

/// The state, and the log whose durability it waits for.
pub(crate) struct MachineStore {
    state: State,
    log: Option<LogStore>,
}

impl MachineStore {
    /// With a log, an entry is applied only once it is durable here: the state never gets ahead of
    /// the log, so after a crash the two agree.
    pub(crate) fn new(state: State, log: Option<LogStore>) -> Self {
        Self { state, log }
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl RaftStateMachine<Types> for MachineStore {
    type SnapshotData = Bytes;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let meta = self.state.meta();
        let membership = stored_from_wire(&meta.membership).map_err(invalid)?;
        Ok((meta.last.as_ref().map(log_id), membership))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batches = entries.ready_chunks(APPLY_BATCH);
        while let Some(batch) = batches.next().await {
            let mut wire = Vec::with_capacity(batch.len());
            let mut responders = Vec::with_capacity(batch.len());
            for item in batch {
                let (entry, responder) = item?;
                wire.push((pos(&entry.log_id), payload_to_wire(&entry.payload)));
                responders.push(responder);
            }
            if let (Some(log), Some((last, _))) = (&self.log, wire.last()) {
                log.wait_durable(last.index).await?;
            }
            let outcomes = self.state.apply(wire).map_err(invalid)?;
            for (responder, outcome) in responders.into_iter().zip(outcomes) {
                if let Some(responder) = responder {
                    responder.send(outcome);
                }
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { state: self.state.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Bytes) -> Result<(), io::Error> {
        self.state.install(meta_to_wire(meta), snapshot).await.map_err(invalid)
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let Some((info, snapshot)) = self.state.read_snapshot().await.map_err(invalid)? else {
            return Ok(None);
        };
        Ok(Some(Snapshot { meta: meta_from_wire(&info.meta).map_err(invalid)?, snapshot }))
    }
}

/// Writes a snapshot while entries go on being applied.
pub(crate) struct SnapshotBuilder {
    state: State,
}

impl RaftSnapshotBuilder<Types> for SnapshotBuilder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let (meta, snapshot) = self.state.persist().await.map_err(invalid)?;
        Ok(Snapshot { meta: meta_from_wire(&meta).map_err(invalid)?, snapshot })
    }
}
