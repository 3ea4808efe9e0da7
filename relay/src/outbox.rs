//! Intents on their way: queued, handed to a gateway, done by a receipt. At least once: an intent
//! is handed over again until its receipt is here or its time is over. The site tells repeats apart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use qb_model::action::Action;
use qb_model::envelope::Envelope;
use qb_model::intent::Intent;
use qb_model::outcome::Outcome;
use qb_model::statement::{Receipt, Signed, SignedBytes, Statement as _};
use qb_model::{Digest, NodeId};
use qb_portal::paths;
use qb_portal::view::IntentView;
use tokio::time::{Instant, timeout};

use crate::ask::{self, Question};
use crate::limits::{AGAIN_MAX, HAND, HANDING, KEEP, RECEIPTS_SITE};
use crate::link::Link;
use crate::relay::Relay;
use crate::site::{LiveSite, Mark, now};
use crate::store::StoreError;

/// How an intent was handed over last, by this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handed {
    /// The link's number.
    pub(crate) link: u64,
    /// When.
    pub(crate) at: Instant,
    /// How often in all.
    pub(crate) tries: u32,
}

/// To whom an intent goes next. `links` are the numbers of the gateway and the standby. At once to
/// a gateway that never had it; to the other one after `patience`; then again and again, at pauses
/// that double.
pub(crate) fn next_hand(
    handed: Option<Handed>,
    links: &[u64],
    now: Instant,
    patience: Duration,
) -> Result<u64, Option<Instant>> {
    let Some(gateway) = links.first() else { return Err(None) };
    let Some(handed) = handed else { return Ok(*gateway) };
    if !links.contains(&handed.link) {
        return Ok(*gateway);
    }
    let doublings = handed.tries.saturating_sub(1).min(16);
    let due = handed.at + patience.saturating_mul(1 << doublings).min(AGAIN_MAX);
    if now < due {
        return Err(Some(due));
    }
    let other = links.iter().find(|link| **link != handed.link);
    Ok(*other.unwrap_or(gateway))
}

/// Intents that are being handed over.
type Flying<'a> = FuturesUnordered<BoxFuture<'a, Result<(), StoreError>>>;

/// Hands a site's intents over as long as the relay runs.
pub(crate) async fn run(relay: Arc<Relay>, site: Arc<LiveSite>) {
    let mut moved = site.watch();
    let mut handed: BTreeMap<Digest, Handed> = BTreeMap::new();
    let mut flying = Flying::new();
    loop {
        moved.borrow_and_update();
        let room = HANDING - flying.len();
        let wake = match turn(&relay, &site, &mut handed, room).await {
            Ok((wake, work)) => {
                flying
                    .extend(work.into_iter().map(|(link, digest)| hand(&relay, &site, link, digest).boxed()));
                wake
            }
            Err(error) => {
                tracing::warn!(site = %site.name, %error, "the outbox cannot be read, trying again");
                Some(Instant::now() + relay.config.timing.standby_after)
            }
        };
        let wake = wake.unwrap_or_else(|| Instant::now() + AGAIN_MAX);
        tokio::select! {
            () = relay.cancel.cancelled() => return,
            // The site outlives this task, so that the watch never ends.
            _ = moved.changed() => {}
            () = tokio::time::sleep_until(wake) => {}
            // One that landed makes room for the next.
            Some(done) = flying.next() => if let Err(error) = done {
                tracing::warn!(site = %site.name, %error, "cannot note what a gateway said");
            },
        }
    }
}

/// When something is due next, and what goes to whom now.
type Turn = (Option<Instant>, Vec<(Arc<Link>, Digest)>);

/// Chooses what is handed over now: at most `room`, since a gateway that hangs must not fill the memory.
async fn turn(
    relay: &Relay,
    site: &LiveSite,
    handed: &mut BTreeMap<Digest, Handed>,
    room: usize,
) -> Result<Turn, StoreError> {
    let scope = site.scope();
    let due = relay.store.due(&scope, now()).await?;
    handed.retain(|digest, _| due.contains(digest));
    if due.is_empty() {
        let keep = u64::try_from(KEEP.as_millis()).unwrap_or(u64::MAX);
        relay.store.forget(&scope, now().saturating_sub(keep)).await?;
        return Ok((None, Vec::new()));
    }
    let gateways = site.links.live();
    let unfounded = gateways.is_empty() && site.is_unfounded();
    let patience = relay.config.timing.standby_after;
    let (mut wake, mut work) = (None, Vec::new());
    for digest in due {
        if work.len() >= room {
            break;
        }
        let links = if unfounded { founders(relay, site, digest).await? } else { gateways.clone() };
        let serials: Vec<u64> = links.iter().map(|link| link.serial).collect();
        let (last, now) = (handed.get(&digest).copied(), Instant::now());
        match next_hand(last, &serials, now, patience) {
            Ok(serial) => {
                let tries = last.map_or(1, |last| last.tries.saturating_add(1));
                handed.insert(digest, Handed { link: serial, at: now, tries });
                wake = sooner(wake, now + patience);
                if let Some(link) = links.iter().find(|link| link.serial == serial) {
                    work.push((Arc::clone(link), digest));
                }
            }
            Err(due) => wake = due.map_or(wake, |due| sooner(wake, due)),
        }
    }
    Ok((wake, work))
}

