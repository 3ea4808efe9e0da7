//! Key files: `keys/NAME.key`, mode 0600, one JSON object. The secret is sealed with a passphrase
//! (argon2id, AES-256-GCM) or, where that was asked for, plain.
//!
//! Rules for changing this: a new way to seal is a new variant; files of old versions stay readable.

use std::path::Path;

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use qb_model::dsse::{SecretKey, Signer as _};
use qb_model::{Millis, Name, PublicKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::args::trust::KindArg;
use crate::error::CliError;
use crate::files;

/// Longest key file in bytes.
const MAX: u64 = 4096;
/// argon2id: memory in KiB, passes, lanes. About a quarter of a second.
const COST: (u32, u32, u32) = (64 * 1024, 3, 1);
/// Bounds of what a file may ask for: a key file must not be able to eat the machine.
const COST_MAX: (u32, u32, u32) = (1024 * 1024, 16, 4);

/// What a key is for. A key of one class is refused in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Signs intents.
    Admin,
    /// Signs bundles.
    Publisher,
    /// Replaces the owners.
    Recovery,
}

impl Kind {
    /// The word shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Publisher => "publisher",
            Self::Recovery => "recovery",
        }
    }
}

impl From<KindArg> for Kind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Admin => Self::Admin,
            KindArg::Publisher => Self::Publisher,
            KindArg::Recovery => Self::Recovery,
        }
    }
}

/// A file, with its secret as it lies on disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    v: u8,
    /// What it is for.
    pub kind: Kind,
    /// The public half.
    pub public: PublicKey,
    /// When it was made.
    pub made_ms: Millis,
    secret: Secret,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Secret {
    Plain { seed: Zeroizing<String> },
    Argon2id { memory_kib: u32, passes: u32, lanes: u32, salt: String, nonce: String, sealed: String },
}

fn random<const N: usize>() -> Result<[u8; N], CliError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| CliError::failed(format!("The system gives no random bytes: {e}.")))?;
    Ok(bytes)
}

fn stretch(passphrase: &str, salt: &[u8], cost: (u32, u32, u32)) -> Result<Zeroizing<[u8; 32]>, CliError> {
    let wrong = |_| CliError::failed("The key file asks for parameters of argon2 that do not exist.");
    let params = Params::new(cost.0, cost.1, cost.2, Some(32)).map_err(wrong)?;
    let mut out = Zeroizing::new([0; 32]);
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon.hash_password_into(passphrase.as_bytes(), salt, out.as_mut()).map_err(wrong)?;
    Ok(out)
}

fn context(kind: Kind, public: &PublicKey) -> Vec<u8> {
    let mut aad = format!("qb/keyfile/1\0{}\0", kind.word()).into_bytes();
    aad.extend_from_slice(&public.0);
    aad
}

fn seal(seed: &[u8; 32], passphrase: &str, aad: &[u8]) -> Result<Secret, CliError> {
    let (salt, nonce) = (random::<16>()?, random::<12>()?);
    let key = stretch(passphrase, &salt, COST)?;
    let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key));
    let sealed = cipher
        .encrypt(&Nonce::from(nonce), Payload { msg: seed, aad })
        .map_err(|_| CliError::failed("The key could not be sealed."))?;
    Ok(Secret::Argon2id {
        memory_kib: COST.0,
        passes: COST.1,
        lanes: COST.2,
        salt: B64.encode(salt),
        nonce: B64.encode(nonce),
        sealed: B64.encode(sealed),
    })
}

fn wrong_passphrase() -> CliError {
    CliError::refused("The passphrase does not open the key.")
        .remedy("try again; nobody can recover a passphrase")
}

