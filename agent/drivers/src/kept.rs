//! Records of what qb set inside a cluster, as ConfigMaps of `kube-system`: whichever control plane node
//! keeps it next knows what is qb's and what is others'.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::access::BINDING_LABEL;

/// Where the records are.
pub const NAMESPACE: &str = "kube-system";
/// Bytes of an answer of kubectl: a node with its images and a record, or the objects of an add-on, many
/// times over.
pub const ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// The member of a record's data.
const MEMBER: &str = "kept";

/// Why an answer of kubectl is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeptError {
    /// Not what kubectl answers.
    #[error("what kubectl answers cannot be read: {0}")]
    Form(String),
    /// An object of a manifest cannot be told from others.
    #[error("object {at} of the manifest has no {what}")]
    Nameless {
        /// Which, from 1.
        at: usize,
        /// What it lacks.
        what: &'static str,
    },
    /// A manifest without an object.
    #[error("the manifest holds no object")]
    Nothing,
}

pub(crate) fn form(error: serde_json::Error) -> KeptError {
    KeptError::Form(error.to_string())
}

/// The objects of an answer: none, one, one after the other, or a list of them.
pub(crate) fn objects(answer: &[u8]) -> Result<Vec<Value>, KeptError> {
    let mut all = Vec::new();
    for value in serde_json::Deserializer::from_slice(answer).into_iter::<Value>() {
        match value.map_err(form)? {
            Value::Object(mut one) if one.get("kind").is_some_and(|kind| kind == "List") => {
                match one.remove("items") {
                    Some(Value::Array(items)) => all.extend(items),
                    _ => return Err(KeptError::Form("a list has no items".into())),
                }
            }
            Value::Object(one) => all.push(one.into()),
            _ => return Err(KeptError::Form("it is no object".into())),
        }
    }
    Ok(all)
}

/// What a record says, if it is among the objects. One that somebody spoilt says nothing.
pub(crate) fn read<T: DeserializeOwned>(found: &[Value], name: &str) -> Result<Option<T>, KeptError> {
    let record = found.iter().find(|o| o["kind"] == "ConfigMap" && o["metadata"]["name"] == name);
    let text = record.and_then(|record| record["data"][MEMBER].as_str());
    Ok(text.and_then(|text| serde_json::from_str(text).ok()))
}

/// The manifest of a record.
pub(crate) fn record(name: &str, says: &impl Serialize) -> String {
    // Strings in structs always become JSON.
    let text = serde_json::to_string(says).unwrap_or_default();
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": name, "namespace": NAMESPACE, "labels": { BINDING_LABEL.0: BINDING_LABEL.1 } },
        "data": { MEMBER: text }
    })
    .to_string()
}
