//! Steps: the closed set of things that are done to a host. Each can be checked, applied and
//! verified, and each may be applied again after a crash at any point of it.

use std::fmt;

use qb_model::ids::Digest;
use serde::{Deserialize, Serialize};

use crate::host_step::HostAction;
use crate::path::RelPath;

/// One idempotent action on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its number in the stage, from 1.
    pub id: u16,
    /// What it does, in words.
    pub title: String,
    /// What it does, as data.
    pub action: StepAction,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>3}  {:<9}  {}", self.id, self.action.word(), self.title)
    }
}

/// A program that stands in for a part of Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StandIn {
    /// For the API server and its store.
    ApiServer,
    /// For the kubelet and the pod network.
    NodeService,
}

impl StandIn {
    /// Its name: of the unit, its files and the argument that starts it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ApiServer => "api-server",
            Self::NodeService => "node-service",
        }
    }
}

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSpec {
    /// Where.
    pub path: RelPath,
    /// The whole content.
    pub content: String,
    /// Permission bits.
    pub mode: u32,
}

/// A rendered file and the schema in the bundle that it must agree with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigCheck {
    /// The rendered file.
    pub file: RelPath,
    /// Path of the schema inside the unpacked bundle.
    pub schema: RelPath,
}

/// A TLS key and its certificate, PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFiles {
    /// The private key, written with mode 0600.
    pub key: RelPath,
    /// The certificate.
    pub certificate: RelPath,
}

/// Where the parts of a join secret go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretFiles {
    /// The bootstrap credential.
    pub credential: RelPath,
    /// The authority's certificate.
    pub authority: RelPath,
    /// The serving certificate; none for a worker.
    pub serving: Option<TlsFiles>,
    /// The node service's own credential: where it exists and was taken, the node joined before.
    pub identity: RelPath,
}

/// What a step does. Paths are relative to the cluster's directory on the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case", deny_unknown_fields)]
pub enum StepAction {
    /// Makes directories of mode 0700.
    Directories {
        /// Which.
        paths: Vec<RelPath>,
    },
    /// Unpacks the bundle into `into`/`sha256-<hex>`.
    Unpack {
        /// Digest of its manifest.
        bundle: Digest,
        /// The directory that holds unpacked bundles.
        into: RelPath,
    },
    /// Writes files, each in one piece.
    Files {
        /// Which.
        files: Vec<FileSpec>,
    },
    /// Reads rendered files back and compares them with the bundle's schemas.
    CheckConfig {
        /// The unpacked bundle.
        bundle: RelPath,
        /// Which files.
        files: Vec<ConfigCheck>,
    },
    /// Makes the cluster's certificate authority; the key never leaves the node.
    MakeAuthority {
        /// Common name.
        name: String,
        /// Its files.
        authority: TlsFiles,
    },
    /// Issues a serving certificate for an address.
    IssueServing {
        /// Who issues.
        authority: TlsFiles,
        /// What is issued.
        serving: TlsFiles,
        /// The IP address that it is valid for.
        address: String,
    },
    /// Offers the node that makes the cluster a credential for itself.
    OwnCredential {
        /// Where the API server looks for offers.
        offers: RelPath,
        /// Where the node service looks for its credential.
        into: RelPath,
        /// The API server's certificate authority.
        authority: RelPath,
        /// The node service's own credential: where it exists, there is nothing to do.
        identity: RelPath,
    },
    /// Opens the join secret that was sealed to this node, and writes its parts.
    OpenSecret(SecretFiles),
    /// Records a unit and keeps it running, also after a restart of the agent.
    Unit {
        /// What runs.
        stand_in: StandIn,
        /// Its configuration.
        config: RelPath,
        /// Its defaults in the unpacked bundle: restart and stop times.
        defaults: RelPath,
    },
    /// Waits for an HTTPS answer of 200, with the authority pinned.
    AwaitReady {
        /// IP address and port.
        server: String,
        /// Path of the URL.
        path: String,
        /// The only authority that is believed.
        authority: RelPath,
        /// Longest wait in seconds.
        limit_s: u16,
    },
    /// Waits until the node service says that it joined.
    AwaitJoined {
        /// The status that it writes.
        status: RelPath,
        /// Longest wait in seconds.
        limit_s: u16,
    },
    /// Deletes one file.
    Remove {
        /// Which.
        path: RelPath,
    },
    /// Hands a public file to the other members, as the stage's result.
    Publish {
        /// Which.
        path: RelPath,
    },
    /// Stops a unit and forgets it.
    StopUnit {
        /// Which.
        stand_in: StandIn,
    },
    /// Signs off at the API server, if it answers.
    Deregister {
        /// Its configuration: server, authority and credential.
        config: RelPath,
        /// Longest wait in seconds; then the node leaves without.
        limit_s: u16,
    },
    /// Removes the cluster's directory with everything in it.
    RemoveTree,
    /// Opens the join secret of a real cluster, and keeps it for a later step, with mode 0600. Check: it
    /// is there, or this node has joined.
    OpenKubeSecret {
        /// Where it is kept.
        into: RelPath,
    },
    /// Something on the host itself, by the executor's helper.
    Host {
        /// What.
        host: HostAction,
    },
}

impl StepAction {
    /// One word for the list of steps.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Directories { .. } => "directory",
            Self::Unpack { .. } => "bundle",
            Self::Files { .. } => "files",
            Self::CheckConfig { .. } => "check",
            Self::MakeAuthority { .. } | Self::IssueServing { .. } => "pki",
            Self::OwnCredential { .. } | Self::OpenSecret(_) | Self::OpenKubeSecret { .. } => "secret",
            Self::Host { host } => host.word(),
            Self::Unit { .. } => "unit",
            Self::AwaitReady { .. } | Self::AwaitJoined { .. } => "wait",
            Self::Publish { .. } => "publish",
            Self::StopUnit { .. } => "stop",
            Self::Deregister { .. } => "leave",
            Self::Remove { .. } | Self::RemoveTree => "remove",
        }
    }
}
