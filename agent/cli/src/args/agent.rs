//! `qb agent`.

use clap::{Args, Subcommand};

/// Verbs on the agents of all nodes.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// List the nodes with the version of their agent and how far its upgrade is
    List,
    /// Upgrade the agents of all nodes, the named ones first
    Upgrade(UpgradeArgs),
    /// Halt the upgrade: no node begins it any more
    Stop,
}

/// `qb agent upgrade`.
#[derive(Debug, Args)]
pub struct UpgradeArgs {
    /// The bundle: its file, which is pushed, or its digest or the beginning of that
    #[arg(value_name = "FILE|DIGEST", allow_hyphen_values = true)]
    pub bundle: String,
    /// The nodes that go first; nobody else does before they are well
    #[arg(long, value_name = "NODE,NODE", value_delimiter = ',', required_unless_present = "first_zone")]
    pub first: Vec<String>,
    /// The same as naming every node of this zone
    #[arg(long, value_name = "ZONE", conflicts_with = "first")]
    pub first_zone: Option<String>,
    /// Nodes at the same time; voters always go alone
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub batch: u16,
}

impl AgentCommand {
    /// Whether it changes the site.
    pub fn changes(&self) -> bool {
        !matches!(self, Self::List)
    }
}
