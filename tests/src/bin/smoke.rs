//! `qb-smoke`: a whole site, tried out unattended.

use std::process::ExitCode;

use clap::Parser;

/// Makes a site of five agents, tries everything, and removes it
///
/// One JSON line a stage on stdout, progress on stderr; the first failure ends it.
#[derive(Parser)]
#[command(name = "qb-smoke", version)]
struct Options {
    /// Leave the files where they are
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    qb_tests::process::enter();
    let options = Options::parse();
    match qb_tests::signals::listen().and_then(|()| qb_tests::smoke::run(options.keep)) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("qb-smoke: {e:#}");
            ExitCode::FAILURE
        }
    }
}
