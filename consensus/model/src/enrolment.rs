//! The enrolment file: charter, relays, seeds. Never a token, never a secret. Agent and executor
//! of a host both read it, each for itself.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::charter::{Charter, CharterRelay};
use crate::envelope::Envelope;
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

/// Writes the file. The same charter, relays and seeds give the same bytes, in whatever order they come
/// and wherever it is done: packages of a site are rebuilt and compared by it.
///
/// # Errors
/// More relays or seeds than a node reads, or a charter that is no envelope.
pub fn write(
    charter: &Charter,
    relays: &[CharterRelay],
    seeds: &[SocketAddr],
) -> Result<Vec<u8>, EnrolmentError> {
    let form = |e: &dyn std::fmt::Display| EnrolmentError::Form(e.to_string());
    let (mut relays, mut seeds) = (relays.to_vec(), seeds.to_vec());
    relays.sort_by(|a, b| (&a.key, &a.url).cmp(&(&b.key, &b.url)));
    relays.dedup();
    seeds.sort_unstable();
    seeds.dedup();
    let counts = [("seeds", seeds.len(), ENROLMENT_SEEDS), ("relays", relays.len(), ENROLMENT_RELAYS)];
    if let Some((what, have, most)) = counts.into_iter().find(|(_, have, most)| have > most) {
        return Err(EnrolmentError::Many { what, have, most });
    }
    // As this program writes envelopes, whatever white space the one at hand has.
    let envelope = Envelope::parse(charter.envelope()).map_err(|e| form(&e))?.to_bytes();
    let charter = RawValue::from_string(String::from_utf8_lossy(&envelope).into_owned());
    let seeds = seeds.iter().map(ToString::to_string).collect();
    let file = Form { v: 1, charter: charter.map_err(|e| form(&e))?, relays, seeds };
    let mut bytes = serde_json::to_vec(&file).map_err(|e| form(&e))?;
    bytes.push(b'\n');
    match bytes.len() {
        n if n > ENROLMENT_BYTES => Err(EnrolmentError::TooLarge(n)),
        _ => Ok(bytes),
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
    fn the_same_site_gives_the_same_bytes_in_whatever_order_it_comes() {
        use crate::charter::{CharterBody, Founder};
        use crate::dsse::{SecretKey, Signer as _};
        let secret = SecretKey::from_bytes(&[1; 32]);
        let key = crate::action::NewKey {
            key: secret.public_key(),
            class: crate::action::KeyClass::Cli,
            expires_ms: None,
        };
        let body = CharterBody {
            v: 1,
            name: "lyon".parse().unwrap(),
            nonce: crate::Nonce16([1; 16]),
            founders: vec![Founder { admin: "mira".parse().unwrap(), name: "Mira".into(), keys: vec![key] }],
            recovery: None,
            relays: vec![],
            issued_ms: crate::Millis(1),
        };
        let signed = body.sign(&[&secret]).to_bytes();
        let pretty: serde_json::Value = serde_json::from_slice(&signed).unwrap();
        let pretty = Charter::verify(&serde_json::to_vec_pretty(&pretty).unwrap()).unwrap();
        let charter = Charter::verify(&signed).unwrap();
        let relay = |n: u8| CharterRelay { url: format!("https://r{n}"), key: crate::PublicKey([n; 32]) };
        let seed = |n: u8| SocketAddr::from(([10, 0, 0, n], 7444));
        let written = write(&charter, &[relay(2), relay(1)], &[seed(9), seed(3), seed(9)]).unwrap();
        assert_eq!(write(&pretty, &[relay(1), relay(2)], &[seed(3), seed(9)]).unwrap(), written);
        let read = Enrolment::parse(&written).unwrap();
        assert_eq!((read.site, read.charter), (charter.site_id(), signed));
        assert_eq!((read.relays, read.seeds), (vec![relay(1), relay(2)], vec![seed(3), seed(9)]));
        let many: Vec<SocketAddr> =
            (0..=ENROLMENT_SEEDS).map(|n| SocketAddr::from(([10, 0, 1, n as u8], 7444))).collect();
        assert!(matches!(write(&charter, &[], &many), Err(EnrolmentError::Many { what: "seeds", .. })));
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
