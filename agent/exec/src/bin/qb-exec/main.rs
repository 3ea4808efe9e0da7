//! `qb-exec`: the executor as a root process of its own. The only code of qb that changes a host; it
//! takes signed orders from the agent at a unix socket, and nothing else from anybody.

mod pick;
mod serve;
mod user;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The executor of a qb node: verifies and carries out what admins signed
#[derive(Parser)]
#[command(name = "qb-exec", version = qb_exec::VERSION, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer the agent at a socket
    Serve(serve::Options),
    /// Set the link to the version that a unit starts; run by the unit
    #[command(hide = true)]
    Pick(pick::Options),
    /// Say whether the package may be removed: not while this machine carries a cluster
    RemovalCheck(Removal),
    /// Allow the removal though this machine carries a cluster, until it starts again
    AllowRemoval {
        /// The last two words that `qb-agent id` shows for the node
        #[arg(num_args = 2, value_names = ["WORD", "WORD"], required = true)]
        words: Vec<String>,
        #[command(flatten)]
        removal: Removal,
    },
    /// One piece of work on this host; started by the executor through the init system
    #[command(hide = true)]
    Host {
        /// The executor's order
        file: PathBuf,
    },
    /// A process of the rehearsal driver; started by the executor
    #[command(hide = true, disable_help_flag = true)]
    StandIn {
        /// Which one, and its options
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

/// Where the executor lies.
#[derive(clap::Args)]
struct Removal {
    /// Directory of the executor
    #[arg(long, value_name = "DIR", default_value = "/var/lib/qb/exec")]
    root: PathBuf,
    /// File that allows the removal
    #[arg(long, value_name = "FILE", default_value = "/run/qb/removal-allowed")]
    allowed: PathBuf,
}

fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Serve(options) => serve::run(&options),
        Command::Pick(options) => pick::run(&options),
        Command::RemovalCheck(Removal { root, allowed }) => {
            qb_exec::removal::check(&root, &allowed).map_err(anyhow::Error::from)
        }
        Command::AllowRemoval { words, removal } => allow(&words, &removal),
        Command::Host { file } => qb_exec::host(&file).map_err(anyhow::Error::from),
        Command::StandIn { args } => qb_exec::standin::main(&args).map_err(anyhow::Error::from),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("qb-exec: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn allow(words: &[String], removal: &Removal) -> anyhow::Result<()> {
    let [before, last] = words else { anyhow::bail!("two words are needed") };
    qb_exec::removal::allow(&removal.root, &removal.allowed, [before, last])?;
    println!("the package can be removed; the cluster's files stay until then");
    Ok(())
}
