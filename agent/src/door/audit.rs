//! Audit records as text and as bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qb_model::NodeId;
use qb_model::assignment::{NodeResult, Stage};
use qb_model::chain::AuditRecord;
use qb_model::dsse::Purpose;
use qb_model::state::SiteState;
use qb_model::statement::{NodeCommand, SignedBytes, Statement as _};
use qb_model::token::Entry;

/// A record as base64 of its postcard form, as the export carries it.
pub fn encode(record: &AuditRecord) -> String {
    STANDARD.encode(postcard::to_stdvec(record).unwrap_or_default())
}

/// Which voter vouches for an entry by a join token, and what it says.
pub fn of_entry(state: &SiteState, record: &AuditRecord) -> (String, String) {
    let Ok(entry) = Entry::open(&record.body) else {
        return (String::new(), "an entry by a join token that this agent cannot read".to_owned());
    };
    let voter = host_of(state, &entry.said().voter);
    let token = qb_model::words::fingerprint(&entry.token().0);
    let said = entry.said();
    (voter, format!("let {} in from {} by join token {token}, on probation", said.host, said.address))
}

fn host_of(state: &SiteState, node: &NodeId) -> String {
    let live = state.node(node).map(|n| n.host.to_string());
    live.or_else(|| state.tombstones().get(node).map(|t| t.host.to_string()))
        .unwrap_or_else(|| qb_model::words::fingerprint(&node.0))
}

/// Who a node's command is by, and what it says.
pub fn of_command(state: &SiteState, record: &AuditRecord) -> (String, String) {
    let command = SignedBytes::from_bytes(Purpose::Command, &record.body, NodeCommand::MAX)
        .and_then(|s| s.open::<NodeCommand>());
    let Ok(command) = command else {
        return (String::new(), "a node's command that this agent cannot read".to_owned());
    };
    let command = command.into_value();
    let host = host_of(state, &command.node);
    let text = match postcard::from_bytes::<NodeResult>(&command.result) {
        Ok(NodeResult::Hello { address, .. }) => format!("is at {address}"),
        Ok(NodeResult::Done { .. }) => {
            let stages = [
                Stage::Prepare,
                Stage::Initialize,
                Stage::Join,
                Stage::Leave,
                Stage::Upgrade,
                Stage::Restore,
            ];
            let stage = stages.into_iter().find(|s| *s as u8 == command.stage).map_or("a stage", Stage::word);
            format!("is through {stage}")
        }
        Ok(NodeResult::SecretOffered { .. }) => "offers a join secret".to_owned(),
        Ok(NodeResult::AgentUpgraded { version, .. }) => format!("runs agent {version}"),
        Ok(NodeResult::AgentReturned { version, why }) => format!("returned to agent {version}: {why}"),
        Ok(NodeResult::UpgradeReturned { why }) => {
            format!("{host} returned to the version before: {why}")
        }
        Ok(NodeResult::Released { node, .. }) => {
            format!("took {} out of its cluster", qb_model::words::fingerprint(&node.0))
        }
        Ok(NodeResult::Access(records)) => {
            let lines: Vec<String> = records.iter().map(ToString::to_string).collect();
            format!("saw: {}", lines.join("; "))
        }
        Err(_) => "says something that this agent cannot read".to_owned(),
    };
    (host, text)
}
