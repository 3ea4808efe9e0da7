//! Add-ons of a cluster: which objects a manifest makes, which of an earlier one are left over, and the
//! record of both.

use qb_model::ids::Name;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kept::{self, KeptError};

/// The label of every object of an add-on.
pub const ADDON_LABEL: &str = "qb.addon";
/// What the names of the records of add-ons begin with.
const PREFIX: &str = "qb-addon-";

/// An add-on as it is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addon {
    /// Its name.
    pub name: Name,
    /// The lines of its manifest; none if it is to be gone.
    pub manifest: Option<Vec<String>>,
}

impl Addon {
    /// Name of the record of what it made.
    pub fn record(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }

    /// What its objects are told by.
    pub fn label(&self) -> String {
        format!("{ADDON_LABEL}={}", self.name)
    }
}

/// An object, by what tells it from others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    api_version: String,
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    name: String,
}

impl Object {
    fn of(at: usize, value: &Value) -> Result<Self, KeptError> {
        let text = |value: &Value, what| {
            let text = value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
            text.ok_or(KeptError::Nameless { at: at + 1, what })
        };
        let meta = &value["metadata"];
        Ok(Self {
            api_version: text(&value["apiVersion"], "apiVersion")?,
            kind: text(&value["kind"], "kind")?,
            namespace: meta["namespace"].as_str().map(str::to_owned),
            name: text(&meta["name"], "metadata.name, or it is no text")?,
        })
    }

    /// Whether it is the same object: the version of its API does not tell.
    fn is(&self, other: &Self) -> bool {
        let group = |o: &Self| o.api_version.split_once('/').map(|(group, _)| group.to_owned());
        (group(self), &self.kind, &self.namespace, &self.name)
            == (group(other), &other.kind, &other.namespace, &other.name)
    }

    fn manifest(&self) -> Value {
        let Self { api_version, kind, namespace, name } = self;
        let mut meta = json!({ "name": name });
        if let Some(namespace) = namespace {
            meta["namespace"] = namespace.as_str().into();
        }
        json!({ "apiVersion": api_version, "kind": kind, "metadata": meta })
    }
}

/// What is done for an add-on, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddonChanges {
    /// The record, if it has to grow: what is about to be made is known as the add-on's before it is.
    pub before: Option<String>,
    /// The list to apply; none if there is nothing.
    pub apply: Option<String>,
    /// The list to delete: the last of a manifest first, so that what needs a kind or a namespace goes
    /// before it.
    pub delete: Option<String>,
    /// The record as it stays, if it is another one.
    pub after: Option<String>,
    /// Whether the record goes.
    pub forget: bool,
}

