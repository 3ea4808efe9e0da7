//! `qb package`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::door::RelayUrl;

/// Verbs on the packages of a site's agents.
#[derive(Debug, Subcommand)]
pub enum PackageCommand {
    /// Make the site's package from the vendor's, on this computer; asks no relay: -o FILE
    Build(BuildArgs),
    /// Prove that a package is the vendor's and this site's file, byte for byte
    Verify(VerifyArgs),
    /// Print one line for machines: it downloads from the relay what is verified here, and installs it
    Line(LineArgs),
    /// Download the site's package from a relay and verify it, to carry it on a stick: -o FILE
    Fetch(FetchArgs),
}

/// `qb package build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The generic package of the agent, deb or rpm, as its vendor made it
    #[arg(long, value_name = "FILE")]
    pub vendor: PathBuf,
    /// An address where machines find one another; again for more; default: as before
    #[arg(long = "seed", value_name = "ADDRESS")]
    pub seeds: Vec<String>,
}

/// Where the vendor's package comes from.
#[derive(Debug, Args)]
pub struct FromArgs {
    /// The vendor's own package, to compare with; default: as the relay hands it out, which proves less
    #[arg(long, value_name = "FILE")]
    pub vendor: Vec<PathBuf>,
    /// The relay; default: the site's first
    #[arg(long, value_name = "URL")]
    pub via: Option<RelayUrl>,
}

/// `qb package verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The package
    pub file: PathBuf,
    /// Where the vendor's comes from.
    #[command(flatten)]
    pub from: FromArgs,
}

/// `qb package line`.
#[derive(Debug, Args)]
pub struct LineArgs {
    /// Where the packages come from.
    #[command(flatten)]
    pub from: FromArgs,
    /// A file on the machines with the issuers to trust for the download, for a relay with one of its own
    #[arg(long, value_name = "FILE")]
    pub cacert: Option<String>,
}

/// `qb package fetch`.
#[derive(Debug, Args)]
pub struct FetchArgs {
    /// The rpm; default: the deb
    #[arg(long)]
    pub rpm: bool,
    /// Where the packages come from.
    #[command(flatten)]
    pub from: FromArgs,
}

impl PackageCommand {
    /// Whether `-o` may name a file.
    pub fn writes(&self) -> bool {
        matches!(self, Self::Build(_) | Self::Fetch(_))
    }
}
