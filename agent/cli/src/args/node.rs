//! `qb node`.

use clap::{Args, Subcommand, ValueEnum};

/// Verbs on nodes.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// List the nodes, waiting ones too
    #[command(after_help = super::help::NODE_LIST)]
    List(super::rest::RowArgs),
    /// Show a node: what it is, does and waits for
    Show {
        /// A name, or the unique beginning of a name or fingerprint
        node: String,
    },
    /// Let waiting machines into the pool; the first time, this founds the site
    #[command(after_help = super::help::AUTHORIZE)]
    Authorize(AuthorizeArgs),
    /// Replace labels of a node: key=value sets, key- removes
    Label {
        /// The node
        node: String,
        /// key=value or key-
        #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
        labels: Vec<String>,
    },
    /// End a node's membership for good
    Revoke {
        /// The node
        node: String,
        /// What it does when it hears of it
        #[arg(long, value_enum, default_value_t)]
        then: Then,
    },
}

/// What a revoked node does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Then {
    /// Keeps its workloads and takes no more orders
    #[default]
    Isolate,
    /// Tears its role down and deletes keys and state
    Wipe,
}

/// `qb node authorize`.
#[derive(Debug, Args)]
pub struct AuthorizeArgs {
    /// Names, or unique beginnings of names or fingerprints; - reads them from stdin
    #[arg(required_unless_present = "waiting", value_name = "NODE")]
    pub nodes: Vec<String>,
    /// Every machine that waits
    #[arg(long, conflicts_with = "nodes")]
    pub waiting: bool,
}

impl NodeCommand {
    /// Whether it changes the site.
    pub fn changes(&self) -> bool {
        !matches!(self, Self::List(_) | Self::Show { .. })
    }
}
