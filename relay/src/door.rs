//! The API at the relay: [`qb_portal::Site`] of one site for one session, or of the door itself
//! while no site is named. What a session may see is looked up anew for every request.

mod reads;
mod sends;

pub(crate) use reads::enrolment;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use qb_model::action::Role;
use qb_model::attest::Attestation;
use qb_model::document::{self, Login};
use qb_model::envelope::Envelope;
use qb_model::key::{KeyId, KeyKind};
use qb_model::{Name, PublicKey};
use qb_portal::paths;
use qb_portal::tunnel::Upgrading;
use qb_portal::view::{
    AdminView, AlertView, AuditExport, BundleView, ClusterView, Event, Head, HistoryView, IntentView,
    NodeView, PackagesView, PlanRequest, PlanView, PreflightRequest, PreflightView, Problem, SiteView,
    TokenView,
};
use qb_portal::{Answer, IntentKey, LoginExpected, LoginOk, Site, SiteNames, Upload};

use crate::ask::{self, Heard, Question};
use crate::fold::Part;
use crate::limits::{ASK, ASK_LONG, PUSH, PUSH_BYTES};
use crate::relay::Relay;
use crate::site::LiveSite;
use crate::tunnel;

/// The door, or one site behind it.
pub(crate) struct Front {
    pub(crate) relay: Arc<Relay>,
    /// Who asks, and which of their sites; none for the door itself.
    pub(crate) here: Option<Here>,
}

/// What a session asks about.
pub(crate) struct Here {
    login: LoginOk,
    site: Option<Arc<LiveSite>>,
}

impl Front {
    /// The site that the path named. A handler without one has no business here.
    fn site(&self) -> Answer<&Arc<LiveSite>> {
        let site = self.here.as_ref().and_then(|here| here.site.as_ref());
        site.ok_or_else(|| Problem::not_found::<&str>("site here called", "", &[], "qb site list"))
    }

    fn key(&self) -> Option<&PublicKey> {
        self.here.as_ref().map(|here| &here.login.key)
    }
}

/// The one of these sites that a path names, by id or by a name that only one of them has.
fn named<'a>(sites: &'a [Arc<LiveSite>], text: &str) -> Answer<&'a Arc<LiveSite>> {
    if let Some(site) = sites.iter().find(|site| site.id().to_string() == text) {
        return Ok(site);
    }
    let same: Vec<&Arc<LiveSite>> = sites.iter().filter(|site| site.name.as_str() == text).collect();
    match same.as_slice() {
        [one] => Ok(one),
        // What others have is unknown here: the answer is the same as for a random id.
        [] => {
            let known: Vec<&str> = sites.iter().map(|site| site.name.as_str()).collect();
            Err(Problem::not_found("site here called", text, &known, "qb site list"))
        }
        several => {
            let ids: Vec<String> = several.iter().map(|site| site.id().to_string()).collect();
            Err(Problem::ambiguous("site", text, &ids))
        }
    }
}

/// A key, how it signs, and who it is at which sites.
type Signer = (KeyKind, PublicKey, Vec<(Name, Role)>);

/// The first key that is said to have signed and is an admin's of some site here.
fn signer_of(relay: &Relay, envelope: &Envelope) -> Option<Signer> {
    envelope.signatures().iter().find_map(|line| {
        let keyid: KeyId = line.keyid.parse().ok()?;
        let whose: Vec<_> =
            relay.sites_of(&keyid.key).iter().filter_map(|s| s.signatory(&keyid.key)).collect();
        let kind = KeyKind::of(whose.first()?.class);
        Some((kind, keyid.key, whose.into_iter().map(|who| (who.admin, who.role)).collect()))
    })
}

#[async_trait]
impl Site for Front {
    fn names(&self) -> Option<SiteNames> {
        let site = self.site().ok()?;
        Some(SiteNames { id: site.id(), name: site.name.clone() })
    }

    fn scoped(&self, login: &LoginOk, site: Option<&str>) -> Answer<Option<Arc<dyn Site>>> {
        let site = match site {
            Some(text) => Some(Arc::clone(named(&self.relay.sites_of(&login.key), text)?)),
            None => None,
        };
        let here = Some(Here { login: login.clone(), site });
        Ok(Some(Arc::new(Self { relay: Arc::clone(&self.relay), here })))
    }

