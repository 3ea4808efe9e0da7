//! The API document: complete, true, and its schemas as the views really are.

use std::collections::BTreeSet;

use axum::http::Method;
use qb_model::action::{KeyClass, NodeRole, Role};
use qb_model::preflight::Severity;
use qb_model::waiting::Clears;
use qb_portal::openapi::document;
use qb_portal::router::{OPEN_ROUTES, ROUTES};
use serde::Serialize;
use serde_json::{Value, json};

use crate::ask::{ask, get, local};
use crate::doors::filled;
use crate::stub::{
    Stub, alert_view, event, facts, finding, head, history_view, node_view, sample_view, site_view, waiting,
};

/// `(method, path, operation)` of the document.
fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let each = |(path, item): (&String, &'_ Value)| (path.clone(), item.as_object().unwrap().clone());
    let names: Vec<_> = paths.iter().map(each).collect();
    let mut out = Vec::new();
    for (path, item) in names {
        for method in item.keys() {
            out.push((method.clone(), path.clone(), &document["paths"][&path][method]));
        }
    }
    out
}

#[test]
fn every_route_is_in_the_document_and_the_other_way_round() {
    let document = document();
    let told: BTreeSet<_> = operations(&document).into_iter().map(|(m, p, _)| (m, p)).collect();
    let own = |(m, p): &(&str, &str)| ((*m).to_owned(), (*p).to_owned());
    let served: BTreeSet<_> = OPEN_ROUTES.iter().chain(ROUTES).map(own).collect();
    assert_eq!(told, served);
    assert_eq!(served.len(), OPEN_ROUTES.len() + ROUTES.len());
}

#[tokio::test]
async fn every_told_operation_is_served() {
    let site = Stub::new();
    let door = local(&site);
    let document = get("/v1/openapi.json").send(&door).await.json();
    for (method, path, _) in operations(&document) {
        let method: Method = method.to_uppercase().parse().unwrap();
        let response = ask(method.clone(), filled(&path)).open(&door).await;
        let status = response.status();
        assert!(status != 405, "{method} {path}");
        assert!(status != 404 || path == "/v1/login", "{method} {path}");
    }
}

#[test]
fn every_operation_says_site_session_and_errors() {
    let document = document();
    for (method, path, operation) in operations(&document) {
        let names: Vec<_> = operation["parameters"].as_array().into_iter().flatten().collect();
        let holes = path.matches('{').count();
        assert_eq!(names.iter().filter(|p| p["in"] == "path").count(), holes, "{path}");
        let open = OPEN_ROUTES.contains(&(method.as_str(), path.as_str()));
        assert_eq!(operation["security"] == json!([{ "bearer": [] }]), !open, "{method} {path}");
        let problem = &operation["responses"]["default"]["content"]["application/problem+json"];
        assert_eq!(problem["schema"]["$ref"], "#/components/schemas/Problem");
        let text = operation["summary"].as_str().or(operation["description"].as_str());
        assert!(text.is_some_and(|t| !t.is_empty()), "{method} {path}");
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|v| walk(v, found));
            }
            Value::Array(list) => list.iter().for_each(|v| walk(v, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = BTreeSet::new();
    walk(&document, &mut found);
    for reference in &found {
        assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
    }
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for name in schemas.keys() {
        assert!(found.contains(&format!("#/components/schemas/{name}")), "{name} is not used");
    }
    for view in [
        "SiteView",
        "NodeView",
        "ClusterView",
        "IntentView",
        "PlanView",
        "PreflightView",
        "Event",
        "AuditExport",
        "AlertView",
        "TokenView",
        "HistoryView",
        "AdminView",
        "BundleView",
        "Head",
        "Attestation",
        "LoginView",
    ] {
        assert!(schemas.contains_key(view), "{view}");
    }
}

/// The members that a value has are those that its schema has, and of the same type.
fn check(name: &str, value: impl Serialize) {
    let (document, value) = (document(), serde_json::to_value(value).unwrap());
    let schema = &document["components"]["schemas"][name]["properties"];
    let told: BTreeSet<_> = schema.as_object().unwrap().keys().collect();
    let value = value.as_object().unwrap();
    assert_eq!(told, value.keys().collect(), "{name}");
    for (key, value) in value {
        let kind = match value {
            Value::String(_) => "string",
            Value::Number(_) => "integer",
            Value::Bool(_) => "boolean",
            Value::Array(_) => "array",
            _ => continue,
        };
        let told = schema[key]["type"].to_string();
        let named = schema[key].get("$ref").is_some() || schema[key].get("oneOf").is_some();
        assert!(named || told.contains(kind), "{name}.{key}: {told} is not {kind}");
    }
}

#[test]
fn schemas_are_what_is_sent() {
    check("Facts", facts());
    check("Finding", finding());
    check("WaitingOn", waiting());
    check("NodeView", node_view());
    check("SiteView", site_view());
    check("Head", head());
    check("Event", event(1));
    check("AlertView", alert_view());
    check("TokenView", crate::stub::token_view());
    check("HistoryView", history_view(None));
    check("SampleView", sample_view());
    check("Attestation", crate::stub::attestation());
    check("Problem", qb_portal::view::Problem::no_route("/"));
}

fn check_words<T: Serialize>(name: &str, all: &[T]) {
    let told = &document()["components"]["schemas"][name]["enum"];
    assert_eq!(told, &json!(all), "{name}");
}

#[test]
fn words_are_what_is_sent() {
    check_words("Role", &[Role::Viewer, Role::Operator, Role::Owner]);
    let classes = [KeyClass::Browser, KeyClass::AgentOrigin, KeyClass::Cli, KeyClass::Hardware];
    check_words("KeyClass", &classes);
    check_words("NodeRole", &[NodeRole::ControlPlane, NodeRole::Worker]);
    check_words("Severity", &[Severity::Warning, Severity::Error]);
    check_words("Clears", &[Clears::Itself, Clears::Person, Clears::Never]);
}
