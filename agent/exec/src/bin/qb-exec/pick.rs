//! `qb-exec pick`: run by each of the two units before it starts. Of the package, as root.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use qb_exec::VERSION;
use qb_exec::versions::{Places, Program, before};

/// Options of `qb-exec pick`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Which program
    which: Which,
    /// Directory of the executor
    #[arg(long, value_name = "DIR", default_value = "/var/lib/qb/exec")]
    root: PathBuf,
    /// The package's agent
    #[arg(long, value_name = "FILE", default_value = "/usr/bin/qb-agent")]
    agent: PathBuf,
    /// The package's executor
    #[arg(long, value_name = "FILE", default_value = "/usr/lib/qb/qb-exec")]
    exec: PathBuf,
    /// Directory of the links
    #[arg(long, value_name = "DIR", default_value = "/run/qb/bin")]
    bin: PathBuf,
}

/// The two programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// qb-agent
    Agent,
    /// qb-exec
    Exec,
}

/// Picks, and tells the journal what people should know.
pub(crate) fn run(options: &Options) -> Result<()> {
    let which = match options.which {
        Which::Agent => Program::Agent,
        Which::Exec => Program::Exec,
    };
    let places = Places {
        root: options.root.clone(),
        agent: options.agent.clone(),
        exec: options.exec.clone(),
        links: options.bin.clone(),
    };
    // This program is the package's: the units name its path.
    let start = before(&places, &VERSION.parse()?, which)
        .with_context(|| format!("the link in {} cannot be set", options.bin.display()))?;
    for note in start.notes {
        eprintln!("qb-exec pick: {note}");
    }
    Ok(())
}