    async fn sites(&self) -> Answer<Vec<SiteView>> {
        let Some(key) = self.key() else { return Ok(Vec::new()) };
        let sites = self.relay.sites_of(key);
        let mut views: Vec<SiteView> = sites.iter().map(|site| reads::last_site(site)).collect();
        views.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Ok(views)
    }

    async fn site(&self) -> Answer<SiteView> {
        reads::site(self.site()?).await
    }

    async fn nodes(&self) -> Answer<Vec<NodeView>> {
        reads::nodes(self.site()?).await
    }

    async fn node(&self, name: &str) -> Answer<NodeView> {
        reads::find_node(reads::nodes(self.site()?).await?, name)
    }

    async fn clusters(&self) -> Answer<Vec<ClusterView>> {
        Ok(reads::view(self.site()?, Part::Clusters).await?.value)
    }

    async fn cluster(&self, name: &Name) -> Answer<ClusterView> {
        let all = self.clusters().await?;
        let known: Vec<String> = all.iter().map(|cluster| cluster.name.to_string()).collect();
        let none = || Problem::not_found("cluster", name.as_str(), &known, "qb cluster list");
        all.into_iter().find(|cluster| cluster.name == *name).ok_or_else(none)
    }

    async fn admins(&self) -> Answer<Vec<AdminView>> {
        Ok(reads::admins(self.site()?))
    }

    async fn bundles(&self) -> Answer<Vec<BundleView>> {
        Ok(reads::view(self.site()?, Part::Bundles).await?.value)
    }

    async fn head(&self) -> Answer<Head> {
        let site = self.site()?;
        if site.is_unfounded() && site.links.gateway().is_none() && !site.knocks.is_empty() {
            // Its nodes wait to found it: a site begins where its charter says.
            return Ok(reads::beginning(site));
        }
        Ok(reads::view(site, Part::Head).await?.value)
    }

    async fn attestation(&self) -> Answer<Attestation> {
        reads::attestation(self.site()?).await
    }

    async fn charter(&self) -> Answer<String> {
        reads::charter(self.site()?)
    }

    async fn enrolment(&self) -> Answer<String> {
        reads::enrolment(self.site()?)
    }

    async fn packages(&self) -> Answer<PackagesView> {
        self.relay.packages.view(self.site()?, &self.relay.config.url).await
    }

    async fn submit(&self, envelope: Bytes, wait: Duration) -> Answer<IntentView> {
        sends::submit(&self.relay, self.site()?, envelope, wait).await
    }

    async fn intent(&self, key: IntentKey, wait: Duration) -> Answer<IntentView> {
        sends::intent(&self.relay, self.site()?, key, wait).await
    }

    async fn intents(&self) -> Answer<Vec<IntentView>> {
        sends::intents(&self.relay, self.site()?).await
    }

    async fn plan(&self, request: PlanRequest) -> Answer<PlanView> {
        let site = self.site()?;
        let question = Question::json(paths::plan(&site.id().to_string()), &request);
        ask::answer(site, question, ASK_LONG).await
    }

    async fn preflight(&self, request: PreflightRequest) -> Answer<PreflightView> {
        let site = self.site()?;
        let question = Question::json(paths::preflight(&site.id().to_string()), &request);
        ask::answer(site, question, ASK_LONG).await
    }

    async fn push_bundle(&self, mut upload: Upload) -> Answer<BundleView> {
        let site = self.site()?;
        if !self.key().is_some_and(|key| site.has_role(key, Role::Operator)) {
            return Err(Problem::role("Pushing a bundle", "less here", "operator"));
        }
        let large = || {
            let remedy = "push it at a door of the site: qb --door https://ADDRESS:8443 bundle push FILE";
            let mut problem = Problem::too_large("A bundle that goes through a relay", PUSH_BYTES as u64);
            problem.remedy = Some(remedy.to_owned());
            problem
        };
        if upload.length.is_some_and(|length| length > PUSH_BYTES as u64) {
            return Err(large());
        }
        let mut file = Vec::new();
        while let Some(piece) = upload.body.next().await {
            let piece = piece?;
            if file.len() + piece.len() > PUSH_BYTES {
                return Err(large());
            }
            file.extend_from_slice(&piece);
        }
        let (path, file) = (paths::bundles(&site.id().to_string()), Bytes::from(file));
        ask::answer(site, Question::post(path, "application/octet-stream", file), PUSH).await
    }

