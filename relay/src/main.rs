//! `qb-relay`: the thin relay on the internet.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;
use qb_relay::config::Flags;
use qb_relay::{Config, Relay};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// How often the service manager hears of it, if its watchdog does not want to hear more often.
const LOOK: Duration = Duration::from_secs(10);

/// The relay of qb: shows sites, forwards signed intents, commands nothing
#[derive(Parser)]
#[command(name = "qb-relay", version, args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Cli {
    /// Options as TOML; flags win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:8480]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Directory of database and key [default: /var/lib/qb-relay]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Address that people and agents use, https://HOST[:PORT] [default: http://LISTEN]
    #[arg(long)]
    url: Option<String>,
    /// Certificate chain, PEM; needed unless it listens on this very machine
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Let a site found an org that nobody has
    #[arg(long)]
    open_registration: bool,
    /// Directory of the agents' packages that it hands out [default: /usr/share/qb-relay/packages]
    #[arg(long, value_name = "DIR")]
    packages: Option<PathBuf>,
    #[command(subcommand)]
    hidden: Option<Hidden>,
}

#[derive(Subcommand)]
enum Hidden {
    /// Write man page and completions; for who builds packages
    #[command(hide = true)]
    Man {
        /// The folder that they go to
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    qb_service::log("qb-relay", "info", &[]);
    let ended = match &cli.hidden {
        Some(Hidden::Man { dir }) => man(dir).with_context(|| format!("cannot write to {}", dir.display())),
        None => run(cli),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("qb-relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn man(dir: &Path) -> std::io::Result<()> {
    // Completions would offer what is hidden.
    let all = Cli::command();
    let mut command = clap::Command::new("qb-relay")
        .version(env!("CARGO_PKG_VERSION"))
        .about(all.get_about().cloned().unwrap_or_default())
        .args(all.get_arguments().cloned());
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "qb-relay", dir)?;
    }
    // `qb relay` has the page of this name in section 1.
    Man::new(command).section("8").manual("qb").generate_to(dir).map(|_| ())
}

#[tokio::main]
async fn run(cli: Cli) -> Result<()> {
    let config = Config::read(Flags {
        file: cli.config,
        listen: cli.listen,
        state: cli.state,
        url: cli.url,
        tls_certificate: cli.tls_certificate,
        tls_key: cli.tls_key,
        open_registration: cli.open_registration,
        packages: cli.packages,
    })?;
    let (listen, url) = (config.listen, config.url.clone());
    let relay = Relay::open(config).await?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    // In the text as well: in a journal fields are not what a person reads.
    let key = relay.public_key();
    tracing::info!(%url, %listen, %key, "relay listens at {url}; sites trust it by its key {key}");
    let attended = relay.clone();
    let ended = tokio::select! {
        ended = qb_relay::serve(relay, listener, stop) => ended,
        never = attend(&attended, &url) => match never {},
    };
    qb_service::stopping("ending: links are closed");
    ended
}

/// Tells the service manager that the relay serves, how many sites it has, and that it lives: each time
/// through the runtime and the database.
async fn attend(relay: &Relay, url: &str) -> Infallible {
    let mut ready = false;
    let every = qb_service::watchdog().map_or(LOOK, |every| every.min(LOOK));
    loop {
        match tokio::time::timeout(every, relay.alive()).await {
            Ok(Ok(sites)) => {
                let status = format!("{url}, {sites} sites");
                if ready {
                    qb_service::status(&status);
                } else {
                    qb_service::ready(&status);
                    ready = true;
                }
                qb_service::alive();
            }
            Ok(Err(error)) => tracing::error!("the database does not answer: {error:#}"),
            Err(_) => tracing::error!("the database has not answered for {every:?}"),
        }
        tokio::time::sleep(every).await;
    }
}
