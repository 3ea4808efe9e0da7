//! Labels and taints that qb keeps on nodes of Kubernetes: what has to change so that a node has the
//! wanted ones, and loses those that qb set before and that nobody wants any more. Others' are nobody's
//! business here.
//!
//! Which ones qb set is written down in the cluster, where kubelets cannot write: a node that lies about
//! itself gets nothing removed that others set.

use std::collections::{BTreeMap, BTreeSet};

use qb_model::action::{Label, Taint};
use qb_model::ids::HostName;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::kept::{self, KeptError};

/// What the names of the records of nodes begin with.
const PREFIX: &str = "qb-node-";

/// What is wanted on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeMarks {
    /// The node's name.
    pub host: HostName,
    /// The labels.
    pub labels: Vec<Label>,
    /// The taints.
    pub taints: Vec<Taint>,
}

impl NodeMarks {
    /// Name of the record of what qb set on the node.
    pub fn record(&self) -> String {
        format!("{PREFIX}{}", self.host)
    }

    fn set(&self) -> Set {
        Set {
            labels: self.labels.iter().map(|l| l.key.clone()).collect(),
            taints: self.taints.iter().map(|t| (t.key.clone(), t.effect.word().to_owned())).collect(),
        }
    }
}

/// Keys that qb set on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Set {
    labels: BTreeSet<String>,
    taints: BTreeSet<(String, String)>,
}

impl Set {
    fn with(&self, other: &Self) -> Self {
        Self {
            labels: self.labels.union(&other.labels).cloned().collect(),
            taints: self.taints.union(&other.taints).cloned().collect(),
        }
    }
}

/// What is done, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MarkChanges {
    /// The record, if it has to grow: what is about to be set is known as qb's before it is.
    pub before: Option<String>,
    /// The merge patch of the node.
    pub patch: Option<String>,
    /// The record as it stays, if it is another one.
    pub after: Option<String>,
}

