//! `qb-relay`: the thin relay on the internet. It forwards what administrators sign and shows the
//! site; it can command nothing. Not built yet: this program says so and ends.

use std::process::ExitCode;

use clap::Parser;

/// The relay of qb: forwards signed intents, shows sites, commands nothing (not built yet)
#[derive(Parser)]
#[command(name = "qb-relay", version)]
struct Cli {}

fn main() -> ExitCode {
    Cli::parse();
    eprintln!(
        "qb-relay: this version has no relay yet; a site works without one, at the doors of its agents: qb --door"
    );
    ExitCode::FAILURE
}
