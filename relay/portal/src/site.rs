//! [`Site`]: what the API shows and takes, implemented by whoever holds a site's state.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use qb_model::action::Role;
use qb_model::attest::Attestation;
use qb_model::{Digest, IntentId, Name, Nonce, PublicKey, SiteId};

use crate::tunnel::Upgrading;
use crate::view::{
    AdminView, AlertView, AuditExport, BundleView, ClusterView, Event, Head, HistoryView, IntentView,
    NodeView, PackagesView, PlanRequest, PlanView, PreflightRequest, PreflightView, Problem, SiteView,
    TokenView,
};

/// What every method answers with.
pub type Answer<T> = Result<T, Problem>;

/// A file as it comes.
pub struct Upload {
    /// Its bytes, if the sender says so.
    pub length: Option<u64>,
    /// Its pieces, bounded in number of bytes and in time. After an error nothing more comes.
    pub body: BoxStream<'static, Answer<Bytes>>,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Upload({:?})", self.length)
    }
}

/// What a site is called in paths: either will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteNames {
    /// Its id.
    pub id: SiteId,
    /// Its name.
    pub name: Name,
}

/// How a path names an intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntentKey {
    /// By the digest of its signed bytes: exactly one.
    Digest(Digest),
    /// By its label: if several intents have it, the latest.
    Id(IntentId),
}

/// What a login must have signed, besides its times and its session key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginExpected {
    /// The door's origin that the client connected to.
    pub origin: String,
    /// The key of the node that answers.
    pub server_key: PublicKey,
    /// The nonce that this door gave out; it is used up already.
    pub nonce: Nonce,
}

/// Who logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginOk {
    /// The admin.
    pub admin: Name,
    /// The admin's role.
    pub role: Role,
    /// The key that signed.
    pub key: PublicKey,
}

