//! The group commit queue: many producers hand operations to one writer, which takes all that
//! wait, makes them durable at once, and completes them in order.
//!
//! ```text
//!  push(op) ──► [ op op op ] ──► run(): take all ──► work(batch): write + one fsync
//!     │                                                  │ Ok: watermark += batch
//!     └─ Rejected: closed or failed                      │ Err: sticky, every later op fails
//!                                                        ▼
//!                                             op.complete(result), in order
//! ```
//!
//! A crate of its own so that its model can be checked by loom without an async runtime in the
//! build: `RUSTFLAGS="--cfg loom" cargo test -p qb-queue --release --lib loom`.
//!
//! Invariants:
//! - Operations complete exactly once, in the order in which they were pushed.
//! - When operation `n` completes with `Ok`, the watermark is at least `n`: all before it are durable.
//! - The first failure is final: nothing after it is written, and nothing completes with `Ok`.
//! - What was accepted before `close` is written and completed; what comes after is rejected.
//!
//! Deliberately absent: a bound. The producer bounds the bytes in flight, since only it can wait
//! without holding a thread.

#[cfg(loom)]
use loom::sync::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
#[cfg(not(loom))]
use std::sync::{Condvar, Mutex, MutexGuard};

/// An operation that wants to know how it ended.
pub trait Complete<E> {
    /// Called once, by the writer, in the order of `push`.
    fn complete(self, result: Result<(), E>);
}

/// Why an operation was not accepted. The operation comes back.
#[derive(Debug)]
pub enum Rejected<T, E> {
    /// The queue was closed.
    Closed(T),
    /// An earlier operation failed; the failure is final.
    Failed(T, E),
}

struct State<T, E> {
    waiting: VecDeque<T>,
    pushed: u64,
    durable: u64,
    failed: Option<E>,
    closed: bool,
}

/// The queue. Share it behind an `Arc`; exactly one thread calls [`Queue::run`].
pub struct Queue<T, E> {
    state: Mutex<State<T, E>>,
    ready: Condvar,
}

impl<T, E: Clone> Default for Queue<T, E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, E: Clone> Queue<T, E> {
    /// An empty, open queue.
    pub fn new() -> Self {
        let state = State { waiting: VecDeque::new(), pushed: 0, durable: 0, failed: None, closed: false };
        Self { state: Mutex::new(state), ready: Condvar::new() }
    }

    /// Hands over an operation. Returns its number, counted from 1.
    pub fn push(&self, op: T) -> Result<u64, Rejected<T, E>> {
        let mut state = self.lock();
        if let Some(error) = &state.failed {
            let error = error.clone();
            return Err(Rejected::Failed(op, error));
        }
        if state.closed {
            return Err(Rejected::Closed(op));
        }
        state.waiting.push_back(op);
        state.pushed += 1;
        let number = state.pushed;
        drop(state);
        self.ready.notify_one();
        Ok(number)
    }

    /// The greatest number up to which all operations are durable.
    pub fn durable(&self) -> u64 {
        self.lock().durable
    }

    /// The failure that ended the queue, if one did.
    pub fn failure(&self) -> Option<E> {
        self.lock().failed.clone()
    }

    /// Accepts nothing more. [`Queue::run`] returns once it has completed what was accepted.
    pub fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }

    /// The writer: calls `work` with batches of at most `limit` operations until the queue is
    /// closed and empty. `work` makes the whole batch durable or returns an error, after which it
    /// is not called again.
    pub fn run(&self, limit: usize, mut work: impl FnMut(&mut Vec<T>) -> Result<(), E>)
    where
        T: Complete<E>,
    {
        while let Some(mut batch) = self.take(limit) {
            let count = batch.len() as u64;
            let result = match self.failure() {
                Some(error) => Err(error),
                None => work(&mut batch),
            };
            let mut state = self.lock();
            match &result {
                Ok(()) => state.durable += count,
                Err(error) => {
                    state.failed.get_or_insert_with(|| error.clone());
                }
            }
            drop(state);
            for op in batch {
                op.complete(result.clone());
            }
        }
    }

    fn take(&self, limit: usize) -> Option<Vec<T>> {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            if state.closed {
                return None;
            }
            state = match self.ready.wait(state) {
                Ok(state) => state,
                Err(poisoned) => poisoned.into_inner(),
            };
        }
        let count = state.waiting.len().min(limit.max(1));
        Some(state.waiting.drain(..count).collect())
    }

    // A panic while the lock is held cannot leave the state half changed: no user code runs under it.
    fn lock(&self) -> MutexGuard<'_, State<T, E>> {
        match self.state.lock() {
            Ok(state) => state,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

#[cfg(test)]
mod tests;