    async fn events(&self, after: Option<u64>) -> Answer<BoxStream<'static, Event>> {
        let (site, key) = (Arc::clone(self.site()?), self.key().copied());
        let events = site.feed.after(after);
        let ended = async move {
            let mut moved = site.watch();
            // A revoked key ends it at once, though the session may live on for other sites.
            while key.is_some_and(|key| site.signatory(&key).is_some()) && moved.changed().await.is_ok() {}
        };
        Ok(events.take_until(Box::pin(ended)).boxed())
    }

    async fn audit(&self, from: u64, limit: u32) -> Answer<AuditExport> {
        let site = self.site()?;
        let path = paths::audit(&site.id().to_string(), from, limit);
        ask::answer(site, Question::get(path), ASK_LONG).await
    }

    async fn tokens(&self) -> Answer<Vec<TokenView>> {
        let site = self.site()?;
        ask::answer(site, Question::get(paths::tokens(&site.id().to_string())), ASK).await
    }

    async fn alerts(&self) -> Answer<Vec<AlertView>> {
        reads::alerts(&self.relay, self.site()?).await
    }

    async fn node_history(&self, name: &str) -> Answer<HistoryView> {
        let site = self.site()?;
        ask::answer(site, Question::get(paths::node_history(&site.id().to_string(), name)), ASK).await
    }

    async fn history(&self) -> Answer<HistoryView> {
        let site = self.site()?;
        ask::answer(site, Question::get(paths::history(&site.id().to_string())), ASK).await
    }

    async fn metrics(&self) -> Answer<String> {
        let site = self.site()?;
        let up = u8::from(site.links.gateway().is_some());
        let own = format!("# TYPE qb_relay_link gauge\nqb_relay_link{{site=\"{}\"}} {up}\n", site.name);
        let question = Question::get(paths::metrics(&site.id().to_string()));
        match ask::ask_site(site, &question, ASK).await {
            Heard::Said(said) if said.status.is_success() => Ok(own + &String::from_utf8_lossy(&said.body)),
            _ => Ok(own),
        }
    }

    async fn tunnel(&self, cluster: &Name, login: Option<LoginOk>, io: Upgrading) -> Answer<()> {
        let login = login.ok_or_else(|| Problem::unauthorized("A tunnel needs a session."))?;
        tunnel::take(&self.relay, self.site()?, cluster, login, io).await
    }

    async fn verify_login(&self, envelope: Bytes, expected: LoginExpected) -> Answer<LoginOk> {
        let no = |why: String| {
            Problem::refused("login", why, "qb key list shows your keys, qb admin list the site's")
        };
        let parsed = Envelope::parse(&envelope).map_err(|e| no(e.to_string()))?;
        // The same words whether a site has that key or the signature is wrong.
        let unknown = || no("no signature is by a key of an admin of a site at this relay".into());
        let (kind, key, whose) = signer_of(&self.relay, &parsed).ok_or_else(unknown)?;
        let (login, _) = document::open::<Login>(&envelope, kind, &key).map_err(|_| unknown())?;
        let LoginExpected { origin, server_key, nonce } = expected;
        if (&login.origin, &login.server_key, &login.nonce) != (&origin, &server_key, &nonce) {
            return Err(no("it was signed for another door or another challenge".into()));
        }
        let (admin, _) = whose.first().cloned().ok_or_else(unknown)?;
        let role = whose.iter().map(|(_, role)| *role).max().ok_or_else(unknown)?;
        Ok(LoginOk { admin, role, key })
    }

    /// As long as the key is an admin's somewhere; what it may see there is looked up anew each time.
    fn session_alive(&self, login: &LoginOk) -> bool {
        !self.relay.sites_of(&login.key).is_empty()
    }
}

/// What cannot be told through the relay now.
pub(crate) fn not_known(what: &str, why: &str) -> Problem {
    let remedy = "ask at a node of the site, or try again when the link is back";
    Problem::unavailable(what, why, remedy)
}
