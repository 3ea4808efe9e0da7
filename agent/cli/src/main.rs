//! `qb`: reads the command line, runs it, maps errors to exit codes. Nothing else.

use std::process::ExitCode;

use anyhow::Context as _;
use qb_cli::error::{CliError, Exit};

fn main() -> ExitCode {
    let cli = match qb_cli::args::help::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // stdout for help, stderr for wrong use; both may be closed.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.code()));
        }
    };
    let json = matches!(cli.globals.output, Some(qb_cli::args::Output::Format(qb_cli::args::Format::Json)));
    match run(cli) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) => report(&error, json),
    }
}

fn run(cli: qb_cli::args::Cli) -> anyhow::Result<Exit> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let env = |name: &str| std::env::var(name).ok();
    let result = runtime.block_on(qb_cli::cmd::run(cli, &env));
    // What still waits for a terminal or a door is left behind.
    runtime.shutdown_background();
    Ok(result?)
}

fn report(error: &anyhow::Error, json: bool) -> ExitCode {
    let Some(known) = error.downcast_ref::<CliError>() else {
        eprintln!("{error:#}");
        return ExitCode::from(Exit::Failed.code());
    };
    match &known.problem {
        Some(problem) if json && !known.text.is_empty() => {
            eprintln!("{}", serde_json::to_string(problem).unwrap_or_default());
        }
        _ if known.text.is_empty() => {}
        _ => eprintln!("{}", known.lines().join("\n")),
    }
    ExitCode::from(known.exit.code())
}
