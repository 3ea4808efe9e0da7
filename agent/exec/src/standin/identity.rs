//! The node service's own credential and status, as files.

use std::fmt;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use qb_drivers::RelPath;
use qb_model::ids::{Digest, Millis};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::FILE_BYTES;
use crate::dir::Dir;

/// The node service's own credential.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    pub(crate) v: u16,
    pub(crate) credential: String,
    /// Whether the API server took it.
    pub(crate) joined: bool,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("joined", &self.joined).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads it; none if there is none, or none that can be used.
    pub(crate) fn read(dir: &Dir, at: &RelPath) -> io::Result<Option<Self>> {
        let bytes = dir.read(at, FILE_BYTES)?.map(Zeroizing::new);
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Makes a new one.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { v: 1, credential: random_credential()?, joined: false })
    }

    /// Writes it with mode 0600.
    pub(crate) fn write(&self, dir: &Dir, at: &RelPath) -> io::Result<()> {
        dir.write(at, &Zeroizing::new(serde_json::to_vec(self)?), 0o600)
    }
}

/// 32 random bytes as text.
pub(crate) fn random_credential() -> io::Result<String> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).map_err(|_| io::Error::other("the system gives no randomness"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes.as_ref()))
}

/// What is stored of a credential.
pub(crate) fn credential_digest(credential: &str) -> Digest {
    Digest(Sha256::digest(credential.as_bytes()).into())
}

/// Whether a credential has this digest, in constant time.
pub(crate) fn is_credential(credential: &str, digest: &Digest) -> bool {
    credential_digest(credential).0.ct_eq(&digest.0).into()
}

/// What the node service says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Status {
    pub(crate) v: u16,
    /// Always true.
    pub(crate) rehearsal: bool,
    /// The process that wrote this.
    pub(crate) pid: u32,
    /// Whether the API server knows the node.
    pub(crate) joined: bool,
    /// What is wrong now; empty if nothing is.
    pub(crate) problem: String,
    pub(crate) since_ms: Millis,
}

/// Reads the status; none if there is none.
pub(crate) fn read_status(dir: &Dir, at: &RelPath) -> io::Result<Option<Status>> {
    Ok(dir.read(at, FILE_BYTES)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}
