//! The DSSE envelope (security rules 2.4): exact payload bytes, their type, 1 to 16 signatures.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::dsse::{Purpose, Signer, digest_of};
use crate::ids::Digest;
use crate::key::{KeyId, KeyKind};
use crate::limits::{ENVELOPE_BYTES, KEYID_BYTES, PAYLOAD_BYTES, SIGNATURE_BYTES, SIGNATURES};
use crate::strict::{self, Rules, StrictError};

/// Why bytes are not an envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not strict JSON of the exact form.
    #[error("envelope: {0}")]
    Strict(#[from] StrictError),
    /// No signature has this payload type.
    #[error("envelope: payloadType {0:?} is unknown: this agent may be too old for it")]
    UnknownType(String),
    /// Base64 that is not canonical, padded, of the standard alphabet.
    #[error("envelope: {0} is not canonical base64 of the standard alphabet with padding")]
    Base64(&'static str),
    /// A bound on counts or lengths is broken.
    #[error("envelope: {field} has {have}, allowed are {min} to {max}")]
    Bound {
        /// What is out of bounds.
        field: &'static str,
        /// What was found.
        have: usize,
        /// Least allowed.
        min: usize,
        /// Most allowed.
        max: usize,
    },
    /// Signatures of another payload cannot be added.
    #[error("envelope: payloads differ: only signatures over the same bytes can be joined")]
    OtherPayload,
}

/// One signature of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EnvelopeSignature {
    /// A hint at the key. Not trusted for anything.
    pub keyid: String,
    /// The signature's bytes: see [`crate::key::verify_kind`].
    pub sig: Vec<u8>,
}

/// A payload with its type and signatures. Parsing says nothing about the signatures' truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    purpose: Purpose,
    payload: Vec<u8>,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSignature {
    keyid: String,
    sig: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<WireSignature>,
}

fn bound(field: &'static str, have: usize, min: usize, max: usize) -> Result<(), EnvelopeError> {
    if (min..=max).contains(&have) { Ok(()) } else { Err(EnvelopeError::Bound { field, have, min, max }) }
}

impl Envelope {
    /// Reads an envelope.
    ///
    /// # Errors
    /// Anything that is not the exact form.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let rules = Rules { max_bytes: ENVELOPE_BYTES, null: false };
        let wire: Wire = strict::parse(bytes, rules, "an envelope")?;
        bound("signatures", wire.signatures.len(), 1, SIGNATURES)?;
        let purpose = Purpose::from_media_type(&wire.payload_type)
            .ok_or_else(|| EnvelopeError::UnknownType(wire.payload_type.chars().take(80).collect()))?;
        let payload = STANDARD.decode(&wire.payload).map_err(|_| EnvelopeError::Base64("payload"))?;
        bound("payload", payload.len(), 1, PAYLOAD_BYTES)?;
        let mut signatures = Vec::with_capacity(wire.signatures.len());
        for line in wire.signatures {
            bound("keyid", line.keyid.len(), 0, KEYID_BYTES)?;
            let sig = STANDARD.decode(&line.sig).map_err(|_| EnvelopeError::Base64("sig"))?;
            bound("sig", sig.len(), 0, SIGNATURE_BYTES)?;
            signatures.push(EnvelopeSignature { keyid: line.keyid, sig });
        }
        Ok(Self { purpose, payload, signatures })
    }

    /// Signs a payload with each of the signers.
    pub fn sign(purpose: Purpose, payload: Vec<u8>, signers: &[&dyn Signer]) -> Self {
        let mut envelope = Self { purpose, payload, signatures: Vec::with_capacity(signers.len()) };
        for signer in signers {
            envelope.approve(*signer);
        }
        envelope
    }

    /// Adds a signature by one more signer.
    pub fn approve(&mut self, signer: &dyn Signer) {
        let keyid = KeyId { kind: KeyKind::Ed25519, key: signer.public_key() };
        let sig = signer.sign(self.purpose, &self.payload).to_vec();
        self.signatures.push(EnvelopeSignature { keyid: keyid.to_string(), sig });
    }

    /// Adds a signature made elsewhere, by an ssh-agent or a FIDO2 key for instance.
    pub fn add_signature(&mut self, keyid: KeyId, sig: Vec<u8>) {
        self.signatures.push(EnvelopeSignature { keyid: keyid.to_string(), sig });
    }

    /// Adds the signatures of another envelope of the same payload that this one lacks, as far as
    /// there is room. Strip both of signatures that do not verify first.
    ///
    /// # Errors
    /// The payloads or types differ.
    pub fn merge(&mut self, other: &Self) -> Result<(), EnvelopeError> {
        if self.purpose != other.purpose || self.payload != other.payload {
            return Err(EnvelopeError::OtherPayload);
        }
        for line in &other.signatures {
            if self.signatures.len() < SIGNATURES && !self.signatures.contains(line) {
                self.signatures.push(line.clone());
            }
        }
        Ok(())
    }

    /// The same payload with other signatures.
    pub(crate) fn with_signatures(&self, signatures: Vec<EnvelopeSignature>) -> Self {
        Self { purpose: self.purpose, payload: self.payload.clone(), signatures }
    }

    /// The envelope as bytes: compact JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        let wire = Wire {
            payload: STANDARD.encode(&self.payload),
            payload_type: self.purpose.media_type().to_owned(),
            signatures: self
                .signatures
                .iter()
                .map(|line| WireSignature { keyid: line.keyid.clone(), sig: STANDARD.encode(&line.sig) })
                .collect(),
        };
        serde_json::to_vec(&wire).unwrap_or_default()
    }

    /// What it is for.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// The signed bytes.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The signatures, unverified.
    pub fn signatures(&self) -> &[EnvelopeSignature] {
        &self.signatures
    }

    /// SHA-256 over the PAE: signatures may be added without changing it.
    pub fn digest(&self) -> Digest {
        digest_of(self.purpose.media_type(), &self.payload)
    }
}
