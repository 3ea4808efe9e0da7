//! Sealed secrets: HPKE (RFC 9180) base mode with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and
//! AES-256-GCM. What a secret is for is bound to it as additional data, so that a ciphertext
//! cannot be moved to another node, cluster, generation or sender.
//!
//! Base mode says nothing of who sealed: a container is believed only when it came over an
//! authenticated stream from the sender that it names.

use std::fmt;
use std::io;
use std::path::Path;

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem as _, OpModeR, OpModeS, Serializable as _};
use qb_drivers::RelPath;
use qb_model::dsse::{SEAL_TYPE, pae};
use qb_model::ids::{Digest, Generation, Millis, Name, NodeId, SealKey, SiteId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::dir::Dir;

/// The file of the key, in the executor's directory.
const KEY_FILE: &str = "seal.key";
const INFO: &[u8] = b"qb/seal/1";
/// Bytes of the encapsulated key in front of the ciphertext.
const ENCAPPED: usize = 32;
/// Bytes of a secret.
const PLAINTEXT: usize = 16 * 1024;
/// Bytes of a container's ciphertext: key, secret and tag.
const CIPHERTEXT: usize = ENCAPPED + PLAINTEXT + 16;

/// Why sealing or opening failed. Opening tells nothing about why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The secret, the key or the generator cannot be used.
    #[error(
        "the secret cannot be sealed: {0}; restart the agent of the node that it is for, which renews its seal key"
    )]
    Seal(&'static str),
    /// It is not for this node and purpose, or was changed. One text for all causes.
    #[error("the sealed secret cannot be opened: a new one is made when the order is given again")]
    Open,
}

/// What a sealed secret is for and who made it. All of it is authenticated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealContext {
    /// The site.
    pub site: SiteId,
    /// Its epoch.
    pub epoch: u64,
    /// What for: `join`.
    pub purpose: Name,
    /// The cluster.
    pub cluster: Name,
    /// Generation of the recipient's assignment.
    pub generation: Generation,
    /// Who sealed it.
    pub sender: NodeId,
    /// Who can open it.
    pub recipient: NodeId,
    /// Number of the recipient's seal key.
    pub seal_seq: u64,
    /// From when on it is refused.
    pub expires_ms: Millis,
}

/// A sealed secret with what it is for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedSecret {
    /// What it is for.
    pub context: SealContext,
    /// Encapsulated key, ciphertext and tag.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for SealedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedSecret").field("context", &self.context).finish_non_exhaustive()
    }
}

impl SealedSecret {
    /// SHA-256 of the ciphertext: what the log holds of it.
    pub fn digest(&self) -> Digest {
        Digest(Sha256::digest(&self.bytes).into())
    }
}

/// A node's X25519 secret key. It cannot be printed, cloned or serialized, and is erased when
/// dropped.
pub struct SealSecret(Zeroizing<[u8; 32]>);

impl SealSecret {
    /// The key with these bytes.
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// A new key from the system's generator.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn generate() -> Result<Self, SealError> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut()).map_err(|_| SealError::Seal("the system gives no randomness"))?;
        Ok(Self(bytes))
    }

    /// The key in a file of mode 0600 in a directory of mode 0700 or 0711; made if there is none. Only
    /// the owner of the directory is to call this.
    ///
    /// # Errors
    /// The file cannot be used, is no key, or others may read it; it is never replaced.
    pub fn open_or_make(root: &Path) -> io::Result<Self> {
        let dir = Dir::create(root)?;
        let at: RelPath = KEY_FILE.parse().map_err(io::Error::other)?;
        let other = |what: &str| io::Error::other(format!("{}: {what}", root.join(KEY_FILE).display()));
        match dir.read(&at, 64)?.map(Zeroizing::new) {
            Some(bytes) => {
                if dir.mode(&at)?.is_none_or(|mode| mode & 0o077 != 0) {
                    return Err(other("others may read it: chmod 0600 it, then detach and attach this node"));
                }
                let bytes = <[u8; 32]>::try_from(bytes.as_slice());
                Ok(Self(Zeroizing::new(bytes.map_err(|_| other("it does not hold a key of 32 bytes"))?)))
            }
            None => {
                let new = Self::generate().map_err(io::Error::other)?;
                dir.write(&at, new.expose(), 0o600)?;
                Ok(new)
            }
        }
    }

    /// The bytes, to store them in a file of mode 0600.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key to which others seal.
    pub fn public(&self) -> SealKey {
        let mut out = [0; 32];
        if let Ok(key) = self.key() {
            out.copy_from_slice(&X25519HkdfSha256::sk_to_pk(&key).to_bytes());
        }
        SealKey(out)
    }

    fn key(&self) -> Result<<X25519HkdfSha256 as hpke::Kem>::PrivateKey, SealError> {
        <X25519HkdfSha256 as hpke::Kem>::PrivateKey::from_bytes(self.0.as_ref()).map_err(|_| SealError::Open)
    }
}

