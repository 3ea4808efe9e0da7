//! Nodes that wait to be let in and came through the relay. They are shown, marked as such; the
//! words on the host's console decide.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use qb_model::facts::Facts;
use qb_model::statement::{Knock, Signed};
use qb_model::waiting::WaitingOn;
use qb_model::words::{fingerprint, words};
use qb_model::{Digest, Generation, HostName, Millis, NodeId};
use qb_portal::view::{NodeState, NodeView};

use crate::limits::KNOCKS_SITE;

struct Waiting {
    host: HostName,
    digest: Digest,
    facts: Option<Facts>,
    since: u64,
}

/// The table. One entry lives as long as the link that it came by.
#[derive(Default)]
pub(crate) struct Knocks {
    table: Mutex<BTreeMap<NodeId, Waiting>>,
}

impl Knocks {
    /// Takes a verified knock. False if the table is full.
    pub(crate) fn put(&self, knock: &Signed<Knock>, now: u64) -> bool {
        let mut table = self.lock();
        let value = knock.value();
        if table.len() >= KNOCKS_SITE && !table.contains_key(&value.node) {
            return false;
        }
        let facts = postcard::from_bytes(&value.facts).ok();
        let waiting = Waiting { host: value.host.clone(), digest: knock.digest(), facts, since: now };
        table.insert(value.node, waiting);
        true
    }

    pub(crate) fn remove(&self, node: &NodeId) {
        self.lock().remove(node);
    }

    pub(crate) fn retain(&self, keep: impl Fn(&NodeId) -> bool) {
        self.lock().retain(|node, _| keep(node));
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// The nodes as the API shows them.
    pub(crate) fn views(&self) -> Vec<NodeView> {
        self.lock().iter().map(|(node, waiting)| waiting.view(*node)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Waiting>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn view(&self, id: NodeId) -> NodeView {
        let text = "came through the relay: compare the words with its console (qb-agent id) before you authorize it";
        let way = ("operator", format!("qb node authorize {}", self.host));
        let since = Millis(self.since);
        NodeView {
            v: 1,
            id,
            name: self.host.clone(),
            words: words(&id.0).join(" "),
            fingerprint: fingerprint(&id.0),
            state: NodeState::Waiting,
            since,
            generation: Generation(0),
            knock: Some(self.digest),
            cluster: None,
            role: None,
            rehearsal: false,
            roles: vec!["came through the relay".to_owned()],
            probation: false,
            labels: Vec::new(),
            facts: self.facts.clone(),
            report_age_ms: None,
            load_milli: None,
            memory_used_bytes: None,
            disk_bytes: None,
            disk_free_bytes: None,
            uptime_s: None,
            work: None,
            agent_upgrade: None,
            waiting_on: Some(WaitingOn::person("node.authorize", self.host.as_str(), text, since, way)),
        }
    }
}
