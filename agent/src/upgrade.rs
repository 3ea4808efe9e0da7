//! Upgrades of this very program: the node's agent order, handed to the executor with its bundle, and
//! answered when its outcome is known. Killed at any point, also by the upgrade itself, whichever version
//! starts next goes on.
//!
//! ```text
//! order due ── bundle, lead handed over ── executor installs ── this agent is started again
//! on trial: ready, a leader is known, the log is followed ── confirm, until the trial is over
//! over, or never begun ── AgentUpgraded or AgentReturned into the log
//! ```

use std::sync::Arc;
use std::time::Duration;

use qb_exec::versions::{Ended, Upgrade, VersionsView};
use qb_exec::{RemoteError, VERSION};
use qb_model::agent_order::AgentOrder;
use qb_model::assignment::NodeResult;
use qb_model::ids::{NodeId, Version};
use qb_model::limits::{AGENT_WHY_BYTES, FEATURE_LEVEL};
use qb_model::state::SiteState;

use crate::knock::client::seal_record;
use crate::node::Node;
use crate::{bundles, events, said};

/// Pause between two looks while an upgrade of this node is on its way.
const LOOK: Duration = Duration::from_millis(500);
/// Pause between two looks at the executor while nothing is ordered: a trial may be under way whose order
/// this copy of the state does not show yet.
const IDLE: Duration = Duration::from_secs(30);
/// How long the lead may take to be handed over before this agent ends anyway.
const HAND_OVER: Duration = Duration::from_secs(3);
/// How long a confirmation that this node leads may take.
const READ: Duration = Duration::from_secs(2);

/// What a node does next about its version.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    /// Nothing is ordered, nothing is on trial.
    Nothing,
    /// This agent is on trial: it says that it is well as soon as it is.
    Confirm,
    /// Another version is on trial: this agent is about to end.
    Wait,
    /// The order is answered.
    Answer(NodeResult),
    /// The order is carried out.
    CarryOut,
}

/// Decides. `due` is whether an order may still be begun.
fn next(order: Option<&AgentOrder>, due: bool, view: &VersionsView, own: &Version) -> Next {
    if let Some(trial) = &view.trial {
        return if trial.version == *own { Next::Confirm } else { Next::Wait };
    }
    let Some(order) = order else { return Next::Nothing };
    match view.ended.as_ref().filter(|ended| ended.order == order.digest()) {
        Some(Ended { why: None, .. }) if order.version == *own => Next::Answer(upgraded(own)),
        Some(Ended { why: Some(why), .. }) => Next::Answer(returned(own, why)),
        // It ran, and this agent is another one again: the package was changed, for instance.
        Some(Ended { why: None, .. }) => {
            Next::Answer(returned(own, "another version was installed on the machine meanwhile"))
        }
        // The package brought it: there is nothing to swap.
        None if order.version == *own && view.runs == own.as_str() => Next::Answer(upgraded(own)),
        None if due => Next::CarryOut,
        None => Next::Nothing,
    }
}

fn upgraded(own: &Version) -> NodeResult {
    NodeResult::AgentUpgraded { version: own.clone(), level: FEATURE_LEVEL }
}

fn returned(own: &Version, why: &str) -> NodeResult {
    let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { ' ' };
    let why = why.chars().map(plain).take(AGENT_WHY_BYTES).collect();
    NodeResult::AgentReturned { version: own.clone(), why }
}

/// Looks after this node's version for as long as the agent runs. To be begun once it is ready.
pub async fn run(node: Arc<Node>) {
    let Ok(own) = VERSION.parse::<Version>() else {
        tracing::error!("this build's version {VERSION} is none: it takes no part in upgrades");
        return;
    };
    let mut state = node.state.clone();
    let mut told = String::new();
    loop {
        let pause = match turn(&node, &own).await {
            Ok(Next::Nothing) => IDLE,
            Ok(_) => LOOK,
            Err(why) => {
                if told != why {
                    tracing::warn!("upgrade of this agent: {why}");
                    told = why;
                }
                LOOK
            }
        };
        let begun = order(&node.site(), &node.id());
        let ordered = async { state.wait_for(|state| order(state, &node.id()) != begun).await.is_ok() };
        tokio::select! {
            lives = ordered => if !lives { return },
            () = tokio::time::sleep(pause) => {}
            () = node.cancel.cancelled() => return,
        }
    }
}

