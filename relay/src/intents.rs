//! What is shown of an intent at the relay. Done is what the site signed; the rest begins with
//! "the relay says".

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qb_model::action::Action;
use qb_model::envelope::Envelope;
use qb_model::intent::Intent;
use qb_model::outcome::Outcome;
use qb_model::sentence;
use qb_model::state::SiteState;
use qb_model::statement::Receipt;
use qb_model::waiting::WaitingOn;
use qb_model::{Digest, Millis};
use qb_portal::view::{IntentState, IntentView, Says};

use crate::outbox::{host_of, read_receipt};
use crate::site::LiveSite;
use crate::store::Item;

/// An intent of the outbox.
pub(crate) fn of_item(site: &LiveSite, item: &Item, now: u64) -> Option<IntentView> {
    let intent = parse(&item.envelope)?;
    let mut view = blank(site, &intent, item.digest);
    match read_receipt(item.receipt.as_deref()) {
        Some(receipt) => {
            settle(site, &mut view, &receipt, finishes(&intent.action));
            signed(&mut view, item.receipt.as_deref());
        }
        None => on_its_way(site, &mut view, item, now),
    }
    Some(view)
}

/// A gateway's word on an intent: kept where a receipt bears it out, and marked where none does.
pub(crate) fn of_word(site: &LiveSite, mut view: IntentView, receipt: Option<&[u8]>) -> IntentView {
    if let Some(held) = read_receipt(receipt) {
        let finished = view.state == IntentState::Done;
        settle(site, &mut view, &held, finished);
        signed(&mut view, receipt);
        return view;
    }
    // Whatever the gateway says of itself comes from here.
    (view.says, view.receipt) = (Some(Says::Relay), None);
    let state = serde_json::to_string(&view.state).unwrap_or_default();
    view.detail = Some(format!(
        "the relay says: the gateway says {}; no node of the site signed a receipt for it here",
        state.trim_matches('"')
    ));
    view.remedy = Some(format!("ask a node of the site itself: qb intent show {}", view.digest));
    (view.state, view.index, view.generation, view.reason) = (IntentState::Unknown, None, None, None);
    view
}

fn parse(envelope: &[u8]) -> Option<Intent> {
    Intent::parse(Envelope::parse(envelope).ok()?.payload()).ok()
}

/// Whether an action is finished as soon as it is in force.
fn finishes(action: &Action) -> bool {
    let goes_on = [
        matches!(action, Action::ClusterAttach { .. }),
        matches!(action, Action::ClusterDetach { .. }),
        matches!(action, Action::ClusterDelete { .. }),
    ];
    !goes_on.contains(&true)
}

fn blank(site: &LiveSite, intent: &Intent, digest: Digest) -> IntentView {
    let action = intent.action.name().to_owned();
    // The relay holds no state: nodes go by their keys here, clusters by their names.
    let empty = SiteState::new(site.belief().charter.envelope());
    let sentence = empty.map_or_else(|_| action.clone(), |state| sentence::of(&intent.action, &state));
    IntentView {
        v: 1,
        digest,
        id: intent.id.clone(),
        by: intent.by.clone(),
        action,
        sentence,
        state: IntentState::Unknown,
        index: None,
        generation: None,
        reason: None,
        detail: None,
        remedy: None,
        duplicate: false,
        at: None,
        waiting_on: None,
        says: Some(Says::Relay),
        receipt: None,
    }
}

/// Shows what the site signed. `finished`: as far as anybody knows.
fn settle(site: &LiveSite, view: &mut IntentView, receipt: &Receipt, finished: bool) {
    view.index = Some(receipt.index);
    view.settle(&receipt.outcome, finished);
    let by = host_of(site, &receipt.node);
    match &receipt.outcome {
        Outcome::Accepted { .. } => {
            view.detail = Some(format!("receipt signed by {by}: record {} of the audit", receipt.index));
        }
        Outcome::Pending { .. } => {
            view.detail = view.detail.take().map(|detail| format!("receipt signed by {by}: {detail}"));
        }
        Outcome::Rejected(_) | Outcome::Duplicate { .. } => {}
    }
}

/// The receipt goes along, so that a reader need not believe the relay.
fn signed(view: &mut IntentView, receipt: Option<&[u8]>) {
    (view.says, view.receipt) = (Some(Says::Site), receipt.map(|bytes| STANDARD.encode(bytes)));
}

/// Shows what the relay knows, and that it is the relay's word.
fn on_its_way(site: &LiveSite, view: &mut IntentView, item: &Item, now: u64) {
    let said = item.said.as_deref().map(|said| format!("; {said}")).unwrap_or_default();
    let age = |since: u64| seconds(now.saturating_sub(since));
    let text = match &item.handed {
        _ if now > item.expires => {
            view.reason = Some("relay_expired".to_owned());
            let was = if item.handed.is_some() { "without a receipt" } else { "before any gateway took it" };
            format!("expired {} ago {was}", age(item.expires))
        }
        Some((node, at)) => format!("handed to gateway {} {} ago", host_of(site, node), age(*at)),
        None => {
            view.state = IntentState::Held;
            let left = seconds(item.expires.saturating_sub(now));
            format!("queued {} ago, expires in {left}", age(item.queued))
        }
    };
    view.detail = Some(format!("the relay says: {text}{said}"));
    view.remedy = Some(match view.reason {
        Some(_) => "sign it again".to_owned(),
        None => format!("to take it back: qb intent withdraw {}", view.digest),
    });
    if view.reason.is_none() {
        let code = if item.handed.is_some() { "relay.receipt" } else { "relay.link" };
        let waits =
            if item.handed.is_some() { "a receipt that the site signed" } else { "a link to the site" };
        let text = format!("waits for {waits}");
        view.waiting_on = Some(WaitingOn::itself(code, view.id.as_str(), text, Millis(item.queued)));
    }
}

/// `12 s`, `3 min`, `5 h`.
pub(crate) fn seconds(ms: u64) -> String {
    match ms / 1_000 {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7_200 => format!("{} min", s / 60),
        s => format!("{} h", s / 3_600),
    }
}