#[derive(Deserialize)]
struct Node {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    resource_version: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
struct Spec {
    #[serde(default)]
    taints: Vec<Map<String, Value>>,
}

/// What makes a node the wanted one, from what `kubectl get node/.. configmap/.. -o json` answers; none
/// if the node is not in the cluster.
///
/// # Errors
/// The answer is none.
pub fn changes(wanted: &NodeMarks, answer: &[u8]) -> Result<Option<MarkChanges>, KeptError> {
    let mut found = kept::objects(answer)?;
    let Some(at) = found.iter().position(|o| o["kind"] == "Node") else { return Ok(None) };
    let node: Node = serde_json::from_value(found.swap_remove(at)).map_err(kept::form)?;
    let record = wanted.record();
    let set: Set = kept::read(&found, &record)?.unwrap_or_default();
    let (now, all) = (wanted.set(), set.with(&wanted.set()));
    let write = |set: &Set| kept::record(&record, set);
    Ok(Some(MarkChanges {
        before: (all != set).then(|| write(&all)),
        patch: patch(wanted, &set, &node),
        after: (now != all).then(|| write(&now)),
    }))
}

fn patch(wanted: &NodeMarks, set: &Set, node: &Node) -> Option<String> {
    let (now, has) = (wanted.set(), &node.metadata.labels);
    let mut labels = Map::new();
    for key in set.labels.difference(&now.labels).filter(|key| has.contains_key(*key)) {
        labels.insert(key.clone(), Value::Null);
    }
    for Label { key, value } in wanted.labels.iter().filter(|l| has.get(&l.key) != Some(&l.value)) {
        labels.insert(key.clone(), value.clone().into());
    }
    let taints = taints(wanted, set, &node.spec.taints);
    if labels.is_empty() && taints == node.spec.taints {
        return None;
    }
    // Taken only by the node that was looked at: taints are a list, which others change as well.
    let mut patch = json!({ "metadata": { "resourceVersion": node.metadata.resource_version } });
    if !labels.is_empty() {
        patch["metadata"]["labels"] = labels.into();
    }
    if taints != node.spec.taints {
        patch["spec"] = json!({ "taints": taints });
    }
    Some(patch.to_string())
}

/// The taints of a node as they are to be: others' stay as they are, in their places.
fn taints(wanted: &NodeMarks, set: &Set, has: &[Map<String, Value>]) -> Vec<Map<String, Value>> {
    let text = |taint: &Map<String, Value>, key: &str| {
        taint.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let named = |taint: &Map<String, Value>| (text(taint, "key"), text(taint, "effect"));
    let fresh = |t: &Taint| {
        let mut taint = Map::new();
        taint.insert("key".into(), t.key.clone().into());
        taint.insert("effect".into(), t.effect.word().into());
        if !t.value.is_empty() {
            taint.insert("value".into(), t.value.clone().into());
        }
        taint
    };
    let want = |name: &(String, String)| {
        wanted.taints.iter().find(|t| (&*t.key, t.effect.word()) == (&*name.0, &*name.1))
    };
    let mut all = Vec::new();
    for taint in has {
        let name = named(taint);
        match want(&name) {
            Some(t) if t.value == text(taint, "value") => all.push(taint.clone()),
            Some(t) => all.push(fresh(t)),
            None if set.taints.contains(&name) => {}
            None => all.push(taint.clone()),
        }
    }
    let missing = wanted
        .taints
        .iter()
        .filter(|t| !has.iter().any(|h| named(h) == (t.key.clone(), t.effect.word().to_owned())));
    all.extend(missing.map(fresh));
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use qb_model::action::TaintEffect;

    use super::*;

    fn wanted(labels: &[(&str, &str)], taints: &[(&str, &str)]) -> NodeMarks {
        let label = |(key, value): &(&str, &str)| Label { key: (*key).into(), value: (*value).into() };
        let taint = |(key, value): &(&str, &str)| Taint {
            key: (*key).into(),
            effect: TaintEffect::NoSchedule,
            value: (*value).into(),
        };
        NodeMarks {
            host: "n1".parse().unwrap(),
            labels: labels.iter().map(label).collect(),
            taints: taints.iter().map(taint).collect(),
        }
    }

    /// A cluster with one node and perhaps a record, as kubectl answers.
    #[derive(Clone)]
    struct Played {
        node: Value,
        record: Option<Value>,
    }

    impl Played {
        fn new(labels: Value, taints: Value) -> Self {
            let meta = json!({ "name": "n1", "resourceVersion": "7", "labels": labels });
            Self {
                node: json!({ "kind": "Node", "metadata": meta, "spec": { "taints": taints } }),
                record: None,
            }
        }

        fn answer(&self) -> Vec<u8> {
            let items: Vec<_> = std::iter::once(&self.node).chain(&self.record).collect();
            match items.as_slice() {
                [one] => one.to_string().into(),
                all => json!({ "kind": "List", "items": all }).to_string().into(),
            }
        }

        /// Does the first `steps` of what is to be done.
        fn keep(&mut self, wanted: &NodeMarks, steps: usize) -> MarkChanges {
            let changes = changes(wanted, &self.answer()).unwrap().unwrap();
            let read = |text: &String| serde_json::from_str::<Value>(text).unwrap();
            if let Some(record) = changes.before.as_ref().filter(|_| steps > 0) {
                self.record = Some(read(record));
            }
            if let Some(patch) = changes.patch.as_ref().map(read).filter(|_| steps > 1) {
                assert_eq!(patch["metadata"]["resourceVersion"], "7");
                for (key, value) in patch["metadata"]["labels"].as_object().into_iter().flatten() {
                    let labels = self.node["metadata"]["labels"].as_object_mut().unwrap();
                    match value {
                        Value::Null => drop(labels.remove(key)),
                        value => drop(labels.insert(key.clone(), value.clone())),
                    }
                }
                if let Some(taints) = patch["spec"].get("taints") {
                    self.node["spec"]["taints"] = taints.clone();
                }
            }
            if let Some(record) = changes.after.as_ref().filter(|_| steps > 2) {
                self.record = Some(read(record));
            }
            changes
        }

        fn labels(&self) -> String {
            self.node["metadata"]["labels"].to_string()
        }

        fn taints(&self) -> String {
            self.node["spec"]["taints"].to_string()
        }
    }

    #[test]
    fn what_is_wanted_is_set_and_what_was_set_and_is_not_wanted_goes() {
        let others =
            json!({ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule", "timeAdded": "now" });
        let mut played = Played::new(json!({ "kubernetes.io/os": "linux", "mine": "1" }), json!([others]));
        let first = wanted(&[("disk", "ssd"), ("rack", "r7")], &[("gpu", "a100"), ("old", "")]);
        played.keep(&first, 3);
        assert_eq!(played.labels(), r#"{"disk":"ssd","kubernetes.io/os":"linux","mine":"1","rack":"r7"}"#);
        let taints = json!([
            others,
            { "effect": "NoSchedule", "key": "gpu", "value": "a100" },
            { "effect": "NoSchedule", "key": "old" }
        ]);
        assert_eq!(played.taints(), taints.to_string());
        assert_eq!(played.keep(&first, 3), MarkChanges::default(), "it is so already");
        // Changed, removed, and one that somebody else set is left alone.
        played.keep(&wanted(&[("disk", "hdd")], &[("gpu", "h100")]), 3);
        assert_eq!(played.labels(), r#"{"disk":"hdd","kubernetes.io/os":"linux","mine":"1"}"#);
        let taints = json!([others, { "effect": "NoSchedule", "key": "gpu", "value": "h100" }]);
        assert_eq!(played.taints(), taints.to_string());
        played.keep(&wanted(&[], &[]), 3);
        assert_eq!(played.labels(), r#"{"kubernetes.io/os":"linux","mine":"1"}"#);
        assert_eq!(played.taints(), json!([others]).to_string());
        assert_eq!(played.keep(&wanted(&[], &[]), 3), MarkChanges::default());
    }

    #[test]
    fn a_node_that_is_not_there_and_answers_that_are_none() {
        let marks = wanted(&[("a", "b")], &[]);
        assert_eq!(changes(&marks, b"").unwrap(), None);
        let record = json!({ "kind": "ConfigMap", "metadata": { "name": "qb-node-n1" }, "data": {} });
        assert_eq!(changes(&marks, record.to_string().as_bytes()).unwrap(), None);
        assert!(changes(&marks, b"[]").is_err());
        // A record that somebody spoilt is none: what it named is others' then.
        let mut played = Played::new(json!({ "old": "1" }), json!([]));
        played.record = Some(
            json!({ "kind": "ConfigMap", "metadata": { "name": "qb-node-n1" }, "data": { "kept": "{" } }),
        );
        played.keep(&marks, 3);
        assert_eq!(played.labels(), r#"{"a":"b","old":"1"}"#);
    }

    proptest! {
        /// However often it is killed, and whatever was wanted before, the node ends with what others set
        /// and what is wanted.
        #[test]
        fn it_converges(
            history in prop::collection::vec((prop::collection::btree_map("[a-d]", "[xy]", 0..4), prop::collection::btree_set("[a-d]", 0..3), 0..4usize), 1..8),
        ) {
            let others = json!([{ "key": "z", "effect": "NoExecute" }]);
            let mut played = Played::new(json!({ "theirs": "1" }), others);
            for (labels, taints, steps) in &history {
                let labels: Vec<_> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
                let taints: Vec<_> = taints.iter().map(|k| (k.as_str(), "")).collect();
                played.keep(&wanted(&labels, &taints), *steps);
            }
            let (labels, taints, _) = history.last().unwrap();
            let list: Vec<_> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let marks: Vec<_> = taints.iter().map(|k| (k.as_str(), "")).collect();
            let last = wanted(&list, &marks);
            played.keep(&last, 3);
            prop_assert_eq!(played.keep(&last, 3), MarkChanges::default());
            let has = played.node["metadata"]["labels"].as_object().unwrap();
            prop_assert_eq!(has.len(), labels.len() + 1);
            prop_assert!(labels.iter().all(|(k, v)| has[k] == *v));
            let keys: BTreeSet<_> = played.node["spec"]["taints"].as_array().unwrap().iter().map(|t| t["key"].as_str().unwrap().to_owned()).collect();
            prop_assert_eq!(keys, taints.iter().cloned().chain(["z".to_owned()]).collect::<BTreeSet<_>>());
        }
    }
}
