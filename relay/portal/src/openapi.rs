//! The API document: what the handlers say of themselves, and what holds for all of them.

use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use crate::error::PROBLEM_TYPE;
use crate::{events, login, reads, router, tunnel, view, writes};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "qb",
        description = "Kubernetes on machines that a company owns. Every agent serves this API. \
            Reads need a session on the network and none at the local socket; every change is an \
            intent that an administrator signed."
    ),
    paths(
        router::healthz,
        router::document,
        login::challenge,
        login::login,
        login::logout,
        reads::sites,
        reads::site,
        reads::nodes,
        reads::node,
        reads::node_history,
        reads::history,
        reads::clusters,
        reads::cluster,
        tunnel::tunnel,
        reads::admins,
        reads::tokens,
        reads::bundles,
        reads::bundle_file,
        reads::intents,
        reads::intent,
        reads::audit,
        reads::alerts,
        reads::metrics,
        reads::head,
        reads::attestation,
        reads::charter,
        reads::packages,
        reads::enrolment,
        events::events,
        writes::submit,
        writes::plan,
        writes::preflight,
        writes::push_bundle,
    ),
    components(schemas(view::Problem))
)]
struct Api;

/// The document as JSON.
pub fn document() -> Value {
    // A document of strings and numbers always becomes JSON.
    let mut document = serde_json::to_value(Api::openapi()).unwrap_or_default();
    if let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) {
        for (path, item) in paths {
            let operations = item.as_object_mut().into_iter().flat_map(Map::values_mut);
            for operation in operations.filter_map(Value::as_object_mut) {
                complete(path, operation);
            }
        }
    }
    let scheme = json!({ "bearer": { "type": "http", "scheme": "bearer" } });
    if let Some(components) = document.get_mut("components").and_then(Value::as_object_mut) {
        components.insert("securitySchemes".to_owned(), scheme);
    }
    document
}

/// Adds what every operation has: its errors, its site, its session.
fn complete(path: &str, operation: &mut Map<String, Value>) {
    if let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) {
        let schema = json!({ "schema": { "$ref": "#/components/schemas/Problem" } });
        let problem = json!({
            "description": "What went wrong, and what to do.",
            "content": { PROBLEM_TYPE: schema },
        });
        responses.insert("default".to_owned(), problem);
    }
    if path.contains("{site}") {
        let site = json!({
            "name": "site", "in": "path", "required": true,
            "description": "The site's name or id.", "schema": { "type": "string" },
        });
        let parameters = operation.entry("parameters").or_insert_with(|| json!([]));
        if let Some(list) = parameters.as_array_mut() {
            list.insert(0, site);
        }
    }
    let open = router::OPEN_ROUTES.iter().any(|(_, p)| *p == path);
    let logout = operation.get("operationId").is_some_and(|id| id == "logout");
    if !open || logout {
        operation.insert("security".to_owned(), json!([{ "bearer": [] }]));
    }
}
