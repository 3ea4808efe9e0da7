//! The consensus library's own suite for stores.

use std::path::Path;
use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::super::disk::RealDisk;
use super::super::store::LogStore;
use super::STORE;
use crate::machine::{Machine, MachineError};
use crate::state::{MachineStore, State};
use crate::types::Types;

struct Nothing;

impl Machine for Nothing {
    fn apply(&mut self, _index: u64, _command: &[u8]) -> Result<Vec<u8>, MachineError> {
        Ok(Vec::new())
    }
    fn snapshot(&self) -> Vec<u8> {
        Vec::new()
    }
    fn install(&mut self, _snapshot: &[u8]) -> Result<(), MachineError> {
        Ok(())
    }
    fn applied_batch(&mut self, _last_index: u64) {}
}

struct Builder;

fn open(dir: &Path) -> (LogStore, MachineStore) {
    let disk = Arc::new(RealDisk::new(dir.join("log")).expect("directory"));
    LogStore::create(&*disk, STORE).expect("create");
    let log = LogStore::open(disk, STORE).expect("open");
    let state = State::open(dir.join("state"), Box::new(Nothing)).expect("state");
    (log, MachineStore::new(state, None))
}

impl StoreBuilder<Types, LogStore, MachineStore, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, MachineStore), StorageError<Types>> {
        let dir = TempDir::new().expect("directory");
        let (log, machine) = open(dir.path());
        Ok((dir, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_library_s_suite_passes() {
    Suite::test_all(Builder).await.expect("suite");
}
