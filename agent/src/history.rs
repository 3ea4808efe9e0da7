//! The last hour of every node: each node records the reports that it hears, so the voters have all of
//! them; other nodes ask a voter. In memory: an agent that was restarted begins anew.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use qb_model::history::{History, Sample};
use qb_model::{Millis, NodeId};

use crate::node::Node;
use crate::rpc::{HistoryAnswer, kind};

/// Deadline of one question.
const DEADLINE: Duration = Duration::from_secs(2);
/// Voters that are asked before giving up: a majority of the largest group.
const ASKED: usize = 3;

/// The recorder of a node.
#[derive(Default)]
pub struct Recorder {
    held: Mutex<History>,
}

impl Recorder {
    fn lock(&self) -> MutexGuard<'_, History> {
        self.held.lock().expect("no code that holds the lock can panic")
    }

    /// Records a report that was heard at `at`.
    pub fn hear(&self, report: &qb_model::board::NodeReport, at: Millis) {
        self.lock().hear(report, at);
    }

    /// Forgets nodes that `keep` does not name.
    pub fn retain(&self, keep: impl Fn(&NodeId) -> bool) {
        self.lock().retain(keep);
    }

    /// What was heard here of a node, or of the site, in the hour before `now`.
    pub fn samples(&self, of: Option<&NodeId>, now: Millis) -> Vec<Sample> {
        let held = self.lock();
        match of {
            Some(node) => held.of_node(node, now),
            None => held.of_site(now),
        }
    }

    /// Looks at the history.
    pub fn with<T>(&self, look: impl FnOnce(&History) -> T) -> T {
        look(&self.lock())
    }
}

/// The last hour as a voter heard it. None if no voter answers.
pub async fn of(node: &Node, of: Option<NodeId>) -> Option<Vec<Sample>> {
    let raft = node.raft();
    let votes = raft.raft_id.is_some_and(|id| raft.voters.contains_key(&id));
    let voters: Vec<NodeId> = node.voters().into_iter().filter(|v| *v != node.id()).take(ASKED).collect();
    if votes || voters.is_empty() {
        return Some(node.recorder.samples(of.as_ref(), node.site_now()));
    }
    for voter in voters {
        match node.ask::<_, HistoryAnswer>(voter, kind::HISTORY, &of, DEADLINE).await {
            Ok(samples) => return Some(samples),
            Err(e) => tracing::debug!(%voter, "history: {e}"),
        }
    }
    None
}
