//! `qb-demo`: a whole site on this computer, to play with.

use std::process::ExitCode;

use clap::Parser;
use qb_tests::demo::{self, Wanted};

/// Runs a site of five agents on 127.0.0.11 to 127.0.0.15, in .qb-demo/, until Ctrl-C
///
/// Started again, it goes on where it was stopped.
#[derive(Parser)]
#[command(name = "qb-demo", version)]
struct Options {
    /// Authorize the nodes, fill a cluster with three of them and make an empty one
    #[arg(long)]
    populated: bool,
    /// End with success as soon as that is done
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    qb_tests::process::enter();
    let options = Options::parse();
    let wanted = Wanted { populated: options.populated, check: options.check };
    match qb_tests::signals::listen().and_then(|()| demo::run(wanted)) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("qb-demo: {e:#}");
            ExitCode::FAILURE
        }
    }
}
