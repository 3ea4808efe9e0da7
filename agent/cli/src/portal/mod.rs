//! `qb portal`: the web UI on 127.0.0.1, reading through the site's doors as this program does, and
//! signing with this program's key. No key lives in the page.
//!
//! ```text
//!  page ── Authorization: Bearer TOKEN ──> host, origin (qb_portal::guarded) > token ─┬─> forward ──> door
//!                                                                                     └─> sign ──> terminal
//! ```
//!
//! # The protocol, for the pages
//! - The address that is opened is `http://127.0.0.1:PORT/#token=TOKEN`. TOKEN is 32 random bytes as
//!   base64url; it lives as long as the program. The page takes it out of the address at once
//!   (`history.replaceState`), keeps it in `sessionStorage`, and sends it as `Authorization: Bearer` with
//!   every request of the API, reads and streams too. Pages and assets need none.
//! - `GET /v1/portal` says that this is `qb portal`: `{"v":1,"mode":"cli","site":{"id","name"},
//!   "signer":{"admin","name","role","key","fingerprint","class"}}`. Other doors answer 404. Here the page
//!   makes no key and offers no login: `/v1/login` is 404.
//! - `POST /v1/sign` takes `{"v":1,"site":SITE-ID,"payload":BASE64}`, where payload is the exact bytes of an
//!   intent (standard base64 with padding), `by` the signer's admin. The program decodes and checks them,
//!   prints on its terminal what they order, asks, and answers 200 with the envelope as JSON: the page
//!   sends those bytes on to `POST /v1/sites/{site}/intents`. 403 `declined`: the person said no; 422: the
//!   bytes are no intent of this signer for this site; 503 `busy`: another question is open.
//! - `/v1/sites...` and `/enroll/...` are passed on as they are, answers too. An answer's `says` and
//!   `receipt` come from the door: behind a relay the page verifies receipts itself.
//!
//! Without the token: 401. Another host: 421. Another origin: 403. Another content type: 415.

mod forward;
pub mod sign;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{any, get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use qb_portal::view::Problem;
use qb_portal::{Access, Answer};
use subtle::ConstantTimeEq as _;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::agree::Author;
use crate::client::Client;
use crate::ctx::{Ctx, Here, Key};
use crate::error::CliError;

/// Asks a person: true if they agree. May block.
pub type AskFn = dyn Fn(&str) -> Result<bool, CliError> + Send + Sync;

/// What the portal is made of.
pub struct Portal {
    ctx: Ctx,
    here: Here,
    author: Author,
    key: Mutex<Option<Key>>,
    client: Mutex<Arc<Client>>,
    token: Zeroizing<String>,
    ask: Box<AskFn>,
    /// Held while somebody is asked: one question at a time.
    turn: Arc<Mutex<()>>,
}

impl Portal {
    /// Over a site that answers. `ask` is how a person agrees to a signature.
    ///
    /// # Errors
    /// The key does not open, is nobody's, or the system gives no random bytes.
    pub async fn new(ctx: &Ctx, ask: Box<AskFn>) -> Result<Arc<Self>, CliError> {
        let mut session = ctx.session().await?;
        let author = session.author().await?;
        let (here, client, key) = session.into_parts();
        Ok(Arc::new(Self {
            ctx: ctx.clone(),
            here,
            author,
            key: Mutex::new(key),
            client: Mutex::new(Arc::new(client)),
            token: token()?,
            ask,
            turn: Arc::default(),
        }))
    }

    /// The token that every request of the API carries.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Pages and API for a listener at this authority, as `127.0.0.1:40123`.
    pub fn router(self: &Arc<Self>, authority: &str) -> Router {
        let access = Access::Network {
            origins: vec![format!("http://{authority}")],
            hosts: vec![authority.to_owned()],
        };
        let api = Router::new()
            .route("/v1/portal", get(about))
            .route("/v1/sign", post(sign::sign))
            .route("/v1/openapi.json", any(forward::forward))
            .route("/v1/sites", any(forward::forward))
            .route("/v1/sites/{*rest}", any(forward::forward))
            .route("/enroll/{site}", any(forward::forward))
            .route_layer(from_fn_with_state(Arc::clone(self), allowed))
            .with_state(Arc::clone(self));
        qb_portal::guarded(access, api, qb_portal::pages())
    }

    async fn client(&self) -> Arc<Client> {
        Arc::clone(&*self.client.lock().await)
    }

    /// Finds a door again, and logs in again: the old one is gone, or its session over.
    async fn renew(&self, old: &Arc<Client>) -> Result<Arc<Client>, CliError> {
        let mut client = self.client.lock().await;
        if Arc::ptr_eq(&client, old) {
            let mut key = self.key.lock().await;
            let doors = self.ctx.doors(&self.here);
            *client = Arc::new(self.ctx.client(&self.here, doors, &mut key).await?);
        }
        Ok(Arc::clone(&client))
    }
}

fn token() -> Result<Zeroizing<String>, CliError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut())
        .map_err(|e| CliError::failed(format!("The system gives no random bytes: {e}.")))?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_ref())))
}

/// Every request of the API brings the token: other users of this computer can connect as well.
async fn allowed(State(portal): State<Arc<Portal>>, request: Request, next: Next) -> Answer<Response> {
    let mut values = request.headers().get_all(header::AUTHORIZATION).iter();
    let given = match (values.next(), values.next()) {
        (Some(value), None) => value.as_bytes().strip_prefix(b"Bearer ").unwrap_or_default(),
        _ => &[],
    };
    // Lengths are no secret.
    if bool::from(given.ct_eq(portal.token.as_bytes())) {
        return Ok(next.run(request).await);
    }
    let detail = "The request has not the token of this portal.";
    let remedy = "open the address that was printed at its start; it is another one each time";
    Err(Problem::new("unauthorized", StatusCode::UNAUTHORIZED, "No token", detail, remedy))
}

/// Says that this is `qb portal`, and who signs.
async fn about(State(portal): State<Arc<Portal>>) -> Answer<Json<serde_json::Value>> {
    let public = portal.public().await?;
    let admin = &portal.author.admin;
    let class = admin.keys.iter().find(|k| k.key == public).map(|k| k.class);
    Ok(Json(serde_json::json!({
        "v": 1,
        "mode": "cli",
        "site": { "id": portal.here.config.id, "name": portal.here.name },
        "signer": {
            "admin": admin.admin, "name": admin.name, "role": admin.role, "key": public,
            "fingerprint": qb_model::words::fingerprint(&public.0), "class": class,
        },
    })))
}
