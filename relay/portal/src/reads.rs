//! Handlers that show.

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use qb_model::attest::Attestation;
use serde::Deserialize;

use crate::extract::{Here, Params, number, wait};
use crate::guard::Shown;
use crate::limits::{AUDIT_DEFAULT, AUDIT_RECORDS};
use crate::site::Answer;
use crate::view::{
    AdminView, AlertView, AuditExport, BundleView, ClusterView, Head, HistoryView, IntentView, NodeView,
    PackagesView, Problem, SiteView, TokenView,
};

/// The sites behind this door.
#[utoipa::path(get, path = "/v1/sites", tag = "site",
    responses((status = 200, body = Vec<SiteView>)))]
pub(crate) async fn sites(here: Here) -> Shown<Vec<SiteView>> {
    here.site.sites().await.map(Json)
}

/// The site: voters, counts, where it stands, and why nothing happens.
#[utoipa::path(get, path = "/v1/sites/{site}", tag = "site",
    responses((status = 200, body = SiteView)))]
pub(crate) async fn site(here: Here) -> Shown<SiteView> {
    here.site.site().await.map(Json)
}

/// All nodes, waiting ones too.
#[utoipa::path(get, path = "/v1/sites/{site}/nodes", tag = "node",
    responses((status = 200, body = Vec<NodeView>)))]
pub(crate) async fn nodes(here: Here) -> Shown<Vec<NodeView>> {
    here.site.nodes().await.map(Json)
}

/// A node.
#[utoipa::path(get, path = "/v1/sites/{site}/nodes/{node}", tag = "node",
    params(("node" = String, Path, description = "Name or key, or the beginning of one.")),
    responses((status = 200, body = NodeView)))]
pub(crate) async fn node(here: Here) -> Shown<NodeView> {
    here.site.node(here.node()?).await.map(Json)
}

/// The last hour of a node: load, memory and disk, one sample each 15 seconds.
#[utoipa::path(get, path = "/v1/sites/{site}/nodes/{node}/history", tag = "node",
    params(("node" = String, Path, description = "Name or key, or the beginning of one.")),
    responses((status = 200, body = HistoryView)))]
pub(crate) async fn node_history(here: Here) -> Shown<HistoryView> {
    here.site.node_history(here.node()?).await.map(Json)
}

/// The last hour of the site: the sums over all nodes that were heard.
#[utoipa::path(get, path = "/v1/sites/{site}/history", tag = "site",
    responses((status = 200, body = HistoryView)))]
pub(crate) async fn history(here: Here) -> Shown<HistoryView> {
    here.site.history().await.map(Json)
}

/// All clusters.
#[utoipa::path(get, path = "/v1/sites/{site}/clusters", tag = "cluster",
    responses((status = 200, body = Vec<ClusterView>)))]
pub(crate) async fn clusters(here: Here) -> Shown<Vec<ClusterView>> {
    here.site.clusters().await.map(Json)
}

/// A cluster.
#[utoipa::path(get, path = "/v1/sites/{site}/clusters/{name}", tag = "cluster",
    params(("name" = String, Path, description = "The cluster's name.")),
    responses((status = 200, body = ClusterView)))]
pub(crate) async fn cluster(here: Here) -> Shown<ClusterView> {
    here.site.cluster(&here.name("name")?).await.map(Json)
}

/// All admins and their keys.
#[utoipa::path(get, path = "/v1/sites/{site}/admins", tag = "admin",
    responses((status = 200, body = Vec<AdminView>)))]
pub(crate) async fn admins(here: Here) -> Shown<Vec<AdminView>> {
    here.site.admins().await.map(Json)
}

/// The bundles that the site holds or knows.
#[utoipa::path(get, path = "/v1/sites/{site}/bundles", tag = "bundle",
    responses((status = 200, body = Vec<BundleView>)))]
pub(crate) async fn bundles(here: Here) -> Shown<Vec<BundleView>> {
    here.site.bundles().await.map(Json)
}

/// A bundle's file, for a site without a line. Whoever reads it verifies it.
#[utoipa::path(get, path = "/v1/sites/{site}/bundles/{digest}", tag = "bundle",
    params(("digest" = String, Path, description = "The digest of its manifest.")),
    responses((status = 200, description = "The file.", content_type = "application/octet-stream")))]
pub(crate) async fn bundle_file(here: Here) -> Answer<Response> {
    let file = here.site.bundle_file(here.bundle()?).await?;
    let mut response = Body::from_stream(file.body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Some(length) = file.length {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    Ok(response)
}

/// The latest intents, newest first.
#[utoipa::path(get, path = "/v1/sites/{site}/intents", tag = "intent",
    responses((status = 200, body = Vec<IntentView>)))]
pub(crate) async fn intents(here: Here) -> Shown<Vec<IntentView>> {
    here.site.intents().await.map(Json)
}

