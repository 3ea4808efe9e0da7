//! One site while the relay runs.

mod feed;
mod heads;
mod knocks;
mod marks;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qb_link::{Hints, RosterEntry};
use qb_model::action::Role;
use qb_model::trust::{Signatory, TrustEntry};
use qb_model::{Name, PublicKey, SiteId};
use tokio::sync::{Mutex, watch};

use crate::fold::Fold;
use crate::link::Links;
use crate::scope::Scope;
use crate::store::{Store, StoreError};
use crate::trust::{Belief, BeliefError};

pub(crate) use feed::Feed;
pub(crate) use heads::Heads;
pub(crate) use knocks::Knocks;
pub(crate) use marks::{Mark, Marks};

/// Milliseconds since the epoch by this machine's clock.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Why a gateway's word is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LearnError {
    #[error(transparent)]
    Belief(#[from] BeliefError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the verification did not finish")]
    Lost,
}

/// A registered site: what is verified, its links, and what is shown of it.
pub(crate) struct LiveSite {
    scope: RwLock<Scope>,
    pub(crate) name: Name,
    belief: RwLock<Arc<Belief>>,
    /// Held by whoever extends the belief, so that entries are stored in the order they were verified.
    learning: Mutex<()>,
    pub(crate) links: Links,
    pub(crate) fold: Fold,
    pub(crate) feed: Feed,
    pub(crate) knocks: Knocks,
    pub(crate) marks: Marks,
    /// Where a gateway said that members are.
    hints: RwLock<Hints>,
    pub(crate) heads: Heads,
    /// Counts whatever a waiting reader or the outbox may want to look at again.
    moved: watch::Sender<u64>,
    relay: PublicKey,
}

impl LiveSite {
    pub(crate) fn new(scope: Scope, belief: Belief, relay: PublicKey, fold: Fold) -> Arc<Self> {
        Arc::new(Self {
            name: belief.charter.body().name.clone(),
            scope: RwLock::new(scope),
            belief: RwLock::new(Arc::new(belief)),
            learning: Mutex::new(()),
            links: Links::new(fold.newest()),
            fold,
            feed: Feed::new(now()),
            knocks: Knocks::default(),
            marks: Marks::default(),
            hints: RwLock::default(),
            heads: Heads::default(),
            moved: watch::Sender::new(0),
            relay,
        })
    }

    /// This relay's key.
    pub(crate) fn relay(&self) -> PublicKey {
        self.relay
    }

    pub(crate) fn scope(&self) -> Scope {
        self.scope.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn id(&self) -> SiteId {
        self.belief().trust.site()
    }

    pub(crate) fn belief(&self) -> Arc<Belief> {
        Arc::clone(&self.belief.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether its owners still trust this relay.
    pub(crate) fn is_served(&self) -> bool {
        self.belief().trust.relays().contains_key(&self.relay)
    }

    /// Whose key this is there now, if the relay may serve the site at all.
    pub(crate) fn signatory(&self, key: &PublicKey) -> Option<Signatory> {
        let belief = self.belief();
        let at = qb_model::Millis(now()).max(belief.log_time());
        belief.trust.signatory(key, at).filter(|_| self.is_served())
    }

    /// Whether this admin's key still has this role there.
    pub(crate) fn has_role(&self, key: &PublicKey, need: Role) -> bool {
        self.signatory(key).is_some_and(|who| who.role >= need)
    }

    /// Where members can be dialled, as a gateway said last: nobody believes it without a handshake.
    pub(crate) fn hints(&self) -> Hints {
        self.hints.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes where a gateway says that members are.
    pub(crate) fn put_hints(&self, hints: Hints) {
        *self.hints.write().unwrap_or_else(PoisonError::into_inner) = hints;
        // A node that was let in may wait for it.
        self.moved();
    }

    /// Whether no node was ever let in.
    pub(crate) fn is_unfounded(&self) -> bool {
        self.belief().roster.last() == 0
    }

    /// Says that something moved.
    pub(crate) fn moved(&self) {
        self.moved.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// Another registration of the same site: it may be of another org, and its log newer.
    pub(crate) async fn register_again(
        &self,
        store: &Store,
        scope: Scope,
        log: Vec<TrustEntry>,
    ) -> Result<(), LearnError> {
        self.learn_trust(store, log).await?;
        *self.scope.write().unwrap_or_else(PoisonError::into_inner) = scope;
        Ok(())
    }

    /// Verifies and keeps entries of the trust log.
    pub(crate) async fn learn_trust(
        &self,
        store: &Store,
        entries: Vec<TrustEntry>,
    ) -> Result<(), LearnError> {
        if entries.is_empty() {
            return Ok(());
        }
        let _learning = self.learning.lock().await;
        let mut next = Belief::clone(&self.belief());
        let from = next.trust.log().len();
        let (next, new) = blocking(move || next.learn_trust(&entries).map(|new| (next, new))).await?;
        if new > 0 {
            store.add_trust(self.id(), from, next.trust.log()[from..].to_vec()).await?;
            self.believe(next);
        }
        Ok(())
    }

    /// Verifies and keeps entries of the roster.
    pub(crate) async fn learn_roster(
        &self,
        store: &Store,
        entries: Vec<RosterEntry>,
    ) -> Result<(), LearnError> {
        if entries.is_empty() {
            return Ok(());
        }
        let _learning = self.learning.lock().await;
        let mut next = Belief::clone(&self.belief());
        let (next, new) = blocking(move || next.learn_roster(entries).map(|new| (next, new))).await?;
        if !new.is_empty() {
            store.add_roster(self.id(), new).await?;
            self.believe(next);
        }
        Ok(())
    }

    fn believe(&self, next: Belief) {
        self.links.close_revoked(&next.roster);
        self.knocks.retain(|node| next.roster.host(node).is_none() && !next.roster.is_revoked(node));
        *self.belief.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        if !self.is_served() {
            self.links.close_all();
        }
        self.moved();
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BeliefError> + Send + 'static,
) -> Result<T, LearnError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| LearnError::Lost)?.map_err(LearnError::from)
}
