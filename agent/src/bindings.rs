//! Role bindings of admins in this node's cluster: kept by one control plane member, whenever the trust
//! log changes and again and again, since people can change them in the cluster as well.
//!
//! The member is the least one by its id of those that serve and that this node reaches. Two that do it,
//! while one does not reach the other, do the same.

use std::sync::Arc;
use std::time::Duration;

use qb_exec::{BindingsRequest, StageError, TrustGrounds};
use qb_model::action::NodeRole;
use qb_model::assignment::KUBEADM;
use qb_model::state::{Cluster, SiteState};
use qb_model::{Digest, Name, NodeId};
use tokio::time::Instant;

use crate::events;
use crate::node::Node;

/// How often bindings are looked at that nobody here changed.
const LOOK: Duration = Duration::from_secs(600);
/// How often it is looked at who is to do it: nodes come and go without a change of the state.
pub(crate) const TURN: Duration = Duration::from_secs(15);
/// Pauses after a failure: the first, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(120));

/// What is to be kept: the admins of a trust log, by its head, in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Due {
    cluster: Name,
    head: Digest,
}

/// The cluster in which this node keeps what control plane members keep, if it is its turn.
pub(crate) fn keeper(state: &SiteState, me: NodeId, reached: impl Fn(&NodeId) -> bool) -> Option<&Cluster> {
    let cluster = state.cluster(state.node(&me)?.phase.cluster()?)?;
    let serves =
        |n: &&qb_model::state::NodeRecord| n.phase.serves() && n.phase.role() == Some(NodeRole::ControlPlane);
    let members = state.members(&cluster.name).filter(serves).map(|n| n.node);
    let keeper = members.filter(|n| *n == me || reached(n)).min()?;
    (cluster.driver.as_str() == KUBEADM && keeper == me).then_some(cluster)
}

/// What this node is to keep, if it is its turn.
fn due(state: &SiteState, me: NodeId, reached: impl Fn(&NodeId) -> bool) -> Option<Due> {
    let cluster = keeper(state, me, reached)?;
    Some(Due { cluster: cluster.name.clone(), head: state.trust().head() })
}

/// When a thing is done next.
#[derive(Debug)]
pub(crate) struct Schedule<T> {
    /// What was tried last, and when it is tried again.
    tried: Option<(T, Instant)>,
    /// The pause after the failure before; none after a success.
    pause: Option<Duration>,
}

impl<T> Default for Schedule<T> {
    fn default() -> Self {
        Self { tried: None, pause: None }
    }
}

impl<T: PartialEq> Schedule<T> {
    /// When to do it: at once if it is another one than before.
    pub(crate) fn next(&self, due: &T, now: Instant) -> Instant {
        match &self.tried {
            Some((tried, next)) if tried == due => *next,
            _ => now,
        }
    }

    /// How it went.
    pub(crate) fn ended(&mut self, due: T, done: bool, now: Instant) {
        self.pause = (!done).then(|| self.pause.map_or(AGAIN.0, |pause| (pause * 2).min(AGAIN.1)));
        self.tried = Some((due, now + self.pause.unwrap_or(LOOK)));
    }
}

/// Keeps them for as long as the agent runs. Nothing waits for it.
pub async fn run(node: Arc<Node>) {
    let Some(exec) = node.exec.get() else { return };
    let (mut state, mut link) = (node.state.clone(), exec.link());
    let (mut schedule, mut told) = (Schedule::default(), None);
    loop {
        let connected = node.mesh().map(qb_mesh::Mesh::connected).unwrap_or_default();
        let able = link.borrow_and_update().waits.is_empty() && !*node.revoked.borrow();
        let due = due(&state.borrow_and_update(), node.id(), |n| connected.contains(n)).filter(|_| able);
        let now = Instant::now();
        let next = match due {
            // Who gets its turn again begins anew: others kept them meanwhile.
            None => {
                schedule = Schedule::default();
                now + TURN
            }
            Some(due) => {
                let next = schedule.next(&due, now);
                if next <= now {
                    let done = keep(&node, due.cluster.clone()).await;
                    tell(&node, &due.cluster, &done, &mut told);
                    schedule.ended(due, done.is_ok(), Instant::now());
                    continue;
                }
                next.min(now + TURN)
            }
        };
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            changed = link.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(next) => {}
            () = node.cancel.cancelled() => return,
        }
    }
}

async fn keep(node: &Node, cluster: Name) -> Result<(), StageError> {
    let Some(exec) = node.exec.get() else { return Ok(()) };
    let state = node.site();
    let grounds = TrustGrounds { charter: state.charter().to_vec(), trust_log: state.trust().log().to_vec() };
    exec.keep_bindings(node, BindingsRequest { cluster, grounds }).await
}

/// Says how it went, each failure once.
fn tell(node: &Node, cluster: &Name, done: &Result<(), StageError>, told: &mut Option<String>) {
    if node.cancel.is_cancelled() {
        return;
    }
    let text = match done {
        Ok(()) if told.take().is_some() => format!("the admins have their rights in {cluster}"),
        Ok(()) => return,
        Err(error) => {
            let (text, remedy) = (&error.text, &error.remedy);
            format!("what admins may do in {cluster} is not brought up to date: {text}; {remedy}")
        }
    };
    if done.is_err() {
        tracing::warn!(%cluster, "{text}");
        if told.as_ref() == Some(&text) {
            return;
        }
        *told = Some(text.clone());
    }
    node.events.say(events::now(), "cluster", cluster.as_str(), text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(cluster: &str, head: u8) -> Due {
        Due { cluster: cluster.parse().expect("a name"), head: Digest([head; 32]) }
    }

    #[test]
    fn a_change_is_done_at_once_and_else_now_and_then() {
        let (now, mut schedule) = (Instant::now(), Schedule::default());
        assert_eq!(schedule.next(&due("c1", 1), now), now);
        schedule.ended(due("c1", 1), true, now);
        assert_eq!(schedule.next(&due("c1", 1), now), now + LOOK);
        assert_eq!(schedule.next(&due("c1", 2), now), now, "the trust log changed");
        assert_eq!(schedule.next(&due("c2", 1), now), now, "another cluster");
    }

    #[test]
    fn failures_are_tried_again_with_growing_pauses() {
        let (now, mut schedule) = (Instant::now(), Schedule::default());
        let mut pauses = Vec::new();
        for _ in 0..8 {
            schedule.ended(due("c1", 1), false, now);
            pauses.push((schedule.next(&due("c1", 1), now) - now).as_secs());
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 120, 120]);
        schedule.ended(due("c1", 1), true, now);
        schedule.ended(due("c1", 1), false, now);
        assert_eq!(schedule.next(&due("c1", 1), now), now + AGAIN.0, "it begins anew");
    }
}
