//! Copies of the state at exactly the index that is signed: a replica applies entries in batches, and
//! its batches are not those of another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use qb_model::state::SiteState;
use tokio::sync::Notify;

/// Indices that are waited for at a time: a leader asks for one, an old one may still wait.
const WANTED: usize = 8;

/// Indices that somebody waits for, and the states that were met there.
#[derive(Default)]
pub struct Captures {
    inner: Mutex<Inner>,
    met: Notify,
}

#[derive(Default)]
struct Inner {
    wanted: BTreeSet<u64>,
    kept: BTreeMap<u64, Arc<SiteState>>,
}

impl Captures {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code that holds the lock can panic")
    }

    /// After every applied entry: keeps a copy if somebody waits for this index.
    pub fn applied(&self, state: &SiteState) {
        let mut inner = self.lock();
        if inner.wanted.remove(&state.applied()) {
            inner.kept.insert(state.applied(), Arc::new(state.clone()));
            while inner.kept.len() > WANTED {
                inner.kept.pop_first();
            }
            self.met.notify_waiters();
        }
    }

    fn want(&self, index: u64) {
        let mut inner = self.lock();
        inner.wanted.insert(index);
        while inner.wanted.len() > WANTED {
            inner.wanted.pop_first();
        }
    }

    fn take(&self, index: u64) -> Option<Arc<SiteState>> {
        self.lock().kept.get(&index).cloned()
    }

    /// The state at an index: as `now` has it, or once it is applied, waiting at most for `deadline`.
    ///
    /// # Errors
    /// The index that was applied instead, if it is past or does not come.
    pub async fn at(
        &self,
        index: u64,
        now: impl Fn() -> Arc<SiteState>,
        deadline: Duration,
    ) -> Result<Arc<SiteState>, u64> {
        self.want(index);
        let wait = async {
            loop {
                let met = self.met.notified();
                // Looked at after the wish is known: an entry applied in between was kept.
                let state = now();
                if let Some(kept) = self.take(index) {
                    return Ok(kept);
                }
                if state.applied() >= index {
                    return if state.applied() == index { Ok(state) } else { Err(state.applied()) };
                }
                met.await;
            }
        };
        let found = tokio::time::timeout(deadline, wait).await;
        self.lock().wanted.remove(&index);
        found.unwrap_or_else(|_| {
            let state = now();
            if state.applied() == index { Ok(state) } else { Err(state.applied()) }
        })
    }
}
