//! States as tones: who acts next.

use qb_model::preflight::Severity;
use qb_model::waiting::{Clears, WaitingOn};
use qb_portal::view::{ClusterState, ClusterView, IntentState, NodeState, NodeView};

use super::paint::Tone;

fn of_wait(waiting: &WaitingOn) -> Tone {
    match waiting.clears {
        Clears::Itself => Tone::Busy,
        Clears::Person => Tone::You,
        Clears::Never => Tone::Broken,
    }
}

/// A node's tone and word.
pub fn node(node: &NodeView) -> (Tone, &'static str) {
    let tone = node.waiting_on.as_ref().map(of_wait);
    let failed = node.work.as_ref().is_some_and(|w| w.error.is_some());
    match node.state {
        _ if failed => (Tone::Broken, node_word(node.state)),
        NodeState::Waiting => (Tone::You, "waiting"),
        NodeState::Revoked => (Tone::Unknown, "revoked"),
        NodeState::Detaching => (tone.unwrap_or(Tone::Busy), "detaching"),
        NodeState::Pool => (tone.unwrap_or(Tone::Good), "pool"),
        NodeState::Attached => (tone.unwrap_or(Tone::Good), "attached"),
    }
}

/// A node's state as a word.
pub fn node_word(state: NodeState) -> &'static str {
    match state {
        NodeState::Waiting => "waiting",
        NodeState::Pool => "pool",
        NodeState::Attached => "attached",
        NodeState::Detaching => "detaching",
        NodeState::Revoked => "revoked",
    }
}

/// A cluster's tone and word.
pub fn cluster(cluster: &ClusterView) -> (Tone, &'static str) {
    let tone = cluster.waiting_on.as_ref().map(of_wait);
    match cluster.state {
        ClusterState::Empty => (tone.unwrap_or(Tone::Unknown), "empty"),
        ClusterState::Preflight => (tone.unwrap_or(Tone::Busy), "preflight"),
        ClusterState::Initializing => (tone.unwrap_or(Tone::Busy), "initializing"),
        ClusterState::Ready => (tone.unwrap_or(Tone::Good), "ready"),
        ClusterState::Degraded => (tone.unwrap_or(Tone::Broken), "degraded"),
        ClusterState::Upgrading => (tone.unwrap_or(Tone::Busy), "upgrading"),
        ClusterState::Deleting => (tone.unwrap_or(Tone::Busy), "deleting"),
    }
}

/// An intent's tone and word.
pub fn intent(state: IntentState) -> (Tone, &'static str) {
    match state {
        IntentState::Held => (Tone::Busy, "held"),
        IntentState::Pending => (Tone::You, "pending"),
        IntentState::Doing => (Tone::Busy, "doing"),
        IntentState::Done => (Tone::Good, "done"),
        IntentState::Rejected => (Tone::Broken, "rejected"),
        IntentState::Unknown => (Tone::Unknown, "unknown"),
    }
}

/// A finding's tone.
pub fn severity(severity: Severity) -> Tone {
    match severity {
        Severity::Error => Tone::Broken,
        Severity::Warning => Tone::You,
    }
}
