//! Who this node is: its key and its incarnation. Made at the first start, 0600, never copied.

use std::path::Path;

use qb_model::NodeId;
use qb_model::dsse::{SecretKey, Signer as _};
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

/// The node's key and its incarnation.
pub struct Identity {
    /// The node's signing key.
    pub key: SecretKey,
    /// Its seed, for the mesh.
    pub seed: Zeroizing<[u8; 32]>,
    /// The public half: the node's name in the site.
    pub node: NodeId,
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
        let key = SecretKey::from_bytes(&seed);
        let node = NodeId(key.public_key().0);
        let incarnation = incarnation(dir, start)?;
        Ok(Self { key, seed, node, incarnation })
    }

    /// The X25519 secret that opens what is sealed to this node, for an executor in the agent's own
    /// process; made if there is none. Another executor has its own.
    pub fn seal_secret(dir: &Path) -> Result<Zeroizing<[u8; 32]>, IdentityError> {
        secret(dir, "seal.key", true)
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
        assert_eq!(Identity::seal_secret(&dir).unwrap(), Identity::seal_secret(&dir).unwrap());
        assert_eq!(second.incarnation, first.incarnation + 1);
        assert_eq!(Identity::read(&dir).unwrap().map(|i| (i.node, i.incarnation)), Some((first.node, 2)));
        assert!(Identity::read(&dir.join("none")).unwrap().is_none());
        assert!(!dir.join("none").exists(), "to read makes nothing");
        std::fs::write(dir.join("node.key"), b"short").unwrap();
        assert!(matches!(Identity::open(&dir, false), Err(IdentityError::Damaged { .. })));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
