//! One link of this node: the site's door at its end, and what is told over it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use qb_link::{LinkState, Uplink, UplinkConfig, UplinkHandle};
use qb_model::PublicKey;
use qb_model::dsse::SecretKey;
use qb_portal::door::{Access, DoorConfig};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::receipts::Receipts;
use super::source::OwnState;
use crate::door::site::AgentSite;
use crate::events;
use crate::node::Node;

/// Requests of a relay that wait to be served.
const REQUESTS: usize = 16;
/// Two words about a changed state are at least this far apart: a relay reads the views at leisure.
const APART: Duration = Duration::from_millis(100);

/// A link. Dropped, it ends.
pub(super) struct Link {
    handle: UplinkHandle,
    _stop: DropGuard,
}

impl Link {
    /// Starts one: `waits` for a node that is to be let in.
    pub(super) fn start(
        node: &Arc<Node>,
        (relay, url): (PublicKey, &str),
        waits: bool,
        receipts: &Arc<Receipts>,
    ) -> io::Result<Self> {
        let source = Arc::new(OwnState { node: node.clone(), waits });
        let config = UplinkConfig {
            dial: node.way.dial(url),
            relay,
            site: node.enrolment.site,
            signer: Arc::new(SecretKey::from_bytes(&node.identity.seed)),
            incarnation: node.identity.incarnation,
            source,
        };
        let (uplink, handle) = Uplink::new(config)?;
        let stop = node.cancel.child_token();
        let (streams, requests) = mpsc::channel(REQUESTS);
        let site = Arc::new(AgentSite { node: node.clone(), over: Some(receipts.clone()) });
        let door = DoorConfig { access: Access::Local, server_key: node.id().public_key() };
        let ended = stop.clone();
        node.tasks.spawn(qb_portal::serve(
            requests,
            qb_portal::api(site, door),
            ended.clone().cancelled_owned(),
        ));
        // A relay that asks more than is served at a time asks again.
        node.tasks.spawn(uplink.run(move |stream| drop(streams.try_send(stream)), ended.cancelled_owned()));
        let teller = Teller {
            node: node.clone(),
            relay,
            number: node.uplinks.next_number(),
            url: url.to_owned(),
            waits,
            receipts: receipts.clone(),
            handle: handle.clone(),
        };
        node.tasks.spawn(teller.run(stop.clone()));
        Ok(Self { handle, _stop: stop.drop_guard() })
    }

    /// Whether it is up.
    pub(super) fn is_up(&self) -> bool {
        matches!(*self.handle.state().borrow(), LinkState::Up { .. })
    }
}

/// Tells the relay what happens here, and people here how the link is.
struct Teller {
    node: Arc<Node>,
    relay: PublicKey,
    number: u64,
    url: String,
    waits: bool,
    receipts: Arc<Receipts>,
    handle: UplinkHandle,
}

impl Teller {
    async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = self.tell_state() => {}
            () = self.tell_site(), if !self.waits => {}
            () = self.tell_events(), if !self.waits => {}
            () = stop.cancelled() => {}
        }
        self.node.uplinks.note(&self.relay, self.number, None, false);
        self.node.report_now.notify_one();
    }

    /// How the link is.
    async fn tell_state(&self) {
        let mut state = self.handle.state();
        let mut told = None;
        loop {
            let now = state.borrow_and_update().clone();
            self.node.uplinks.note(&self.relay, self.number, Some(now.clone()), !self.waits);
            self.node.report_now.notify_one();
            let text = match now {
                LinkState::Dialling => None,
                LinkState::Up { .. } => Some(format!("has a link to the relay {}", self.url)),
                LinkState::Down { why, .. } => {
                    Some(format!("has no link to the relay {}: {why}; it is tried again by itself", self.url))
                }
            };
            // The same reason again is no news.
            if text.is_some() && text != told {
                let host = self.node.facts().host;
                self.node.events.say(events::now(), "mesh", host.as_str(), text.clone().unwrap_or_default());
                told = text;
            }
            if state.changed().await.is_err() {
                return;
            }
        }
    }

    /// Receipts, at once since somebody waits for them; and, less often, that the site's state changed.
    async fn tell_site(&self) {
        let mut state = self.node.state.clone();
        let own = (self.node.id(), &self.node.identity.key);
        // When the next word about the state is due, if one is owed, and before when none is said.
        let (mut due, mut quiet) = (None, Instant::now());
        loop {
            let site = state.borrow_and_update().clone();
            self.receipts.settle(&site, own, |receipt| self.handle.receipt(receipt));
            tokio::select! {
                changed = state.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    due.get_or_insert(quiet);
                }
                () = sleep_until(due.unwrap_or(quiet)), if due.is_some() => {
                    self.handle.changed();
                    (due, quiet) = (None, Instant::now() + APART);
                }
                () = self.receipts.came.notified() => {}
            }
        }
    }

    /// What happened at this door.
    async fn tell_events(&self) {
        let (_, mut live) = self.node.events.listen(None);
        loop {
            match live.recv().await {
                // One that finds no room is lost: the relay reads the views.
                Ok(event) => drop(self.handle.event(event.at, &event.kind, &event.subject, &event.text)),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }
}
