//! `qb preflight`, `intent`, `alert`, `audit`, `events`, `completion`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use qb_model::Name;

/// `qb preflight`.
#[derive(Debug, Args)]
pub struct PreflightArgs {
    /// What else it can do.
    #[command(subcommand)]
    pub verb: Option<PreflightVerb>,
    /// The nodes, as if all were attached; default: the pool
    #[arg(value_name = "NODE")]
    pub nodes: Vec<String>,
    /// The driver whose requirements count
    #[arg(long, default_value = "rehearsal", value_name = "DRIVER")]
    pub driver: Name,
}

/// Verbs of preflight.
#[derive(Debug, Subcommand)]
pub enum PreflightVerb {
    /// Explain a finding's code
    Explain {
        /// The code, e.g. NET-REFUSED
        code: String,
    },
}

/// Verbs on intents.
#[derive(Debug, Subcommand)]
pub enum IntentCommand {
    /// List the intents that the site remembers
    List,
    /// Show an intent and what it waits for
    Show {
        /// Its id or digest, or the unique beginning of one
        intent: String,
    },
    /// Add your signature to an intent that waits for more owners
    #[command(after_help = super::help::INTENT_SIGN)]
    Sign {
        /// A file with the envelope, or its id or digest, or the unique beginning of one
        intent: String,
    },
    /// Send a signed intent from a file, or one that is kept on this computer
    Send {
        /// A file with the envelope, or the id of an intent kept here
        intent: String,
    },
    /// Cancel an intent, also before it arrives
    Withdraw {
        /// Its id or digest, or the unique beginning of one
        intent: String,
    },
    /// Let an intent go on that is held because its key was revoked as compromised
    #[command(after_help = super::help::INTENT_RELEASE)]
    Release {
        /// Its id or digest, or the unique beginning of one
        intent: String,
    },
}

/// Verbs on alerts.
#[derive(Debug, Subcommand)]
pub enum AlertCommand {
    /// List what is wrong now
    List,
}

/// Verbs on the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List who ordered what
    List,
    /// Prove the log: signatures, order, no gap; a file is verified offline
    Verify {
        /// An exported log; default: what the door answers with
        file: Option<PathBuf>,
    },
    /// Write the log with all that is needed to verify it: -o FILE, else to stdout
    Export,
}

/// Which rows of a list, and in which order.
#[derive(Debug, Clone, Default, Args)]
pub struct RowArgs {
    /// Only rows that fit every term: state:waiting zone:rack-1 disk>80, or a word
    #[arg(long = "where", value_name = "TERMS")]
    pub filter: Option<String>,
    /// By this column; a - before it turns the order round
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
    pub sort: Option<String>,
}

/// `qb portal`.
#[derive(Debug, Args)]
pub struct PortalArgs {
    /// The port on 127.0.0.1; default: any that is free
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub port: u16,
    /// Do not open a browser
    #[arg(long)]
    pub no_browser: bool,
}

/// `qb events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// End after this many
    #[arg(long, value_name = "N")]
    pub max: Option<u64>,
}

/// `qb completion`.
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: ShellArg,
}

/// Shells with a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ShellArg {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// `qb man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The folder that the pages go to
    #[arg(long, value_name = "DIR")]
    pub dir: std::path::PathBuf,
}

/// `qb __complete`.
#[derive(Debug, Args)]
pub struct CompleteArgs {
    /// The words after qb, the last being typed
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

impl IntentCommand {
    /// Whether `--plan` means something here.
    pub fn changes(&self) -> bool {
        matches!(self, Self::Withdraw { .. } | Self::Release { .. } | Self::Sign { .. })
    }
}
