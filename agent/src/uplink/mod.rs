//! Links to relays: who of the site holds them, what goes over them.
//!
//! ```text
//!  trust state: relays ──> run (here) ── choice.rs: does this node hold one? ──> link.rs ──> qb-link
//!  reports: who holds one ─┘                                                       │
//!                     the site's door (AgentSite) <── requests of the relay ───────┤
//!                     receipts.rs ── what became of intents ──────────────────────>│
//!                     source.rs ──── trust, roster, addresses, knock ─────────────>│
//!                     source.rs <─── "this node was let in", verified here ────────┘
//! ```
//!
//! A node that waits to be let in dials every relay that it knows of and knocks. Of the members two
//! hold a link to each relay: a gateway and a standby.

mod choice;
mod link;
mod receipts;
mod source;
mod table;
pub(crate) mod way;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use qb_model::{NodeId, PublicKey};
use tokio::time::{Instant, MissedTickBehavior, interval};

pub use receipts::Receipts;
pub use table::Uplinks;
pub use way::{Way, WayError};

use crate::daemon::SMALL_SITE;
use crate::node::Node;
use choice::View;
use link::Link;

/// Most relays of a site: four keys may live, and as many are on their way in or out.
pub const MAX_RELAYS: usize = qb_model::limits::ENROLMENT_RELAYS;
/// A report that is older says nothing about a link: nodes report each second.
const FRESH_MS: u64 = 3_000;
/// How often it is looked whether this node is to hold a link.
const LOOK: Duration = Duration::from_millis(300);
/// How long a node that was let in may be without the site's state before it asks the relay again
/// where members are.
const ENTER: Duration = Duration::from_secs(5);

/// Where this node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// It waits to be let in, or was let in and finds no member.
    Waits,
    /// A member.
    Member,
    /// Nothing to do at a relay.
    Out,
}

/// Who holds links, as this node hears it: itself and the connected nodes whose reports are fresh.
pub fn holders(node: &Node) -> Vec<(NodeId, Vec<PublicKey>)> {
    let (me, now) = (node.id(), node.site_now());
    let mut all: Vec<(NodeId, Vec<PublicKey>)> = Vec::new();
    for heard in node.board().iter() {
        let report = &heard.report;
        if report.node != me && !report.uplinks.is_empty() && now.since(heard.at) <= FRESH_MS {
            all.push((report.node, report.uplinks.clone()));
        }
    }
    let peers = node.mesh().map(qb_mesh::Mesh::watch_peers);
    all.retain(|(holder, _)| peers.as_ref().is_some_and(|peers| peers.borrow().contains_key(holder)));
    let own = node.uplinks.up();
    if !own.is_empty() {
        all.push((me, own));
    }
    all
}

/// Holds links as long as the agent runs.
pub async fn run(node: Arc<Node>) {
    let mut state = node.state.clone();
    let mut admitted = node.admitted.subscribe();
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut keeper = Keeper { node: node.clone(), relays: BTreeMap::new(), lost: Instant::now() };
    loop {
        keeper.turn();
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            changed = admitted.changed() => if changed.is_err() { return },
            _ = look.tick() => {}
            () = node.cancel.cancelled() => return,
        }
    }
}

/// One relay, and this node's link to it, if it holds one.
struct Place {
    url: String,
    receipts: Arc<Receipts>,
    link: Option<(Stand, Link)>,
    /// Since when fewer than two others hold one.
    vacant: Option<Instant>,
    /// Since when there are more than there should be.
    crowded: Option<Instant>,
}

/// Keeps this node's links as they should be.
struct Keeper {
    node: Arc<Node>,
    relays: BTreeMap<PublicKey, Place>,
    /// When this node was last seen to be a member, or to wait.
    lost: Instant,
}

impl Keeper {
    fn stand(&mut self) -> Stand {
        let node = &self.node;
        let state = node.site();
        if *node.revoked.borrow() {
            return Stand::Out;
        }
        if state.founded() && state.node(&node.id()).is_some() {
            self.lost = Instant::now();
            return Stand::Member;
        }
        if !*node.admitted.borrow() {
            self.lost = Instant::now();
            return Stand::Waits;
        }
        // It comes in, or reads its own log after a start. If that does not end, it asks again.
        if self.lost.elapsed() < ENTER { Stand::Out } else { Stand::Waits }
    }

    /// The relays that concern this node: those that owners trust; before it is let in, those of the
    /// enrolment file besides.
    fn wanted(&self, stand: Stand) -> BTreeMap<PublicKey, String> {
        let state = self.node.site();
        let mut all: BTreeMap<PublicKey, String> =
            state.trust().relays().iter().map(|(key, relay)| (*key, relay.url.clone())).collect();
        if stand == Stand::Waits {
            for relay in &self.node.enrolment.relays {
                all.entry(relay.key).or_insert_with(|| relay.url.clone());
            }
        }
        all.into_iter().take(if stand == Stand::Out { 0 } else { MAX_RELAYS }).collect()
    }

    fn turn(&mut self) {
        let stand = self.stand();
        let wanted = self.wanted(stand);
        self.relays.retain(|key, place| wanted.get(key) == Some(&place.url));
        self.node.uplinks.keep(&wanted);
        for (key, url) in wanted {
            let place = self.relays.entry(key).or_insert_with(|| Place {
                url,
                receipts: Arc::default(),
                link: None,
                vacant: None,
                crowded: None,
            });
            let holds = match stand {
                Stand::Waits => true,
                // Before it heard who holds one it would choose itself.
                Stand::Member => self.node.uplinks.has_heard() && place.is_chosen(&self.node, &key),
                Stand::Out => false,
            };
            place.link.take_if(|(as_what, _)| !holds || *as_what != stand);
            if holds && place.link.is_none() {
                match Link::start(&self.node, (key, &place.url), stand == Stand::Waits, &place.receipts) {
                    Ok(link) => place.link = Some((stand, link)),
                    Err(why) => tracing::warn!(relay = %place.url, "no link can be made: {why}"),
                }
            }
        }
    }
}

impl Place {
    /// Whether this node is one of the two.
    fn is_chosen(&mut self, node: &Node, relay: &PublicKey) -> bool {
        let me = node.id();
        let holders = node.uplinks.others(relay, &me);
        let up = self.link.as_ref().is_some_and(|(_, link)| link.is_up());
        let now = Instant::now();
        let since = |held: &mut Option<Instant>, so: bool| {
            *held = so.then(|| held.unwrap_or(now));
            held.map_or(Duration::ZERO, |since| now - since)
        };
        let vacant = since(&mut self.vacant, holders.len() < choice::LINKS);
        let crowded = since(&mut self.crowded, up && holders.len() >= choice::LINKS);
        choice::holds(&View { me, up, alive: &alive(node), holders: &holders, vacant, crowded })
    }
}

/// Members that could hold a link: in a small site the ones this node is connected to, in a larger
/// one all of them, since nobody is connected to everybody there.
fn alive(node: &Node) -> BTreeSet<NodeId> {
    let mut members = node.members();
    if members.len() <= SMALL_SITE {
        let connected = node.mesh().map(qb_mesh::Mesh::connected).unwrap_or_default();
        members.retain(|member| connected.contains(member));
    }
    members.insert(node.id());
    members
}
