//! How the links are: this node's own, and who else holds some. For reports, for the choice, and for
//! people.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use qb_link::LinkState;
use qb_model::waiting::WaitingOn;
use qb_model::{Millis, NodeId, PublicKey};

use crate::events;

/// How long a relay may be without any link before that is told, unless it is known why.
const QUIET_MS: u64 = 10_000;

/// How long a voter's word on who holds links counts: three reports.
const FRESH: Duration = Duration::from_secs(3);

/// Nodes that hold links, with the relays that they are linked to.
pub(super) type Holders = Vec<(NodeId, Vec<PublicKey>)>;

/// A relay, as this node sees it.
struct Seen {
    url: String,
    /// Since when it is as it is.
    since: Millis,
    /// This node's own link; none if it holds none.
    own: Option<LinkState>,
    /// Whether that link is a member's.
    member: bool,
    /// The number of that link: what an older one says is no news.
    number: u64,
}

#[derive(Default)]
struct Inner {
    relays: BTreeMap<PublicKey, Seen>,
    /// What each voter said last, and when.
    said: BTreeMap<NodeId, (Instant, Holders)>,
    /// Who holds links, by all of them.
    holders: BTreeMap<NodeId, BTreeSet<PublicKey>>,
    /// Since when no voter says anything.
    quiet: Option<Instant>,
    /// Whether this node heard of holders, or that no voter answers.
    heard: bool,
    /// Numbers of this node's links.
    numbers: u64,
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

    /// Notes who holds links, as a voter says.
    pub fn heard(&self, voter: NodeId, holders: Holders, now: Instant) {
        let mut inner = self.lock();
        inner.said.insert(voter, (now, holders));
        inner.said.retain(|_, (at, _)| now.duration_since(*at) <= FRESH);
        let mut all: BTreeMap<NodeId, BTreeSet<PublicKey>> = BTreeMap::new();
        for (node, relays) in inner.said.values().flat_map(|(_, holders)| holders) {
            all.entry(*node).or_default().extend(relays);
        }
        (inner.holders, inner.heard, inner.quiet) = (all, true, None);
    }

    /// Looks whether any voter still says something; forgets holders of whom nothing is known if not.
    pub fn look(&self, connected: &BTreeSet<NodeId>, now: Instant) {
        let mut inner = self.lock();
        inner.said.retain(|_, (at, _)| now.duration_since(*at) <= FRESH);
        if !inner.said.is_empty() {
            return;
        }
        let since = *inner.quiet.get_or_insert(now);
        if now.duration_since(since) >= FRESH {
            inner.holders.retain(|node, _| connected.contains(node));
            inner.heard = true;
        }
    }

    /// Whether anything was heard since the start.
    pub(super) fn has_heard(&self) -> bool {
        self.lock().heard
    }

    /// The number of another link of this node.
    pub(super) fn next_number(&self) -> u64 {
        let mut inner = self.lock();
        inner.numbers += 1;
        inner.numbers
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
            let fresh =
                || Seen { url: url.clone(), since: events::now(), own: None, member: false, number: 0 };
            inner.relays.entry(*key).or_insert_with(fresh);
        }
    }

    /// Notes how this node's link of that number is; none if it ended.
    pub(super) fn note(&self, relay: &PublicKey, number: u64, own: Option<LinkState>, member: bool) {
        let mut inner = self.lock();
        if let Some(seen) = inner.relays.get_mut(relay).filter(|seen| seen.number <= number) {
            let up = |state: &Option<LinkState>| matches!(state, Some(LinkState::Up { .. }));
            if up(&seen.own) != up(&own) {
                seen.since = events::now();
            }
            (seen.own, seen.member, seen.number) = (own, member, number);
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
        table.note(&RELAY, 1, Some(down), true);
        let told = table.waiting_on();
        assert!(told[0].text.contains("refused") && told[0].subject == "https://relay.example", "{told:?}");
        let begun = Instant::now();
        table.heard(NodeId([9; 32]), vec![(NodeId([1; 32]), vec![RELAY])], begun);
        // Another voter has not heard of it yet: one that has is enough.
        table.heard(NodeId([8; 32]), Vec::new(), begun);
        assert!(table.waiting_on().is_empty());
        table.look(&BTreeSet::new(), begun + FRESH * 2);
        assert!(table.waiting_on().is_empty(), "only just quiet");
        table.look(&BTreeSet::new(), begun + FRESH * 3);
        assert_eq!(table.waiting_on().len(), 1);
    }

    #[test]
    fn only_a_members_link_is_reported() {
        let table = table();
        let up = LinkState::Up { relay: RELAY };
        table.note(&RELAY, 1, Some(up.clone()), false);
        assert!(table.up().is_empty());
        table.note(&RELAY, 2, Some(up), true);
        // The link before it ends late.
        table.note(&RELAY, 1, None, false);
        assert_eq!(table.up(), [RELAY]);
        table.keep(&BTreeMap::new());
        assert!(table.up().is_empty());
    }
}