fn order(state: &SiteState, me: &NodeId) -> (Option<AgentOrder>, bool) {
    (state.agent_order(me), state.agent_order_due(me).is_some())
}

async fn turn(node: &Arc<Node>, own: &Version) -> Result<Next, String> {
    let (order, due) = order(&node.site(), &node.id());
    let exec = node.exec.get().ok_or("the executor is not up")?;
    let Some(remote) = exec.remote() else {
        let Some(order) = order else { return Ok(Next::Nothing) };
        let why = "its executor runs inside the agent, which root did not install as qb-exec: install the new version by hand";
        let result = if order.version == *own { upgraded(own) } else { returned(own, why) };
        return answer(node, &order, result).await;
    };
    let view = match remote.versions().await {
        Ok(view) => view,
        // It swaps no versions, and says why.
        Err(RemoteError::Refused(why)) => {
            let Some(order) = order else { return Ok(Next::Nothing) };
            let result = if order.version == *own { upgraded(own) } else { returned(own, &why) };
            return answer(node, &order, result).await;
        }
        Err(error) => return Err(error.to_string()),
    };
    let next = next(order.as_ref(), due, &view, own);
    match (&next, order) {
        (Next::Confirm, _) => {
            well(node).await?;
            remote.confirm(own.clone()).await.map_err(|e| e.to_string())?;
        }
        (Next::Answer(result), Some(order)) => return answer(node, &order, result.clone()).await,
        (Next::CarryOut, Some(order)) => match carry_out(node, &order).await? {
            Ok(_) => {}
            Err(why) => return answer(node, &order, returned(own, &why)).await,
        },
        _ => {}
    }
    Ok(next)
}

/// Answers an order that this agent, being well, speaks for.
async fn answer(node: &Arc<Node>, order: &AgentOrder, result: NodeResult) -> Result<Next, String> {
    well(node).await?;
    said::say_agent(node, order, &result).await?;
    let text = match &result {
        NodeResult::AgentReturned { why, .. } => format!("stays with agent {VERSION}: {why}"),
        _ => format!("runs agent {VERSION}"),
    };
    tracing::info!("{text}");
    node.events.say(events::now(), "agent", node.facts().host.as_str(), text);
    Ok(Next::Answer(result))
}

/// Whether this node knows who leads, and has applied what a voter had applied since this start.
async fn well(node: &Node) -> Result<(), String> {
    let raft = node.raft();
    let consensus = node.consensus.get().ok_or("consensus is not up")?;
    if raft.is_leader() {
        return consensus.linearizable(READ).await.map(drop).map_err(|e| e.to_string());
    }
    if raft.raft_id.is_some() && raft.leader.is_none() {
        return Err("no leader is known yet".to_owned());
    }
    match node.voter_applied() {
        Some(index) if index <= node.site().applied() => Ok(()),
        Some(_) => Err("this node has not caught up with the site's log yet".to_owned()),
        None => Err("no voter has answered yet".to_owned()),
    }
}

/// Hands the order to the executor. The inner error is final: nothing was changed.
async fn carry_out(node: &Arc<Node>, order: &AgentOrder) -> Result<Result<VersionsView, String>, String> {
    let exec = node.exec.get().and_then(|exec| exec.remote()).ok_or("the executor is not up")?;
    let grounds = node.site().agent_grounds(order).ok_or("the intent that it cites is not in the state")?;
    let own = seal_record(node).ok_or("the executor was not asked for its key yet")?;
    let file = bundles::get(node, &order.bundle).await.map_err(|why| format!("get the bundle: {why}"))?;
    hand_over(node).await;
    tracing::info!(version = %order.version, "handing the upgrade to the executor");
    match exec.upgrade(Upgrade { order: order.clone(), grounds, own, bundle: 0 }, file).await {
        Ok(view) => Ok(Ok(view)),
        Err(RemoteError::Refused(why)) => Ok(Err(why)),
        Err(error) => Err(error.to_string()),
    }
}

/// A leader hands the lead over before it ends. The planner does so before it orders one; this is for a
/// node that came to lead since. Alone, or if nobody takes it, it ends all the same.
async fn hand_over(node: &Arc<Node>) {
    let raft = node.raft();
    let (Some(consensus), true) = (node.consensus.get(), raft.is_leader()) else { return };
    let near = node.mesh().map(qb_mesh::Mesh::connected).unwrap_or_default();
    let Some((seat, _)) = raft.voters.iter().find(|(_, voter)| near.contains(voter)) else { return };
    let mut view = consensus.metrics();
    let handed = async {
        match consensus.transfer_leader(*seat).await {
            Ok(()) => drop(view.wait_for(|view| !view.is_leader()).await),
            Err(error) => tracing::warn!("the lead is not handed over: {error}"),
        }
    };
    if tokio::time::timeout(HAND_OVER, handed).await.is_err() {
        tracing::warn!("nobody took the lead within {} s", HAND_OVER.as_secs());
    }
}

