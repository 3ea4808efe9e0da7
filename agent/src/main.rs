//! `qb-agent`: the agent of a node.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{CommandFactory as _, Parser};
use clap_complete::Shell;
use clap_mangen::Man;
use qb_agent::config::Given;
use qb_agent::reset::{self, Reset};
use qb_agent::{daemon, enroll, id, start};

/// What is logged where `QB_LOG` does not say.
const FILTER: &str = "info,openraft=error,libp2p=warn,multistream_select=warn";

/// The agent of a qb node: joins the site's mesh, holds its state, carries out what admins signed
#[derive(Parser)]
#[command(name = "qb-agent", version = qb_exec::VERSION, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Run the agent in the foreground
    ///
    /// Options win over variables, those over the file, that over defaults.
    /// Example: qb-agent run --enroll site.enroll.json --address 10.20.1.11
    Run(Box<Given>),
    /// Print the words and fingerprint of this node and its site, to compare before authorizing
    Id(Box<Given>),
    /// Check a site's enrolment file, show its words and put it where the agent looks
    ///
    /// Example: sudo qb-agent enroll site.enroll.json
    Enroll {
        /// The file, as `qb site create` writes it
        file: PathBuf,
        /// Where it is put
        #[arg(long, value_name = "FILE", default_value = enroll::PLACES[0])]
        into: PathBuf,
        #[command(flatten)]
        given: Box<Given>,
    },
    /// Forget who this machine was, so that it starts anew, also for another site
    ///
    /// Refuses while an agent or a cluster runs here. Example: sudo qb-agent reset
    Reset {
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Directory of the executor's state [default: /var/lib/qb/exec]
        #[arg(long, value_name = "DIR")]
        exec_state: Option<PathBuf>,
        #[command(flatten)]
        given: Box<Given>,
    },
    /// Write man pages and completions; for who builds packages
    #[command(hide = true)]
    Man {
        /// The folder that they go to
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
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
        Command::Run(given) => run(*given).inspect_err(|e| qb_service::stopping(&format!("ending: {e:#}"))),
        Command::Id(given) => given.read().map_err(Into::into).and_then(|o| say(&id::lines(&o)?)),
        Command::Enroll { file, into, given } => given
            .read()
            .map_err(Into::into)
            .and_then(|o| say(&enroll::install(&file, &into, &o.state_dir())?)),
        Command::Reset { yes, exec_state, given } => {
            given.read().map_err(Into::into).and_then(|o| forget(&Reset::new(&o, exec_state), yes))
        }
        Command::Man { dir } => man(&dir).map_err(Into::into),
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

/// Prints to the standard output; a reader that went away is no error of ours.
fn say(text: &str) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{}", text.trim_end()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}

fn forget(reset: &Reset, yes: bool) -> Result<()> {
    if !yes {
        if !std::io::stdin().is_terminal() {
            bail!("nobody can be asked here: `qb-agent reset --yes` asks nobody");
        }
        eprint!("{}\nGo on? [y/N] ", reset.question());
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if !reset::agrees(&answer) {
            bail!("nothing was changed");
        }
    }
    say(&reset.run()?)
}

fn man(dir: &std::path::Path) -> std::io::Result<()> {
    // Completions would offer what is hidden.
    let all = Cli::command();
    let shown = all.get_subcommands().filter(|c| !c.is_hide_set()).cloned().collect::<Vec<_>>();
    let mut command = clap::Command::new("qb-agent")
        .version(qb_exec::VERSION)
        .about(all.get_about().cloned().unwrap_or_default())
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .subcommands(shown);
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "qb-agent", dir)?;
    }
    command.build();
    for page in command.get_subcommands().chain([&command]) {
        Man::new(page.clone()).section("8").manual("qb").generate_to(dir)?;
    }
    Ok(())
}

fn run(given: Given) -> Result<()> {
    let prepared = start::prepare(given.read()?)?;
    let fields =
        [("QB_NODE", prepared.identity.node.to_string()), ("QB_SITE", prepared.enrolment.site.to_string())];
    qb_service::log("qb-agent", FILTER, &fields);
    prepared.tell();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(async {
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let stop = async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        };
        daemon::run(prepared, stop).await
    });
    // A name that is looked up where no server answers would hold the end up for many seconds.
    runtime.shutdown_background();
    ended
}
