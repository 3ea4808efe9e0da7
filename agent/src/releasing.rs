//! Taking other nodes out of this node's cluster: asked by the leader, verified by the executor against
//! signed intents, said in the log when it is done. Killed at any point, it is asked again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use qb_exec::{ReleaseRequest, StepProgress, StepState};
use qb_model::assignment::{Assignment, NodeResult};
use qb_model::board::{MAX_RELEASING, Releasing};
use qb_model::{Name, NodeId};
use tokio::sync::watch;

use crate::node::Node;
use crate::rpc::Release;
use crate::{events, reconcile, said};

/// How long this node waits for its own copy of the state to show that a node is to be taken out.
const CATCH_UP: Duration = Duration::from_secs(5);

/// Nodes that this one takes out, or tried to, with what there is to say of each.
#[derive(Default)]
pub struct Releases(Mutex<BTreeMap<NodeId, At>>);

struct At {
    shown: Releasing,
    runs: bool,
}

impl Releases {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, At>> {
        self.0.lock().expect("no code that holds the lock can panic")
    }

    /// What the node's report says of them.
    pub fn shown(&self) -> Vec<Releasing> {
        self.lock().values().map(|at| at.shown.clone()).collect()
    }

    /// Begins with one, unless it is in hand or there are too many.
    fn begin(&self, node: NodeId) -> Result<bool, String> {
        let mut all = self.lock();
        let full = all.len() >= MAX_RELEASING && !all.contains_key(&node);
        if full {
            return Err(format!("{MAX_RELEASING} nodes are being taken out: ask again"));
        }
        let at = all.entry(node).or_insert_with(|| At {
            shown: Releasing {
                node,
                since: events::now(),
                title: "begins".to_owned(),
                text: String::new(),
                remedy: String::new(),
            },
            runs: false,
        });
        Ok(!std::mem::replace(&mut at.runs, true))
    }

    fn show(&self, node: &NodeId, title: &str, text: &str, remedy: &str) {
        if let Some(at) = self.lock().get_mut(node) {
            let (title, text, remedy) = (title.to_owned(), text.to_owned(), remedy.to_owned());
            at.shown = Releasing { title, text, remedy, ..at.shown.clone() };
        }
    }

    /// One try is over; what failed stays shown until the next one.
    fn pause(&self, node: &NodeId) {
        if let Some(at) = self.lock().get_mut(node) {
            at.runs = false;
        }
    }

    /// Forgets those that `keep` does not name.
    fn retain(&self, keep: impl Fn(&NodeId) -> bool) {
        self.lock().retain(|node, at| at.runs || keep(node));
    }
}

/// Takes a node out, if the state says so; returns once that is begun.
///
/// # Errors
/// Why it is not begun.
pub async fn ask(node: &Arc<Node>, asked: Release) -> Result<(), String> {
    let me = node.id();
    let Release { cluster, node: leaving } = asked;
    if !node.wait_state(CATCH_UP, |s| s.release_order(&cluster, &leaving, &me).is_some()).await {
        return Err("this node knows of nobody to take out there".into());
    }
    let state = node.site();
    let open = |n: &NodeId| state.clusters().values().any(|c| c.releases.contains_key(n));
    node.releases.retain(open);
    let Some(order) = state.release_order(&cluster, &leaving, &me) else { return Ok(()) };
    if node.releases.begin(leaving)? {
        let held = node.clone();
        node.tasks.spawn(async move {
            take_out(&held, &cluster, order).await;
            held.report_now.notify_one();
        });
    }
    Ok(())
}

async fn take_out(node: &Arc<Node>, cluster: &Name, order: Assignment) {
    let leaving = order.node;
    let gone = |s: &qb_model::state::SiteState| {
        s.cluster(cluster).is_none_or(|c| !c.releases.contains_key(&leaving))
    };
    let mut state = node.state.clone();
    tokio::select! {
        result = carry_out(node, order) => {
            if let Err((title, text, remedy)) = result {
                let host = node.facts().host;
                tracing::warn!(%cluster, node = %leaving, "{title}: {text}");
                events_say(node, host.as_str(), cluster, &title, &text);
                node.releases.show(&leaving, &title, &text, &remedy);
            }
        }
        // Another member did it, or the cluster is deleted.
        _ = state.wait_for(|s| gone(s)) => {}
        () = node.cancel.cancelled() => {}
    }
    node.releases.pause(&leaving);
    let state = node.site();
    node.releases.retain(|n| state.clusters().values().any(|c| c.releases.contains_key(n)));
}

fn events_say(node: &Node, host: &str, cluster: &Name, title: &str, text: &str) {
    node.events.say(events::now(), "step", host, format!("release from {cluster}: {title}: {text}"));
}

/// Err: the step, what failed, and what helps.
async fn carry_out(node: &Arc<Node>, order: Assignment) -> Result<(), (String, String, String)> {
    let at = |title: &str, text: String, remedy: &str| (title.to_owned(), text, remedy.to_owned());
    let exec =
        node.exec.get().ok_or_else(|| at("start", "the executor is not up".into(), "wait a moment"))?;
    let grounds = reconcile::grounds(&node.site(), &order)
        .map_err(|why| at("verify the order", why.to_owned(), "qb audit verify"))?;
    let (leaving, generation) = (order.node, order.generation);
    let (progress, shown) = watch::channel(Vec::new());
    let teller = node.tasks.spawn(tell(node.clone(), leaving, shown));
    let done = exec.release(node, ReleaseRequest { order, grounds }, progress).await;
    // It ends by itself once the sender is gone.
    let _ = teller.await;
    done.map_err(|e| (e.title, e.text, e.remedy))?;
    let said = NodeResult::Released { node: leaving, generation };
    said::say(node, None, &said).await.map_err(|why| at("tell the site", why, "qb site status"))
}

/// Shows progress as it comes.
async fn tell(node: Arc<Node>, leaving: NodeId, mut shown: watch::Receiver<Vec<StepProgress>>) {
    while shown.changed().await.is_ok() {
        let steps = shown.borrow_and_update().clone();
        let open = |s: &&StepProgress| !matches!(s.state, StepState::Done | StepState::Waiting);
        if let Some(step) = steps.iter().find(open) {
            node.releases.show(&leaving, &step.title, &step.detail, "");
            node.report_now.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_of_each_and_bounded() {
        let releases = Releases::default();
        let node = |n: usize| NodeId([n as u8; 32]);
        assert_eq!(releases.begin(node(1)), Ok(true));
        assert_eq!(releases.begin(node(1)), Ok(false), "it runs");
        releases.show(&node(1), "drain", "a budget holds web-1", "");
        releases.pause(&node(1));
        assert_eq!(releases.shown()[0].text, "a budget holds web-1");
        assert_eq!(releases.begin(node(1)), Ok(true), "and again");
        for n in 2..=MAX_RELEASING {
            assert_eq!(releases.begin(node(n)), Ok(true));
        }
        assert!(releases.begin(node(99)).is_err());
        assert_eq!(releases.begin(node(1)), Ok(false));
        releases.pause(&node(1));
        releases.retain(|_| false);
        assert_eq!(releases.shown().len(), MAX_RELEASING - 1, "those that run stay");
    }
}
