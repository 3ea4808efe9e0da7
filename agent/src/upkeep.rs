//! What a control plane node does for itself, as its executor says: told in this node's reports. Certificates
//! are renewed and daily backups taken by the executor, which needs nobody for it; a backup that an admin asks
//! for is asked of it here, on every control plane node of the cluster.

use std::sync::Arc;
use std::time::Duration;

use qb_exec::BackupRequest;
use qb_model::board::Upkeep;
use qb_model::state::SiteState;
use qb_model::{Digest, NodeId};
use tokio::time::Instant;

use crate::events;
use crate::node::Node;

/// How often the executor is asked how it stands.
const LOOK: Duration = Duration::from_secs(10);
/// Pause after a backup that did not succeed.
const AGAIN: Duration = Duration::from_secs(60);

/// The backup that this node is to take, if an admin asked for one that it does not keep. What is older than
/// what the node keeps of its schedule is no matter any more: the newest that was asked for is never dropped.
fn asked(state: &SiteState, me: NodeId, upkeep: &Upkeep) -> Option<Digest> {
    let cluster = state.cluster(state.node(&me)?.phase.cluster()?)?;
    let digest = cluster.backup.filter(|b| !state.held(&b.cites))?.cites.digest;
    let here = cluster.name == upkeep.cluster && upkeep.backups.iter().any(|b| b.asked == Some(digest));
    (!here).then_some(digest)
}

/// Asks for as long as the agent runs. Nothing waits for it.
pub async fn run(node: Arc<Node>) {
    let Some(exec) = node.exec.get() else { return };
    let mut state = node.state.clone();
    let mut again: Option<(Digest, Instant)> = None;
    loop {
        let now = state.borrow_and_update().clone();
        let cluster = now.node(&node.id()).and_then(|n| n.phase.cluster().cloned());
        let found = match &cluster {
            Some(cluster) => exec.upkeep(cluster).await,
            None => None,
        };
        let due = found.as_ref().and_then(|upkeep| asked(&now, node.id(), upkeep));
        node.upkeep.send_if_modified(|shown| {
            let news = *shown != found;
            *shown = found;
            news
        });
        let waits = |due: &Digest| again.is_some_and(|(what, until)| what == *due && Instant::now() < until);
        if let (Some(cluster), Some(asked)) = (cluster, due.filter(|due| !waits(due))) {
            let done = exec.back_up(&node, BackupRequest { cluster: cluster.clone(), asked }).await;
            if node.cancel.is_cancelled() {
                return;
            }
            match done {
                Ok(()) => {
                    again = None;
                    node.events.say(
                        events::now(),
                        "cluster",
                        cluster.as_str(),
                        "the store is backed up".to_owned(),
                    );
                    node.report_now.notify_one();
                }
                Err(error) => {
                    again = Some((asked, Instant::now() + AGAIN));
                    let text = format!("the store is not backed up: {}; {}", error.text, error.remedy);
                    node.events.say(events::now(), "cluster", cluster.as_str(), text);
                }
            }
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            changed = state.changed() => {
                if changed.is_err() {
                    return;
                }
                // The state changes often, and asks for a backup rarely.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            () = node.cancel.cancelled() => return,
        }
    }
}
