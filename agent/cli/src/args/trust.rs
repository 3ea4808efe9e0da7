//! `qb admin`, `qb key`, `qb policy`, `qb bundle`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use qb_model::{Name, PublicKey, Version};

/// Verbs on admins.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// List who may sign, with their keys
    List,
    /// Add an admin with a key made on their own computer
    Add {
        /// Their id
        admin: Name,
        /// Their name, for people; default: the id
        #[arg(long = "name", value_name = "NAME")]
        person: Option<String>,
        /// The role
        #[arg(long, value_enum)]
        role: RoleArg,
        /// The public key, from their `qb key export-public`
        #[arg(long = "public-key", value_name = "KEY", allow_hyphen_values = true)]
        public_key: PublicKey,
        /// Where the key lives
        #[arg(long, value_enum, default_value_t)]
        class: ClassArg,
    },
    /// Remove an admin and all their keys
    Remove {
        /// The admin
        admin: Name,
        /// Their keys are in wrong hands: hold what they ordered and is not finished
        #[arg(long)]
        compromised: bool,
    },
    /// Change an admin's role
    Role {
        /// The admin
        admin: Name,
        /// The new role
        #[arg(value_enum)]
        role: RoleArg,
    },
    /// Add a key to an admin
    AddKey {
        /// The admin
        admin: Name,
        /// The public key
        #[arg(id = "public", value_name = "KEY", allow_hyphen_values = true)]
        key: PublicKey,
        /// Where the key lives
        #[arg(long, value_enum, default_value_t)]
        class: ClassArg,
    },
    /// Take a key from an admin
    RevokeKey {
        /// The admin
        admin: Name,
        /// The public key, or the unique beginning of its fingerprint
        #[arg(id = "public", value_name = "KEY", allow_hyphen_values = true)]
        key: String,
        /// The key is in wrong hands: hold what it ordered and is not finished
        #[arg(long)]
        compromised: bool,
    },
}

/// A role on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// Reads
    Viewer,
    /// Changes pool and clusters; root on the site's nodes
    Operator,
    /// Changes who may sign
    Owner,
}

/// A key's class on the command line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ClassArg {
    /// A key file of qb
    #[default]
    Cli,
    /// A browser's storage
    Browser,
    /// Made on an agent's portal
    AgentOrigin,
    /// A FIDO2 key
    Hardware,
}

/// Verbs on keys of this computer.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List the keys on this computer
    List,
    /// Make a key
    New {
        /// Its name here
        name: Name,
        /// What it is for
        #[arg(long, value_enum, default_value_t)]
        kind: KindArg,
        /// Keep it unencrypted, for demos and tests
        #[arg(long)]
        no_passphrase: bool,
    },
    /// Print the public half, to give to an owner
    ExportPublic {
        /// Its name here; default: the site's key
        name: Option<Name>,
    },
    /// Show a key: words, fingerprint, sites
    Show {
        /// Its name here; default: the site's key
        name: Option<Name>,
    },
}

/// What a key file is for. Classes of keys are disjoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    /// Signs intents
    #[default]
    Admin,
    /// Signs bundles
    Publisher,
    /// Replaces the owners, in need
    Recovery,
}

/// Verbs on the policy.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Show the policy
    Show,
    /// Change the policy; what is not named stays
    Set(PolicySetArgs),
}

/// `qb policy set`.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct PolicySetArgs {
    /// Owners who must sign an owner's action
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u8).range(1..=8))]
    pub owners_needed: Option<u8>,
    /// Age at which what a signer has seen is too old: 1h to 168h
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    pub anchor_max_age: Option<std::time::Duration>,
    /// Which nodes may vote: all, or names joined by commas
    #[arg(long, value_name = "all|NODE,NODE", value_delimiter = ',')]
    pub voters: Vec<String>,
    /// Actions that browser keys may sign, joined by commas, or none
    #[arg(long, value_name = "none|ACTION,ACTION", value_delimiter = ',')]
    pub browser_actions: Vec<String>,
}

/// Verbs on bundles.
#[derive(Debug, Subcommand)]
pub enum BundleCommand {
    /// List the bundles that the site holds
    List,
    /// Send a bundle to the site
    Push {
        /// The file
        file: PathBuf,
    },
    /// Accept bundles of a publisher
    #[command(after_help = super::help::BUNDLE_TRUST)]
    Trust {
        /// The publisher's name at this site
        publisher: Name,
        /// Their public key, from their `qb key export-public`
        #[arg(id = "public", value_name = "KEY", allow_hyphen_values = true)]
        key: PublicKey,
    },
    /// Stop accepting bundles of a publisher
    Distrust {
        /// Their public key
        #[arg(id = "public", value_name = "KEY", allow_hyphen_values = true)]
        key: PublicKey,
    },
    /// Build a bundle and sign it with the site's publisher key: -o FILE, else DRIVER-VERSION.qbb
    Build(BuildArgs),
    /// Check a bundle's file: its signature, and every byte
    Verify {
        /// The file
        file: PathBuf,
        /// The key that must have signed it; default: it is shown, for you to compare
        #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
        publisher: Option<PublicKey>,
    },
    /// Write a bundle of the site to a file, for a stick: -o FILE, else NAME-VERSION.qbb
    Export {
        /// The digest, or its unique beginning
        #[arg(value_name = "DIGEST", allow_hyphen_values = true)]
        bundle: String,
    },
}

/// `qb bundle build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The driver: kubeadm, agent or rehearsal
    #[arg(long, default_value = "rehearsal", value_name = "DRIVER")]
    pub driver: Name,
    /// Of driver kubeadm: the version of Kubernetes; of driver agent: the one that the two programs have
    #[arg(long, value_name = "VERSION", requires = "files", value_parser = super::version)]
    pub version: Option<Version>,
    /// Of driver kubeadm: a folder with bin/, cni/, images/ and manifests/; of driver agent: the one with the programs qb-agent and qb-exec
    #[arg(long, value_name = "DIR", requires = "version", group = "files")]
    pub from: Option<PathBuf>,
    /// Of driver kubeadm: a list of addresses with pinned digests, to download from
    #[arg(long, value_name = "FILE", requires = "version", group = "files")]
    pub sources: Option<PathBuf>,
    /// Where downloads are kept [default: cache/bundles beside the configuration]
    #[arg(long, value_name = "DIR", requires = "sources")]
    pub cache: Option<PathBuf>,
    /// The publisher's key on this computer [default: publisher_key of the site]
    #[arg(long, value_name = "NAME")]
    pub publisher: Option<Name>,
    /// Of driver agent: the oldest agent that can be upgraded to it
    #[arg(long, value_name = "VERSION", requires = "from")]
    pub min_agent: Option<Version>,
}

impl AdminCommand {
    /// Whether it changes the site.
    pub fn changes(&self) -> bool {
        !matches!(self, Self::List)
    }
}

impl BundleCommand {
    /// Whether it changes the site by an intent.
    pub fn changes(&self) -> bool {
        matches!(self, Self::Trust { .. } | Self::Distrust { .. })
    }
}

impl PolicyCommand {
    /// Whether it changes the site.
    pub fn changes(&self) -> bool {
        !matches!(self, Self::Show)
    }
}
