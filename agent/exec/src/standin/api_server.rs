//! Stands in for the API server and its store.
//!
//! `GET /livez /readyz /nodes`, `POST /join /heartbeat /leave`; JSON, TLS with a certificate of the
//! cluster's authority. One that does not hold the registry passes questions on to the one that
//! does. Who joined can be read without a credential: names only.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use qb_drivers::config::ApiServerConfig;
use qb_model::ids::Name;

use super::registry::{Registry, RegistryError};
use super::tls_listener::TlsListener;
use super::wire::{Answer, NodeList};
use super::{StandInError, address, listen, read_bytes};
use crate::client::Client;
use crate::dir::Dir;
use crate::pki;

/// Bytes of a request.
const REQUEST_BYTES: usize = 4 * 1024;
/// How long the API server that holds the registry may take for a question that is passed on.
const FORWARD_LIMIT: Duration = Duration::from_secs(2);
/// The label in every answer's header.
const LABEL: &str = "x-qb-rehearsal";

/// Where the registry is.
enum Store {
    Here(Box<Mutex<Registry>>),
    There(Client),
}

struct App {
    cluster: Name,
    store: Store,
}

/// Serves until the process ends.
pub(super) async fn run(dir: &Dir, config: ApiServerConfig) -> Result<(), StandInError> {
    let authority = read_bytes(dir, &config.authority)?;
    let tls = pki::server(&read_bytes(dir, &config.certificate)?, &read_bytes(dir, &config.key)?)?;
    let store = if config.first.is_empty() {
        Store::Here(Box::new(Mutex::new(Registry::open(dir.sub(&config.data)?)?)))
    } else {
        Store::There(Client::new(address(&config.first)?, &authority)?)
    };
    let listener = TlsListener::new(listen(address(&config.listen)?).await?, tls)?;
    let app = router(Arc::new(App { cluster: config.cluster, store }));
    Ok(axum::serve(listener, app).await?)
}

fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/livez", get(alive))
        .route("/readyz", get(alive))
        .route("/nodes", get(nodes))
        .route("/join", post(join))
        .route("/heartbeat", post(heartbeat))
        .route("/leave", post(leave))
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(REQUEST_BYTES))
        .layer(axum::middleware::map_response(label))
        .with_state(app)
}

async fn label(mut response: Response) -> Response {
    response.headers_mut().insert(LABEL, HeaderValue::from_static("true"));
    response
}

async fn alive(State(app): State<Arc<App>>) -> Response {
    app.answer(StatusCode::OK, "")
}

async fn unknown(State(app): State<Arc<App>>) -> Response {
    app.answer(StatusCode::NOT_FOUND, "this is a rehearsal: it has no such path")
}

async fn nodes(State(app): State<Arc<App>>) -> Response {
    match &app.store {
        Store::Here(registry) => {
            let nodes = lock(registry).nodes();
            Json(NodeList { rehearsal: true, cluster: app.cluster.clone(), nodes }).into_response()
        }
        Store::There(first) => app.forward(first, Method::GET, "/nodes", Bytes::new()).await,
    }
}

async fn join(State(app): State<Arc<App>>, body: Bytes) -> Response {
    app.change("/join", body, |registry, request| registry.join(&request)).await
}

async fn heartbeat(State(app): State<Arc<App>>, body: Bytes) -> Response {
    app.change("/heartbeat", body, |registry, request| registry.heartbeat(&request)).await
}

async fn leave(State(app): State<Arc<App>>, body: Bytes) -> Response {
    app.change("/leave", body, |registry, request| registry.leave(&request)).await
}

/// A panic while the lock was held cannot have left half a change: changes are one insert or remove.
fn lock(registry: &Mutex<Registry>) -> MutexGuard<'_, Registry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}

impl App {
    fn answer(&self, status: StatusCode, error: &str) -> Response {
        let answer = Answer {
            rehearsal: true,
            cluster: self.cluster.clone(),
            ok: error.is_empty(),
            error: error.to_owned(),
        };
        (status, Json(answer)).into_response()
    }

    /// Changes the registry, here or where it is.
    async fn change<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        body: Bytes,
        change: impl FnOnce(&mut Registry, T) -> Result<(), RegistryError>,
    ) -> Response {
        let registry = match &self.store {
            Store::There(first) => return self.forward(first, Method::POST, path, body).await,
            Store::Here(registry) => registry,
        };
        let Ok(request) = serde_json::from_slice(&body) else {
            return self.answer(StatusCode::BAD_REQUEST, "the request cannot be read");
        };
        let result = change(&mut lock(registry), request);
        match result {
            Ok(()) => self.answer(StatusCode::OK, ""),
            Err(error) => self.answer(status(error), &error.to_string()),
        }
    }

    async fn forward(&self, first: &Client, method: Method, path: &str, body: Bytes) -> Response {
        match first.call(method, path, body.to_vec(), FORWARD_LIMIT).await {
            Ok((status, body)) => (status, [("content-type", "application/json")], body).into_response(),
            Err(error) => {
                let text = format!("the API server that holds the registry does not answer: {error}");
                self.answer(StatusCode::BAD_GATEWAY, &text)
            }
        }
    }
}

fn status(error: RegistryError) -> StatusCode {
    match error {
        RegistryError::Credential | RegistryError::Expired | RegistryError::Unknown => {
            StatusCode::UNAUTHORIZED
        }
        RegistryError::Full => StatusCode::CONFLICT,
        RegistryError::Disk => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
