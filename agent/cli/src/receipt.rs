//! Whose word an outcome is. Through a relay nothing is done until a node of the site signed that it
//! is, and this program verified it: the signature, the site, the intent, and that the node is one
//! that administrators let in. Everything else is the relay's word, and is called so.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qb_model::outcome::Outcome;
use qb_model::statement::{Receipt, SignedBytes, Statement as _};
use qb_model::words::fingerprint;
use qb_model::{Digest, Millis, NodeId, SiteId};
use qb_portal::view::{IntentState, IntentView, Says};

use crate::out::text::Clock;

/// Why a receipt proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// There is none.
    #[error("no node of the site has signed for it")]
    None,
    /// It cannot be read, or its signature is wrong.
    #[error("its receipt is not valid: {0}")]
    Invalid(String),
    /// It is for something else.
    #[error("its receipt is for another {0}")]
    Other(&'static str),
    /// Who signed it is no node that this computer can prove to be one of the site.
    #[error("its receipt is signed by {}, which is no node of the site by what is proven here", fingerprint(&.0.0))]
    Stranger(NodeId),
}

/// Opens a receipt: signature by the node that it names, this site, this intent.
///
/// # Errors
/// The first of these that fails. The node is not yet looked up.
pub fn open(receipt: Option<&str>, site: SiteId, intent: &Digest) -> Result<Receipt, ReceiptError> {
    let text = receipt.ok_or(ReceiptError::None)?;
    if text.len() > Receipt::MAX * 2 {
        return Err(ReceiptError::Invalid("it is too long".into()));
    }
    let bytes = STANDARD.decode(text).map_err(|e| ReceiptError::Invalid(e.to_string()))?;
    let invalid = |e: qb_model::statement::StatementError| ReceiptError::Invalid(e.to_string());
    let signed = SignedBytes::from_bytes(Receipt::PURPOSE, &bytes, Receipt::MAX).map_err(invalid)?;
    let receipt = signed.open::<Receipt>().map_err(invalid)?.into_value();
    if receipt.site != site {
        return Err(ReceiptError::Other("site"));
    }
    if receipt.intent != *intent {
        return Err(ReceiptError::Other("intent"));
    }
    Ok(receipt)
}

/// Opens a receipt by a node of a roster.
///
/// # Errors
/// It proves nothing.
pub fn verify(
    receipt: Option<&str>,
    site: SiteId,
    intent: &Digest,
    roster: &BTreeSet<NodeId>,
) -> Result<Receipt, ReceiptError> {
    let receipt = open(receipt, site, intent)?;
    if roster.contains(&receipt.node) { Ok(receipt) } else { Err(ReceiptError::Stranger(receipt.node)) }
}

/// A relay's view of an intent, as far as it is proven. What a receipt says wins over the view; what
/// nothing bears out is marked as the relay's word, and is no outcome.
pub fn honest(mut view: IntentView, proof: Result<&Receipt, &ReceiptError>) -> IntentView {
    match proof {
        Ok(receipt) => settle(&mut view, receipt),
        Err(why) => {
            let outcome = !matches!(view.state, IntentState::Held | IntentState::Unknown);
            if outcome || view.says == Some(Says::Site) {
                let word = serde_json::to_string(&view.state).unwrap_or_default();
                view.detail = Some(format!("the relay says {}, but {why}", word.trim_matches('"')));
                view.state = IntentState::Unknown;
            } else if !view.detail.as_deref().is_some_and(|d| d.starts_with("the relay says")) {
                let said = view.detail.take().unwrap_or_else(|| "nothing of it".to_owned());
                view.detail = Some(format!("the relay says: {said}"));
            }
            (view.index, view.generation, view.at) = (None, None, None);
            view.says = Some(Says::Relay);
        }
    }
    view
}

fn settle(view: &mut IntentView, receipt: &Receipt) {
    let (outcome, index) = match &receipt.outcome {
        Outcome::Duplicate { first, index } => (first.as_ref(), *index),
        outcome => (outcome, receipt.index),
    };
    view.says = Some(Says::Site);
    view.index = Some(index);
    view.generation = None;
    let finished = view.state == IntentState::Done;
    view.settle(outcome, finished);
}

/// Where an intent is that no node has signed for: "waits at the relay since 2 min: lyon is offline;
/// expires 14:02:00". A relay's word.
pub fn place(view: &IntentView, site: &str, expires: Option<Millis>, clock: &Clock) -> String {
    let since = view.waiting_on.as_ref().map(|w| format!(" since {}", clock.ago(w.since)));
    let why = match view.waiting_on.as_ref().map(|w| w.code.as_str()) {
        Some("relay.link") => format!("{site} is offline"),
        Some("relay.receipt") => "a gateway has it, and no node has signed for it yet".to_owned(),
        _ => view.detail.clone().unwrap_or_else(|| "why is not known".to_owned()),
    };
    let ends = expires.map(|at| format!("; expires {}", clock.time(at))).unwrap_or_default();
    format!("waits at the relay{}: {why}{ends}", since.unwrap_or_default())
}
