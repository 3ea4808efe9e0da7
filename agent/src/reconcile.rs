//! Reconciling: this node's own order, carried out until the log shows that it is done. Killed at
//! any point, it begins again; every step is idempotent.

use std::sync::Arc;
use std::time::Duration;

use qb_exec::{StageError, StepProgress, StepState, Supplies};
use qb_model::assignment::{Assignment, Grounds, NodeResult, Stage};
use qb_model::board::{StepState as Shown, Work};
use qb_model::limits::UPGRADE_WHY_BYTES;
use qb_model::state::{NodePhase, SiteState};
use qb_model::strict::is_plain_text;
use qb_model::{Digest, Millis};
use tokio::sync::watch;

use crate::node::Node;
use crate::{balancer, bundles, events, said, secrets};

/// Pauses between tries of a stage: the first, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How long this node waits for its own copy of the state to show its result.
const SEEN: Duration = Duration::from_secs(5);

/// Why a stage did not come to its end, and what helps.
struct Failed {
    step: u16,
    title: String,
    text: String,
    remedy: String,
}

impl Failed {
    fn new(title: &str, text: impl Into<String>, remedy: &str) -> Self {
        Self { step: 0, title: title.to_owned(), text: text.into(), remedy: remedy.to_owned() }
    }
}

/// Carries out this node's orders for as long as the agent runs.
pub async fn run(node: Arc<Node>) {
    let Some(exec) = node.exec.get() else { return };
    let (mut state, mut link) = (node.state.clone(), exec.link());
    let mut tries: (Digest, u32) = (Digest([0; 32]), 0);
    let mut pause = AGAIN.0;
    loop {
        let order = open_order(&node.site(), &node);
        let wait = match order {
            None => {
                clear_work(&node);
                None
            }
            Some(order) => {
                let digest = order.digest();
                if tries.0 != digest {
                    tries = (digest, 0);
                    pause = AGAIN.0;
                }
                tries.1 += 1;
                match carry_out(&node, &order, tries.1).await {
                    Ok(()) => None,
                    Err(failed) => {
                        tell_failed(&node, &order, tries.1, failed);
                        pause = (pause * 2).min(AGAIN.1);
                        Some(pause)
                    }
                }
            }
        };
        let slept = async {
            match wait {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            // An executor that is back is asked at once.
            changed = link.changed() => if changed.is_err() { return },
            () = slept => {}
            () = node.cancel.cancelled() => return,
        }
    }
}

/// This node's order, unless the state shows it done or held.
fn open_order(state: &SiteState, node: &Node) -> Option<Assignment> {
    if *node.revoked.borrow() {
        return None;
    }
    let record = state.node(&node.id())?;
    let order = record.assignment.clone()?;
    let open = match &record.phase {
        NodePhase::Attached { .. } if order.stage == Stage::Upgrade => state.upgrade_open(&order),
        NodePhase::Attached { .. } if order.stage == Stage::Restore => state.restore_open(&order),
        NodePhase::Attached { done, .. } => {
            order.stage != Stage::Leave && done.is_none_or(|d| d < order.stage)
        }
        NodePhase::Detaching { .. } => order.stage == Stage::Leave,
        NodePhase::Pool => false,
    };
    (open && !state.held(&order.cites)).then_some(order)
}

fn clear_work(node: &Node) {
    node.work.send_if_modified(|work| work.take().is_some());
}

/// What an order rests on, as this node's state has it.
pub(crate) fn grounds(state: &SiteState, order: &Assignment) -> Result<Grounds, &'static str> {
    let cited = |digest: &Digest| {
        let live = state.intents().get(digest);
        live.map(|l| (l.envelope.clone(), l.at)).ok_or("the intent that it cites is not in the state")
    };
    Ok(Grounds {
        charter: state.charter().to_vec(),
        trust_log: state.trust().log().to_vec(),
        order: cited(&order.cites.digest)?,
        create: cited(&order.created_by.digest)?,
    })
}

async fn carry_out(node: &Arc<Node>, order: &Assignment, tries: u32) -> Result<(), Failed> {
    let state = node.site();
    let exec =
        node.exec.get().ok_or_else(|| Failed::new("start", "the executor is not up", "wait a moment"))?;
    let waits = exec.link().borrow().waits.clone();
    if !waits.is_empty() {
        return Err(Failed::new("ask the executor", waits, "`systemctl status qb-exec` on this machine"));
    }
    if matches!(order.stage, Stage::Initialize | Stage::Join) {
        let remedy = "stop what `ss -ltnp 'sport = :6444'` shows to root on this machine";
        let open = balancer::is_open(node).await;
        open.map_err(|why| Failed::new("open the way to the API servers", why, remedy))?;
    }
    let grounds =
        grounds(&state, order).map_err(|why| Failed::new("verify the order", why, "qb audit verify"))?;
    show(node, order, tries, (1, 1), ("get supplies", Shown::Applying, String::new()));
    let supplies = supplies(node, order).await?;
    let (progress, shown) = watch::channel(Vec::new());
    let teller = tokio::spawn(tell(node.clone(), order.clone(), tries, shown));
    let done = exec.carry_out(node, (order.clone(), grounds), supplies, progress).await;
    // It ends by itself once the sender is gone.
    let _ = teller.await;
    let result = match done {
        Ok(done) => NodeResult::Done { public: done.public },
        Err(e) if e.returned => {
            let why = returned(&e);
            tracing::warn!(cluster = %order.cluster, "went back to the version before: {why}");
            NodeResult::UpgradeReturned { why }
        }
        Err(e) => return Err(Failed { step: e.step, title: e.title, text: e.text, remedy: e.remedy }),
    };
    let said = said::say(node, Some(order), &result).await;
    // This node's own copy may lag behind the leader's: until it shows the result, the order would
    // seem open and be carried out once more.
    let seen = |s: &SiteState| open_order(s, node).is_none_or(|now| now != *order);
    if said.is_ok() {
        node.wait_state(SEEN, seen).await;
    }
    said.or_else(|why| {
        // Another try of this very order may have been heard before: then the state shows it.
        if open_order(&node.site(), node).is_none_or(|now| now != *order) {
            Ok(())
        } else {
            Err(Failed::new("tell the site", why, "qb site status"))
        }
    })
}

