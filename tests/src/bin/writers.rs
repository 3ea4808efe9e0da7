//! `qb-writers`: how long an API server's clients are interrupted.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use qb_tests::writers::client::{Connections, Credentials};
use qb_tests::writers::{Settings, run};

/// Writes ConfigMaps at fixed times, whatever becomes of the requests before, and prints figures as JSON
///
/// Each line that is added to the file of --phases begins a phase of that name; the line `end` ends the run.
#[derive(Parser)]
#[command(name = "qb-writers", version)]
struct Options {
    /// Address of the API server or of the balancer before it
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:6444")]
    server: SocketAddr,
    /// Whose certificate and key are used, as kubeadm writes it; its server is not looked at
    #[arg(long, value_name = "FILE", default_value = "/etc/kubernetes/admin.conf")]
    kubeconfig: PathBuf,
    /// How requests share connections
    #[arg(long, value_enum, default_value_t = Connections::One)]
    connections: Connections,
    /// Namespace of the ConfigMaps
    #[arg(long, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// Milliseconds from one request to the next
    #[arg(long, value_name = "MS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    every: u64,
    /// Milliseconds that a request waits for its answer
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    limit: u64,
    /// Seconds after which it ends in any case
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// File of phases
    #[arg(long, value_name = "FILE")]
    phases: Option<PathBuf>,
}

fn main() -> ExitCode {
    match write(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("qb-writers: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn write(options: Options) -> Result<()> {
    let settings = Settings {
        server: options.server,
        credentials: Credentials::of_kubeconfig(&options.kubeconfig)?,
        connections: options.connections,
        namespace: options.namespace,
        every: Duration::from_millis(options.every),
        limit: Duration::from_millis(options.limit),
        lasts: Duration::from_secs(options.seconds),
        phases: options.phases,
    };
    let report = tokio::runtime::Runtime::new()?.block_on(run(settings))?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
