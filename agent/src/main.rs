//! `qb-agent`: the agent of a node.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use qb_agent::config::Config;
use tracing_subscriber::EnvFilter;

/// The agent of a qb node: joins the site's mesh, holds its state, carries out what admins signed
#[derive(Parser)]
#[command(name = "qb-agent", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent in the foreground
    ///
    /// Example: qb-agent run --state /var/lib/qb --enroll site.enroll.json --address 10.20.1.11
    Run(Config),
    /// Print the words and fingerprint of this node and its site, to compare before authorizing
    Id(Config),
    /// A process of the rehearsal driver; started by the agent
    #[command(hide = true, disable_help_flag = true)]
    StandIn {
        /// Which one, and its options
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Run(config) => run(config),
        Command::Id(config) => qb_agent::id::print(&config),
        Command::StandIn { args } => qb_exec::standin::main(&args).map_err(anyhow::Error::from),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("qb-agent: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_env("QB_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,openraft=error,libp2p=warn,multistream_select=warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let stop = async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        };
        qb_agent::daemon::run(config, stop).await
    })
}