/// Why a node went back, as the log takes it: one plain line, cut where it is too long.
fn returned(error: &StageError) -> String {
    let text = format!("{}: {}", error.title, error.text);
    let plain =
        |c: char| if c.is_whitespace() || !is_plain_text(c.encode_utf8(&mut [0; 4])) { ' ' } else { c };
    let line: String = text.chars().map(plain).collect();
    let mut line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    while line.len() > UPGRADE_WHY_BYTES {
        line.pop();
    }
    line
}

async fn supplies(node: &Arc<Node>, order: &Assignment) -> Result<Supplies, Failed> {
    let mut supplies = Supplies::default();
    match order.stage {
        Stage::Prepare | Stage::Upgrade => {
            let held = bundles::get(node, &order.bundle).await;
            supplies.bundle =
                Some(held.map_err(|why| Failed::new("get the bundle", why, "qb bundle push FILE"))?);
        }
        Stage::Join => {
            let sealed = secrets::fetch(node, order)
                .await
                .map_err(|why| Failed::new("get the join secret", why, "it is asked for again"))?;
            supplies.join = Some(sealed);
        }
        // The tree of the bundle lies on this machine since it was prepared.
        Stage::Initialize | Stage::Leave | Stage::Restore => {}
    }
    Ok(supplies)
}

/// Shows progress as it comes.
async fn tell(node: Arc<Node>, order: Assignment, tries: u32, mut shown: watch::Receiver<Vec<StepProgress>>) {
    while shown.changed().await.is_ok() {
        let steps = shown.borrow_and_update().clone();
        let of = steps.len() as u16;
        let now = steps
            .iter()
            .find(|s| !matches!(s.state, StepState::Done | StepState::Waiting))
            .or_else(|| steps.iter().rev().find(|s| s.state == StepState::Done));
        if let Some(step) = now {
            let state = match step.state {
                StepState::Waiting | StepState::Checking => Shown::Checking,
                StepState::Applying => Shown::Applying,
                StepState::Verifying => Shown::Verifying,
                StepState::Done => Shown::Done,
                StepState::Failed => Shown::Failed,
            };
            show(&node, &order, tries, (step.step, of), (&step.title, state, step.detail.clone()));
        }
    }
}

fn show(
    node: &Node,
    order: &Assignment,
    tries: u32,
    (step, steps): (u16, u16),
    (title, state, _detail): (&str, Shown, String),
) {
    let since = events::now();
    node.work.send_if_modified(|held| {
        let same = held.as_ref().is_some_and(|w| {
            w.generation == order.generation && w.step == step && w.state == state && w.title == title
        });
        if same {
            return false;
        }
        let kept: Option<Millis> =
            held.as_ref().filter(|w| w.generation == order.generation && w.step == step).map(|w| w.since);
        *held = Some(Work {
            generation: order.generation,
            stage: order.stage,
            step,
            steps,
            title: title.to_owned(),
            state,
            since: kept.unwrap_or(since),
            tries,
            error: None,
        });
        true
    });
}

fn tell_failed(node: &Node, order: &Assignment, tries: u32, failed: Failed) {
    tracing::warn!(
        cluster = %order.cluster,
        stage = order.stage.word(),
        step = failed.step,
        tries,
        "{}: {}",
        failed.title,
        failed.text
    );
    let host = node.facts().host;
    let text = format!("{} of {}: {}: {}", order.stage.word(), order.cluster, failed.title, failed.text);
    node.events.say(events::now(), "step", host.as_str(), text);
    let held = node.work.borrow().clone();
    let since = held.filter(|w| w.error.is_some()).map_or_else(events::now, |w| w.since);
    let steps = node.work.borrow().as_ref().map_or(0, |w| w.steps).max(failed.step);
    node.work.send_replace(Some(Work {
        generation: order.generation,
        stage: order.stage,
        step: failed.step,
        steps,
        title: failed.title,
        state: Shown::Failed,
        since,
        tries,
        error: Some((failed.text, failed.remedy)),
    }));
}
