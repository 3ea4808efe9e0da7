//! Receipts: what became of the intents that came over a link, signed by this node.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use qb_model::dsse::SecretKey;
use qb_model::envelope::Envelope;
use qb_model::intent::Intent;
use qb_model::outcome::{Outcome, Reason};
use qb_model::state::SiteState;
use qb_model::statement::{Receipt, SignedBytes, Statement as _};
use qb_model::{Digest, Millis, NodeId};
use tokio::sync::Notify;

use crate::door::intents::by_index;

/// Intents whose receipt is owed: as many as a relay keeps for a site.
const OWED: usize = 4_096;
/// Records at the end of the audit chain that are looked through for an intent that is forgotten
/// already, because its time was over when it came.
const RECENT: usize = 1_024;
/// Bytes of a refusal's own words in a receipt, which has a bound.
const WORDS: usize = 1_000;

/// The intents that came over the links to one relay and whose receipt is owed.
#[derive(Default)]
pub struct Receipts {
    owed: Mutex<BTreeMap<Digest, Millis>>,
    /// Says that one came.
    pub(super) came: Notify,
}

impl Receipts {
    /// Notes an intent. What is no intent gets no receipt.
    pub fn expect(&self, envelope: &[u8]) {
        let Ok(parsed) = Envelope::parse(envelope) else { return };
        let Ok(intent) = Intent::parse(parsed.payload()) else { return };
        let mut owed = self.lock();
        if owed.len() < OWED {
            // Beyond that the relay hands it over again.
            owed.insert(parsed.digest(), intent.expires_ms);
        }
        drop(owed);
        self.came.notify_one();
    }

    /// Signs for every owed intent whose outcome is known, and hands that to `take`, which says
    /// whether it is on its way. What nobody signed validly never gets an outcome: it is dropped
    /// when its time is over.
    pub(super) fn settle(
        &self,
        state: &SiteState,
        (node, key): (NodeId, &SecretKey),
        mut take: impl FnMut(SignedBytes) -> bool,
    ) {
        let mut owed = self.lock();
        owed.retain(|digest, expires| match receipt(state, node, digest) {
            Some(receipt) => !take(receipt.sign(key)),
            None => state.log_time() <= *expires,
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, Millis>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The receipt for an intent, once the state has its outcome.
fn receipt(state: &SiteState, node: NodeId, intent: &Digest) -> Option<Receipt> {
    let (outcome, index) = match state.replay().get(intent) {
        Some(entry) => (entry.outcome.clone(), entry.index),
        None => {
            let recent = state.audit().iter().rev().take(RECENT);
            let record = recent.into_iter().find(|record| record.digest == *intent)?;
            (record.outcome.clone()?, record.index)
        }
    };
    let head = by_index(state, index).map_or_else(|| state.chain_head().1, |record| record.head);
    Some(Receipt { v: 1, site: state.site(), node, intent: *intent, outcome: fit(outcome), index, head })
}

/// Cuts a refusal's own words, the only part without a bound.
fn fit(outcome: Outcome) -> Outcome {
    let cut = |text: String| {
        let end = (0..=WORDS.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text[..end].to_owned()
    };
    match outcome {
        Outcome::Rejected(Reason::Precondition { code, text, remedy }) => {
            Outcome::Rejected(Reason::Precondition { code, text: cut(text), remedy: remedy.map(cut) })
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qb_model::dsse::Signer as _;

    #[test]
    fn a_long_refusal_fits_a_receipt() {
        let long = "é".repeat(9_000);
        let reason = Reason::Precondition { code: "x".into(), text: long.clone(), remedy: Some(long) };
        let key = qb_model::dsse::SecretKey::from_bytes(&[5; 32]);
        let receipt = Receipt {
            v: 1,
            site: qb_model::SiteId(Digest([1; 32])),
            node: NodeId(key.public_key().0),
            intent: Digest([2; 32]),
            outcome: fit(Outcome::Rejected(reason)),
            index: 7,
            head: Digest([3; 32]),
        };
        assert!(receipt.sign(&key).open::<Receipt>().is_ok());
    }

    #[test]
    fn what_is_no_intent_is_owed_nothing() {
        let receipts = Receipts::default();
        receipts.expect(b"{}");
        assert!(receipts.lock().is_empty());
    }
}
