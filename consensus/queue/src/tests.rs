//! One set of scenarios, run once with threads of the system and exhaustively under loom.

#![allow(clippy::unwrap_used)]

#[cfg(loom)]
use loom::{
    sync::{Arc, Mutex},
    thread,
};
#[cfg(not(loom))]
use std::{
    sync::{Arc, Mutex},
    thread,
};

use super::{Complete, Queue, Rejected};

/// What completed, how, and the watermark at that moment.
type Seen = Arc<Mutex<Vec<(u32, bool, u64)>>>;

struct Op {
    id: u32,
    seen: Seen,
    queue: Arc<Queue<Op, &'static str>>,
}

impl Complete<&'static str> for Op {
    fn complete(self, result: Result<(), &'static str>) {
        let durable = self.queue.durable();
        self.seen.lock().unwrap().push((self.id, result.is_ok(), durable));
    }
}

fn op(id: u32, seen: &Seen, queue: &Arc<Queue<Op, &'static str>>) -> Op {
    Op { id, seen: seen.clone(), queue: queue.clone() }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    #[cfg(loom)]
    {
        let mut builder = loom::model::Builder::new();
        // Errors of such structures show with two or three switches; without a bound the three
        // threads of the larger scenarios take hours.
        builder.preemption_bound = Some(3);
        builder.check(model);
    }
    #[cfg(not(loom))]
    model();
}

/// Two producers and a close race with the writer; returns what the writer wrote and what completed.
fn race(limit: usize, fail_at: Option<u32>) {
    let queue = Arc::new(Queue::new());
    let seen: Seen = Arc::new(Mutex::new(Vec::new()));
    let written = Arc::new(Mutex::new(Vec::new()));
    let writer = {
        let (queue, written) = (queue.clone(), written.clone());
        thread::spawn(move || {
            queue.run(limit, |batch: &mut Vec<Op>| {
                for op in batch.iter() {
                    if fail_at == Some(op.id) {
                        return Err("disk");
                    }
                    written.lock().unwrap().push(op.id);
                }
                Ok(())
            });
        })
    };
    let other = {
        let (queue, seen) = (queue.clone(), seen.clone());
        thread::spawn(move || queue.push(op(10, &seen, &queue)).is_ok())
    };
    let first = queue.push(op(1, &seen, &queue)).is_ok();
    let second = queue.push(op(2, &seen, &queue)).is_ok();
    let third = other.join().unwrap();
    queue.close();
    assert!(matches!(queue.push(op(99, &seen, &queue)), Err(Rejected::Closed(_) | Rejected::Failed(..))));
    writer.join().unwrap();

    let seen = seen.lock().unwrap();
    let accepted = [first, second, third].iter().filter(|ok| **ok).count();
    assert_eq!(seen.len(), accepted, "every accepted operation completes exactly once");
    let place = |id| seen.iter().position(|s| s.0 == id);
    if let (Some(one), Some(two)) = (place(1), place(2)) {
        assert!(one < two, "in order");
    }
    let mut failed = false;
    for (n, (_, ok, durable)) in seen.iter().enumerate() {
        assert!(!(failed && *ok), "nothing succeeds after a failure");
        failed |= !ok;
        assert!(!ok || *durable > n as u64, "the watermark covers what completed");
    }
    assert_eq!(failed, queue.failure().is_some());
    if fail_at.is_none() {
        assert!(!failed && accepted == 3 && written.lock().unwrap().len() == 3);
    }
}

#[test]
fn loom_completes_in_order_and_shuts_down() {
    check(|| race(16, None));
}

#[test]
fn loom_completes_in_order_one_by_one() {
    check(|| race(1, None));
}

#[test]
fn loom_failure_is_sticky() {
    check(|| race(16, Some(1)));
    check(|| race(1, Some(2)));
}

#[test]
fn loom_no_wake_up_is_lost() {
    check(|| {
        let queue = Arc::new(Queue::new());
        let seen: Seen = Arc::new(Mutex::new(Vec::new()));
        let writer = {
            let queue = queue.clone();
            thread::spawn(move || queue.run(16, |_: &mut Vec<Op>| Ok(())))
        };
        queue.push(op(1, &seen, &queue)).unwrap_or_else(|_| panic!("open"));
        queue.close();
        writer.join().unwrap();
        assert_eq!(seen.lock().unwrap().len(), 1);
    });
}
