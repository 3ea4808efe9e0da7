//! With an API server that keeps what kubectl tells it.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::super::clean::tests::NotedUnits;
use super::super::run::{Call, Output, Program, Programs};
use super::super::tell::Tell;
use super::*;
use crate::dir::Dir;

/// The cluster's bindings, and what was asked of it.
#[derive(Default)]
struct Cluster {
    items: Vec<Value>,
    said: Vec<String>,
    /// What kubectl says when it fails at this word.
    fails: Option<&'static str>,
}

#[derive(Clone, Default)]
struct Played(Arc<Mutex<Cluster>>);

impl Programs for Played {
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Output, StepError>> {
        Box::pin(async move {
            assert_eq!(call.program, Program::Tree("kubectl"));
            assert!(call.args[0].ends_with("/etc/kubernetes/admin.conf"), "{:?}", call.args);
            let args: Vec<&str> = call.args[2..].iter().map(String::as_str).collect();
            let mut cluster = self.0.lock().unwrap();
            cluster.said.push(args.join(" "));
            if cluster.fails == Some(args[0]) {
                let said = "The connection to the server 127.0.0.1:6444 was refused".to_owned();
                return Ok(Output { status: Some(1), said, ..Output::default() });
            }
            match args[0] {
                "delete" => {
                    cluster.items.retain(|i| !args[4..].contains(&i["metadata"]["name"].as_str().unwrap()));
                }
                "apply" => {
                    let list: Value = serde_json::from_slice(&call.input).unwrap();
                    cluster.items.extend(list["items"].as_array().unwrap().clone());
                }
                _ => {}
            }
            let stdout = serde_json::to_vec(&json!({ "items": cluster.items })).unwrap();
            Ok(Output { status: Some(0), stdout, ..Output::default() })
        })
    }
}

struct Place {
    _temp: tempfile::TempDir,
    host: Host,
    played: Played,
}

fn place() -> Place {
    let temp = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(temp.path()).unwrap().join("root");
    fs::create_dir_all(root.join("etc/kubernetes")).unwrap();
    fs::write(root.join(ADMIN), "apiVersion: v1\n").unwrap();
    let played = Played::default();
    let host = Host {
        cluster: "c1".parse().unwrap(),
        dir: Dir::create(&temp.path().join("cluster")).unwrap(),
        root: Dir::open(&root).unwrap(),
        programs: Box::new(played.clone()),
        units: Box::<NotedUnits>::default(),
        tell: Tell::default(),
    };
    Place { _temp: temp, host, played }
}

impl Place {
    fn said(&self) -> Vec<String> {
        std::mem::take(&mut self.played.0.lock().unwrap().said)
    }

    fn names(&self) -> Vec<String> {
        let cluster = self.played.0.lock().unwrap();
        cluster.items.iter().map(|i| i["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }
}

fn admins(list: &[(&str, Role)]) -> BTreeMap<Name, Role> {
    list.iter().map(|(name, role)| (name.parse().unwrap(), *role)).collect()
}

const LOOK: &str = "get clusterrolebindings -l app.kubernetes.io/managed-by=qb -o json";

#[tokio::test]
async fn bindings_become_those_of_the_admins_and_stay() {
    let place = place();
    let before = admins(&[("ana", Role::Owner), ("eve", Role::Operator)]);
    assert!(!are_kept(&place.host, &before).await.unwrap());
    keep(&place.host, &before).await.unwrap();
    assert!(are_kept(&place.host, &before).await.unwrap());
    assert_eq!(place.names(), ["qb:admin:ana", "qb:admin:eve"]);
    assert_eq!(place.said(), [LOOK, LOOK, "apply -f -", LOOK]);
    // One is gone, one has less to say.
    let after = admins(&[("eve", Role::Viewer)]);
    assert!(!are_kept(&place.host, &after).await.unwrap());
    keep(&place.host, &after).await.unwrap();
    assert!(are_kept(&place.host, &after).await.unwrap());
    let delete = "delete clusterrolebindings --ignore-not-found -- qb:admin:ana qb:admin:eve";
    assert_eq!(place.said(), [LOOK, LOOK, delete, "apply -f -", LOOK]);
    assert_eq!(place.names(), ["qb:admin:eve"]);
    let role = place.played.0.lock().unwrap().items[0]["roleRef"]["name"].clone();
    assert_eq!(role, "view");
}

#[tokio::test]
async fn a_crowd_is_deleted_in_parts() {
    let place = place();
    let crowd: Vec<String> = (0..AT_ONCE + 1).map(|n| format!("a{n}")).collect();
    let crowd: Vec<_> = crowd.iter().map(|name| (name.as_str(), Role::Viewer)).collect();
    keep(&place.host, &admins(&crowd)).await.unwrap();
    keep(&place.host, &admins(&[])).await.unwrap();
    assert!(place.names().is_empty());
    let said = place.said();
    assert_eq!(said.iter().filter(|said| said.starts_with("delete")).count(), 2);
}

#[tokio::test]
async fn what_fails_is_told_and_rights_are_taken_before_others_are_given() {
    let place = place();
    keep(&place.host, &admins(&[("ana", Role::Owner)])).await.unwrap();
    place.played.0.lock().unwrap().fails = Some("delete");
    let error = keep(&place.host, &admins(&[("jon", Role::Owner)])).await.unwrap_err();
    assert!(error.text.contains("was refused") && error.remedy.contains("tried again"), "{error:?}");
    assert_eq!(place.names(), ["qb:admin:ana"]);
    place.played.0.lock().unwrap().fails = Some("get");
    assert!(are_kept(&place.host, &admins(&[])).await.is_err());
    // Only an administrator's credential will do.
    fs::write(place.host.root.path().join(ADMIN), "").unwrap();
    let error = are_kept(&place.host, &admins(&[])).await.unwrap_err();
    assert!(error.text.contains("admin.conf"), "{error:?}");
}
