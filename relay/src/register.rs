//! How a site comes to an org: an owner of the site signs `relay.register{org, key}`. It is
//! presented with the charter and the trust log, from which the relay derives who owns the site.
//! Knowing a site's id registers nothing.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::{Json, Router};
use http_body_util::{BodyExt as _, Limited};
use qb_model::action::{Action, Role};
use qb_model::judge::{Verified, verify_logged};
use qb_model::trust::TrustEntry;
use qb_model::{Millis, Name, PublicKey};
use qb_portal::Answer;
use qb_portal::view::Problem;
use serde::{Deserialize, Serialize};

use crate::limits::{REGISTER_BYTES, REGISTER_DEADLINE, REGISTERING, SITES, SITES_ORG};
use crate::relay::Relay;
use crate::scope::Scope;
use crate::site::now;
use crate::store::NewSite;
use crate::trust::{Belief, BeliefError};

/// Where sites register.
pub(crate) const PATH: &str = "/v1/register";

/// What is presented.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// 1.
    pub v: u8,
    /// The charter's envelope (JSON text).
    pub charter: String,
    /// The trust log, oldest entry first.
    pub trust: Vec<TrustEntry>,
    /// The envelope of the intent `relay.register` (JSON text).
    pub intent: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registered {
    /// Version of this document: 1.
    pub v: u8,
    /// The site.
    pub site: qb_model::SiteId,
    /// The org.
    pub org: Name,
}

/// The route.
pub(crate) fn routes() -> Router<Arc<Relay>> {
    Router::new().route(PATH, axum::routing::post(register))
}

fn refused(detail: impl Into<String>, remedy: &str) -> Problem {
    Problem::refused("registration", detail, remedy)
}

async fn register(
    State(relay): State<Arc<Relay>>,
    request: Request,
) -> Answer<(StatusCode, Json<Registered>)> {
    let room = relay.registering.try_acquire().map_err(|_| Problem::busy("registrations", REGISTERING))?;
    let slow = |_| Problem::slow_body("The registration", REGISTER_DEADLINE.as_secs());
    let body = Limited::new(request.into_body(), REGISTER_BYTES).collect();
    let body = tokio::time::timeout(REGISTER_DEADLINE, body).await.map_err(slow)?;
    let body = body.map_err(|_| Problem::too_large("The registration", REGISTER_BYTES as u64))?.to_bytes();
    let remedy = "send what `qb relay register` sends";
    let form: Registration =
        serde_json::from_slice(&body).map_err(|e| Problem::malformed("The registration", e, remedy))?;
    let (key, at) = (relay.public, now());
    let checked = tokio::task::spawn_blocking(move || check(form, key, at)).await;
    let checked = checked.map_err(|_| Problem::internal("Verifying the registration"))??;
    let registered = keep(&relay, checked).await?;
    drop(room);
    Ok((StatusCode::CREATED, Json(registered)))
}

/// A registration whose signatures hold.
struct Checked {
    belief: Belief,
    org: Name,
    intent: Vec<u8>,
    /// Keys of owners who signed it.
    owners: Vec<PublicKey>,
}

/// Verifies everything that needs no table. `relay` is this relay's key.
fn check(form: Registration, relay: PublicKey, now: u64) -> Answer<Checked> {
    let not_believed =
        |e: BeliefError| refused(e.to_string(), "take charter and trust log from a node of the site");
    let belief = Belief::verify(form.charter.as_bytes(), &form.trust).map_err(not_believed)?;
    let verified = signed(&belief, form.intent.as_bytes(), now)?;
    let Action::RelayRegister { org, key } = &verified.intent().action else {
        return Err(refused("The intent is not relay.register.", "sign one: qb relay register"));
    };
    if *key != relay {
        let detail = format!("The intent is for the relay {key}; this one is {relay}.");
        return Err(refused(detail, "sign one for this relay's key"));
    }
    if !belief.trust.relays().contains_key(&relay) {
        let detail =
            format!("The site does not trust this relay: {relay} is in neither charter nor trust log.");
        return Err(refused(detail, "an owner adds it first: qb relay add"));
    }
    let owners = verified.signers().iter().filter(|s| s.role == Role::Owner).map(|s| s.key).collect();
    Ok(Checked { org: org.clone(), owners, intent: form.intent.into_bytes(), belief })
}

/// The intent as an owner signed it: one that the log already holds, or one that could enter it now.
fn signed(belief: &Belief, intent: &[u8], now: u64) -> Answer<Verified> {
    let at = Millis(now).max(belief.log_time());
    let verified = match verify_logged(&belief.trust, intent, at) {
        Ok(verified) => Ok(verified),
        Err(why) => {
            let digest = qb_model::envelope::Envelope::parse(intent).map(|e| e.digest()).ok();
            let held = belief.trust.log().iter().find(|entry| Some(entry.digest) == digest);
            // It was accepted at its time; who signed it must be an admin still.
            held.map_or(Err(why), |entry| verify_logged(&belief.trust, &entry.envelope, entry.log_time))
        }
    };
    verified
        .map_err(|e| refused(format!("The intent does not stand: {e}."), "sign it again: qb relay register"))
}

/// Checks what only the tables know, and keeps the site.
async fn keep(relay: &Arc<Relay>, checked: Checked) -> Answer<Registered> {
    let failed = |error: crate::store::StoreError| {
        tracing::error!(%error, "a registration cannot be kept");
        Problem::internal("Keeping the registration")
    };
    let Checked { belief, org, intent, owners } = checked;
    // One at a time, so that two sites cannot both found an org.
    let _turn = relay.registry.lock().await;
    let known = relay.store.org_keys(&org).await.map_err(failed)?;
    let may = match &known {
        Some(keys) => owners.iter().any(|owner| keys.contains(owner)),
        None => relay.config.open,
    };
    if !may {
        // The same words whether the org exists or not.
        let detail = format!("No key that signed may register sites to the org {org} at this relay.");
        return Err(refused(detail, "ask whoever runs the relay, or an owner of a site that is in the org"));
    }
    let (site, trust) = (belief.trust.site(), belief.trust.log().to_vec());
    let held = relay.site(&site);
    if held.is_none() && (relay.count(None) >= SITES || relay.count(Some(&org)) >= SITES_ORG) {
        return Err(Problem::busy("sites", SITES_ORG));
    }
    let scope = Scope::new(org.clone(), site);
    if let Some(live) = &held {
        let not_believed =
            |e: crate::site::LearnError| refused(e.to_string(), "take the trust log from a node of the site");
        live.register_again(&relay.store, scope.clone(), trust.clone()).await.map_err(not_believed)?;
    }
    let charter = belief.charter.envelope().to_vec();
    let trust = if held.is_some() { Vec::new() } else { trust };
    let new = NewSite {
        id: site,
        org: org.clone(),
        charter,
        registration: intent,
        trust,
        signers: owners,
        now: now(),
    };
    relay.store.register(new).await.map_err(failed)?;
    match &held {
        Some(live) => relay.index(live),
        None => relay.start(scope, belief, crate::fold::Fold::default()),
    }
    tracing::info!(%site, %org, "a site is registered");
    Ok(Registered { v: 1, site, org })
}
