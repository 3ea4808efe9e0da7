//! `qb relay`.

use clap::Subcommand;
use qb_model::{Name, PublicKey};

use crate::door::RelayUrl;

/// Verbs on relays.
#[derive(Debug, Subcommand)]
pub enum RelayCommand {
    /// Trust a relay: its key goes into the site's trust log, its address among the site's doors
    Add {
        /// Its address: https://HOST or https://HOST:PORT
        url: RelayUrl,
        /// Its key, from whoever runs it; without this the key that answers is trusted on first use
        #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
        relay_key: Option<PublicKey>,
        /// Register the site to this org there as well
        #[arg(long, value_name = "ORG")]
        org: Option<Name>,
    },
    /// Tie the site to an org of a relay that it trusts
    Register {
        /// Its address
        url: RelayUrl,
        /// The org
        #[arg(long, value_name = "ORG")]
        org: Name,
    },
    /// List the relays that the site trusts
    List,
    /// Stop trusting a relay
    Remove {
        /// Its address, its key, or the unique beginning of its fingerprint
        #[arg(id = "relay", value_name = "KEY|URL", allow_hyphen_values = true)]
        relay: String,
    },
}

impl RelayCommand {
    /// Whether it changes the site.
    pub fn changes(&self) -> bool {
        !matches!(self, Self::List)
    }
}
