//! `qb-bench`: figures of a whole site.

use std::process::ExitCode;

use clap::Parser;
use qb_tests::bench::{self, Wanted};

/// Makes sites of five agents, measures, removes them; one JSON line a figure on stdout
///
/// Measures the programs beside it, or those in QB_BIN_DIR.
#[derive(Parser)]
#[command(name = "qb-bench", version)]
struct Options {
    /// Sites that are made for the figures of admission; four nodes each
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    sites: u32,
    /// Times that the leader is killed
    #[arg(long, value_name = "N", default_value_t = 10)]
    kills: u32,
    /// Measure builds too, in a copy of the sources; takes minutes
    #[arg(long)]
    builds: bool,
    /// Measure packages on hosts of the laboratory instead, as root
    #[arg(long)]
    lab: bool,
    /// Measure real Kubernetes on hosts of the laboratory instead, as root; so often for each kind of loss
    #[arg(long, value_name = "N", conflicts_with = "lab", value_parser = clap::value_parser!(u32).range(1..=100))]
    kubernetes: Option<u32>,
}

fn main() -> ExitCode {
    qb_tests::process::enter();
    let options = Options::parse();
    let wanted = Wanted { sites: options.sites, kills: options.kills, builds: options.builds };
    let measure = || match options.kubernetes {
        Some(runs) => bench::kubernetes::run(runs),
        None if options.lab => bench::hosts::run(),
        None => bench::run(wanted),
    };
    match qb_tests::signals::listen().and_then(|()| measure()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("qb-bench: {e:#}");
            ExitCode::FAILURE
        }
    }
}
