//! What this node says into the log: signed commands.

use std::sync::Arc;
use std::time::Duration;

use qb_model::Digest;
use qb_model::agent_order::{AGENT_STAGE, AgentOrder};
use qb_model::assignment::{Assignment, NodeResult};
use qb_model::state::Applied;
use qb_model::statement::{NodeCommand, Statement as _};

use crate::knock::client::seal_record;
use crate::node::Node;
use crate::propose;
use crate::rpc::{Propose, ProposeAnswer};

/// How long one try to get a command into the log may take, all leaders included.
const DEADLINE: Duration = Duration::from_secs(10);
/// Pause before saying hello again.
const AGAIN: Duration = Duration::from_millis(500);

/// Signs a result and gets it into the log. Err: it did not take effect, for the reason given.
pub async fn say(node: &Arc<Node>, order: Option<&Assignment>, result: &NodeResult) -> Result<(), String> {
    let answers = order.map_or((Digest([0; 32]), 0), |a| (a.digest(), a.stage as u8));
    speak(node, answers, result).await
}

/// The same as the answer to an agent order.
pub async fn say_agent(node: &Arc<Node>, order: &AgentOrder, result: &NodeResult) -> Result<(), String> {
    speak(node, (order.digest(), AGENT_STAGE), result).await
}

async fn speak(
    node: &Arc<Node>,
    (assignment, stage): (Digest, u8),
    result: &NodeResult,
) -> Result<(), String> {
    let state = node.site();
    let command = NodeCommand {
        v: 1,
        site: state.site(),
        epoch: state.epoch(),
        node: node.id(),
        incarnation: node.identity.incarnation,
        sequence: node.next_said(),
        assignment,
        stage,
        result: postcard::to_stdvec(result).map_err(|e| e.to_string())?,
    };
    let bytes = command.sign(&node.identity.key).to_bytes();
    match propose::anywhere(node, &Propose::Node(bytes), DEADLINE).await {
        ProposeAnswer::Applied(answer) => match postcard::from_bytes(&answer) {
            Ok(Applied::Done) => Ok(()),
            Ok(Applied::Ignored(why) | Applied::Unsigned(why)) => Err(why),
            Ok(other) => Err(format!("{other:?}")),
            Err(e) => Err(e.to_string()),
        },
        ProposeAnswer::Refused { text, .. } => Err(text),
        ProposeAnswer::Unavailable(why) | ProposeAnswer::Held(why) => Err(why),
        ProposeAnswer::Unknown => Err("the outcome is unknown".into()),
        ProposeAnswer::NotLeader(_) => Err("no node leads".into()),
    }
}

/// Says where this node is and where to seal secrets to, until the state shows it.
pub async fn hello(node: Arc<Node>) {
    let me = node.id();
    let address = node.config.address.to_string();
    let mut state = node.state.clone();
    loop {
        let site = node.site();
        // Without the executor's key there is nothing to seal to: it is looked for again below.
        if let (Some(record), Some(key), Some(seal_key)) =
            (site.node(&me), node.seal_key(), seal_record(&node))
        {
            let known = record.address.as_deref() == Some(address.as_str())
                && record.seal.is_some_and(|(held, _)| held == key);
            if !known {
                let hello = NodeResult::Hello { seal_key: seal_key.to_bytes(), address: address.clone() };
                if let Err(why) = say(&node, None, &hello).await {
                    tracing::debug!("hello: {why}");
                }
            }
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN) => {}
            () = node.cancel.cancelled() => return,
        }
    }
}
