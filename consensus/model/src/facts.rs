//! What a host is. Gathered by the agent, judged elsewhere: no judgement here.

use serde::{Deserialize, Serialize};

use crate::ids::HostName;

/// A machine as its agent sees it. Said by the node itself, so never a basis for trust.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The host name.
    pub host: HostName,
    /// Addresses of the machine, text, the one that the agent listens on first; at most 16.
    pub addresses: Vec<String>,
    /// Logical processors.
    pub cores: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Size in bytes of the file system that holds the agent's state.
    pub disk_bytes: u64,
    /// Free bytes on it.
    pub disk_free_bytes: u64,
    /// The operating system's pretty name.
    pub os: String,
    /// Kernel release.
    pub kernel: String,
    /// `x86_64` or `aarch64`.
    pub arch: String,
    /// Version of the agent.
    pub agent: String,
    /// Failure domain, from the agent's configuration; empty if not known.
    pub zone: String,
}
