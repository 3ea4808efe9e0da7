//! A disk in memory that fails where it is told to and loses what was not synced.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::super::disk::{Disk, LogFile};

/// What a crash keeps or loses as a whole.
const SECTOR: usize = 512;

#[derive(Default)]
struct Content {
    /// As a reader sees it.
    seen: Vec<u8>,
    /// As it survives a crash.
    durable: Vec<u8>,
}

#[derive(Default)]
pub(super) struct FaultyDisk {
    files: Mutex<BTreeMap<String, Arc<FaultyFile>>>,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    ops: AtomicU64,
    /// From this operation on everything fails; 0 is never.
    fail_at: AtomicU64,
    /// Every n-th write is short; 0 is never.
    short: AtomicU64,
}

impl Faults {
    fn op(&self) -> io::Result<u64> {
        let op = self.ops.fetch_add(1, Ordering::Relaxed) + 1;
        let fail_at = self.fail_at.load(Ordering::Relaxed);
        if fail_at != 0 && op >= fail_at { Err(io::Error::other("EIO")) } else { Ok(op) }
    }
}

pub(super) struct FaultyFile {
    content: Mutex<Content>,
    faults: Arc<Faults>,
}

impl FaultyDisk {
    pub(super) fn fail_at(&self, op: u64) {
        self.faults.fail_at.store(op, Ordering::Relaxed);
    }

    pub(super) fn shorten_every(&self, n: u64) {
        self.faults.short.store(n, Ordering::Relaxed);
    }

    /// What is left after the power went: of each sector that was written and not synced, `keep`
    /// says whether it reached the disk.
    pub(super) fn crash(&self, mut keep: impl FnMut() -> bool) -> Self {
        let after = Self::default();
        for (name, file) in self.files.lock().unwrap().iter() {
            let content = file.content.lock().unwrap();
            let mut bytes = content.durable.clone();
            for (old, new) in bytes.chunks_mut(SECTOR).zip(content.seen.chunks(SECTOR)) {
                if old != new && keep() {
                    old.copy_from_slice(new);
                }
            }
            after.put(name, bytes);
        }
        after
    }

    pub(super) fn put(&self, name: &str, bytes: Vec<u8>) -> Arc<FaultyFile> {
        let content = Mutex::new(Content { seen: bytes.clone(), durable: bytes });
        let file = Arc::new(FaultyFile { content, faults: self.faults.clone() });
        self.files.lock().unwrap().insert(name.to_owned(), file.clone());
        file
    }

    pub(super) fn get(&self, name: &str) -> Vec<u8> {
        let file = self.files.lock().unwrap()[name].clone();
        let content = file.content.lock().unwrap();
        content.seen.clone()
    }

    pub(super) fn drop_file(&self, name: &str) {
        self.files.lock().unwrap().remove(name);
    }
}

impl LogFile for FaultyFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.content.lock().unwrap();
        let rest = content.seen.get(offset as usize..).unwrap_or_default();
        let n = buf.len().min(rest.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let short = self.faults.short.load(Ordering::Relaxed);
        let failed = self.faults.op();
        let is_short = short != 0 && failed.as_ref().is_ok_and(|op| op % short == 0);
        // A failing write gets half of its bytes down, like a short one.
        let n = if failed.is_err() || is_short { buf.len().div_ceil(2) } else { buf.len() };
        let mut content = self.content.lock().unwrap();
        content.seen[offset as usize..][..n].copy_from_slice(&buf[..n]);
        failed.map(|_| n)
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.op()?;
        let mut content = self.content.lock().unwrap();
        content.durable = content.seen.clone();
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.content.lock().unwrap().seen.len() as u64)
    }
}

impl Disk for FaultyDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.lock().unwrap().keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let files = self.files.lock().unwrap();
        let file = files.get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(file)
    }

    fn install(&self, name: &str, head: &[u8], size: u64) -> io::Result<Arc<dyn LogFile>> {
        self.faults.op()?;
        let mut bytes = head.to_vec();
        bytes.resize(size as usize, 0);
        Ok(self.put(name, bytes))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.faults.op()?;
        self.drop_file(name);
        Ok(())
    }
}