/// The query of paths that can wait.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitQuery {
    pub(crate) wait: Option<String>,
}

/// What became of an intent. A rejection is an outcome: status 200, `state` says `rejected`.
#[utoipa::path(get, path = "/v1/sites/{site}/intents/{id}", tag = "intent",
    params(
        ("id" = String, Path, description = "Digest of the signed bytes, or the intent's id."),
        ("wait" = Option<String>, Query, description = "How long to wait for the outcome: 500ms, 10s, 1m; at most 60 s.")),
    responses((status = 200, body = IntentView)))]
pub(crate) async fn intent(here: Here, query: Params<WaitQuery>) -> Shown<IntentView> {
    let wait = wait(query.0.wait.as_deref())?;
    here.site.intent(here.intent()?, wait).await.map(Json)
}

/// The query of the audit.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditQuery {
    from: Option<String>,
    limit: Option<String>,
}

/// The audit log from a record on. To go on, ask from the last record's number plus one.
#[utoipa::path(get, path = "/v1/sites/{site}/audit", tag = "audit",
    params(
        ("from" = Option<u64>, Query, description = "Number of the first record; the first of all is 1."),
        ("limit" = Option<u32>, Query, description = "Records, 1 to 500; 200 if not given.")),
    responses((status = 200, body = AuditExport)))]
pub(crate) async fn audit(here: Here, query: Params<AuditQuery>) -> Shown<AuditExport> {
    let from = number("from", query.0.from.as_deref(), 1u64)?;
    let limit = number("limit", query.0.limit.as_deref(), AUDIT_DEFAULT)?;
    if from == 0 || !(1..=AUDIT_RECORDS).contains(&limit) {
        let value = format!("from={from}&limit={limit}");
        let rule = "from=1 or more and limit=1 to 500";
        return Err(Problem::bad_field("the query", &value, rule, "ask in several parts"));
    }
    here.site.audit(from, limit).await.map(Json)
}

/// Join tokens that have not ended, by their end. Nothing of them is secret: a site has none.
#[utoipa::path(get, path = "/v1/sites/{site}/tokens", tag = "node",
    responses((status = 200, body = Vec<TokenView>)))]
pub(crate) async fn tokens(here: Here) -> Shown<Vec<TokenView>> {
    here.site.tokens().await.map(Json)
}

/// Alerts that fire, and those that ended lately.
#[utoipa::path(get, path = "/v1/sites/{site}/alerts", tag = "alert",
    responses((status = 200, body = Vec<AlertView>)))]
pub(crate) async fn alerts(here: Here) -> Shown<Vec<AlertView>> {
    here.site.alerts().await.map(Json)
}

/// A text with its content type.
type Text = ([(header::HeaderName, &'static str); 1], String);

/// Metrics for Prometheus.
#[utoipa::path(get, path = "/v1/sites/{site}/metrics", tag = "alert",
    responses((status = 200, body = String, content_type = "text/plain; version=0.0.4")))]
pub(crate) async fn metrics(here: Here) -> Answer<Text> {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    here.site.metrics().await.map(|text| (kind, text))
}

/// Where the site stands: what a new intent is anchored to.
#[utoipa::path(get, path = "/v1/sites/{site}/head", tag = "intent",
    responses((status = 200, body = Head)))]
pub(crate) async fn head(here: Here) -> Shown<Head> {
    here.site.head().await.map(Json)
}

/// What a majority of voters signed of the state, with everything that verifies it from the charter.
#[utoipa::path(get, path = "/v1/sites/{site}/attestation", tag = "site",
    responses((status = 200, body = crate::mirror::Attestation)))]
pub(crate) async fn attestation(here: Here) -> Shown<Attestation> {
    here.site.attestation().await.map(Json)
}

/// The charter's envelope. Its digest is the site's id.
#[utoipa::path(get, path = "/v1/sites/{site}/charter", tag = "site",
    responses((status = 200, body = crate::mirror::Envelope)))]
pub(crate) async fn charter(here: Here) -> Answer<Text> {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    here.site.charter().await.map(|text| (kind, text))
}

/// The packages of agents that this door hands out for the site: a relay's. Without a session they are
/// at `/packages/{site}/qb-agent.deb` and `.rpm`, their digests at `/packages/{site}/SHA256SUMS`.
#[utoipa::path(get, path = "/v1/sites/{site}/packages", tag = "site",
    responses((status = 200, body = PackagesView)))]
pub(crate) async fn packages(here: Here) -> Shown<PackagesView> {
    here.site.packages().await.map(Json)
}

/// The enrolment file of a site: charter, relays, seeds; never a token.
#[utoipa::path(get, path = "/enroll/{site}", tag = "site",
    responses((status = 200, description = "The file.", body = String, content_type = "application/json")))]
pub(crate) async fn enrolment(here: Here) -> Answer<Text> {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    here.site.enrolment().await.map(|text| (kind, text))
}
