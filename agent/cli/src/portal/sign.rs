//! The one endpoint that signs: exact bytes in, what they order on the terminal, an envelope out.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qb_model::dsse::Purpose;
use qb_model::envelope::Envelope;
use qb_model::intent::Intent;
use qb_model::{Name, PublicKey, SiteId};
use qb_portal::Answer;
use qb_portal::limits::{BODY_DEADLINE, PLAN_BYTES};
use qb_portal::view::Problem;
use serde::Deserialize;

use super::Portal;
use super::forward::{body, problem};
use crate::agree::Author;
use crate::keyfile::Kind;
use crate::out::text::{Clock, clean};
use crate::sentence::{self, Hosts};

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    v: u8,
    site: SiteId,
    payload: String,
}

/// Reads the bytes that are to be signed: an intent of this signer for this site, and nothing else.
///
/// # Errors
/// They are something else.
pub fn check(payload: &[u8], site: SiteId, by: &Name) -> Answer<Intent> {
    let no = |detail: String| Problem::refused("payload", detail, "nothing was signed");
    let intent = Intent::parse(payload).map_err(|e| no(format!("These bytes are no intent: {e}.")))?;
    if intent.site != site {
        return Err(no(format!("The intent is for another site: {}.", intent.site)));
    }
    if intent.by != *by {
        return Err(no(format!("The intent is by {}, and this portal signs as {by}.", intent.by)));
    }
    Ok(intent)
}

/// What the terminal shows: made from the bytes. Nodes go by their keys, since names come from a door.
pub fn question(intent: &Intent, author: &Author, site: &Name, clock: &Clock) -> String {
    let what = sentence::of(&intent.action, &Hosts::new());
    let note = intent.note.as_ref().map(|n| format!("\n  note     {}", clean(n))).unwrap_or_default();
    format!(
        "The portal asks for a signature\n  order    {}\n  action   {}\n  id       {}\n  expires  {}{note}\nSign as {} ({}, {}): {} on {site}",
        clean(&what),
        intent.action.name(),
        intent.id,
        clock.time(intent.expires_ms),
        clean(&author.admin.name),
        sentence::role(author.admin.role),
        author.key,
        clean(&what),
    )
}

impl Portal {
    /// The key that signs, opened if it is not yet.
    pub(super) async fn public(&self) -> Answer<PublicKey> {
        let mut key = self.key.lock().await;
        if let Some(key) = key.as_ref() {
            return Ok(key.public);
        }
        let opened = self.ctx.key_name(&self.here);
        let opened = opened.and_then(|name| self.ctx.open_key(&name, Kind::Admin, &self.here.name));
        Ok(key.insert(opened.map_err(problem)?).public)
    }

    async fn signed(&self, payload: Vec<u8>) -> Answer<Vec<u8>> {
        self.public().await?;
        let key = self.key.lock().await;
        let key = key.as_ref().ok_or_else(|| Problem::internal("the key is not open"))?;
        Ok(Envelope::sign(Purpose::Intent, payload, &[&key.secret]).to_bytes())
    }
}

/// Asks, and signs.
pub(super) async fn sign(State(portal): State<Arc<Portal>>, request: Request) -> Answer<Response> {
    let bytes = body(request, "application/json", PLAN_BYTES, BODY_DEADLINE).await?;
    let remedy = "send {v, site, payload}, and nothing else";
    let malformed = |e: &dyn std::fmt::Display| Problem::malformed("The request", e, remedy);
    let form: Form = serde_json::from_slice(&bytes).map_err(|e| malformed(&e))?;
    if form.v != 1 {
        return Err(malformed(&"v is not 1"));
    }
    let here = &portal.here;
    if form.site != here.config.id {
        let detail = format!("This portal signs for {} only.", here.name);
        return Err(Problem::refused("payload", detail, "nothing was signed"));
    }
    let payload = STANDARD.decode(&form.payload).map_err(|e| malformed(&e))?;
    let intent = check(&payload, here.config.id, &portal.author.admin.admin)?;
    let room = Arc::clone(&portal.turn).try_lock_owned().map_err(|_| Problem::busy("questions", 1))?;
    let asked = question(&intent, &portal.author, &here.name, &portal.ctx.out.clock());
    let asking = Arc::clone(&portal);
    // Whoever asked may go away: the question stays until it is answered, and holds the turn.
    let answer = tokio::task::spawn_blocking(move || {
        let answer = (asking.ask)(&asked);
        drop(room);
        answer
    });
    let agreed = answer.await.map_err(|_| Problem::internal("the question failed"))?;
    if !agreed.map_err(problem)? {
        let (detail, remedy) = ("The person at the terminal said no.", "nothing was signed");
        return Err(Problem::new("declined", StatusCode::FORBIDDEN, "Declined", detail, remedy));
    }
    let envelope = portal.signed(payload).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], envelope).into_response())
}
