//! `qb site`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use qb_model::{Name, PublicKey};

use crate::door::{Door, RelayUrl};

/// Verbs on sites.
#[derive(Debug, Subcommand)]
pub enum SiteCommand {
    /// Make a site: its founder's key, its charter and its enrolment file
    Create(CreateArgs),
    /// List the sites of this computer
    List,
    /// Make a site the current one; a charter or enrolment file adds the site first
    Use(UseArgs),
    /// Show the site: voters, nodes, what it waits for
    Status,
    /// Prove what the doors show: from the charter to what a majority of voters signed
    Verify,
    /// Write the enrolment file that a machine needs to knock: -o FILE, else to stdout
    Enroll(EnrollArgs),
}

/// `qb site create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The site's name: one building or room
    pub name: Name,
    /// Your id among the admins; default: your login name
    #[arg(long, value_name = "ID")]
    pub admin: Option<Name>,
    /// Your name, for people; default: the id
    #[arg(long = "name", value_name = "NAME")]
    pub person: Option<String>,
    /// A file with the public half of a recovery key, one a line
    #[arg(long, value_name = "FILE")]
    pub recovery_key: Option<PathBuf>,
    /// An address where machines find one another, as 10.20.1.11:7444; again for more
    #[arg(long = "seed", value_name = "ADDRESS")]
    pub seeds: Vec<String>,
    /// A door that this computer tries first; again for more
    #[arg(long = "add-door", value_name = "DOOR")]
    pub doors: Vec<Door>,
    /// A relay that the charter trusts from the beginning
    #[arg(long, value_name = "URL", requires = "relay_key")]
    pub relay: Option<RelayUrl>,
    /// The key of that relay, from whoever runs it
    #[arg(long, value_name = "KEY", allow_hyphen_values = true, requires = "relay")]
    pub relay_key: Option<PublicKey>,
    /// The enrolment file; default: NAME.enroll.json
    #[arg(long, value_name = "FILE")]
    pub enroll: Option<PathBuf>,
    /// Keep the keys unencrypted, for demos and tests
    #[arg(long)]
    pub no_passphrase: bool,
}

/// `qb site use`.
#[derive(Debug, Args)]
pub struct UseArgs {
    /// A site's name, or a charter or enrolment file
    #[arg(id = "named_site", value_name = "SITE|FILE")]
    pub site: String,
    /// A door that this computer tries for it; again for more
    #[arg(long = "add-door", value_name = "DOOR")]
    pub doors: Vec<Door>,
}

/// `qb site enroll`.
#[derive(Debug, Args)]
pub struct EnrollArgs {
    /// An address where machines find one another; again for more; default: as before
    #[arg(long = "seed", value_name = "ADDRESS")]
    pub seeds: Vec<String>,
}
