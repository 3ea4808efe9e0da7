//! The one signature rule (security rules 2.1): ed25519 over the DSSE pre-authentication encoding
//! (PAE) of a type and a body. Nothing signs raw bytes.

use std::fmt;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::ids::{Digest, PublicKey};
use crate::key::is_canonical;

/// The payload type under which sealed objects bind their context (security rules 6.2). Never signed.
pub const SEAL_TYPE: &str = "application/vnd.qb.seal.v1";
/// The type under which the body of a tick enters the audit chain. Never signed as a whole: the
/// stamps inside it are.
pub const TICK_TYPE: &str = "application/vnd.qb.tick.v1";

macro_rules! purposes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What a signature is for: the rows of the table in security rules 2.1.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Purpose {
            $($(#[$doc])* $name,)*
        }

        impl Purpose {
            /// Every purpose, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The payload type that enters the signature.
            pub const fn media_type(self) -> &'static str {
                match self {
                    $(Self::$name => concat!("application/vnd.qb.", $text),)*
                }
            }
        }
    };
}

purposes! {
    /// The founding document.
    Charter = "charter.v1+json",
    /// What an admin wants.
    Intent = "intent.v1+json",
    /// An admin opens a session at a door.
    Login = "login.v1+json",
    /// An admin asks for a tunnel.
    Grant = "grant.v1+json",
    /// Recovery keys replace the owners.
    TrustRecover = "trust-recover.v1+json",
    /// A node uses a join token.
    TokenUse = "token-use.v1",
    /// A voter vouches for what it heard of a node that uses a join token.
    TokenEntry = "token-entry.v1",
    /// A node asks to be let in.
    Knock = "knock.v1",
    /// A voter lets a node in.
    Admit = "admit.v1",
    /// A node's end of the relay link.
    LinkAgent = "link-agent.v1",
    /// The relay's end of the link.
    LinkRelay = "link-relay.v1",
    /// A node's end of an admin's tunnel.
    TunnelAgent = "tunnel-agent.v1",
    /// A node reports the result of a stage.
    Command = "command.v1",
    /// A node's report outside the authenticated stream.
    Report = "report.v1",
    /// A voter attests a time.
    Clock = "clock.v1",
    /// The voters of a term of office, signed by the ones before.
    Voters = "voters.v1",
    /// A voter attests a state.
    Checkpoint = "checkpoint.v1",
    /// A node's outcome for an intent, for the one who waits for it.
    Receipt = "receipt.v1",
    /// A node's X25519 key.
    SealKey = "seal-key.v1",
    /// A node's TLS key.
    TlsKey = "tls-key.v1",
    /// A publisher's manifest.
    Bundle = "bundle.v2+json",
    /// A gossip message.
    Gossip = "gossip.v1",
}

impl Purpose {
    /// The purpose with this payload type.
    pub fn from_media_type(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|p| p.media_type() == text)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.media_type())
    }
}

/// `"DSSEv1" SP LEN(type) SP type SP LEN(body) SP body`, LEN in ASCII decimal.
pub fn pae(media_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {} {} ", media_type.len(), media_type, body.len());
    let mut out = Vec::with_capacity(head.len() + body.len());
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body);
    out
}

/// SHA-256 of the PAE: the digest by which a signed thing is known.
pub fn digest_of(media_type: &str, body: &[u8]) -> Digest {
    Digest(Sha256::digest(pae(media_type, body)).into())
}

/// Something that signs for a purpose: a key file, an ssh-agent, a node's identity.
pub trait Signer {
    /// The key that verifies what [`Self::sign`] makes.
    fn public_key(&self) -> PublicKey;
    /// Signs the PAE of the purpose's type and the body.
    fn sign(&self, purpose: Purpose, body: &[u8]) -> [u8; 64];
}

/// An ed25519 secret key. Erased when dropped; it cannot be printed, cloned or serialized.
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key of a 32-byte seed.
    pub fn from_bytes(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }
}

impl Signer for SecretKey {
    fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    fn sign(&self, purpose: Purpose, body: &[u8]) -> [u8; 64] {
        self.0.sign(&pae(purpose.media_type(), body)).to_bytes()
    }
}

/// Whether `signature` is one by `key` for this purpose and body.
///
/// The key must have passed [`crate::key::check_public_key`] when it was added: strict
/// verification refuses small-order keys, not those of mixed order.
pub fn verify(purpose: Purpose, body: &[u8], key: &PublicKey, signature: &[u8; 64]) -> bool {
    verify_bytes(&pae(purpose.media_type(), body), key, signature)
}

/// The only place where a signature is verified.
pub(crate) fn verify_bytes(message: &[u8], key: &PublicKey, signature: &[u8; 64]) -> bool {
    if !is_canonical(key) {
        return false;
    }
    let Ok(verifying) = VerifyingKey::from_bytes(&key.0) else { return false };
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    verifying.verify_strict(message, &signature).is_ok()
}
