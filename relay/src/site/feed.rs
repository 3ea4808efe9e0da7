//! Events of a site, as its gateway tells them, numbered by the relay.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::{self, BoxStream, StreamExt as _};
use qb_model::Millis;
use qb_portal::view::Event;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::limits::{EVENT_BYTES, EVENTS};

/// Numbers, keeps and hands out events.
pub(crate) struct Feed {
    kept: Mutex<Kept>,
    out: broadcast::Sender<Arc<Event>>,
}

struct Kept {
    next: u64,
    events: VecDeque<Arc<Event>>,
}

impl Feed {
    /// Numbers begin at the time of the start, so that they rise over restarts.
    pub(crate) fn new(start_ms: u64) -> Self {
        let kept = Mutex::new(Kept { next: start_ms, events: VecDeque::new() });
        Self { kept, out: broadcast::Sender::new(EVENTS) }
    }

    /// Takes an event; one that is too long is none.
    pub(crate) fn say(&self, at: Millis, kind: String, subject: String, text: String) {
        if kind.len() + subject.len() + text.len() > EVENT_BYTES {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let event = Arc::new(Event { seq: kept.next, at, kind, subject, text });
        kept.next += 1;
        if kept.events.len() == EVENTS {
            kept.events.pop_front();
        }
        kept.events.push_back(Arc::clone(&event));
        // Nobody may be listening.
        let _ = self.out.send(event);
    }

    /// Events after a number, or from now on.
    pub(crate) fn after(&self, after: Option<u64>) -> BoxStream<'static, Event> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.out.subscribe();
        let mut old: Vec<Event> = Vec::new();
        if let Some(after) = after {
            let first = kept.events.front().map_or(kept.next, |event| event.seq);
            if after.saturating_add(1) < first {
                old.push(lost(first.saturating_sub(1)));
            }
            old.extend(kept.events.iter().filter(|event| event.seq > after).map(|event| Event::clone(event)));
        }
        drop(kept);
        let live = stream::unfold(live, |mut live| async move {
            match live.recv().await {
                Ok(event) => Some((Event::clone(&event), live)),
                Err(RecvError::Lagged(_)) => Some((lost(0), live)),
                Err(RecvError::Closed) => None,
            }
        });
        stream::iter(old).chain(live).boxed()
    }
}

fn lost(seq: u64) -> Event {
    let (kind, subject) = ("mesh".to_owned(), "relay".to_owned());
    Event {
        seq,
        at: Millis(super::now()),
        kind,
        subject,
        text: "older events are no longer here: read the views again".into(),
    }
}
