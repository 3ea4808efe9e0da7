//! How the links are: this node's own, and who else holds some. For reports, for the choice, and for
//! people.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use qb_link::LinkState;
use qb_model::waiting::WaitingOn;
use qb_model::{Millis, NodeId, PublicKey};

use crate::events;

/// How long a relay may be without any link before that is told, unless it is known why.
const QUIET_MS: u64 = 10_000;

/// A relay, as this node sees it.
struct Seen {
    url: String,
    /// Since when it is as it is.
    since: Millis,
    /// This node's own link; none if it holds none.
    own: Option<LinkState>,
    /// Whether that link is a member's.
    member: bool,
}

#[derive(Default)]
struct Inner {
    relays: BTreeMap<PublicKey, Seen>,
    /// Who holds links, as voters heard it last.
    holders: BTreeMap<NodeId, BTreeSet<PublicKey>>,
}

/// The table.
#[derive(Default)]
pub struct Uplinks {
    inner: Mutex<Inner>,
}

impl Uplinks {
    /// Relays that this node holds a link to, as a member.
    pub fn up(&self) -> Vec<PublicKey> {
        let inner = self.lock();
        let up = |seen: &Seen| seen.member && matches!(seen.own, Some(LinkState::Up { .. }));
        inner.relays.iter().filter(|(_, seen)| up(seen)).map(|(key, _)| *key).collect()
    }

    /// Notes who holds links, as voters say.
    pub fn heard(&self, holders: impl Iterator<Item = (NodeId, Vec<PublicKey>)>) {
        let mut all: BTreeMap<NodeId, BTreeSet<PublicKey>> = BTreeMap::new();
        for (node, relays) in holders {
            all.entry(node).or_default().extend(relays);
        }
        self.lock().holders = all;
    }

    /// Forgets holders of whom nothing is known: no voter answers.
    pub fn unheard(&self, connected: &BTreeSet<NodeId>) {
        self.lock().holders.retain(|node, _| connected.contains(node));
    }

    /// The other nodes that hold a link to a relay.
    pub(super) fn others(&self, relay: &PublicKey, me: &NodeId) -> BTreeSet<NodeId> {
        let inner = self.lock();
        let holds = inner.holders.iter().filter(|(node, relays)| *node != me && relays.contains(relay));
        holds.map(|(node, _)| *node).collect()
    }

    /// Keeps exactly these relays.
    pub(super) fn keep(&self, wanted: &BTreeMap<PublicKey, String>) {
        let mut inner = self.lock();
        inner.relays.retain(|key, seen| wanted.get(key) == Some(&seen.url));
        for (key, url) in wanted {
            let fresh = || Seen { url: url.clone(), since: events::now(), own: None, member: false };
            inner.relays.entry(*key).or_insert_with(fresh);
        }
    }

    /// Notes how this node's link is; none if it holds none any more.
    pub(super) fn note(&self, relay: &PublicKey, own: Option<LinkState>, member: bool) {
        let mut inner = self.lock();
        if let Some(seen) = inner.relays.get_mut(relay) {
            let up = |state: &Option<LinkState>| matches!(state, Some(LinkState::Up { .. }));
            if up(&seen.own) != up(&own) {
                seen.since = events::now();
            }
            (seen.own, seen.member) = (own, member);
        }
    }

    /// What is said of relays to which nobody of the site has a link.
    pub fn waiting_on(&self) -> Vec<WaitingOn> {
        let inner = self.lock();
        let now = events::now();
        let held = |key: &PublicKey| inner.holders.values().any(|relays| relays.contains(key));
        let without = inner.relays.iter().filter(|(key, _)| !held(key));
        without
            .filter_map(|(_, seen)| {
                let text = match &seen.own {
                    Some(LinkState::Up { .. }) => return None,
                    Some(LinkState::Down { why, .. }) => {
                        format!("has no link to its relay: {why}; it is tried again by itself")
                    }
                    _ if now.since(seen.since) < QUIET_MS => return None,
                    _ => {
                        "has no link to its relay: no node reaches it; it is tried again by itself".to_owned()
                    }
                };
                Some(WaitingOn::itself("relay.link", &seen.url, text, seen.since))
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const RELAY: PublicKey = PublicKey([7; 32]);

    fn table() -> Uplinks {
        let table = Uplinks::default();
        table.keep(&BTreeMap::from([(RELAY, "https://relay.example".to_owned())]));
        table
    }

    #[test]
    fn a_link_that_is_down_is_told_unless_another_node_holds_one() {
        let table = table();
        assert!(table.waiting_on().is_empty(), "it is only just known");
        let down = LinkState::Down { why: "refused".into(), pause: Duration::from_secs(1) };
        table.note(&RELAY, Some(down), true);
        let told = table.waiting_on();
        assert!(told[0].text.contains("refused") && told[0].subject == "https://relay.example", "{told:?}");
        table.heard([(NodeId([1; 32]), vec![RELAY])].into_iter());
        assert!(table.waiting_on().is_empty());
        table.unheard(&BTreeSet::new());
        assert_eq!(table.waiting_on().len(), 1);
    }

    #[test]
    fn only_a_members_link_is_reported() {
        let table = table();
        let up = LinkState::Up { relay: RELAY };
        table.note(&RELAY, Some(up.clone()), false);
        assert!(table.up().is_empty());
        table.note(&RELAY, Some(up), true);
        assert_eq!(table.up(), [RELAY]);
        table.keep(&BTreeMap::new());
        assert!(table.up().is_empty());
    }
}
