//! What all parts of the relay share, and how it starts and ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context as _, Result};
use axum::Router;
use qb_link::noise::StaticKey;
use qb_model::dsse::{SecretKey, Signer as _};
use qb_model::{Name, PublicKey, SiteId};
use qb_portal::{Access, DoorConfig, Listener};
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::door::Front;
use crate::fold::{self, Fold};
use crate::limits::{GREETING, REGISTERING};
use crate::packages::{self, Packages, Shelf};
use crate::scope::Scope;
use crate::site::LiveSite;
use crate::store::Store;
use crate::trust::Belief;
use crate::tunnel::Tunnels;
use crate::{key, link, outbox, register, tls};

/// Sites by id, and by the keys of their admins.
#[derive(Default)]
struct Sites {
    by_id: BTreeMap<SiteId, Arc<LiveSite>>,
    by_key: BTreeMap<PublicKey, BTreeSet<SiteId>>,
}

/// A relay.
pub struct Relay {
    pub(crate) config: Config,
    pub(crate) key: Arc<SecretKey>,
    pub(crate) public: PublicKey,
    pub(crate) noise: StaticKey,
    pub(crate) hosts: Vec<String>,
    pub(crate) origins: Vec<String>,
    pub(crate) store: Store,
    pub(crate) tasks: TaskTracker,
    pub(crate) cancel: CancellationToken,
    pub(crate) greeting: Arc<Semaphore>,
    pub(crate) registering: Semaphore,
    pub(crate) packages: Packages,
    pub(crate) tunnels: Tunnels,
    /// Held while a site is registered.
    pub(crate) registry: Mutex<()>,
    sites: RwLock<Sites>,
}

impl Relay {
    /// Opens a relay's directory: key, database, all sites. Everything stored is verified again.
    ///
    /// # Errors
    /// The directory cannot be used, or what is in it does not verify.
    pub async fn open(config: Config) -> Result<Arc<Self>> {
        key::make_dir(&config.state)?;
        let key = key::open(&config.state)?;
        let store = Store::open(&config.state).context("cannot open the database")?;
        let (hosts, origins) = config.names()?;
        let dir = config.packages.clone();
        let shelf = tokio::task::spawn_blocking(move || Shelf::open(&dir)).await?;
        let relay = Arc::new(Self {
            public: key.public_key(),
            key: Arc::new(key),
            noise: StaticKey::generate().context("no random bytes")?,
            hosts,
            origins,
            store,
            tasks: TaskTracker::new(),
            cancel: CancellationToken::new(),
            greeting: Arc::new(Semaphore::new(GREETING)),
            registering: Semaphore::new(REGISTERING),
            packages: Packages::new(shelf),
            tunnels: Tunnels::default(),
            registry: Mutex::new(()),
            sites: RwLock::default(),
            config,
        });
        relay.store.put_orgs(relay.config.orgs.clone()).await?;
        for row in relay.store.sites().await? {
            let (trust, charter, roster) = (row.trust, row.charter, row.roster);
            let belief = tokio::task::spawn_blocking(move || {
                let mut belief = Belief::verify(&charter, &trust)?;
                belief.learn_roster(roster)?;
                Ok::<_, crate::trust::BeliefError>(belief)
            });
            let belief =
                belief.await?.with_context(|| format!("site {} in the database does not verify", row.id))?;
            relay.start(Scope::new(row.org, row.id), belief, Fold::from_rows(row.views));
        }
        Ok(relay)
    }

    /// The relay's key: the pin that sites trust.
    pub fn public_key(&self) -> PublicKey {
        self.public
    }

    /// The API, the pages, the links and the registration.
    pub fn router(self: &Arc<Self>) -> Router {
        let access = Access::Network { origins: self.origins.clone(), hosts: self.hosts.clone() };
        let door = DoorConfig { access, server_key: self.public };
        let own = link::routes().merge(register::routes()).merge(packages::routes());
        let own = own.with_state(Arc::clone(self));
        let own = own.merge(qb_portal::pages());
        qb_portal::api_with_pages(Arc::new(Front { relay: Arc::clone(self), here: None }), door, own)
    }

    /// How many sites there are. It answers when the database does, and the index.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn alive(&self) -> Result<usize> {
        self.store.with(|db| Ok(db.query_row("SELECT 1", (), |_| Ok(()))?)).await?;
        Ok(self.count(None))
    }

    /// Ends all links and tasks.
    pub async fn close(&self) {
        self.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Lets a site live: it is found from now on, and its outbox and views are served.
    pub(crate) fn start(self: &Arc<Self>, scope: Scope, belief: Belief, fold: Fold) {
        let id = scope.site();
        let site = LiveSite::new(scope, belief, self.public, fold);
        self.sites.write().unwrap_or_else(PoisonError::into_inner).by_id.insert(id, Arc::clone(&site));
        self.index(&site);
        self.tasks.spawn(outbox::run(Arc::clone(self), Arc::clone(&site)));
        self.tasks.spawn(fold::keep_fresh(Arc::clone(self), site));
    }

    /// Takes the keys of a site's admins into the index, and those that are none any more out.
    pub(crate) fn index(&self, site: &LiveSite) {
        let (id, belief) = (site.id(), site.belief());
        let mut sites = self.sites.write().unwrap_or_else(PoisonError::into_inner);
        sites.by_key.retain(|_, of| {
            of.remove(&id);
            !of.is_empty()
        });
        for key in belief.trust.admins().values().flat_map(|admin| admin.keys.keys()) {
            sites.by_key.entry(*key).or_default().insert(id);
        }
    }

    pub(crate) fn site(&self, id: &SiteId) -> Option<Arc<LiveSite>> {
        self.sites.read().unwrap_or_else(PoisonError::into_inner).by_id.get(id).cloned()
    }

    /// The sites where this key is an admin's now.
    pub(crate) fn sites_of(&self, key: &PublicKey) -> Vec<Arc<LiveSite>> {
        let sites = self.sites.read().unwrap_or_else(PoisonError::into_inner);
        let ids = sites.by_key.get(key).into_iter().flatten();
        ids.filter_map(|id| sites.by_id.get(id))
            .filter(|site| site.signatory(key).is_some())
            .cloned()
            .collect()
    }

    /// How many sites there are, or an org has.
    pub(crate) fn count(&self, org: Option<&Name>) -> usize {
        let sites = self.sites.read().unwrap_or_else(PoisonError::into_inner);
        sites.by_id.values().filter(|site| org.is_none_or(|org| site.scope().org() == org)).count()
    }
}

/// Serves a relay on a listener until `stop` is ready, then ends it.
///
/// # Errors
/// Its certificate cannot be read.
pub async fn serve<L: Listener>(
    relay: Arc<Relay>,
    listener: L,
    stop: impl Future<Output = ()> + Send,
) -> Result<()> {
    let router = relay.router();
    match &relay.config.tls {
        Some(files) => qb_portal::serve_tls(listener, tls::acceptor(files)?, router, stop).await,
        None => qb_portal::serve(listener, router, stop).await,
    }
    relay.close().await;
    Ok(())
}
