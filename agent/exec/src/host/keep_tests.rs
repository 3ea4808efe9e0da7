//! With an API server that keeps what kubectl tells it.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use qb_model::action::{Label, Taint, TaintEffect};
use serde_json::{Value, json};

use super::super::clean::tests::NotedUnits;
use super::super::run::{Call, Output, Program, Programs};
use super::super::tell::Tell;
use super::*;
use crate::dir::Dir;

/// The cluster's objects by `Kind/name`, and what was asked of it.
#[derive(Default)]
struct Cluster {
    objects: BTreeMap<String, Value>,
    said: Vec<String>,
    /// What kubectl says when it fails at this word.
    fails: Option<(&'static str, &'static str)>,
}

#[derive(Clone, Default)]
struct Played(Arc<Mutex<Cluster>>);

fn key(object: &Value) -> String {
    format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
}

fn items(input: &[u8]) -> Vec<Value> {
    let value: Value = serde_json::from_slice(input).unwrap();
    match value["kind"].as_str() {
        Some("List") => value["items"].as_array().unwrap().clone(),
        _ => vec![value],
    }
}

impl Cluster {
    fn answer(&mut self, args: &[&str], input: &[u8]) -> Vec<u8> {
        match args[0] {
            // A manifest of these tests is one object per line, as `Kind/name`.
            "label" => {
                let text = std::str::from_utf8(input).unwrap();
                let one = |line: &str| {
                    let (kind, name) = line.split_once('/').unwrap();
                    json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": name, "labels": { "qb.addon": "dns" } } })
                };
                text.lines().map(|line| one(line).to_string()).collect::<Vec<_>>().join("\n").into_bytes()
            }
            "get" => {
                let wanted = |kind: &str, name: &str| {
                    let kind = if kind == "node" { "Node" } else { "ConfigMap" };
                    self.objects.get(&format!("{kind}/{name}"))
                };
                let found: Vec<&Value> = match args[1].split_once('/') {
                    Some((kind, name)) => {
                        let (other, record) = args[2].split_once('/').unwrap();
                        [wanted(kind, name), wanted(other, record)].into_iter().flatten().collect()
                    }
                    None => wanted(args[1], args[2]).into_iter().collect(),
                };
                match found.as_slice() {
                    [] => Vec::new(),
                    [one] => one.to_string().into_bytes(),
                    all => json!({ "kind": "List", "items": all }).to_string().into_bytes(),
                }
            }
            "patch" => {
                let patch: Value = serde_json::from_str(args[5]).unwrap();
                let node = self.objects.get_mut(&format!("Node/{}", args[2])).unwrap();
                for (key, value) in patch["metadata"]["labels"].as_object().into_iter().flatten() {
                    let labels = node["metadata"]["labels"].as_object_mut().unwrap();
                    if value.is_null() {
                        labels.remove(key);
                    } else {
                        labels.insert(key.clone(), value.clone());
                    }
                }
                if let Some(taints) = patch["spec"].get("taints") {
                    node["spec"]["taints"] = taints.clone();
                }
                Vec::new()
            }
            "apply" => {
                self.objects.extend(items(input).into_iter().map(|o| (key(&o), o)));
                Vec::new()
            }
            "delete" if args[1] == "configmap" => {
                self.objects.remove(&format!("ConfigMap/{}", args[2]));
                Vec::new()
            }
            "delete" => {
                items(input).iter().for_each(|o| drop(self.objects.remove(&key(o))));
                Vec::new()
            }
            other => panic!("{other}"),
        }
    }
}

