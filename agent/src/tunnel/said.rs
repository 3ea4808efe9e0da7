//! What came of grants here: told as events at once, and said into the log in batches, so that it stands
//! in the audit chain.

use std::sync::Arc;
use std::time::Duration;

use qb_model::assignment::NodeResult;
use qb_model::grant::AccessRecord;
use qb_model::limits::ACCESS_RECORDS;

use super::lock;
use crate::node::Node;
use crate::said;

/// At most one command in this time.
const BATCH: Duration = Duration::from_secs(1);
/// Pause before another try while the log takes nothing.
const AGAIN: Duration = Duration::from_secs(5);
/// Records that wait for the log: hours of it away. What comes after is told as events only.
const WAITING: usize = 8 * ACCESS_RECORDS;

/// Notes a record.
pub fn note(node: &Node, record: AccessRecord) {
    node.events.say(node.site_now(), "cluster", record.cluster.as_str(), record.to_string());
    tracing::info!(grant = %record.grant, key = %record.key, "{record}");
    let mut records = lock(&node.tunnels.records);
    if records.len() < WAITING {
        records.push(record);
    } else {
        tracing::warn!("{WAITING} records of access wait for the log: this one is an event only");
    }
    node.tunnels.news.notify_one();
}

/// Says records into the log, for as long as the agent runs.
pub async fn run(node: Arc<Node>) {
    loop {
        tokio::select! {
            () = node.tunnels.news.notified() => {}
            () = node.cancel.cancelled() => return,
        }
        while let Some(batch) = next(&node) {
            let count = batch.len();
            let pause = match said::say(&node, None, &NodeResult::Access(batch)).await {
                Ok(()) => {
                    // One task takes them, others only add at the end.
                    lock(&node.tunnels.records).drain(..count);
                    BATCH
                }
                Err(why) => {
                    tracing::debug!("records of access: {why}");
                    AGAIN
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = node.cancel.cancelled() => return,
            }
        }
    }
}

fn next(node: &Node) -> Option<Vec<AccessRecord>> {
    let records = lock(&node.tunnels.records);
    let batch: Vec<AccessRecord> = records.iter().take(ACCESS_RECORDS).cloned().collect();
    (!batch.is_empty()).then_some(batch)
}
