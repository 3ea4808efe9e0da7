//! Snapshots on disk, and what applies after what.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use tempfile::TempDir;

use super::*;

/// Counts what it applied.
#[derive(Default)]
struct Count(u64);

impl Machine for Count {
    fn apply(&mut self, _index: u64, command: &[u8]) -> Result<Vec<u8>, MachineError> {
        assert_ne!(command, b"panic", "as asked");
        self.0 += 1;
        Ok(vec![self.0 as u8])
    }
    fn snapshot(&self) -> Vec<u8> {
        self.0.to_le_bytes().to_vec()
    }
    fn install(&mut self, snapshot: &[u8]) -> Result<(), MachineError> {
        let bytes = snapshot.try_into().map_err(|_| MachineError("not 8 bytes".into()))?;
        self.0 = u64::from_le_bytes(bytes);
        Ok(())
    }
    fn applied_batch(&mut self, _last_index: u64) {}
}

fn at(term: u64, index: u64) -> LogPos {
    LogPos { term, leader: 1, index }
}

fn command(term: u64, index: u64, command: &'static [u8]) -> Vec<(LogPos, WirePayload)> {
    vec![(at(term, index), WirePayload::Command(Bytes::from_static(command)))]
}

fn open(dir: &TempDir) -> Result<State, SnapshotError> {
    State::open(dir.path().to_owned(), Box::new(Count::default()))
}

#[tokio::test]
async fn a_snapshot_survives_and_damage_shows() {
    let dir = TempDir::new().unwrap();
    let state = open(&dir).unwrap();
    for index in 0..3 {
        state.apply(command(1, index, b"x")).unwrap();
    }
    state.persist().await.unwrap();
    state.apply(command(1, 3, b"x")).unwrap();
    state.persist().await.unwrap();
    let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(files.len(), 1, "the older one is gone");
    let path = files[0].as_ref().unwrap().path();

    let again = open(&dir).unwrap();
    assert_eq!(again.applied(), Some(at(1, 3)));
    assert_eq!(again.apply(command(1, 4, b"x")).unwrap(), [[5]]);
    let (info, body) = again.read_snapshot().await.unwrap().unwrap();
    assert_eq!(body.as_ref(), 4u64.to_le_bytes());
    assert_eq!(info.read_piece(2, 4).unwrap(), body.slice(2..6));
    assert_eq!(info.read_piece(8, 4).unwrap().len(), 0);

    let good = std::fs::read(&path).unwrap();
    for byte in 0..good.len() {
        let mut bad = good.clone();
        bad[byte] ^= 1;
        std::fs::write(&path, bad).unwrap();
        assert!(matches!(open(&dir), Err(SnapshotError::Damaged(_))), "byte {byte}");
    }
    std::fs::write(&path, &good[..good.len() - 1]).unwrap();
    assert!(matches!(open(&dir), Err(SnapshotError::Damaged(_))), "cut short");
}

#[tokio::test]
async fn nothing_goes_back() {
    let dir = TempDir::new().unwrap();
    let state = open(&dir).unwrap();
    state.apply(command(2, 0, b"x")).unwrap();
    assert_eq!(state.apply(command(2, 0, b"x")), Err(ApplyError::Order(0)));
    assert_eq!(state.apply(command(1, 1, b"x")), Err(ApplyError::Order(1)));
    let refused = state.install(WireSnapshotMeta::default(), Bytes::from_static(b"odd")).await;
    assert!(matches!(refused, Err(ApplyError::Refused(_))));
    assert_eq!(state.applied(), Some(at(2, 0)), "a refused snapshot changes nothing");
}

#[tokio::test]
async fn a_panic_names_the_entry() {
    let dir = TempDir::new().unwrap();
    let state = open(&dir).unwrap();
    let error = state.apply(command(1, 0, b"panic")).unwrap_err();
    assert_eq!(error.to_string(), "entry 0: state machine: panicked");
}
