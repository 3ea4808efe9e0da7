//! The laboratory itself: hosts that boot, are cut off, killed and switched off, and leave nothing.
//! And sites of qb in it, from packages: `story.rs`.
//!
//! As root, through `just test-lab`. Each test has a laboratory of its own.

mod faults;
mod faults_qb;
mod hosts;
mod story;
mod sweep;
mod upgrade;

use std::time::Duration;

use anyhow::{Result, ensure};
use qb_tests::lab::Host;

/// How long anything may take that should take a second or so.
const SOON: Duration = Duration::from_secs(30);

/// Whether one ping from a host to an address is answered.
fn answers(from: &Host, to: &str) -> Result<bool> {
    Ok(from.exec(&["ping", "-c", "1", "-W", "1", to])?.code == 0)
}

/// Waits until a host reaches an address, or until it does not any more.
fn reaches(from: &Host, to: &str, wanted: bool) -> Result<()> {
    from.eventually(SOON, &format!("reaches {to}: {wanted}"), |host| {
        ensure!(answers(host, to)? == wanted, "the contrary");
        Ok(())
    })
}
