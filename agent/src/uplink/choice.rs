//! Who holds the links to a relay: a pure choice that every member makes for itself from what it
//! hears. Links that are up stay; the lowest keys fill what is vacant; where these have no way to
//! the relay, others try, a few at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use qb_model::NodeId;

/// Links of a site to one relay: a gateway and a standby.
pub(super) const LINKS: usize = 2;
/// How long the first choice has before others try too.
const GRACE: Duration = Duration::from_secs(3);
/// How many others try at a time: a relay that is down must not be dialled by a whole site.
const WINDOW: usize = 4;
/// How long they try before the next ones do.
const SLOT: Duration = Duration::from_secs(15);
/// How long there may be too many before the highest keys leave: what is heard may be old.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a member knows when it chooses.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    /// Itself.
    pub(super) me: NodeId,
    /// Whether its own link is up.
    pub(super) up: bool,
    /// Who could hold one, itself among them.
    pub(super) alive: &'a BTreeSet<NodeId>,
    /// The others whose link is up.
    pub(super) holders: &'a BTreeSet<NodeId>,
    /// For how long fewer than two others hold one.
    pub(super) vacant: Duration,
    /// For how long it has been one too many.
    pub(super) crowded: Duration,
}

/// Whether this member is to hold a link, or to try to.
pub(super) fn holds(view: &View<'_>) -> bool {
    if view.up {
        let before = view.holders.iter().filter(|holder| **holder < view.me).count();
        return before < LINKS || view.crowded < PATIENCE;
    }
    let Some(seats) = LINKS.checked_sub(view.holders.len()).filter(|seats| *seats > 0) else { return false };
    let free = || view.alive.iter().filter(|node| !view.holders.contains(*node));
    let rank = free().filter(|node| **node < view.me).count();
    if rank < seats {
        return true;
    }
    let Some(waited) = view.vacant.checked_sub(GRACE) else { return false };
    let others = free().count().saturating_sub(seats).max(1);
    let slot = usize::try_from(waited.as_secs() / SLOT.as_secs()).unwrap_or_default();
    let first = slot.wrapping_mul(WINDOW) % others;
    (rank - seats + others - first) % others < WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    fn set(nodes: &[u8]) -> BTreeSet<NodeId> {
        nodes.iter().map(|n| node(*n)).collect()
    }

    /// Who of `alive` holds or tries, where `up` hold one and everybody knows it.
    fn chosen(alive: &[u8], up: &[u8], vacant: u64) -> Vec<u8> {
        let everyone = set(alive);
        let decide = |me: &u8| {
            let holders: BTreeSet<NodeId> = set(up).into_iter().filter(|n| *n != node(*me)).collect();
            let vacant = Duration::from_secs(vacant);
            let crowded = PATIENCE;
            holds(&View {
                me: node(*me),
                up: up.contains(me),
                alive: &everyone,
                holders: &holders,
                vacant,
                crowded,
            })
        };
        alive.iter().copied().filter(decide).collect()
    }

    #[test]
    fn who_holds_a_link() {
        for (alive, up, vacant, expected) in [
            // The lowest keys begin.
            (&[1, 2, 3, 4, 5][..], &[][..], 0, &[1, 2][..]),
            // Who holds one keeps it, whatever its key, and nobody else tries.
            (&[1, 2, 3, 4, 5], &[4, 5], 0, &[4, 5]),
            (&[1, 2, 3, 4, 5], &[4, 5], 900, &[4, 5]),
            // One place is vacant: the lowest of the rest.
            (&[1, 2, 3, 4, 5], &[4], 0, &[1, 4]),
            // It has no way to the relay: after a while the others try, too.
            (&[1, 2, 3, 4, 5], &[4], 3, &[1, 2, 3, 4, 5]),
            // Too many: the highest leave.
            (&[1, 2, 3, 4, 5], &[2, 3, 5], 0, &[2, 3]),
            (&[7], &[], 0, &[7]),
            (&[7, 9], &[9], 60, &[7, 9]),
        ] {
            assert_eq!(chosen(alive, up, vacant), expected, "{alive:?} {up:?} {vacant}");
        }
    }

    #[test]
    fn a_burst_of_old_news_ends_no_link() {
        let (alive, holders) = (set(&[1, 2, 3]), set(&[1, 2]));
        let view =
            View { me: node(3), up: true, alive: &alive, holders: &holders, vacant: GRACE, crowded: GRACE };
        assert!(holds(&view));
        assert!(!holds(&View { crowded: PATIENCE, ..view }));
    }

    #[test]
    fn in_a_large_site_few_try_at_a_time_and_everybody_gets_a_turn() {
        let alive: Vec<u8> = (1..=200).collect();
        let mut tried = BTreeSet::new();
        for vacant in (0..).step_by(15).take(60) {
            let now = chosen(&alive, &[], vacant);
            assert!(now.len() <= LINKS + WINDOW, "{vacant} {now:?}");
            tried.extend(now);
        }
        assert_eq!(tried.len(), alive.len());
    }
}
