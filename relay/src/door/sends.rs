//! Intents at the relay's door: taking them, and saying what became of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use qb_model::Millis;
use qb_model::envelope::Envelope;
use qb_model::intent::Intent;
use qb_model::judge::{LoggedError, verify_logged};
use qb_model::outcome::Reason;
use qb_portal::view::{IntentState, IntentView, Problem};
use qb_portal::{Answer, IntentKey, paths};

use super::{not_known, reads};
use crate::ask::{self, Heard, Question};
use crate::fold::Part;
use crate::intents;
use crate::limits::{ASK, LIST, OUTBOX_SITE};
use crate::outbox::wait_for;
use crate::relay::Relay;
use crate::site::{LiveSite, now};
use crate::store::{Item, NewItem, StoreError};

fn failed(error: StoreError) -> Problem {
    tracing::error!(%error, "the outbox fails");
    Problem::internal("The relay's outbox")
}

/// Takes an intent: looked at out of courtesy, durable before it is answered, then handed on.
pub(super) async fn submit(
    relay: &Arc<Relay>,
    site: &Arc<LiveSite>,
    envelope: Bytes,
    wait: Duration,
) -> Answer<IntentView> {
    let (intent, digest) = courtesy(site, &envelope)?;
    let new = NewItem {
        digest,
        label: intent.id.clone(),
        envelope: envelope.to_vec(),
        queued: now(),
        expires: intent.expires_ms.0,
    };
    let taken = relay.store.queue(&site.scope(), new, OUTBOX_SITE).await.map_err(failed)?;
    let new = taken.ok_or_else(|| Problem::busy("intents that wait for this site", OUTBOX_SITE))?;
    site.moved();
    let mut view = after(relay, site, &IntentKey::Digest(digest), wait)
        .await?
        .ok_or_else(|| Problem::internal("The relay's outbox"))?;
    view.duplicate = !new;
    Ok(view)
}

/// Whether the site could accept an intent, by the trust log that the relay has. It only keeps out
/// what nobody signed: the site judges.
fn courtesy(site: &LiveSite, envelope: &[u8]) -> Answer<(Intent, qb_model::Digest)> {
    let no = |code: &str, why: String, remedy: Option<String>| {
        let detail = format!("By the trust log that the relay has: {why}.");
        Problem::refused(code, detail, remedy.unwrap_or_else(|| "send what `qb` signs, unchanged".to_owned()))
    };
    let belief = site.belief();
    let at = Millis(now()).max(belief.log_time());
    match verify_logged(&belief.trust, envelope, at) {
        Ok(_) | Err(LoggedError::Pending { .. }) => {}
        // The signer may have seen a newer trust log than the relay.
        Err(LoggedError::Rejected(Reason::StaleTrust { .. })) => {}
        Err(LoggedError::Rejected(reason)) => {
            return Err(no(reason.code(), reason.to_string(), reason.remedy()));
        }
        Err(LoggedError::Refused(refusal)) => return Err(no(refusal.code(), refusal.to_string(), None)),
    }
    let parsed = Envelope::parse(envelope).map_err(|e| no("envelope", e.to_string(), None))?;
    let intent = Intent::parse(parsed.payload()).map_err(|e| no("malformed", e.to_string(), None))?;
    Ok((intent, parsed.digest()))
}

async fn find(relay: &Relay, site: &LiveSite, key: &IntentKey) -> Result<Option<Item>, StoreError> {
    match key {
        IntentKey::Digest(digest) => relay.store.item(&site.scope(), *digest).await,
        IntentKey::Id(id) => relay.store.labelled(&site.scope(), id).await,
    }
}

/// An intent of the outbox, once the site has signed for it or `wait` is over.
async fn after(
    relay: &Arc<Relay>,
    site: &Arc<LiveSite>,
    key: &IntentKey,
    wait: Duration,
) -> Answer<Option<IntentView>> {
    let signed = wait_for(site, wait, || async {
        match find(relay, site, key).await {
            Ok(Some(item)) if item.receipt.is_none() => None,
            // Nothing to wait for.
            found => Some(found),
        }
    });
    let found = match signed.await {
        Some(found) => found,
        None => find(relay, site, key).await,
    };
    let Some(item) = found.map_err(failed)? else { return Ok(None) };
    let Some(view) = intents::of_item(site, &item, now()) else { return Ok(None) };
    if view.state != IntentState::Doing {
        return Ok(Some(view));
    }
    // In force, as the site signed; whether it is finished, only the gateway can say.
    let word = word(site, &view.digest.to_string(), Duration::ZERO).await;
    Ok(Some(word.ok().flatten().map_or(view, |word| intents::of_word(site, word, item.receipt.as_deref()))))
}

/// What the gateway says of an intent; none if nobody answers.
async fn word(site: &LiveSite, key: &str, wait: Duration) -> Answer<Option<IntentView>> {
    let path = paths::intent(&site.id().to_string(), key, wait);
    match ask::ask_site(site, &Question::get(path), ASK + wait).await {
        Heard::Said(said) => ask::read(&said).map(Some),
        Heard::Nobody(_) => Ok(None),
    }
}

/// What became of an intent: one that came through the relay, or any that the site knows.
pub(super) async fn intent(
    relay: &Arc<Relay>,
    site: &Arc<LiveSite>,
    key: IntentKey,
    wait: Duration,
) -> Answer<IntentView> {
    if let Some(view) = after(relay, site, &key, wait).await? {
        return Ok(view);
    }
    let text = match &key {
        IntentKey::Digest(digest) => digest.to_string(),
        IntentKey::Id(id) => id.to_string(),
    };
    let view = match word(site, &text, wait).await? {
        Some(view) => view,
        None => known_before(site, &key)
            .ok_or_else(|| not_known("This intent", "there is no link to the site"))?,
    };
    let receipt = relay.store.receipt(site.id(), view.digest).await.map_err(failed)?;
    Ok(intents::of_word(site, view, receipt.as_deref()))
}

/// An intent in the last list that was read.
fn known_before(site: &LiveSite, key: &IntentKey) -> Option<IntentView> {
    let (all, _) = site.fold.get::<Vec<IntentView>>(Part::Intents)?;
    all.into_iter().find(|view| match key {
        IntentKey::Digest(digest) => view.digest == *digest,
        IntentKey::Id(id) => view.id == *id,
    })
}

/// The latest intents: those that came through the relay first, then what the site says.
pub(super) async fn intents(relay: &Arc<Relay>, site: &Arc<LiveSite>) -> Answer<Vec<IntentView>> {
    let items = relay.store.latest(&site.scope(), LIST).await.map_err(failed)?;
    let words = match reads::view::<Vec<IntentView>>(site, Part::Intents).await {
        Ok(seen) => seen.value,
        Err(_) => Vec::new(),
    };
    let mut views = Vec::new();
    for item in &items {
        let word = words.iter().find(|word| word.digest == item.digest);
        match (word, &item.receipt) {
            (Some(word), Some(receipt)) => views.push(intents::of_word(site, word.clone(), Some(receipt))),
            _ => views.extend(intents::of_item(site, item, now())),
        }
    }
    for word in words {
        if views.iter().all(|view| view.digest != word.digest) && views.len() < LIST {
            let receipt = relay.store.receipt(site.id(), word.digest).await.map_err(failed)?;
            views.push(intents::of_word(site, word, receipt.as_deref()));
        }
    }
    Ok(views)
}
