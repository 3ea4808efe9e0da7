//! The charter (security rules 2.2): the founding document. Immutable; its founders, relays and
//! recovery keys are only the first values of the trust state.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::action::{KeyClass, NewKey};
use crate::dsse::{Purpose, Signer};
use crate::envelope::{Envelope, EnvelopeError};
use crate::ids::{Millis, Name, Nonce16, PublicKey, SiteId};
use crate::key::{KeyKind, check_public_key, verify_kind};
use crate::limits::{
    CHARTER_BYTES, FOUNDER_KEYS, FOUNDERS, PERSON_NAME_BYTES, RECOVERY_KEYS, RELAYS, SIGNATURES,
};
use crate::strict::{self, Rules, StrictError, required_nullable};
use crate::validate::{self, ValueError};

/// Why an envelope holds no charter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CharterError {
    /// Not an envelope.
    #[error("charter: {0}")]
    Envelope(#[from] EnvelopeError),
    /// An envelope of something else.
    #[error("charter: the envelope holds {0}: give the file of the charter")]
    Purpose(Purpose),
    /// Not strict JSON of the exact form.
    #[error("charter: {0}")]
    Strict(#[from] StrictError),
    /// A member's value is out of its bounds.
    #[error("charter: {0}")]
    Value(#[from] ValueError),
    /// A key in it did not sign it.
    #[error("charter: founder key {0} did not sign it: every founder must sign with every key")]
    Unsigned(PublicKey),
}

/// A person who founds the site: its first owners.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Founder {
    /// The admin's id.
    pub admin: Name,
    /// The person's name.
    pub name: String,
    /// 1 to 4 keys, sorted by key.
    pub keys: Vec<NewKey>,
}

/// Keys that may replace the owners.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recovery {
    /// How many of them must sign.
    pub threshold: u8,
    /// 1 to 8 keys, sorted.
    pub keys: Vec<PublicKey>,
}

/// A relay that the site trusts to carry, not to decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CharterRelay {
    /// Its address.
    pub url: String,
    /// Its key: the pin.
    pub key: PublicKey,
}

/// What a charter says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CharterBody {
    /// 1.
    pub v: u8,
    /// The site's name.
    pub name: Name,
    /// Makes two sites of the same founders different.
    pub nonce: Nonce16,
    /// 1 to 8 founders, sorted by admin, with 16 keys in all.
    pub founders: Vec<Founder>,
    /// Recovery keys, or null.
    #[serde(deserialize_with = "required_nullable")]
    pub recovery: Option<Recovery>,
    /// 0 to 4 relays, sorted by address, keys unique.
    pub relays: Vec<CharterRelay>,
    /// When it was made.
    pub issued_ms: Millis,
}

impl CharterBody {
    /// Reads a payload and checks every bound.
    ///
    /// # Errors
    /// Anything that is not the exact form.
    pub fn parse(payload: &[u8]) -> Result<Self, CharterError> {
        let rules = Rules { max_bytes: CHARTER_BYTES, null: true };
        let body: Self = strict::parse(payload, rules, "a charter")?;
        body.check()?;
        Ok(body)
    }

    fn check(&self) -> Result<(), ValueError> {
        if self.v != 1 {
            return Err(ValueError::new("v", "is not 1"));
        }
        validate::count("founders", self.founders.len(), 1, FOUNDERS)?;
        validate::sorted_unique("founders", &self.founders.iter().map(|f| &f.admin).collect::<Vec<_>>())?;
        validate::count("relays", self.relays.len(), 0, RELAYS)?;
        validate::sorted_unique("relays", &self.relays.iter().map(|r| &r.url).collect::<Vec<_>>())?;
        let mut all: Vec<PublicKey> = Vec::new();
        for founder in &self.founders {
            validate::text("founders.name", &founder.name, 1, PERSON_NAME_BYTES)?;
            validate::keys(&founder.keys, FOUNDER_KEYS)?;
            all.extend(founder.keys.iter().map(|k| k.key));
        }
        // All of them sign, and an envelope holds no more.
        validate::count("founders.keys", all.len(), 1, SIGNATURES)?;
        for relay in &self.relays {
            validate::url("relays.url", &relay.url)?;
            all.push(relay.key);
        }
        if let Some(recovery) = &self.recovery {
            validate::count("recovery.keys", recovery.keys.len(), 1, RECOVERY_KEYS)?;
            validate::sorted_unique("recovery.keys", &recovery.keys)?;
            validate::count("recovery.threshold", recovery.threshold.into(), 1, recovery.keys.len())?;
            all.extend(&recovery.keys);
        }
        for key in &all {
            check_public_key(key).map_err(|e| ValueError::new("keys:", e))?;
        }
        if all.iter().collect::<BTreeSet<_>>().len() != all.len() {
            return Err(ValueError::new("keys", "are used twice: a key has one owner and one use"));
        }
        let lasting = |k: &NewKey| k.expires_ms.is_none() && k.class != KeyClass::Browser;
        if !self.founders.iter().flat_map(|f| &f.keys).any(lasting) {
            let what = "have no key that lasts: one must not expire and not live in a browser";
            return Err(ValueError::new("founders", what));
        }
        Ok(())
    }

    /// The payload: compact JSON.
    pub fn to_payload(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Signs the charter. Every key in it must sign, FIDO2 keys by [`Envelope::add_signature`].
    pub fn sign(&self, signers: &[&dyn Signer]) -> Envelope {
        Envelope::sign(Purpose::Charter, self.to_payload(), signers)
    }
}

/// A charter that every founder signed with every key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charter {
    body: CharterBody,
    site: SiteId,
    envelope: Vec<u8>,
}

impl Charter {
    /// Reads and verifies a charter.
    ///
    /// # Errors
    /// Anything that is not the exact form, or a founder's key that did not sign.
    pub fn verify(envelope_bytes: &[u8]) -> Result<Self, CharterError> {
        let envelope = Envelope::parse(envelope_bytes)?;
        if envelope.purpose() != Purpose::Charter {
            return Err(CharterError::Purpose(envelope.purpose()));
        }
        let body = CharterBody::parse(envelope.payload())?;
        for key in body.founders.iter().flat_map(|f| &f.keys) {
            let kind = KeyKind::of(key.class);
            let signed = envelope
                .signatures()
                .iter()
                .any(|line| verify_kind(kind, Purpose::Charter, envelope.payload(), &key.key, &line.sig));
            if !signed {
                return Err(CharterError::Unsigned(key.key));
            }
        }
        let site = SiteId(envelope.digest());
        Ok(Self { body, site, envelope: envelope_bytes.to_vec() })
    }

    /// The site: the charter's digest.
    pub fn site_id(&self) -> SiteId {
        self.site
    }

    /// What it says.
    pub fn body(&self) -> &CharterBody {
        &self.body
    }

    /// The envelope, as it was verified.
    pub fn envelope(&self) -> &[u8] {
        &self.envelope
    }
}
