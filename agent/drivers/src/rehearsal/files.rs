//! The files that the rehearsal renders.

use std::net::SocketAddr;

use serde::Serialize;

use super::{API_SERVER_PORT, Compiler, NODE_TCP_PORT, NODE_UDP_PORT, ip};
use crate::DriverError;
use crate::config::{ApiServerConfig, CONFIG_VERSION, ClusterConfig, NodeServiceConfig};
use crate::step::FileSpec;

/// Milliseconds between heartbeats.
const HEARTBEAT_MS: u32 = 1_000;

impl Compiler<'_> {
    /// What every member knows of the cluster.
    pub(super) fn cluster_file(&self) -> Result<FileSpec, DriverError> {
        let config = ClusterConfig {
            v: CONFIG_VERSION,
            rehearsal: true,
            site: self.order.site,
            cluster: self.order.cluster.clone(),
            version: self.order.version.clone(),
            first: self.order.first,
            members: self.order.members.clone(),
        };
        file("config/cluster.json", &config)
    }

    /// Configuration of the API server.
    pub(super) fn api_server_file(&self) -> Result<FileSpec, DriverError> {
        let holds_registry = self.order.first == self.order.node;
        let first = SocketAddr::new(ip(self.first)?, API_SERVER_PORT).to_string();
        let config = ApiServerConfig {
            v: CONFIG_VERSION,
            rehearsal: true,
            cluster: self.order.cluster.clone(),
            node: self.me.node,
            listen: SocketAddr::new(ip(self.me)?, API_SERVER_PORT).to_string(),
            certificate: self.serving.certificate.clone(),
            key: self.serving.key.clone(),
            authority: self.authority.certificate.clone(),
            data: "data".parse()?,
            first: if holds_registry { String::new() } else { first },
        };
        file("config/api-server.json", &config)
    }

    /// Configuration of the node service.
    pub(super) fn node_service_file(&self) -> Result<FileSpec, DriverError> {
        let config = NodeServiceConfig {
            v: CONFIG_VERSION,
            rehearsal: true,
            cluster: self.order.cluster.clone(),
            node: self.me.node,
            host: self.me.host.to_string(),
            role: self.order.role,
            tcp: SocketAddr::new(ip(self.me)?, NODE_TCP_PORT).to_string(),
            udp: SocketAddr::new(ip(self.me)?, NODE_UDP_PORT).to_string(),
            server: SocketAddr::new(ip(self.first)?, API_SERVER_PORT).to_string(),
            authority: self.authority.certificate.clone(),
            credential: "secret/join.json".parse()?,
            identity: "secret/node.json".parse()?,
            status: "run/node-service.json".parse()?,
            heartbeat_ms: HEARTBEAT_MS,
        };
        file("config/node-service.json", &config)
    }
}

fn file(path: &str, config: &impl Serialize) -> Result<FileSpec, DriverError> {
    let mut content = serde_json::to_string_pretty(config)
        .map_err(|e| DriverError::Render { file: path.to_owned(), reason: e.to_string() })?;
    content.push('\n');
    Ok(FileSpec { path: path.parse()?, content, mode: 0o644 })
}
