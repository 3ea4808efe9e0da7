//! The stand-ins by themselves: what the tests of this crate start where an agent starts its own
//! executable.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.split_first() {
        Some((word, rest)) if word == "stand-in" => qb_exec::standin::main(rest),
        _ => Err(qb_exec::standin::StandInError::Usage),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("qb-stand-in: {error}");
            ExitCode::FAILURE
        }
    }
}
