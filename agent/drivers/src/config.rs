//! The files that the rehearsal renders, as types. The driver serializes them, the stand-ins parse
//! them, the bundle's schemas describe them.
//!
//! Rules for changing this file: a rendered file outlives the agent that wrote it. A new member
//! means a new `v` and a stand-in that reads both.

use qb_model::action::NodeRole;
use qb_model::assignment::Member;
use qb_model::ids::{Name, NodeId, SiteId, Version};
use serde::{Deserialize, Serialize};

use crate::path::RelPath;

/// The only version of these files.
pub const CONFIG_VERSION: u16 = 1;

/// What every member knows of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// [`CONFIG_VERSION`].
    pub v: u16,
    /// Always true: these processes are stand-ins.
    pub rehearsal: bool,
    /// The site.
    pub site: SiteId,
    /// The cluster.
    pub cluster: Name,
    /// The version that is rehearsed.
    pub version: Version,
    /// The member that holds the registry.
    pub first: NodeId,
    /// The members when this node was prepared.
    pub members: Vec<Member>,
}

/// Configuration of the API server's stand-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiServerConfig {
    /// [`CONFIG_VERSION`].
    pub v: u16,
    /// Always true: this process is a stand-in.
    pub rehearsal: bool,
    /// The cluster.
    pub cluster: Name,
    /// The node that it runs on.
    pub node: NodeId,
    /// IP address and port to listen on.
    pub listen: String,
    /// Serving certificate.
    pub certificate: RelPath,
    /// Its key.
    pub key: RelPath,
    /// The cluster's certificate authority.
    pub authority: RelPath,
    /// Where the registry and the offers lie.
    pub data: RelPath,
    /// The API server that holds the registry; empty if it is this one.
    pub first: String,
}

/// Configuration of the node service's stand-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeServiceConfig {
    /// [`CONFIG_VERSION`].
    pub v: u16,
    /// Always true: this process is a stand-in.
    pub rehearsal: bool,
    /// The cluster.
    pub cluster: Name,
    /// The node that it runs on.
    pub node: NodeId,
    /// Its host name.
    pub host: String,
    /// Its role.
    pub role: NodeRole,
    /// IP address and TCP port to listen on.
    pub tcp: String,
    /// IP address and UDP port to listen on.
    pub udp: String,
    /// The API server to join.
    pub server: String,
    /// The only authority that it believes.
    pub authority: RelPath,
    /// The bootstrap credential, used once.
    pub credential: RelPath,
    /// Its own credential, made by itself.
    pub identity: RelPath,
    /// The status that it writes.
    pub status: RelPath,
    /// Milliseconds between heartbeats.
    pub heartbeat_ms: u32,
}

/// How a unit is kept running; comes from the bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitDefaults {
    /// Milliseconds before the first restart; doubles with every further one.
    pub restart_first_ms: u32,
    /// Most milliseconds before a restart.
    pub restart_most_ms: u32,
    /// Milliseconds between the request to stop and the kill.
    pub stop_ms: u32,
}

/// A schema in the bundle: the type of each member of a rendered file, none missing, none more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// What the file is.
    pub title: String,
    /// Member and type, sorted by member.
    pub members: std::collections::BTreeMap<String, SchemaType>,
}

/// A JSON type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SchemaType {
    /// A text.
    String,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A list.
    Array,
}

/// How a rendered file and its schema disagree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{member} {problem}: the bundle and the agent do not fit together; push a bundle that this agent supports"
)]
pub struct SchemaError {
    /// The member.
    pub member: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Schema {
    /// Compares a rendered file with the schema.
    ///
    /// # Errors
    /// The first member, by name, that is missing, unknown or of another type.
    pub fn check(&self, text: &[u8]) -> Result<(), SchemaError> {
        let error = |member: &str, problem: &str| SchemaError {
            member: member.to_owned(),
            problem: problem.to_owned(),
        };
        let file: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(text)
            .map_err(|e| error("the file", &format!("is not a JSON object ({e})")))?;
        for (member, kind) in &self.members {
            let value = file.get(member).ok_or_else(|| error(member, "is missing"))?;
            let right = match kind {
                SchemaType::String => value.is_string(),
                SchemaType::Number => value.is_number(),
                SchemaType::Boolean => value.is_boolean(),
                SchemaType::Array => value.is_array(),
            };
            if !right {
                return Err(error(member, &format!("is not a {kind:?}").to_lowercase()));
            }
        }
        match file.keys().find(|member| !self.members.contains_key(*member)) {
            Some(member) => Err(error(member, "is not known to the schema")),
            None => Ok(()),
        }
    }
}
