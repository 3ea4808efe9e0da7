//! The enrolment file: what a machine needs to knock. Never a token, never anything secret.

use std::net::SocketAddr;

use qb_model::charter::Charter;
use qb_model::enrolment;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::CliError;

/// Seeds in a file: machines learn the rest from one another.
const SEEDS: usize = 16;

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// 1.
    pub v: u8,
    /// The charter's envelope.
    pub charter: Value,
    /// Relays.
    pub relays: Vec<Value>,
    /// Addresses where machines find one another.
    pub seeds: Vec<String>,
}

/// The file of a site, as bytes: the same that its relay writes for the same seeds.
///
/// # Errors
/// A seed is no address, or there are too many.
pub fn build(charter: &Charter, seeds: &[String]) -> Result<Vec<u8>, CliError> {
    if seeds.len() > SEEDS {
        return Err(CliError::usage(format!(
            "At most {SEEDS} seeds: machines learn the rest from one another."
        )));
    }
    let seeds = seeds.iter().map(|seed| address(seed)).collect::<Result<Vec<_>, _>>()?;
    enrolment::write(charter, &charter.body().relays, &seeds)
        .map_err(|e| CliError::failed(format!("The enrolment file cannot be written: {e}.")))
}

/// A seed is `address:port`.
fn address(seed: &str) -> Result<SocketAddr, CliError> {
    match seed.parse::<SocketAddr>() {
        Ok(address) if address.port() > 0 => Ok(address),
        _ => Err(CliError::usage(format!(
            "{seed:?} is no seed: give an address and a port, as 10.20.1.11:7444."
        ))),
    }
}
