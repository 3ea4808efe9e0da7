//! `qb token`.

use std::time::Duration;

use clap::{Args, Subcommand};
use qb_model::{Cidr, HostGlob};

/// Verbs on join tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Mint a join token: machines that have its file come in by themselves, on probation
    Mint(MintArgs),
    /// List the tokens that have not ended
    List,
    /// End a token before its time; who came in by it stays
    Revoke {
        /// Its public key, or the unique beginning of its fingerprint
        #[arg(id = "token", value_name = "TOKEN", allow_hyphen_values = true)]
        token: String,
    },
}

/// `qb token mint`.
#[derive(Debug, Clone, Args)]
pub struct MintArgs {
    /// Machines that it lets in, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub uses: u16,
    /// When it ends, at most 168h
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = super::duration)]
    pub expires: Duration,
    /// Host names that it is for: * stands for any characters, ? for one; default: all
    #[arg(long, value_name = "GLOB")]
    pub host: Option<HostGlob>,
    /// Addresses that its machines knock from, as in 10.1.0.0/16; may be given again; default: all
    #[arg(long = "cidr", value_name = "CIDR")]
    pub addresses: Vec<Cidr>,
    /// Label of its machines; may be given again
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
}

impl TokenCommand {
    /// Whether it changes the site.
    pub fn changes(&self) -> bool {
        !matches!(self, Self::List)
    }
}