impl Programs for Played {
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Output, StepError>> {
        Box::pin(async move {
            assert_eq!(call.program, Program::Tree("kubectl"));
            assert!(call.args[0].ends_with("/etc/kubernetes/admin.conf"), "{:?}", call.args);
            let args: Vec<&str> = call.args[2..].iter().map(String::as_str).collect();
            let mut cluster = self.0.lock().unwrap();
            let word = if args[0] == "apply" {
                format!("apply {}", items(&call.input).iter().map(key).collect::<Vec<_>>().join(" "))
            } else {
                args[..2].join(" ")
            };
            cluster.said.push(word);
            if let Some((_, said)) = cluster.fails.filter(|(word, _)| *word == args[0]) {
                return Ok(Output { status: Some(1), said: said.to_owned(), ..Output::default() });
            }
            let stdout = cluster.answer(&args, &call.input);
            assert!(stdout.len() <= call.most);
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
    let meta = json!({ "name": "n1", "resourceVersion": "7", "labels": { "theirs": "1" } });
    let node = json!({ "kind": "Node", "metadata": meta, "spec": {} });
    played.0.lock().unwrap().objects.insert("Node/n1".into(), node);
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

    fn objects(&self) -> Vec<String> {
        self.played.0.lock().unwrap().objects.keys().cloned().collect()
    }

    fn node(&self) -> (String, String) {
        let cluster = self.played.0.lock().unwrap();
        let node = &cluster.objects["Node/n1"];
        (node["metadata"]["labels"].to_string(), node["spec"]["taints"].to_string())
    }

    fn fail(&self, word: &'static str, said: &'static str) {
        self.played.0.lock().unwrap().fails = Some((word, said));
    }
}

fn marks(host: &str, labels: &[&str], taints: &[&str]) -> Keep {
    let label = |key: &&str| Label { key: (*key).into(), value: "x".into() };
    let taint =
        |key: &&str| Taint { key: (*key).into(), effect: TaintEffect::NoSchedule, value: String::new() };
    Keep::Marks(NodeMarks {
        host: host.parse().unwrap(),
        labels: labels.iter().map(label).collect(),
        taints: taints.iter().map(taint).collect(),
    })
}

fn addon(lines: &[&str]) -> Keep {
    let manifest = (!lines.is_empty()).then(|| lines.iter().map(|line| (*line).to_owned()).collect());
    Keep::Addon(Addon { name: "dns".parse().unwrap(), manifest })
}

#[tokio::test]
async fn labels_and_taints_are_set_and_others_stay() {
    let place = place();
    keep(&place.host, &[marks("n1", &["disk"], &["gpu"])]).await.unwrap();
    assert_eq!(place.said(), ["get node/n1", "apply ConfigMap/qb-node-n1", "patch node"]);
    let (labels, taints) = place.node();
    assert_eq!(labels, r#"{"disk":"x","theirs":"1"}"#);
    assert_eq!(taints, r#"[{"effect":"NoSchedule","key":"gpu"}]"#);
    keep(&place.host, &[marks("n1", &["disk"], &["gpu"])]).await.unwrap();
    assert_eq!(place.said(), ["get node/n1"], "it is so");
    keep(&place.host, &[marks("n1", &[], &[])]).await.unwrap();
    assert_eq!(place.said(), ["get node/n1", "patch node", "apply ConfigMap/qb-node-n1"]);
    assert_eq!(place.node(), (r#"{"theirs":"1"}"#.to_owned(), "[]".to_owned()));
}

#[tokio::test]
async fn one_that_fails_does_not_hold_the_others() {
    let place = place();
    let error =
        keep(&place.host, &[marks("n2", &["disk"], &[]), marks("n1", &["disk"], &[])]).await.unwrap_err();
    assert!(error.text.contains("no node n2") && error.remedy.contains("tried again"), "{error:?}");
    assert_eq!(place.node().0, r#"{"disk":"x","theirs":"1"}"#);
}

#[tokio::test]
async fn an_add_on_is_applied_replaced_and_removed() {
    let place = place();
    keep(&place.host, &[addon(&["Service/a", "Deployment/b"])]).await.unwrap();
    let record = "apply ConfigMap/qb-addon-dns";
    let apply = "apply Service/a Deployment/b";
    assert_eq!(place.said(), ["label --local", "get configmap", record, apply]);
    assert_eq!(place.objects(), ["ConfigMap/qb-addon-dns", "Deployment/b", "Node/n1", "Service/a"]);
    keep(&place.host, &[addon(&["Service/a", "Deployment/b"])]).await.unwrap();
    assert_eq!(
        place.said(),
        ["label --local", "get configmap", apply],
        "applied again: people may have changed it"
    );
    keep(&place.host, &[addon(&["Deployment/b", "Job/c"])]).await.unwrap();
    let steps = [
        "label --local",
        "get configmap",
        record,
        "apply Deployment/b Job/c",
        "delete --ignore-not-found",
        record,
    ];
    assert_eq!(place.said(), steps);
    assert_eq!(place.objects(), ["ConfigMap/qb-addon-dns", "Deployment/b", "Job/c", "Node/n1"]);
    keep(&place.host, &[addon(&[])]).await.unwrap();
    assert_eq!(place.said(), ["get configmap", "delete --ignore-not-found", "delete configmap"]);
    assert_eq!(place.objects(), ["Node/n1"]);
    keep(&place.host, &[addon(&[])]).await.unwrap();
    assert_eq!(place.said(), ["get configmap"], "gone is gone");
}

#[tokio::test]
async fn what_fails_is_told_and_is_found_again() {
    let place = place();
    place.fail("label", "error: error parsing STDIN: yaml: line 2: mapping values are not allowed");
    let error = keep(&place.host, &[addon(&["Service/a"])]).await.unwrap_err();
    assert!(
        error.text.contains("yaml: line 2") && error.remedy.contains("set the add-on again"),
        "{error:?}"
    );
    place.fail("apply", "error: no matches for kind \"Foo\"");
    assert!(keep(&place.host, &[addon(&["Service/a"])]).await.unwrap_err().text.contains("Foo"));
    // What may have been made is known, whatever became of it.
    assert_eq!(place.objects(), ["Node/n1"]);
}

#[tokio::test]
async fn kinds_that_are_gone_are_no_failure_of_a_removal() {
    let place = place();
    keep(&place.host, &[addon(&["Kind/k", "Foo/a"])]).await.unwrap();
    for said in [
        "error: unable to recognize \"STDIN\": no matches for kind \"Foo\" in version \"example.org/v1\"",
        "kind.example.org \"k\" deleted\nerror: resource mapping not found for name: \"a\" namespace: \"\" from \"STDIN\": no matches for kind \"Foo\" in version \"example.org/v1\"\nensure CRDs are installed first",
    ] {
        assert!(only_unknown_kinds(said), "{said}");
    }
    for said in ["", "The connection to the server 127.0.0.1:6444 was refused", "a deleted b\nForbidden"] {
        assert!(!only_unknown_kinds(said), "{said}");
    }
    place.fail("delete", "Error from server (Forbidden): it may not");
    let error = keep(&place.host, &[addon(&[])]).await.unwrap_err();
    assert!(error.text.contains("Forbidden"), "{error:?}");
    assert!(place.objects().contains(&"ConfigMap/qb-addon-dns".to_owned()), "it is still known");
}

#[tokio::test]
async fn only_an_administrators_credential_will_do() {
    let place = place();
    fs::write(place.host.root.path().join(ADMIN), "").unwrap();
    let error = keep(&place.host, &[addon(&["Service/a"])]).await.unwrap_err();
    assert!(error.text.contains("admin.conf"), "{error:?}");
    assert!(place.said().is_empty());
}