/// The links of waiting nodes that a founding intent names: before there is a roster, they are whom it
/// concerns. They judge it by themselves.
async fn founders(relay: &Relay, site: &LiveSite, digest: Digest) -> Result<Vec<Arc<Link>>, StoreError> {
    let item = relay.store.item(&site.scope(), digest).await?;
    let action = item
        .and_then(|item| Envelope::parse(&item.envelope).ok())
        .and_then(|envelope| Intent::parse(envelope.payload()).ok())
        .map(|intent| intent.action);
    let Some(Action::SiteFound { nodes }) = action else { return Ok(Vec::new()) };
    Ok(nodes.iter().filter_map(|node| site.links.waiting(&node.node)).collect())
}

fn sooner(a: Option<Instant>, b: Instant) -> Option<Instant> {
    Some(a.map_or(b, |a| a.min(b)))
}

/// Hands one intent to one gateway, and notes what it said. What it says settles nothing.
async fn hand(relay: &Relay, site: &LiveSite, link: Arc<Link>, digest: Digest) -> Result<(), StoreError> {
    let scope = site.scope();
    let Some(item) = relay.store.item(&scope, digest).await? else { return Ok(()) };
    let path = paths::submit(&site.id().to_string(), Duration::ZERO);
    let question = Question::post(path, "application/json", item.envelope.into());
    let (taken, said) = match ask::ask(&link, question, HAND).await {
        Ok(answer) if answer.status.is_success() => {
            let said = ask::read::<IntentView>(&answer).ok().map(|view| word_of(&view));
            (Some((link.peer.node, now())), said)
        }
        Ok(answer) => (None, Some(refusal(&answer))),
        Err(error) => (None, Some(format!("the gateway did not take it: {error}"))),
    };
    relay.store.handed(&scope, digest, taken, said).await
}

fn word_of(view: &IntentView) -> String {
    // The states' words are plain JSON strings.
    let state = serde_json::to_string(&view.state).unwrap_or_default();
    format!("the gateway says {}", state.trim_matches('"'))
}

fn refusal(said: &ask::Said) -> String {
    let why = match ask::read::<IntentView>(said) {
        Ok(_) => "nothing is wrong".to_owned(),
        Err(problem) => format!("{} ({})", problem.detail, problem.code),
    };
    let why: String = why.chars().take(300).flat_map(char::escape_debug).collect();
    format!("the gateway refuses it: {why}")
}

/// Keeps a receipt whose signature and signer were checked. The first final word stands.
pub(crate) async fn keep_receipt(
    relay: &Arc<Relay>,
    site: &Arc<LiveSite>,
    receipt: &Signed<Receipt>,
) -> Result<(), StoreError> {
    let digest = receipt.value().intent;
    if let Some(held) = read_receipt(relay.store.receipt(site.id(), digest).await?.as_deref())
        && held.outcome.is_final()
    {
        let (new, held) = (settled(receipt.value()), settled(&held));
        if new != held {
            site.marks.put(Mark::SplitView(digest), now());
        }
        return Ok(());
    }
    let bytes = receipt.bytes().to_bytes();
    relay.store.put_receipt(site.id(), digest, bytes, (now(), RECEIPTS_SITE)).await?;
    site.moved();
    Ok(())
}

/// What two receipts of one intent must agree on.
fn settled(receipt: &Receipt) -> (Outcome, u64) {
    match receipt.outcome.clone() {
        Outcome::Duplicate { first, index } => (*first, index),
        outcome => (outcome, receipt.index),
    }
}

/// A receipt as it was kept.
pub(crate) fn read_receipt(bytes: Option<&[u8]>) -> Option<Receipt> {
    let signed = SignedBytes::from_bytes(Receipt::PURPOSE, bytes?, Receipt::MAX).ok()?;
    let receipt = signed.open::<Receipt>().ok()?.into_value();
    let (outcome, index) = settled(&receipt);
    Some(Receipt { outcome, index, ..receipt })
}

/// How a gateway is called.
pub(crate) fn host_of(site: &LiveSite, node: &NodeId) -> String {
    let belief = site.belief();
    belief.roster.host(node).map_or_else(|| qb_model::words::fingerprint(&node.0), ToString::to_string)
}

/// Waits until `look` finds something or the time is over.
pub(crate) async fn wait_for<T, F>(site: &LiveSite, wait: Duration, mut look: impl FnMut() -> F) -> Option<T>
where
    F: Future<Output = Option<T>>,
{
    let mut moved = site.watch();
    let found = async {
        loop {
            moved.borrow_and_update();
            if let Some(found) = look().await {
                return Some(found);
            }
            if moved.changed().await.is_err() {
                return None;
            }
        }
    };
    timeout(wait, found).await.ok().flatten()
}