/// The additional data: PAE over the postcard form of the context, after a version byte.
fn additional_data(context: &SealContext) -> Result<Vec<u8>, SealError> {
    let body =
        postcard::to_extend(context, vec![1]).map_err(|_| SealError::Seal("its context has no form"))?;
    Ok(pae(SEAL_TYPE, &body))
}

/// Seals a secret to one key.
///
/// # Errors
/// If the secret is larger than 16 KiB or the key is not a good one.
pub fn seal(context: SealContext, to: &SealKey, secret: &[u8]) -> Result<SealedSecret, SealError> {
    if secret.len() > PLAINTEXT {
        return Err(SealError::Seal("it is larger than 16 KiB"));
    }
    let key = <X25519HkdfSha256 as hpke::Kem>::PublicKey::from_bytes(&to.0)
        .map_err(|_| SealError::Seal("the recipient's key is not an X25519 key"))?;
    let aad = additional_data(&context)?;
    let (encapped, ciphertext) = hpke::single_shot_seal::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &key,
        INFO,
        secret,
        &aad,
    )
    .map_err(|_| SealError::Seal("the recipient's key is weak"))?;
    let mut bytes = encapped.to_bytes().to_vec();
    bytes.extend_from_slice(&ciphertext);
    Ok(SealedSecret { context, bytes })
}

/// Opens a secret. The caller compares the context with what it expects first.
///
/// # Errors
/// [`SealError::Open`], whatever is wrong.
pub fn open(sealed: &SealedSecret, secret: &SealSecret) -> Result<Zeroizing<Vec<u8>>, SealError> {
    if sealed.bytes.len() > CIPHERTEXT {
        return Err(SealError::Open);
    }
    let (encapped, ciphertext) = sealed.bytes.split_at_checked(ENCAPPED).ok_or(SealError::Open)?;
    let encapped =
        <X25519HkdfSha256 as hpke::Kem>::EncappedKey::from_bytes(encapped).map_err(|_| SealError::Open)?;
    let aad = additional_data(&sealed.context).map_err(|_| SealError::Open)?;
    hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &secret.key()?,
        &encapped,
        INFO,
        ciphertext,
        &aad,
    )
    .map(Zeroizing::new)
    .map_err(|_| SealError::Open)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn context() -> SealContext {
        SealContext {
            site: SiteId(Digest([1; 32])),
            epoch: 1,
            purpose: "join".parse().unwrap(),
            cluster: "clus100".parse().unwrap(),
            generation: Generation(3),
            sender: NodeId([2; 32]),
            recipient: NodeId([3; 32]),
            seal_seq: 1,
            expires_ms: Millis(9_000),
        }
    }

    #[test]
    fn only_the_recipient_in_the_same_context_opens() {
        let key = SealSecret::generate().unwrap();
        let sealed = seal(context(), &key.public(), b"secret").unwrap();
        assert_eq!(open(&sealed, &key).unwrap().as_slice(), b"secret");
        assert_eq!(open(&sealed, &SealSecret::generate().unwrap()), Err(SealError::Open));
        type Change = fn(&mut SealContext);
        let changes: [Change; 9] = [
            |c| c.site = SiteId(Digest([9; 32])),
            |c| c.epoch = 2,
            |c| c.purpose = "kubeconfig".parse().unwrap(),
            |c| c.cluster = "clus101".parse().unwrap(),
            |c| c.generation = Generation(4),
            |c| c.sender = NodeId([9; 32]),
            |c| c.recipient = NodeId([9; 32]),
            |c| c.seal_seq = 2,
            |c| c.expires_ms = Millis(9_001),
        ];
        for change in changes {
            let mut moved = sealed.clone();
            change(&mut moved.context);
            assert_eq!(open(&moved, &key), Err(SealError::Open));
        }
    }

    #[test]
    fn a_key_on_disk_stays_and_is_never_replaced() {
        use std::os::unix::fs::PermissionsExt as _;
        let temp = tempfile::tempdir().unwrap();
        let first = SealSecret::open_or_make(temp.path()).unwrap();
        assert_eq!(SealSecret::open_or_make(temp.path()).unwrap().public(), first.public());
        let path = temp.path().join(KEY_FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(SealSecret::open_or_make(temp.path()).is_err());
        std::fs::write(&path, b"short").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(SealSecret::open_or_make(temp.path()).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
    }

    #[test]
    fn damaged_and_weak_input_is_refused() {
        let key = SealSecret::generate().unwrap();
        let sealed = seal(context(), &key.public(), b"secret").unwrap();
        for at in 0..sealed.bytes.len() {
            let mut bad = sealed.clone();
            bad.bytes[at] ^= 1;
            assert_eq!(open(&bad, &key), Err(SealError::Open), "byte {at}");
        }
        let mut zero = sealed.clone();
        zero.bytes[..ENCAPPED].fill(0);
        assert_eq!(open(&zero, &key), Err(SealError::Open));
        assert!(seal(context(), &SealKey([0; 32]), b"x").is_err());
        assert!(seal(context(), &key.public(), &vec![0; PLAINTEXT + 1]).is_err());
        assert!(!format!("{sealed:?}").contains("bytes"));
    }
}