/// What makes an add-on the wanted one: `labelled` is what `kubectl label --local -o json` makes of its
/// manifest, nothing if it is to be gone; `answer` what the cluster says of its record.
///
/// # Errors
/// One of them is not what kubectl answers; the manifest has no object, or one without a name.
pub fn changes(addon: &Addon, labelled: &[u8], answer: &[u8]) -> Result<AddonChanges, KeptError> {
    let name = addon.record();
    let found = kept::objects(answer)?;
    let recorded = found.iter().any(|o| o["kind"] == "ConfigMap");
    let had: Vec<Object> = kept::read(&found, &name)?.unwrap_or_default();
    let manifest = kept::objects(labelled)?;
    if addon.manifest.is_some() && manifest.is_empty() {
        return Err(KeptError::Nothing);
    }
    let wanted = manifest.iter().enumerate().map(|(at, value)| Object::of(at, value));
    let wanted = wanted.collect::<Result<Vec<_>, _>>()?;
    let left: Vec<&Object> = had.iter().filter(|h| !wanted.iter().any(|w| w.is(h))).collect();
    let all: Vec<Object> = left.iter().map(|o| (*o).clone()).chain(wanted.iter().cloned()).collect();
    let list = |items: Vec<Value>| json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string();
    let delete = left.iter().rev().map(|o| o.manifest()).collect::<Vec<_>>();
    Ok(AddonChanges {
        before: (all != had && !wanted.is_empty()).then(|| kept::record(&name, &all)),
        apply: (!wanted.is_empty()).then(|| list(manifest)),
        delete: (!delete.is_empty()).then(|| list(delete)),
        after: (all != wanted && !wanted.is_empty()).then(|| kept::record(&name, &wanted)),
        forget: wanted.is_empty() && recorded,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn addon(manifest: bool) -> Addon {
        let manifest = manifest.then(|| vec!["...".to_owned()]);
        Addon { name: "dns".parse().unwrap(), manifest }
    }

    /// Objects as kubectl prints them: one after the other.
    fn printed(objects: &[(&str, &str, &str)]) -> Vec<u8> {
        let one = |(api, kind, name): &(&str, &str, &str)| {
            let meta = json!({ "name": name, "namespace": "apps", "labels": { ADDON_LABEL: "dns" } });
            json!({ "apiVersion": api, "kind": kind, "metadata": meta }).to_string()
        };
        objects.iter().map(one).collect::<Vec<_>>().join("\n").into_bytes()
    }

    fn names(list: &Option<String>) -> Vec<String> {
        let Some(list) = list else { return Vec::new() };
        let list: Value = serde_json::from_str(list).unwrap();
        let items = list["items"].as_array().unwrap();
        items
            .iter()
            .map(|i| format!("{}/{}", i["kind"].as_str().unwrap(), i["metadata"]["name"].as_str().unwrap()))
            .collect()
    }

    #[test]
    fn what_a_newer_manifest_lacks_is_deleted_and_so_is_all_of_a_removed_one() {
        let first =
            printed(&[("v1", "Service", "a"), ("apps/v1", "Deployment", "b"), ("v1", "ConfigMap", "c")]);
        let changes_of = |labelled: &[u8], answer: &str| {
            changes(&addon(!labelled.is_empty()), labelled, answer.as_bytes()).unwrap()
        };
        let made = changes_of(&first, "");
        assert_eq!(names(&made.apply), ["Service/a", "Deployment/b", "ConfigMap/c"]);
        let record = made.before.clone().unwrap();
        assert_eq!((made.delete, made.after, made.forget), (None, None, false));
        // Again: it is applied, and nothing is written down anew.
        let again = changes_of(&first, &record);
        assert_eq!((again.before, again.delete, again.after), (None, None, None));
        assert_eq!(again.apply, made.apply);
        // A newer API version of the same object is the same object.
        let second = printed(&[("apps/v2", "Deployment", "b"), ("v1", "Secret", "d")]);
        let newer = changes_of(&second, &record);
        assert_eq!(names(&newer.apply), ["Deployment/b", "Secret/d"]);
        assert_eq!(names(&newer.delete), ["ConfigMap/c", "Service/a"], "the last one first");
        let grown = newer.before.unwrap();
        for part in ["Service", "ConfigMap", "apps/v2", "Secret"] {
            assert!(grown.contains(part), "{grown}");
        }
        // Killed in between: what is left over is still known.
        let between = changes_of(&second, &grown);
        assert_eq!(names(&between.delete), ["ConfigMap/c", "Service/a"]);
        assert_eq!(between.before, None);
        let after = between.after.unwrap();
        assert!(!after.contains("Service"));
        let gone = changes_of(b"", &after);
        assert_eq!(names(&gone.delete), ["Secret/d", "Deployment/b"]);
        assert!(gone.forget && gone.apply.is_none() && gone.before.is_none() && gone.after.is_none());
        assert_eq!(changes_of(b"", ""), AddonChanges::default());
    }

    #[test]
    fn only_what_names_the_object_is_written_down_and_deleted() {
        let made = changes(&addon(true), &printed(&[("v1", "Service", "a")]), b"").unwrap();
        let record: Value = serde_json::from_str(&made.before.unwrap()).unwrap();
        assert_eq!(record["metadata"]["name"], "qb-addon-dns");
        assert_eq!(
            record["data"]["kept"],
            r#"[{"apiVersion":"v1","kind":"Service","namespace":"apps","name":"a"}]"#
        );
        let gone = changes(&addon(false), b"", record.to_string().as_bytes()).unwrap();
        assert_eq!(
            gone.delete.unwrap(),
            r#"{"apiVersion":"v1","items":[{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","namespace":"apps"}}],"kind":"List"}"#
        );
    }

    #[test]
    fn manifests_that_make_nothing_or_something_without_a_name() {
        let refused = |labelled: &str| changes(&addon(true), labelled.as_bytes(), b"").unwrap_err();
        assert_eq!(refused(""), KeptError::Nothing);
        assert_eq!(refused(r#"{"apiVersion":"v1","kind":"List","items":[]}"#), KeptError::Nothing);
        let named = |meta: &str| format!(r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{{meta}}}}}"#);
        for meta in ["", r#""generateName":"a-""#, r#""name":false"#, r#""name":"""#] {
            assert!(matches!(refused(&named(meta)), KeptError::Nameless { at: 1, .. }), "{meta}");
        }
        let second = format!("{}{}", named(r#""name":"a""#), r#"{"kind":"Pod","metadata":{"name":"b"}}"#);
        assert_eq!(refused(&second), KeptError::Nameless { at: 2, what: "apiVersion" });
        assert!(matches!(refused("[]"), KeptError::Form(_)));
        assert!(matches!(refused(r#"{"kind":"List"}"#), KeptError::Form(_)));
    }
}
