//! Who this node is: its two keys and its incarnation. Made at the first start, 0600, never copied.

use std::path::Path;

use hpke::Serializable as _;
use hpke::kem::{Kem as _, X25519HkdfSha256};
use qb_model::dsse::{SecretKey, Signer as _};
use qb_model::{NodeId, SealKey};
use zeroize::Zeroizing;

use crate::files::{self, FileError};

/// Why the identity could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file does not hold what it should.
    #[error(
        "{file} is damaged: it should hold {expected}; restore it, or revoke the node and `qb-agent reset` for a new identity"
    )]
    Damaged {
        /// Which file.
        file: &'static str,
        /// What it should hold.
        expected: &'static str,
    },
    /// No randomness.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

/// The node's keys and its incarnation.
pub struct Identity {
    /// The node's signing key.
    pub key: SecretKey,
    /// Its seed, for the mesh.
    pub seed: Zeroizing<[u8; 32]>,
    /// The public half: the node's name in the site.
    pub node: NodeId,
    /// X25519 secret that opens what is sealed to this node.
    pub seal_secret: Zeroizing<[u8; 32]>,
    /// Its public half.
    pub seal_key: SealKey,
    /// Rises with every start, on disk before it is used.
    pub incarnation: u64,
}

impl Identity {
    /// Reads the identity below `dir`, or makes one. With `start` the incarnation rises.
    pub fn open(dir: &Path, start: bool) -> Result<Self, IdentityError> {
        files::make_dir(dir)?;
        Self::load(dir, start, true)
    }

    /// Reads the identity below `dir`; none if none was made yet.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn read(dir: &Path) -> Result<Option<Self>, IdentityError> {
        match files::read_secret(&dir.join("node.key"), 64)? {
            Some(_) => Self::load(dir, false, false).map(Some),
            None => Ok(None),
        }
    }

    fn load(dir: &Path, start: bool, make: bool) -> Result<Self, IdentityError> {
        let seed = secret(dir, "node.key", make)?;
        let seal_secret = secret(dir, "seal.key", make)?;
        let key = SecretKey::from_bytes(&seed);
        let node = NodeId(key.public_key().0);
        let damaged = IdentityError::Damaged { file: "seal.key", expected: "an X25519 secret of 32 bytes" };
        let private = <X25519HkdfSha256 as hpke::kem::Kem>::PrivateKey::from_bytes_checked(&seal_secret)
            .ok_or(damaged)?;
        let public = X25519HkdfSha256::sk_to_pk(&private).to_bytes();
        let mut seal_key = [0u8; 32];
        seal_key.copy_from_slice(&public);
        let incarnation = incarnation(dir, start)?;
        Ok(Self { key, seed, node, seal_secret, seal_key: SealKey(seal_key), incarnation })
    }
}

/// Reads a 32-byte private key as HPKE takes it.
trait FromBytesChecked: Sized {
    fn from_bytes_checked(bytes: &[u8; 32]) -> Option<Self>;
}

impl<T: hpke::Deserializable> FromBytesChecked for T {
    fn from_bytes_checked(bytes: &[u8; 32]) -> Option<Self> {
        T::from_bytes(bytes).ok()
    }
}

fn secret(dir: &Path, name: &'static str, make: bool) -> Result<Zeroizing<[u8; 32]>, IdentityError> {
    let path = dir.join(name);
    let mut out = Zeroizing::new([0u8; 32]);
    match files::read_secret(&path, 64)? {
        Some(bytes) => {
            let bytes = Zeroizing::new(bytes);
            if bytes.len() != 32 {
                return Err(IdentityError::Damaged { file: name, expected: "32 bytes" });
            }
            out.copy_from_slice(&bytes);
        }
        None if !make => return Err(IdentityError::Damaged { file: name, expected: "32 bytes" }),
        None => {
            getrandom::fill(out.as_mut_slice()).map_err(IdentityError::Random)?;
            files::write_atomic(&path, out.as_slice(), 0o600)?;
        }
    }
    Ok(out)
}

fn incarnation(dir: &Path, start: bool) -> Result<u64, IdentityError> {
    const DAMAGED: IdentityError =
        IdentityError::Damaged { file: "incarnation", expected: "a decimal number" };
    let path = dir.join("incarnation");
    let last: u64 = match files::read_bounded(&path, 32)? {
        None => 0,
        Some(bytes) => std::str::from_utf8(&bytes).ok().and_then(|t| t.trim().parse().ok()).ok_or(DAMAGED)?,
    };
    if !start {
        return Ok(last);
    }
    // A number that cannot rise any more is none that this agent wrote.
    let next = last.checked_add(1).ok_or(DAMAGED)?;
    files::write_atomic(&path, format!("{next}\n").as_bytes(), 0o600)?;
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_stays_and_its_incarnation_rises() {
        let dir = std::env::temp_dir().join(format!("qb-identity-{}", std::process::id()));
        let first = Identity::open(&dir, true).unwrap();
        let second = Identity::open(&dir, true).unwrap();
        assert_eq!(first.node, second.node);
        assert_eq!(first.seal_key, second.seal_key);
        assert_eq!(second.incarnation, first.incarnation + 1);
        assert_eq!(Identity::read(&dir).unwrap().map(|i| (i.node, i.incarnation)), Some((first.node, 2)));
        assert!(Identity::read(&dir.join("none")).unwrap().is_none());
        assert!(!dir.join("none").exists(), "to read makes nothing");
        std::fs::write(dir.join("node.key"), b"short").unwrap();
        assert!(matches!(Identity::open(&dir, false), Err(IdentityError::Damaged { .. })));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
