//! The folded view: the last that was read of a site, kept for when it is dark.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use qb_model::SiteId;
use qb_model::attest::Attestation;
use qb_portal::paths;
use qb_portal::view::{AdminView, AlertView, BundleView, ClusterView, Head, IntentView, NodeView, SiteView};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::ask::{self, Question};
use crate::limits::{ASK, REFRESH_MIN};
use crate::relay::Relay;
use crate::site::{LiveSite, now};

/// A part of what is shown of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Site,
    Nodes,
    Clusters,
    Admins,
    Bundles,
    Intents,
    Alerts,
    Head,
    Attestation,
}

impl Part {
    const ALL: [Self; 9] = [
        Self::Site,
        Self::Nodes,
        Self::Clusters,
        Self::Admins,
        Self::Bundles,
        Self::Intents,
        Self::Alerts,
        Self::Head,
        Self::Attestation,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Site => "site",
            Self::Nodes => "nodes",
            Self::Clusters => "clusters",
            Self::Admins => "admins",
            Self::Bundles => "bundles",
            Self::Intents => "intents",
            Self::Alerts => "alerts",
            Self::Head => "head",
            Self::Attestation => "attestation",
        }
    }

    /// The question that it answers.
    pub(crate) fn question(self, site: SiteId) -> Question {
        let site = site.to_string();
        Question::get(match self {
            Self::Site => paths::site(&site),
            Self::Nodes => paths::nodes(&site),
            Self::Clusters => paths::clusters(&site),
            Self::Admins => paths::admins(&site),
            Self::Bundles => paths::bundles(&site),
            Self::Intents => paths::intents(&site),
            Self::Alerts => paths::alerts(&site),
            Self::Head => paths::head(&site),
            Self::Attestation => paths::attestation(&site),
        })
    }

    /// Whether bytes are such a view: what is kept can be shown.
    fn fits(self, json: &[u8]) -> bool {
        fn is<T: DeserializeOwned>(json: &[u8]) -> bool {
            serde_json::from_slice::<T>(json).is_ok()
        }
        match self {
            Self::Site => is::<SiteView>(json),
            Self::Nodes => is::<Vec<NodeView>>(json),
            Self::Clusters => is::<Vec<ClusterView>>(json),
            Self::Admins => is::<Vec<AdminView>>(json),
            Self::Bundles => is::<Vec<BundleView>>(json),
            Self::Intents => is::<Vec<IntentView>>(json),
            Self::Alerts => is::<Vec<AlertView>>(json),
            Self::Head => is::<Head>(json),
            Self::Attestation => is::<Attestation>(json),
        }
    }
}

/// The last views of a site, with when they were read.
#[derive(Default)]
pub(crate) struct Fold {
    views: Mutex<BTreeMap<Part, (Bytes, u64)>>,
    again: Notify,
}

impl Fold {
    /// What the store kept; what no longer reads is left out.
    pub(crate) fn from_rows(rows: Vec<(String, Vec<u8>, u64)>) -> Self {
        let fold = Self::default();
        for (word, json, at) in rows {
            if let Some(part) = Part::ALL.into_iter().find(|part| part.word() == word) {
                fold.put(part, json.into(), at);
            }
        }
        fold
    }

    /// Keeps a view. False if the bytes are none.
    pub(crate) fn put(&self, part: Part, json: Bytes, at: u64) -> bool {
        let mut views = self.lock();
        if views.get(&part).is_some_and(|(held, _)| *held == json) {
            views.insert(part, (json, at));
            return true;
        }
        let fits = part.fits(&json);
        if fits {
            views.insert(part, (json, at));
        }
        fits
    }

    /// A view and when it was read.
    pub(crate) fn get<T: DeserializeOwned>(&self, part: Part) -> Option<(T, u64)> {
        let (json, at) = self.lock().get(&part).cloned()?;
        Some((serde_json::from_slice(&json).ok()?, at))
    }

    /// When anything was read last; 0 for never.
    pub(crate) fn newest(&self) -> u64 {
        self.lock().values().map(|(_, at)| *at).max().unwrap_or_default()
    }

    /// Something changed at the site: the views are read again soon.
    pub(crate) fn ask_again(&self) {
        self.again.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Part, (Bytes, u64)>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a site's views again whenever something changes, and now and then, as long as the relay runs.
pub(crate) async fn keep_fresh(relay: Arc<Relay>, site: Arc<LiveSite>) {
    let every = relay.config.timing.refresh;
    loop {
        tokio::select! {
            () = relay.cancel.cancelled() => return,
            _ = wait(&site, every) => {}
        }
        if site.links.gateway().is_none() {
            continue;
        }
        let kept = read_all(&site).await;
        if !kept.is_empty()
            && let Err(error) = relay.store.put_views(site.id(), kept).await
        {
            tracing::warn!(site = %site.name, %error, "cannot keep the site's views");
        }
    }
}

/// A burst of changes is one.
async fn wait(site: &LiveSite, every: Duration) {
    if timeout(every, site.fold.again.notified()).await.is_ok() {
        sleep(REFRESH_MIN.min(every)).await;
    }
}

/// Compares what voters signed with what they signed before, on a thread for blocking work.
async fn look(site: &Arc<LiveSite>, json: Bytes, at: u64) {
    let site = Arc::clone(site);
    let look = move || {
        if let Ok(document) = serde_json::from_slice::<Attestation>(&json) {
            site.heads.look(site.id(), &document, at, &site.marks);
        }
    };
    if tokio::task::spawn_blocking(look).await.is_err() {
        tracing::warn!("comparing what voters signed was cut short");
    }
}

/// What is new, by the word of its part.
async fn read_all(site: &Arc<LiveSite>) -> Vec<(&'static str, Vec<u8>, u64)> {
    let mut new = Vec::new();
    for part in Part::ALL {
        let Some(link) = site.links.gateway() else { break };
        let at = now();
        match ask::ask(&link, part.question(site.id()), ASK).await {
            Ok(said) if said.status.is_success() => {
                if part == Part::Attestation {
                    look(site, said.body.clone(), at).await;
                }
                if site.fold.put(part, said.body.clone(), at) {
                    new.push((part.word(), said.body.to_vec(), at));
                }
            }
            Ok(said) => {
                tracing::debug!(site = %site.name, part = part.word(), status = %said.status, "not shown");
            }
            Err(error) => {
                tracing::debug!(site = %site.name, part = part.word(), "{error}");
                break;
            }
        }
    }
    new
}
