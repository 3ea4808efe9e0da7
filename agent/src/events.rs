//! Events of this door: what happened, in order, for `qb events` and the portal. A bounded ring;
//! who resumes from an event that is gone gets the oldest one that is left.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use qb_model::Millis;
use qb_portal::view::Event;
use tokio::sync::broadcast;

/// Events that are kept for those who resume.
const KEPT: usize = 2_000;
/// Events that a slow listener may lag behind before it loses some.
const LAG: usize = 512;

/// Now, by this machine's clock. For display and stamps; never for a decision about trust.
pub fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

struct Ring {
    next: u64,
    kept: VecDeque<Event>,
}

/// The ring and who listens.
pub struct Events {
    ring: Mutex<Ring>,
    live: broadcast::Sender<Event>,
}

impl Default for Events {
    fn default() -> Self {
        // Numbers go on where the clock is, so that they rise over restarts too.
        let ring = Ring { next: now().0, kept: VecDeque::new() };
        Self { ring: Mutex::new(ring), live: broadcast::channel(LAG).0 }
    }
}

impl Events {
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().expect("no code that holds the lock can panic")
    }

    /// Says that something happened.
    pub fn say(&self, at: Millis, kind: &str, subject: &str, text: impl Into<String>) {
        let mut ring = self.lock();
        ring.next += 1;
        let event = Event {
            seq: ring.next,
            at,
            kind: kind.to_owned(),
            subject: subject.to_owned(),
            text: text.into(),
        };
        if ring.kept.len() == KEPT {
            ring.kept.pop_front();
        }
        ring.kept.push_back(event.clone());
        // Nobody listening is no error.
        let _ = self.live.send(event);
    }

    /// Kept events after `after` (none: only what comes), and what comes.
    pub fn listen(&self, after: Option<u64>) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let ring = self.lock();
        let kept = match after {
            Some(after) => ring.kept.iter().filter(|e| e.seq > after).cloned().collect(),
            None => Vec::new(),
        };
        (kept, self.live.subscribe())
    }
}
