//! What the relay saw that must not be: shown as alerts until it restarts.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use qb_model::{Digest, Millis, NodeId};
use qb_portal::view::AlertView;

use crate::limits::MARKS;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    /// Two processes have one node's key.
    Clone(NodeId),
    /// A gateway brought a trust log that does not extend the one held.
    Fork(NodeId),
    /// Two nodes signed different receipts for one intent.
    SplitView(Digest),
    /// A gateway brought a state that voters signed and that cannot be beside one held: its index.
    Heads(u64),
}

/// The marks of a site.
#[derive(Default)]
pub(crate) struct Marks {
    seen: Mutex<BTreeMap<Mark, u64>>,
}

impl Marks {
    pub(crate) fn put(&self, mark: Mark, now: u64) {
        let mut seen = self.lock();
        if seen.len() < MARKS || seen.contains_key(&mark) {
            seen.entry(mark).or_insert(now);
        }
    }

    pub(crate) fn alerts(&self) -> Vec<AlertView> {
        self.lock().iter().map(|(mark, since)| mark.alert(*since)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Mark, u64>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mark {
    fn alert(&self, since: u64) -> AlertView {
        let (rule, subject, text) = match self {
            Self::Clone(node) => (
                "node-cloned",
                qb_model::words::fingerprint(&node.0),
                "two processes have this node's key: on one of the hosts, qb-agent identity reset",
            ),
            Self::Fork(node) => (
                "trust-fork",
                qb_model::words::fingerprint(&node.0),
                "this gateway brought a trust log that does not extend the verified one: look at its host",
            ),
            Self::SplitView(digest) => (
                "split-view",
                digest.to_string(),
                "two nodes signed different outcomes for this intent: qb site verify",
            ),
            Self::Heads(index) => (
                "split-view",
                format!("index {index}"),
                "voters signed two states that cannot both be: qb site verify",
            ),
        };
        AlertView {
            rule: rule.to_owned(),
            severity: "critical".to_owned(),
            layer: crate::alerts::LAYER.to_owned(),
            subject,
            text: text.to_owned(),
            since: Millis(since),
            resolved: None,
            remedy: None,
        }
    }
}
