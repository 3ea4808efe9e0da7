//! Handlers that take: signed intents, bundles signed by their publishers, and questions that
//! change nothing.

use axum::Json;
use axum::http::StatusCode;

use crate::extract::{Here, Params, Pushed, Question, Signed, wait};
use crate::guard::Shown;
use crate::limits::{PLAN_BYTES, PREFLIGHT_BYTES, PREFLIGHT_NODES};
use crate::mirror;
use crate::reads::WaitQuery;
use crate::site::Answer;
use crate::view::{
    BundleView, IntentState, IntentView, PlanRequest, PlanView, PreflightRequest, PreflightView, Problem,
};

/// Sends a signed intent. 200: the outcome is known, and may be `rejected`. 202: it is not known
/// yet; ask for it by its digest. The same bytes sent twice are one intent.
#[utoipa::path(post, path = "/v1/sites/{site}/intents", tag = "intent",
    params(("wait" = Option<String>, Query, description = "How long to wait for the outcome: 500ms, 10s, 1m; at most 60 s.")),
    request_body(content = mirror::Envelope, content_type = "application/json", description = "The envelope, at most 96 KiB. It is verified as it is, byte by byte."),
    responses(
        (status = 200, body = IntentView, description = "The outcome."),
        (status = 202, body = IntentView, description = "Taken; the outcome is not known yet.")))]
pub(crate) async fn submit(
    here: Here,
    query: Params<WaitQuery>,
    envelope: Signed,
) -> Answer<(StatusCode, Json<IntentView>)> {
    let wait = wait(query.0.wait.as_deref())?;
    let view = here.site.submit(envelope.0, wait).await?;
    Ok((status_of(view.state), Json(view)))
}

fn status_of(state: IntentState) -> StatusCode {
    match state {
        IntentState::Doing | IntentState::Done | IntentState::Rejected => StatusCode::OK,
        IntentState::Held | IntentState::Pending | IntentState::Unknown => StatusCode::ACCEPTED,
    }
}

/// What an intent would do: placement, and every step on every node. Changes nothing.
#[utoipa::path(post, path = "/v1/sites/{site}/plan", tag = "intent",
    request_body = PlanRequest,
    responses((status = 200, body = PlanView)))]
pub(crate) async fn plan(here: Here, question: Question<PlanRequest, PLAN_BYTES>) -> Shown<PlanView> {
    here.site.plan(question.0).await.map(Json)
}

/// Checks nodes and the network between them. Changes nothing.
#[utoipa::path(post, path = "/v1/sites/{site}/preflight", tag = "node",
    request_body = PreflightRequest,
    responses((status = 200, body = PreflightView)))]
pub(crate) async fn preflight(
    here: Here,
    question: Question<PreflightRequest, PREFLIGHT_BYTES>,
) -> Shown<PreflightView> {
    let count = question.0.nodes.len();
    if count > PREFLIGHT_NODES {
        let rule = "at most 1000 nodes";
        let value = format!("{count} nodes");
        return Err(Problem::bad_field("nodes", &value, rule, "check them in several parts"));
    }
    here.site.preflight(question.0).await.map(Json)
}

/// Adds a bundle, signed by a publisher that the site accepts. Needs the role operator.
#[utoipa::path(post, path = "/v1/sites/{site}/bundles", tag = "bundle",
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The bundle's file, at most 2 GiB of artifacts. It is verified as it comes, and refused as soon as its manifest is."),
    responses((status = 200, body = BundleView)))]
pub(crate) async fn push_bundle(here: Here, pushed: Pushed) -> Shown<BundleView> {
    here.site.push_bundle(pushed.upload).await.map(Json)
}
