//! The API's index: every route, and the order of what surrounds them.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{self, HeaderName};
use axum::middleware::{from_fn, from_fn_with_state};
use bytes::Bytes;

use crate::door::{Access, Door, DoorConfig};
use crate::site::Site;
use crate::{events, guard, login, reads, tunnel, writes};

/// One table makes the router and the list of its routes, so that they cannot differ.
macro_rules! table {
    ($(#[$doc:meta])* $list:ident, $router:ident: $($method:ident $path:literal => $handler:path;)*) => {
        $(#[$doc])*
        pub const $list: &[(&str, &str)] = &[$((stringify!($method), $path)),*];

        fn $router() -> Router<Arc<Door>> {
            Router::new()$(.route($path, axum::routing::$method($handler)))*
        }
    };
}

table! {
    /// Routes that need no session: method and path.
    OPEN_ROUTES, open_routes:
    get "/healthz" => healthz;
    get "/v1/openapi.json" => document;
    get "/v1/login" => login::challenge;
    post "/v1/login" => login::login;
}

table! {
    /// Routes that need a session on a network: method and path.
    ROUTES, routes:
    delete "/v1/login" => login::logout;
    get "/v1/sites" => reads::sites;
    get "/v1/sites/{site}" => reads::site;
    get "/v1/sites/{site}/nodes" => reads::nodes;
    get "/v1/sites/{site}/nodes/{node}" => reads::node;
    get "/v1/sites/{site}/nodes/{node}/history" => reads::node_history;
    get "/v1/sites/{site}/history" => reads::history;
    get "/v1/sites/{site}/clusters" => reads::clusters;
    get "/v1/sites/{site}/clusters/{name}" => reads::cluster;
    get "/v1/sites/{site}/clusters/{name}/tunnel" => tunnel::tunnel;
    get "/v1/sites/{site}/admins" => reads::admins;
    get "/v1/sites/{site}/tokens" => reads::tokens;
    get "/v1/sites/{site}/bundles" => reads::bundles;
    get "/v1/sites/{site}/bundles/{digest}" => reads::bundle_file;
    get "/v1/sites/{site}/intents" => reads::intents;
    get "/v1/sites/{site}/intents/{id}" => reads::intent;
    get "/v1/sites/{site}/events" => events::events;
    get "/v1/sites/{site}/audit" => reads::audit;
    get "/v1/sites/{site}/alerts" => reads::alerts;
    get "/v1/sites/{site}/metrics" => reads::metrics;
    get "/v1/sites/{site}/head" => reads::head;
    get "/v1/sites/{site}/attestation" => reads::attestation;
    get "/v1/sites/{site}/charter" => reads::charter;
    get "/v1/sites/{site}/packages" => reads::packages;
    get "/enroll/{site}" => reads::enrolment;
    post "/v1/sites/{site}/intents" => writes::submit;
    post "/v1/sites/{site}/plan" => writes::plan;
    post "/v1/sites/{site}/preflight" => writes::preflight;
    post "/v1/sites/{site}/bundles" => writes::push_bundle;
}

/// The API of a site at a door.
pub fn api(site: Arc<dyn Site>, door: DoorConfig) -> Router {
    api_with_pages(site, door, Router::new())
}

/// The API and the web UI at a door. Pages need no session, since they hold nothing of the site;
/// they are served to the right host only, with a content policy of their own. They must not have
/// a fallback: unknown paths are the API's to answer.
pub fn api_with_pages(site: Arc<dyn Site>, door: DoorConfig, pages: Router) -> Router {
    let door = Door::new(site, door);
    let session = from_fn_with_state(Arc::clone(&door), guard::session);
    let origin = from_fn_with_state(Arc::clone(&door), guard::origin);
    let outermost = from_fn_with_state(Arc::clone(&door), guard::door);
    let kept = routes().route_layer(session);
    let api = open_routes().merge(kept).route_layer(origin);
    api.with_state(door)
        .merge(pages.layer(from_fn(guard::page)))
        .fallback(guard::no_route)
        .method_not_allowed_fallback(guard::no_method)
        .layer(outermost)
}

/// An API of its own and the web UI behind what every network's door has: the exact host (421), no
/// page of another origin (403), a deadline, the headers. Who asks, `api` finds out itself.
pub fn guarded(access: Access, api: Router, pages: Router) -> Router {
    let access = Arc::new(access);
    api.route_layer(from_fn_with_state(Arc::clone(&access), guard::foreign))
        .merge(pages.layer(from_fn(guard::page)))
        .fallback(guard::no_route)
        .method_not_allowed_fallback(guard::no_method)
        .layer(from_fn_with_state(access, guard::outside))
}

/// Says that the process answers. Says nothing of the site.
#[utoipa::path(get, path = "/healthz", tag = "door",
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "door",
    responses((status = 200, description = "The document.", content_type = "application/json")))]
pub(crate) async fn document(State(door): State<Arc<Door>>) -> ([(HeaderName, &'static str); 1], Bytes) {
    ([(header::CONTENT_TYPE, "application/json")], door.document.clone())
}