#[cfg(test)]
mod tests {
    use qb_exec::versions::OnTrial;
    use qb_model::assignment::Citation;
    use qb_model::{Digest, Generation, SiteId};

    use super::*;

    fn order(version: &str) -> AgentOrder {
        AgentOrder {
            site: SiteId(Digest([1; 32])),
            node: NodeId([2; 32]),
            generation: Generation(3),
            bundle: Digest([4; 32]),
            version: version.parse().unwrap(),
            cites: Citation { digest: Digest([5; 32]), index: 6 },
        }
    }

    fn view(runs: &str, trial: Option<&str>, ended: Option<(Digest, Option<&str>)>) -> VersionsView {
        VersionsView {
            runs: runs.to_owned(),
            trial: trial.map(|version| OnTrial {
                order: order(version).digest(),
                version: version.parse().unwrap(),
                confirmed: false,
            }),
            ended: ended.map(|(order, why)| Ended {
                order,
                bundle: Digest([4; 32]),
                version: "0.2.0".parse().unwrap(),
                why: why.map(str::to_owned),
            }),
        }
    }

    #[test]
    fn what_comes_next_follows_from_order_and_executor() {
        let own: Version = "0.1.0".parse().unwrap();
        let new: Version = "0.2.0".parse().unwrap();
        let (to_new, this) = (order("0.2.0"), order("0.2.0").digest());
        let other = order("0.3.0").digest();
        let why = |own: &Version| Next::Answer(returned(own, "was not ready"));
        let well = || Next::Answer(upgraded(&new));
        for (what, order, due, view, own, want) in [
            ("idle", None, false, view("0.1.0", None, None), &own, Next::Nothing),
            ("ordered", Some(&to_new), true, view("0.1.0", None, None), &own, Next::CarryOut),
            ("halted before it began", Some(&to_new), false, view("0.1.0", None, None), &own, Next::Nothing),
            ("about to end", Some(&to_new), true, view("0.1.0", Some("0.2.0"), None), &own, Next::Wait),
            ("on trial", Some(&to_new), true, view("0.1.0", Some("0.2.0"), None), &new, Next::Confirm),
            ("its log lags", None, false, view("0.1.0", Some("0.2.0"), None), &new, Next::Confirm),
            ("runs", Some(&to_new), true, view("0.2.0", None, Some((this, None))), &new, well()),
            ("runs, halted", Some(&to_new), false, view("0.2.0", None, Some((this, None))), &new, well()),
            (
                "back",
                Some(&to_new),
                true,
                view("0.1.0", None, Some((this, Some("was not ready")))),
                &own,
                why(&own),
            ),
            (
                "back, and halted",
                Some(&to_new),
                false,
                view("0.1.0", None, Some((this, Some("was not ready")))),
                &own,
                why(&own),
            ),
            (
                "of an older order",
                Some(&to_new),
                true,
                view("0.1.0", None, Some((other, Some("x")))),
                &own,
                Next::CarryOut,
            ),
            ("by the package", Some(&to_new), true, view("0.2.0", None, None), &new, well()),
            ("half of it", Some(&to_new), true, view("0.1.0", None, None), &new, Next::CarryOut),
        ] {
            assert_eq!(next(order, due, &view, own), want, "{what}");
        }
        let gone = next(Some(&to_new), true, &view("0.1.0", None, Some((this, None))), &own);
        assert!(matches!(gone, Next::Answer(NodeResult::AgentReturned { .. })), "{gone:?}");
    }

    #[test]
    fn a_reason_is_short_plain_text() {
        let own: Version = "0.1.0".parse().unwrap();
        let NodeResult::AgentReturned { why, .. } = returned(&own, &"é\n".repeat(2_000)) else { panic!() };
        assert!(why.len() == AGENT_WHY_BYTES && qb_model::strict::is_plain_text(&why));
        assert!(VERSION.parse::<Version>().is_ok(), "{VERSION}");
    }
}
