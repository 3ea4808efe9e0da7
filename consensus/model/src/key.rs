//! Public keys: which ones are acceptable, and their ids on the wire (security rules 2.4, 2.5).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use curve25519_dalek::edwards::CompressedEdwardsY;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

use crate::action::KeyClass;
use crate::dsse::{Purpose, digest_of, verify, verify_bytes};
use crate::ids::{Digest, IdError, PublicKey};

/// Why 32 bytes are not an acceptable ed25519 public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No point has this encoding.
    #[error("public key {0} is not a point of the curve: make a new key")]
    NotAPoint(PublicKey),
    /// The point has another, canonical encoding.
    #[error("public key {0} is not encoded canonically: make a new key")]
    NotCanonical(PublicKey),
    /// A point of small order: signatures under it verify for many messages.
    #[error("public key {0} is weak (small order): make a new key")]
    Weak(PublicKey),
    /// A point with a small-order part: implementations disagree about its signatures.
    #[error("public key {0} has a torsion part (mixed order): make a new key")]
    Torsion(PublicKey),
}

/// Checks a key before it is added anywhere: canonical, not weak, torsion-free.
///
/// # Errors
/// The rule that the key breaks.
pub fn check_public_key(key: &PublicKey) -> Result<(), KeyError> {
    let compressed = CompressedEdwardsY(key.0);
    let point = compressed.decompress().ok_or(KeyError::NotAPoint(*key))?;
    if point.compress() != compressed {
        return Err(KeyError::NotCanonical(*key));
    }
    if point.is_small_order() {
        return Err(KeyError::Weak(*key));
    }
    if !point.is_torsion_free() {
        return Err(KeyError::Torsion(*key));
    }
    Ok(())
}

/// Whether the encoding's y is below p = 2^255 - 19. (`x = 0` with a sign bit belongs to points of
/// small order, which strict verification refuses.)
pub(crate) fn is_canonical(key: &PublicKey) -> bool {
    let [first, middle @ .., last] = &key.0;
    !(last & 0x7f == 0x7f && middle.iter().all(|b| *b == 0xff) && *first >= 0xed)
}

/// How signatures of a key are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyKind {
    /// ed25519 over the PAE.
    Ed25519,
    /// A FIDO2 key used through OpenSSH, application `ssh:qb`.
    SkEd25519,
}

impl KeyKind {
    /// The kind of a key of this class: a `hardware` key is a FIDO2 key, all others sign directly.
    pub fn of(class: KeyClass) -> Self {
        match class {
            KeyClass::Hardware => Self::SkEd25519,
            KeyClass::Browser | KeyClass::AgentOrigin | KeyClass::Cli => Self::Ed25519,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519:",
            Self::SkEd25519 => "sk-ed25519:",
        }
    }
}

/// The id of a key in an envelope: a hint that only narrows the candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId {
    /// How it signs.
    pub kind: KeyKind,
    /// The key.
    pub key: PublicKey,
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind.prefix(), self.key)
    }
}

impl FromStr for KeyId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        for kind in [KeyKind::Ed25519, KeyKind::SkEd25519] {
            if let Some(rest) = text.strip_prefix(kind.prefix()) {
                return Ok(Self { kind, key: rest.parse()? });
            }
        }
        Err(IdError::new("key id", text, "ed25519: or sk-ed25519: and 43 characters of base64url"))
    }
}

/// 64 bytes of an ed25519 signature. Text: base64url; postcard: the bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
        } else {
            let (r, s) = self.0.split_at(32);
            (<[u8; 32]>::try_from(r).unwrap_or_default(), <[u8; 32]>::try_from(s).unwrap_or_default())
                .serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            let bytes = URL_SAFE_NO_PAD.decode(&text).ok().and_then(|b| b.try_into().ok());
            bytes.map(Self).ok_or_else(|| de::Error::custom("signature is not 64 bytes as base64url"))
        } else {
            let (r, s) = <([u8; 32], [u8; 32])>::deserialize(deserializer)?;
            let mut out = [0; 64];
            out[..32].copy_from_slice(&r);
            out[32..].copy_from_slice(&s);
            Ok(Self(out))
        }
    }
}

/// The FIDO2 application of the project's keys.
pub const SK_APPLICATION: &str = "ssh:qb";
/// The flag that says a person touched the key.
const SK_USER_PRESENT: u8 = 0x01;

/// The bytes that a FIDO2 key signs: SHA-256(application), flags, counter, SHA-256(PAE).
pub fn sk_message(flags: u8, counter: u32, digest: &Digest) -> Vec<u8> {
    let mut out = Vec::with_capacity(69);
    out.extend_from_slice(&Sha256::digest(SK_APPLICATION));
    out.push(flags);
    out.extend_from_slice(&counter.to_be_bytes());
    out.extend_from_slice(&digest.0);
    out
}

/// Whether `signature` (as in an envelope) is one by a key of this kind for purpose and body.
///
/// `ed25519`: 64 bytes. `sk-ed25519`: flags (1), counter (4, big endian), 64 bytes; the
/// user-present flag must be set, the counter is not enforced.
pub fn verify_kind(kind: KeyKind, purpose: Purpose, body: &[u8], key: &PublicKey, signature: &[u8]) -> bool {
    match kind {
        KeyKind::Ed25519 => <&[u8; 64]>::try_from(signature).is_ok_and(|sig| verify(purpose, body, key, sig)),
        KeyKind::SkEd25519 => {
            let [flags, c0, c1, c2, c3, sig @ ..] = signature else { return false };
            let Ok(sig) = <&[u8; 64]>::try_from(sig) else { return false };
            let counter = u32::from_be_bytes([*c0, *c1, *c2, *c3]);
            let message = sk_message(*flags, counter, &digest_of(purpose.media_type(), body));
            flags & SK_USER_PRESENT != 0 && verify_bytes(&message, key, sig)
        }
    }
}