/// One site, as the API sees it. Every method is cheap to call: it reads a copy that is at hand,
/// or asks the mesh within a deadline of its own. None of them trusts its caller for a change:
/// changes are signed, and verified where they are applied.
///
/// Dropping a future before it is ready (a client went away) must lose nothing that was taken.
#[async_trait]
pub trait Site: Send + Sync + 'static {
    /// What the site is called; none until the node belongs to a site.
    fn names(&self) -> Option<SiteNames>;

    /// The site that answers a caller with this login, for a path that names `site` (or none): a
    /// door with several sites shows each caller its own. None: this very one, which is so wherever
    /// a door has one site.
    ///
    /// # Errors
    /// Nothing of that name is there for this caller, whatever is there for others.
    fn scoped(&self, _login: &LoginOk, _site: Option<&str>) -> Answer<Option<Arc<dyn Site>>> {
        Ok(None)
    }

    /// The sites behind this door: one at an agent, none before it belongs to one.
    async fn sites(&self) -> Answer<Vec<SiteView>>;
    /// The site.
    async fn site(&self) -> Answer<SiteView>;
    /// All nodes, waiting ones too, by name.
    async fn nodes(&self) -> Answer<Vec<NodeView>>;
    /// A node by name, key, or a prefix of either that names exactly one.
    async fn node(&self, name: &str) -> Answer<NodeView>;
    /// All clusters, by name.
    async fn clusters(&self) -> Answer<Vec<ClusterView>>;
    /// A cluster.
    async fn cluster(&self, name: &Name) -> Answer<ClusterView>;
    /// All admins with their keys.
    async fn admins(&self) -> Answer<Vec<AdminView>>;
    /// The join tokens that have not ended. A door that does not know them says so.
    async fn tokens(&self) -> Answer<Vec<TokenView>> {
        let remedy = "ask at a door of the site: qb --door https://ADDRESS:8443 token list";
        Err(Problem::unavailable("The list of join tokens", "this door does not have it", remedy))
    }
    /// The bundles that the site holds or knows.
    async fn bundles(&self) -> Answer<Vec<BundleView>>;
    /// The file of a bundle that lies at this door.
    async fn bundle_file(&self, digest: Digest) -> Answer<Upload> {
        Err(Problem::not_found::<&str>(
            "file here of bundle",
            &digest.to_string(),
            &[],
            "ask a door of the site",
        ))
    }
    /// Where the site stands, to anchor an intent to.
    async fn head(&self) -> Answer<Head>;
    /// What voters signed of the state, with what verifies it. A door without one says why there.
    async fn attestation(&self) -> Answer<Attestation> {
        Err(Problem::unavailable(
            "The attestation",
            "this door holds no proof of what it shows",
            "ask another door: qb --door https://ADDRESS:8443 site verify",
        ))
    }
    /// The charter's envelope (JSON text).
    async fn charter(&self) -> Answer<String>;
    /// The enrolment file (JSON text): charter, relays, seeds; never a token. A door that knows no
    /// relays and no seeds leaves them empty.
    async fn enrolment(&self) -> Answer<String> {
        let charter = self.charter().await?;
        Ok(format!(r#"{{"v":1,"charter":{charter},"relays":[],"seeds":[]}}"#))
    }

    /// The packages of agents that this door hands out. An agent's hands out none.
    async fn packages(&self) -> Answer<PackagesView> {
        Ok(PackagesView { v: 1, url: None, packages: Vec::new(), line: None })
    }

    /// Takes an intent's envelope, at most [`crate::limits::ENVELOPE_BYTES`], and waits up to `wait`
    /// for its outcome. A rejection is an outcome, not an error.
    async fn submit(&self, envelope: Bytes, wait: Duration) -> Answer<IntentView>;
    /// What became of an intent, waiting up to `wait` for its outcome.
    async fn intent(&self, key: IntentKey, wait: Duration) -> Answer<IntentView>;
    /// The latest intents, newest first, a bounded number.
    async fn intents(&self) -> Answer<Vec<IntentView>>;
    /// What an intent would do. Changes nothing.
    async fn plan(&self, request: PlanRequest) -> Answer<PlanView>;
    /// Checks nodes and the network between them. Changes nothing.
    async fn preflight(&self, request: PreflightRequest) -> Answer<PreflightView>;
    /// Takes a bundle's file as it comes, at most [`crate::limits::BUNDLE_BYTES`]; its publisher's
    /// signature counts. Whoever refuses it need not take the rest.
    async fn push_bundle(&self, upload: Upload) -> Answer<BundleView>;

    /// Events after number `after`, or from now on, until the caller drops the stream. If older
    /// ones are gone, the stream begins with an event that says so. The stream must be bounded: a
    /// reader that falls behind loses events and is told, or the stream ends.
    async fn events(&self, after: Option<u64>) -> Answer<BoxStream<'static, Event>>;
    /// Audit records from number `from` (the first is 1), at most `limit`.
    async fn audit(&self, from: u64, limit: u32) -> Answer<AuditExport>;
    /// Alerts that fire, and those that ended lately.
    async fn alerts(&self) -> Answer<Vec<AlertView>>;
    /// The last hour of a node, named as in [`Site::node`].
    async fn node_history(&self, name: &str) -> Answer<HistoryView>;
    /// The last hour of the site: sums over its nodes.
    async fn history(&self) -> Answer<HistoryView>;
    /// Metrics in the text format of Prometheus.
    async fn metrics(&self) -> Answer<String>;

    /// Takes a connection over as a tunnel to a cluster, for whoever proves a grant inside it; `login` is
    /// whose session asked, none at a local door. Nothing is believed of it here: the end of the tunnel
    /// judges. Returns once it is known that somebody would take it.
    async fn tunnel(&self, cluster: &Name, login: Option<LoginOk>, io: Upgrading) -> Answer<()> {
        let _ = (login, io);
        let remedy = "ask at a door of the site: qb --door https://ADDRESS:8443 cluster list";
        Err(Problem::unavailable(&format!("A tunnel to {cluster}"), "this door opens none", remedy))
    }

    /// Verifies the envelope of a `login.v1`: signature by an admin's key, and that its payload says
    /// exactly what is expected.
    async fn verify_login(&self, envelope: Bytes, expected: LoginExpected) -> Answer<LoginOk>;
    /// Whether the key, the admin and the role of a session are still what they were at login.
    fn session_alive(&self, login: &LoginOk) -> bool;
}
