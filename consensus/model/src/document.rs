//! JSON that admins sign besides intents: login, grant (security rules 2.1, 7.1, 8.3). They travel in envelopes and are verified as received.
//!
//! Rule for changing this file: these are signed bytes. A change to a struct is a new type.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::dsse::{Purpose, Signer};
use crate::envelope::{Envelope, EnvelopeError};
use crate::ids::{Digest, Millis, Name, NodeId, Nonce, Nonce16, PublicKey, SiteId};
use crate::key::{KeyKind, verify_kind};
use crate::limits::{GRANT_MS, LOGIN_MS, PAYLOAD_BYTES, URL_BYTES};
use crate::strict::{self, Rules, StrictError};
use crate::validate::{self, ValueError};

/// Why an envelope does not hold a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Not an envelope.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// An envelope of something else.
    #[error("the envelope holds {0}")]
    Purpose(Purpose),
    /// Not strict JSON of the exact form.
    #[error(transparent)]
    Strict(#[from] StrictError),
    /// A member's value is out of its bounds.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// Not signed by this key.
    #[error("no signature is by key {0}")]
    Unsigned(PublicKey),
}

/// A signed JSON object other than intent and charter.
pub trait Document: Serialize + DeserializeOwned {
    /// What it is signed as.
    const PURPOSE: Purpose;
    /// Bounds of its values.
    ///
    /// # Errors
    /// The member that is out of its bounds.
    fn check(&self) -> Result<(), ValueError>;

    /// The payload: compact JSON.
    fn to_payload(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Signs it.
    fn sign(&self, signers: &[&dyn Signer]) -> Envelope {
        Envelope::sign(Self::PURPOSE, self.to_payload(), signers)
    }
}

/// Reads a document that `key` signed.
///
/// # Errors
/// Anything that is not exact, in its bounds, and signed by that key.
pub fn open<T: Document>(bytes: &[u8], kind: KeyKind, key: &PublicKey) -> Result<(T, Digest), DocumentError> {
    let envelope = Envelope::parse(bytes)?;
    if envelope.purpose() != T::PURPOSE {
        return Err(DocumentError::Purpose(envelope.purpose()));
    }
    let by_key = |sig: &[u8]| verify_kind(kind, T::PURPOSE, envelope.payload(), key, sig);
    if !envelope.signatures().iter().any(|line| by_key(&line.sig)) {
        return Err(DocumentError::Unsigned(*key));
    }
    let rules = Rules { max_bytes: PAYLOAD_BYTES, null: false };
    let value: T = strict::parse(envelope.payload(), rules, "the document")?;
    value.check()?;
    Ok((value, envelope.digest()))
}

fn life(issued: Millis, expires: Millis, max: u64) -> Result<(), ValueError> {
    if expires > issued && expires.since(issued) <= max {
        return Ok(());
    }
    Err(ValueError::new("expires_ms", format_args!("is not within {max} ms after issued_ms")))
}

/// An admin opens a session at a door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The origin that the client connected to.
    pub origin: String,
    /// The key of the door.
    pub server_key: PublicKey,
    /// The door's challenge.
    pub nonce: Nonce,
    /// When it was signed.
    pub issued_ms: Millis,
    /// When it ends: at most 2 min later.
    pub expires_ms: Millis,
    /// The session's key.
    pub session_key: PublicKey,
}

impl Document for Login {
    const PURPOSE: Purpose = Purpose::Login;
    fn check(&self) -> Result<(), ValueError> {
        validate::text("origin", &self.origin, 8, URL_BYTES)?;
        life(self.issued_ms, self.expires_ms, LOGIN_MS)
    }
}

/// Where a tunnel goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum GrantScope {
    /// To a cluster.
    Cluster(Name),
    /// To a node.
    Node(NodeId),
}

/// What a grant opens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GrantTarget {
    /// The cluster's API server.
    Apiserver,
    /// The agent's own portal.
    AgentPortal,
    /// A client certificate for this certificate request: SHA-256 of its DER form.
    Certificate(Digest),
}

/// An admin asks for a tunnel, or for a certificate inside one. No host, no port: the agent dials only
/// its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// 1.
    pub v: u8,
    /// The site.
    pub site: SiteId,
    /// Where it goes.
    pub scope: GrantScope,
    /// What it reaches.
    pub target: GrantTarget,
    /// The admin's key that signs it.
    pub admin_key: PublicKey,
    /// The key that the client proves inside the tunnel.
    pub client_key: PublicKey,
    /// When it was signed.
    pub issued_ms: Millis,
    /// When it ends: at most 15 min later.
    pub expires_ms: Millis,
    /// Used once.
    pub nonce: Nonce16,
}

impl Document for Grant {
    const PURPOSE: Purpose = Purpose::Grant;
    fn check(&self) -> Result<(), ValueError> {
        if self.v != 1 {
            return Err(ValueError::new("v", "is not 1"));
        }
        life(self.issued_ms, self.expires_ms, GRANT_MS)
    }
}
