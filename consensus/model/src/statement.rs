//! What nodes sign: postcard bodies that begin with a version byte and re-encode to the same bytes
//! (security rules 2.1). Signatures are over the PAE of the statement's type.
//!
//! Rule for changing this file: these are signed bytes. A change to a struct is a new type.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::dsse::{Purpose, Signer, digest_of, verify};
use crate::ids::{Digest, PublicKey};
use crate::key::{KeyError, Signature, check_public_key};

mod bodies;

pub use bodies::{
    Checkpoint, Clock, GossipBody, Knock, NodeCommand, Receipt, Report, SealAad, SealKeyRecord, TlsKeyRecord,
    TokenEntry, TokenUse, Voters,
};

/// Why bytes are not a statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Larger than its bound.
    #[error("{purpose}: {len} bytes are over the bound of {max}")]
    TooLarge {
        /// What it should be.
        purpose: Purpose,
        /// Bytes received.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not the exact encoding.
    #[error("{0}: not the exact encoding of version 1: the sender may be newer than this agent")]
    Encoding(Purpose),
    /// The key is no good key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The signature is not valid.
    #[error("{0}: the signature is not valid")]
    Signature(Purpose),
    /// Signed by another key than the one that it speaks for.
    #[error("{0}: signed by another key than that of the node it names")]
    Signer(Purpose),
    /// A value is out of its bounds.
    #[error("{purpose}: {rule}")]
    Value {
        /// What it is.
        purpose: Purpose,
        /// What is wrong.
        rule: &'static str,
    },
}

/// Something that a node, voter or token signs.
pub trait Statement: Serialize + DeserializeOwned {
    /// What it is signed as.
    const PURPOSE: Purpose;
    /// Bytes of its body at most.
    const MAX: usize;

    /// The version byte: 1.
    fn version(&self) -> u8;
    /// The key that must have signed it, if the body says.
    fn signer(&self) -> Option<PublicKey>;
    /// Bounds of its values.
    ///
    /// # Errors
    /// What is out of bounds.
    fn check(&self) -> Result<(), &'static str> {
        Ok(())
    }

    /// Its bytes.
    fn to_body(&self) -> Vec<u8> {
        // Serializing into memory fails for no type of this module.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// Its digest.
    fn digest(&self) -> Digest {
        digest_of(Self::PURPOSE.media_type(), &self.to_body())
    }

    /// Signs it.
    fn sign(&self, signer: &dyn Signer) -> SignedBytes {
        let body = self.to_body();
        let sig = Signature(signer.sign(Self::PURPOSE, &body));
        SignedBytes { body, key: signer.public_key(), sig }
    }
}

fn framed<T: Statement>(body: &[u8]) -> Result<(), StatementError> {
    let purpose = T::PURPOSE;
    if body.len() > T::MAX {
        return Err(StatementError::TooLarge { purpose, len: body.len(), max: T::MAX });
    }
    if body.first() == Some(&1) { Ok(()) } else { Err(StatementError::Encoding(purpose)) }
}

/// Reads a body that several keys signed: its form and bounds, no signature.
///
/// # Errors
/// Anything that is not exact and within its bounds.
pub(crate) fn read_body<T: Statement>(body: &[u8]) -> Result<T, StatementError> {
    let purpose = T::PURPOSE;
    framed::<T>(body)?;
    let value: T = postcard::from_bytes(body).map_err(|_| StatementError::Encoding(purpose))?;
    if value.version() != 1 || value.to_body() != body {
        return Err(StatementError::Encoding(purpose));
    }
    value.check().map_err(|rule| StatementError::Value { purpose, rule })?;
    Ok(value)
}

/// A body with its signature, as it travels. Nothing is verified yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedBytes {
    /// The signed bytes.
    pub body: Vec<u8>,
    /// The key that is said to have signed them.
    pub key: PublicKey,
    /// The signature.
    pub sig: Signature,
}

impl SignedBytes {
    /// Verifies the signature, reads the body, and checks its bounds and its signer.
    ///
    /// # Errors
    /// Anything that is not exact, valid, and signed by the key that the body names.
    pub fn open<T: Statement>(&self) -> Result<Signed<T>, StatementError> {
        let purpose = T::PURPOSE;
        framed::<T>(&self.body)?;
        check_public_key(&self.key)?;
        if !verify(purpose, &self.body, &self.key, &self.sig.0) {
            return Err(StatementError::Signature(purpose));
        }
        let value: T = read_body(&self.body)?;
        if value.signer().is_some_and(|key| key != self.key) {
            return Err(StatementError::Signer(purpose));
        }
        Ok(Signed { value, bytes: self.clone() })
    }

    /// The digest of the body for what it is said to be.
    pub fn digest(&self, purpose: Purpose) -> Digest {
        digest_of(purpose.media_type(), &self.body)
    }

    /// The bytes of body, key and signature together.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// Reads what [`Self::to_bytes`] made, of at most `max` bytes of body.
    ///
    /// # Errors
    /// Too large, or not the exact encoding.
    pub fn from_bytes(purpose: Purpose, bytes: &[u8], max: usize) -> Result<Self, StatementError> {
        // Body length (at most 5 bytes), key, signature.
        let max = max + 5 + 32 + 64;
        if bytes.len() > max {
            return Err(StatementError::TooLarge { purpose, len: bytes.len(), max });
        }
        let signed: Self = postcard::from_bytes(bytes).map_err(|_| StatementError::Encoding(purpose))?;
        if signed.to_bytes() == bytes { Ok(signed) } else { Err(StatementError::Encoding(purpose)) }
    }
}

/// A statement whose signature is valid. Only [`SignedBytes::open`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<T> {
    value: T,
    bytes: SignedBytes,
}

impl<T: Statement> Signed<T> {
    /// What it says.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Who signed it.
    pub fn key(&self) -> PublicKey {
        self.bytes.key
    }

    /// Its digest.
    pub fn digest(&self) -> Digest {
        self.bytes.digest(T::PURPOSE)
    }

    /// The bytes, to hand on.
    pub fn bytes(&self) -> &SignedBytes {
        &self.bytes
    }

    /// The statement without its signature.
    pub fn into_value(self) -> T {
        self.value
    }
}
