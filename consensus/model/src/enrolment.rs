//! The enrolment file: charter, relays, seeds. Never a token, never a secret. Agent and executor
//! of a host both read it, each for itself.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::charter::{Charter, CharterRelay};
use crate::ids::SiteId;
use crate::limits::{ENROLMENT_BYTES, ENROLMENT_RELAYS, ENROLMENT_SEEDS};

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

/// Why bytes are no enrolment file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrolmentError {
    /// Larger than any.
    #[error("it has {0} bytes, at most {ENROLMENT_BYTES} are read")]
    TooLarge(usize),
    /// Not of the right form.
    #[error("{0}")]
    Form(String),
    /// Of a later form.
    #[error("v is {0}, this agent reads 1: install a newer agent")]
    Version(u8),
    /// More of something than a node needs.
    #[error("{what} has {have} entries, at most {most}")]
    Many {
        /// Of what.
        what: &'static str,
        /// How many.
        have: usize,
        /// How many are taken.
        most: usize,
    },
    /// The charter does not stand.
    #[error("charter: {0}")]
    Charter(String),
    /// A seed is no address.
    #[error("seeds: {0:?} is not ADDRESS:PORT")]
    Seed(String),
}

impl Enrolment {
    /// Reads and verifies an enrolment file.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnrolmentError> {
        if bytes.len() > ENROLMENT_BYTES {
            return Err(EnrolmentError::TooLarge(bytes.len()));
        }
        let form: Form = serde_json::from_slice(bytes).map_err(|e| EnrolmentError::Form(e.to_string()))?;
        if form.v != 1 {
            return Err(EnrolmentError::Version(form.v));
        }
        let counts =
            [("seeds", form.seeds.len(), ENROLMENT_SEEDS), ("relays", form.relays.len(), ENROLMENT_RELAYS)];
        if let Some((what, have, most)) = counts.into_iter().find(|(_, have, most)| have > most) {
            return Err(EnrolmentError::Many { what, have, most });
        }
        let charter = form.charter.get().as_bytes().to_vec();
        let verified = Charter::verify(&charter).map_err(|e| EnrolmentError::Charter(e.to_string()))?;
        let seed = |text: String| text.parse().map_err(|_| EnrolmentError::Seed(text));
        let seeds = form.seeds.into_iter().map(seed).collect::<Result<Vec<SocketAddr>, _>>()?;
        Ok(Self { charter, site: verified.site_id(), seeds, relays: form.relays })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn relays_are_read_as_qb_writes_them() {
        let key = crate::PublicKey([7; 32]);
        let relay = CharterRelay { url: "https://relay.example".into(), key };
        let written =
            serde_json::json!({ "v": 1, "charter": {}, "relays": [relay], "seeds": [] }).to_string();
        let form: Form = serde_json::from_str(&written).unwrap();
        assert_eq!(form.relays, [relay]);
        assert!(serde_json::from_str::<Form>(&written.replace("\"url\"", "\"uri\"")).is_err());
    }

    #[test]
    fn damaged_files_are_told_apart() {
        let parse = |text: &str| Enrolment::parse(text.as_bytes()).unwrap_err();
        assert!(matches!(parse("{"), EnrolmentError::Form(_)));
        assert!(matches!(parse(&" ".repeat(ENROLMENT_BYTES + 1)), EnrolmentError::TooLarge(_)));
        let empty = r#"{"v":1,"charter":{},"relays":[],"seeds":[]}"#;
        assert!(matches!(parse(empty), EnrolmentError::Charter(_)));
        assert_eq!(parse(&empty.replace("\"v\":1", "\"v\":2")), EnrolmentError::Version(2));
        let many = empty.replace("\"seeds\":[]", &format!("\"seeds\":{:?}", vec!["x"; ENROLMENT_SEEDS + 1]));
        assert!(matches!(parse(&many), EnrolmentError::Many { what: "seeds", .. }));
    }
}