impl KeyFile {
    /// Makes a key and writes its file; `passphrase` none leaves it plain.
    ///
    /// # Errors
    /// The file exists or cannot be written.
    pub fn create(path: &Path, kind: Kind, passphrase: Option<&str>) -> Result<(Self, SecretKey), CliError> {
        let seed = Zeroizing::new(random::<32>()?);
        let key = SecretKey::from_bytes(&seed);
        let public = key.public_key();
        let secret = match passphrase {
            Some(passphrase) => seal(&seed, passphrase, &context(kind, &public))?,
            None => Secret::Plain { seed: Zeroizing::new(B64.encode(*seed)) },
        };
        let file = Self { v: 1, kind, public, made_ms: crate::out::text::now(), secret };
        let bytes =
            serde_json::to_vec(&file).map_err(|e| CliError::failed(format!("Cannot write the key: {e}.")))?;
        let bytes = Zeroizing::new(bytes);
        files::write(path, &bytes, 0o600, true)?;
        Ok((file, key))
    }

    /// Reads a file. Others must not be able to.
    ///
    /// # Errors
    /// Names the file and what is wrong with it; never its content.
    pub fn load(path: &Path) -> Result<Self, CliError> {
        let bytes = Zeroizing::new(files::read_private(path, MAX)?);
        let wrong = || CliError::refused(format!("{} is not a key file of qb.", path.display()));
        let file: Self = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
        if file.v == 1 { Ok(file) } else { Err(wrong()) }
    }

    /// Whether a passphrase is needed.
    pub fn sealed(&self) -> bool {
        matches!(self.secret, Secret::Argon2id { .. })
    }

    /// The secret key. `passphrase` is asked for only where it is needed.
    ///
    /// # Errors
    /// The passphrase is wrong, or the file damaged.
    pub fn open(
        &self,
        passphrase: impl FnOnce() -> Result<Zeroizing<String>, CliError>,
    ) -> Result<SecretKey, CliError> {
        let damaged = || {
            CliError::refused("The key file is damaged.").remedy("take it from a backup, or make a new key")
        };
        let decode = |text: &str| B64.decode(text).map(Zeroizing::new).map_err(|_| damaged());
        let seed = match &self.secret {
            Secret::Plain { seed } => decode(seed)?,
            Secret::Argon2id { memory_kib, passes, lanes, salt, nonce, sealed } => {
                let cost = (*memory_kib, *passes, *lanes);
                if cost.0 > COST_MAX.0 || cost.1 > COST_MAX.1 || cost.2 > COST_MAX.2 {
                    return Err(damaged());
                }
                let nonce = <[u8; 12]>::try_from(decode(nonce)?.as_slice()).map_err(|_| damaged())?;
                let (salt, sealed) = (decode(salt)?, decode(sealed)?);
                let key = stretch(&passphrase()?, &salt, cost)?;
                let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key));
                let payload = Payload { msg: &sealed, aad: &context(self.kind, &self.public) };
                Zeroizing::new(cipher.decrypt(&Nonce::from(nonce), payload).map_err(|_| wrong_passphrase())?)
            }
        };
        let seed = Zeroizing::new(<[u8; 32]>::try_from(seed.as_slice()).map_err(|_| damaged())?);
        let key = SecretKey::from_bytes(&seed);
        if key.public_key() == self.public { Ok(key) } else { Err(damaged()) }
    }
}

/// A key file by name, or why it cannot be read.
pub type Listed = (Name, Result<KeyFile, CliError>);

/// The keys of this computer by name, with the files that are none.
///
/// # Errors
/// The folder cannot be read.
pub fn list(folder: &Path) -> Result<Vec<Listed>, CliError> {
    let mut out = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(out) };
    // More files than any person has keys are not looked at.
    for entry in entries.take(1000) {
        let entry = entry.map_err(|e| CliError::file("read", folder, &e))?;
        let name = entry.file_name();
        let Some(name) = name.to_str().and_then(|n| n.strip_suffix(".key")) else { continue };
        if let Ok(name) = name.parse::<Name>() {
            out.push((name, KeyFile::load(&entry.path())));
        }
    }
    out.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(out)
}
