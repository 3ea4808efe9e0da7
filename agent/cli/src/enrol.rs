//! The enrolment file: what a machine needs to knock. Never a token, never anything secret.

use qb_model::charter::Charter;
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

/// The file of a site, as bytes.
///
/// # Errors
/// A seed is no address, or there are too many.
pub fn build(charter: &Charter, seeds: &[String]) -> Result<Vec<u8>, CliError> {
    if seeds.len() > SEEDS {
        return Err(CliError::usage(format!(
            "At most {SEEDS} seeds: machines learn the rest from one another."
        )));
    }
    for seed in seeds {
        check_seed(seed)?;
    }
    let wrong = |e: serde_json::Error| CliError::failed(format!("The charter cannot be written: {e}."));
    let envelope = serde_json::from_slice(charter.envelope()).map_err(wrong)?;
    let relays: Vec<Value> =
        charter.body().relays.iter().map(serde_json::to_value).collect::<Result<_, _>>().map_err(wrong)?;
    let file = Enrolment { v: 1, charter: envelope, relays, seeds: seeds.to_vec() };
    let mut bytes = serde_json::to_vec_pretty(&file).map_err(wrong)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// A seed is `address:port`.
fn check_seed(seed: &str) -> Result<(), CliError> {
    match seed.parse::<std::net::SocketAddr>() {
        Ok(address) if address.port() > 0 => Ok(()),
        _ => Err(CliError::usage(format!(
            "{seed:?} is no seed: give an address and a port, as 10.20.1.11:7443."
        ))),
    }
}
