//! Which bundles a node fetches, and which it keeps. Pure.

use std::collections::{BTreeMap, BTreeSet};

use qb_model::{Digest, Name};
use serde::{Deserialize, Serialize};

/// How long a bundle that nothing names is kept, in milliseconds: it was pushed, and its cluster is made
/// later. A day is a working day and its morning after.
pub const UNNAMED_MS: u64 = 24 * 3_600_000;

/// Who installs from a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A cluster, what it runs.
    Cluster(Name),
    /// A cluster, what it is to run.
    Upgrade(Name),
    /// The agents of the site.
    Agents,
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cluster(name) => write!(f, "{name}"),
            // No cluster is called that.
            Self::Upgrade(name) => write!(f, "{name}/upgrade"),
            Self::Agents => f.write_str("/agents"),
        }
    }
}

/// A bundle that is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// By whom.
    pub who: Who,
    /// Which.
    pub bundle: Digest,
    /// Whether it holds a whole Kubernetes: some hundred MiB, that nobody fetches to no purpose. Others are
    /// of some KiB to some MiB.
    pub large: bool,
}

/// The bundles that a node fetches ahead of its orders, so that the death of the node that one was pushed to
/// strands nobody. That of a cluster goes to those that are attached to it: each of them needs it and gives
/// it on. What is not large goes to `spares` as well: every node of a small site, the voters of a larger one.
pub fn wanted(named: &[Named], mine: Option<&Name>, spares: bool) -> BTreeSet<Digest> {
    let wants = |named: &&Named| match &named.who {
        Who::Cluster(name) | Who::Upgrade(name) => mine == Some(name) || spares && !named.large,
        Who::Agents => spares,
    };
    named.iter().filter(wants).map(|named| named.bundle).collect()
}

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
    pub fn note(&mut self, named: &[Named]) -> bool {
        let mut next = BTreeMap::new();
        for named in named {
            let (who, now) = (named.who.to_string(), named.bundle);
            let held = match self.0.get(&who) {
                Some(held) if held.now == now => *held,
                Some(held) => Use { now, before: Some(held.now) },
                None => Use { now, before: None },
            };
            next.insert(who, held);
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

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn a_bundle_goes_to_those_that_install_from_it() {
        let named = [
            (Who::Cluster(name("blue")), 1, true),
            (Who::Upgrade(name("blue")), 2, true),
            (Who::Cluster(name("green")), 3, true),
            (Who::Cluster(name("demo")), 4, false),
            (Who::Agents, 5, false),
        ]
        .map(|(who, n, large)| Named { who, bundle: digest(n), large });
        let table = [
            (None, false, &[][..]),
            (None, true, &[4, 5]),
            (Some("blue"), false, &[1, 2]),
            (Some("green"), true, &[3, 4, 5]),
            (Some("demo"), false, &[4]),
            (Some("gone"), false, &[]),
        ];
        for (mine, spares, bundles) in table {
            let mine = mine.map(name);
            let all: BTreeSet<Digest> = bundles.iter().map(|n| digest(*n)).collect();
            assert_eq!(wanted(&named, mine.as_ref(), spares), all, "{mine:?} {spares}");
        }
    }

    #[test]
    fn the_bundle_of_each_cluster_and_the_one_before_are_kept() {
        let (blue, green) = (Who::Cluster(name("blue")), Who::Cluster(name("green")));
        let of = |who: &Who, n| Named { who: who.clone(), bundle: digest(n), large: true };
        let mut uses = Uses::default();
        let all: Vec<(Digest, u64)> = (1..=6).map(|n| (digest(n), UNNAMED_MS)).collect();
        let gone = |uses: &Uses| superfluous(&all, uses, &BTreeSet::from([digest(6)]));
        assert_eq!(gone(&uses).len(), 5, "nothing is named, one is on its way");
        assert!(uses.note(&[of(&blue, 1), of(&green, 1)]));
        assert!(!uses.note(&[of(&blue, 1), of(&green, 1)]));
        assert!(uses.note(&[of(&blue, 2), of(&green, 1)]));
        assert_eq!(gone(&uses), [digest(3), digest(4), digest(5)]);
        uses.note(&[of(&blue, 3), of(&green, 2)]);
        assert_eq!(gone(&uses), [digest(4), digest(5)], "1 is before green's, 2 before blue's");
        // Back to the one before: that one was bad, and is the one before now.
        uses.note(&[of(&blue, 2), of(&green, 2)]);
        assert_eq!(gone(&uses), [digest(4), digest(5)]);
        // A cluster that is deleted keeps nothing.
        uses.note(&[of(&green, 2)]);
        assert_eq!(gone(&uses), [digest(3), digest(4), digest(5)]);
        // What came today may get its cluster yet.
        assert_eq!(superfluous(&[(digest(4), UNNAMED_MS - 1)], &uses, &BTreeSet::new()), []);
    }
}
