//! The enrolment file: charter, relays, seeds. Never a token, never a secret.

use std::net::SocketAddr;
use std::path::Path;

use qb_model::SiteId;
use qb_model::charter::{Charter, CharterRelay};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::files;
use crate::uplink::MAX_RELAYS;

/// Most bytes of an enrolment file.
const MAX_BYTES: u64 = 64 * 1024;
/// Most seeds in it.
const MAX_SEEDS: usize = 64;

/// The file's form.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    v: u8,
    charter: Box<RawValue>,
    relays: Vec<CharterRelay>,
    seeds: Vec<String>,
}

/// What a node knows of its site before it is let in.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// The charter's envelope, as shipped.
    pub charter: Vec<u8>,
    /// The site.
    pub site: SiteId,
    /// Where to knock: addresses of knock ports.
    pub seeds: Vec<SocketAddr>,
    /// Relays to knock through, besides the charter's. Nothing else is expected of them.
    pub relays: Vec<CharterRelay>,
}

/// Why an enrolment file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] files::FileError),
    /// There is none.
    #[error(
        "there is no enrolment file {0}: make one with `qb site create NAME`, or get it from your site's administrator"
    )]
    Missing(String),
    /// It is not of the right form.
    #[error("the enrolment file {path} is not valid: {why}; get it again from your site's administrator")]
    Malformed {
        /// Which file.
        path: String,
        /// What is wrong.
        why: String,
    },
}

/// Reads and verifies an enrolment file.
pub fn read(path: &Path) -> Result<Enrolment, EnrolError> {
    let shown = path.display().to_string();
    let bytes = files::read_bounded(path, MAX_BYTES)?.ok_or_else(|| EnrolError::Missing(shown.clone()))?;
    parse(&bytes).map_err(|why| EnrolError::Malformed { path: shown, why })
}

fn parse(bytes: &[u8]) -> Result<Enrolment, String> {
    let form: Form = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if form.v != 1 {
        return Err(format!("v is {}, this agent reads 1: install a newer agent", form.v));
    }
    if form.seeds.len() > MAX_SEEDS {
        return Err(format!("seeds has {} entries, at most {MAX_SEEDS}", form.seeds.len()));
    }
    if form.relays.len() > MAX_RELAYS {
        return Err(format!("relays has {} entries, at most {MAX_RELAYS}", form.relays.len()));
    }
    let charter = form.charter.get().as_bytes().to_vec();
    let verified = Charter::verify(&charter).map_err(|e| format!("charter: {e}"))?;
    let seeds = form
        .seeds
        .iter()
        .map(|s| s.parse().map_err(|_| format!("seeds: {s:?} is not ADDRESS:PORT")))
        .collect::<Result<Vec<SocketAddr>, String>>()?;
    Ok(Enrolment { charter, site: verified.site_id(), seeds, relays: form.relays })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_are_read_as_qb_writes_them() {
        let key = qb_model::PublicKey([7; 32]);
        let relay = CharterRelay { url: "https://relay.example".into(), key };
        let written =
            serde_json::json!({ "v": 1, "charter": {}, "relays": [relay], "seeds": [] }).to_string();
        let form: Form = serde_json::from_str(&written).unwrap();
        assert_eq!(form.relays, [relay]);
        assert!(serde_json::from_str::<Form>(&written.replace("\"url\"", "\"uri\"")).is_err());
    }
}
