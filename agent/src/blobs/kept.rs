//! Which bundles a node keeps. Pure.

use std::collections::{BTreeMap, BTreeSet};

use qb_model::{Digest, Name};
use serde::{Deserialize, Serialize};

/// How long a bundle that nothing names is kept, in milliseconds: it was pushed, and its cluster is made
/// later. A day is a working day and its morning after.
pub const UNNAMED_MS: u64 = 24 * 3_600_000;

/// What each cluster, and the site's agents, installed from: now, and before that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uses(BTreeMap<String, Use>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Use {
    now: Digest,
    before: Option<Digest>,
}

impl Uses {
    /// Notes what is named now; whether that was news. What names nothing any more is forgotten.
    pub fn note<'a>(&mut self, named: impl Iterator<Item = (&'a Name, Digest)>) -> bool {
        let mut next = BTreeMap::new();
        for (who, now) in named {
            let held = match self.0.get(who.as_str()) {
                Some(held) if held.now == now => *held,
                Some(held) => Use { now, before: Some(held.now) },
                None => Use { now, before: None },
            };
            next.insert(who.to_string(), held);
        }
        let news = next != self.0;
        self.0 = next;
        news
    }

    /// What is named, and what was before it: to go back to.
    pub fn named(&self) -> BTreeSet<Digest> {
        self.0.values().flat_map(|held| [Some(held.now), held.before]).flatten().collect()
    }
}

/// What may be deleted: no cluster names it, none named it just before, it is not being fetched, and it has
/// been here for a day. `here` is each bundle with its age in milliseconds.
pub fn superfluous(here: &[(Digest, u64)], uses: &Uses, fetching: &BTreeSet<Digest>) -> Vec<Digest> {
    let named = uses.named();
    here.iter()
        .filter(|(digest, age)| *age >= UNNAMED_MS && !named.contains(digest) && !fetching.contains(digest))
        .map(|(digest, _)| *digest)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> Digest {
        Digest([n; 32])
    }

    #[test]
    fn the_bundle_of_each_cluster_and_the_one_before_are_kept() {
        let (blue, green): (Name, Name) = ("blue".parse().unwrap(), "green".parse().unwrap());
        let mut uses = Uses::default();
        let all: Vec<(Digest, u64)> = (1..=6).map(|n| (digest(n), UNNAMED_MS)).collect();
        let gone = |uses: &Uses| superfluous(&all, uses, &BTreeSet::from([digest(6)]));
        assert_eq!(gone(&uses).len(), 5, "nothing is named, one is on its way");
        assert!(uses.note([(&blue, digest(1)), (&green, digest(1))].into_iter()));
        assert!(!uses.note([(&blue, digest(1)), (&green, digest(1))].into_iter()));
        assert!(uses.note([(&blue, digest(2)), (&green, digest(1))].into_iter()));
        assert_eq!(gone(&uses), [digest(3), digest(4), digest(5)]);
        uses.note([(&blue, digest(3)), (&green, digest(2))].into_iter());
        assert_eq!(gone(&uses), [digest(4), digest(5)], "1 is before green's, 2 before blue's");
        // Back to the one before: that one was bad, and is the one before now.
        uses.note([(&blue, digest(2)), (&green, digest(2))].into_iter());
        assert_eq!(gone(&uses), [digest(4), digest(5)]);
        // A cluster that is deleted keeps nothing.
        uses.note([(&green, digest(2))].into_iter());
        assert_eq!(gone(&uses), [digest(3), digest(4), digest(5)]);
        // What came today may get its cluster yet.
        assert_eq!(superfluous(&[(digest(4), UNNAMED_MS - 1)], &uses, &BTreeSet::new()), []);
    }
}
