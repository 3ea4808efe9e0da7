//! Intents made by hand: what `qb` signs, and what it never would.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use qb_model::action::Action;
use qb_model::document::{Document as _, Login};
use qb_model::dsse::{SecretKey, Signer as _};
use qb_model::intent::{Anchor, Expect, Intent};
use qb_model::trust::required;
use qb_model::{IntentId, Millis, Name, Nonce, PublicKey, SiteId};
use serde_json::Value;

use crate::views::Head;

/// Life of an intent.
const LIFE_MS: u64 = 10 * 60_000;

/// An admin with a key.
pub struct Signatory {
    /// The admin's id.
    pub admin: Name,
    key: SecretKey,
}

/// This machine's time.
pub fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("the system gives no random bytes")?;
    Ok(bytes)
}

impl Signatory {
    /// With a key that `qb` made without a passphrase.
    ///
    /// # Errors
    /// The file is not one of an unsealed key.
    pub fn of_file(admin: &str, path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file: Value = serde_json::from_slice(&text)?;
        let seed = file["secret"]["plain"]["seed"].as_str();
        let seed = seed.with_context(|| format!("{} is no key without passphrase", path.display()))?;
        let seed = URL_SAFE_NO_PAD.decode(seed)?;
        let seed = <[u8; 32]>::try_from(seed.as_slice()).context("a seed has 32 bytes")?;
        Ok(Self { admin: admin.parse()?, key: SecretKey::from_bytes(&seed) })
    }

    /// With a new key that nobody knows.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn fresh(admin: &str) -> Result<Self> {
        Ok(Self { admin: admin.parse()?, key: SecretKey::from_bytes(&random()?) })
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        self.key.public_key()
    }

    /// An intent as `qb` would make it, anchored at a head.
    ///
    /// # Errors
    /// The head is none.
    pub fn intent(&self, site: SiteId, head: &Head, action: Action) -> Result<Intent> {
        let issued_ms = now();
        let id: IntentId =
            ulid::Ulid::from_parts(issued_ms.0, u128::from_le_bytes(random()?)).to_string().parse()?;
        let mut expect = Vec::new();
        if required(&action).names_trust {
            expect.push(Expect::Trust { hash: head.trust.parse()? });
        }
        Ok(Intent {
            v: 1,
            site,
            id,
            by: self.admin.clone(),
            issued_ms,
            expires_ms: issued_ms.plus(LIFE_MS),
            anchor: Anchor { index: head.index, hash: head.hash.parse()? },
            after: None,
            expect,
            action,
            note: None,
        })
    }

    /// Signs an intent.
    ///
    /// # Errors
    /// It breaks a bound of the format.
    pub fn sign(&self, intent: &Intent) -> Result<Vec<u8>> {
        Ok(intent.sign(&[&self.key])?.to_bytes())
    }

    /// The bytes of a signed login at a door.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn login(&self, origin: &str, server_key: PublicKey, nonce: Nonce) -> Result<Vec<u8>> {
        let session_key = SecretKey::from_bytes(&random()?).public_key();
        let issued_ms = now();
        let expires_ms = issued_ms.plus(60_000);
        let login =
            Login { origin: origin.to_owned(), server_key, nonce, issued_ms, expires_ms, session_key };
        Ok(login.sign(&[&self.key]).to_bytes())
    }

    /// The key, for what is signed besides intents.
    pub fn key(&self) -> &SecretKey {
        &self.key
    }

    /// Signs any payload as if it were an intent.
    pub fn sign_payload(&self, payload: Vec<u8>) -> Vec<u8> {
        use qb_model::dsse::Purpose;
        use qb_model::envelope::Envelope;
        Envelope::sign(Purpose::Intent, payload, &[&self.key]).to_bytes()
    }
}

/// An envelope with one byte of its payload changed, which stays the JSON of an intent.
///
/// # Errors
/// The envelope is none, or has no such text.
pub fn altered(envelope: &[u8], from: &str, to: &str) -> Result<Vec<u8>> {
    use base64::engine::general_purpose::STANDARD;
    let mut wire: Value = serde_json::from_slice(envelope)?;
    let payload = STANDARD.decode(wire["payload"].as_str().context("no payload")?)?;
    let text = String::from_utf8(payload)?;
    ensure!(from.len() == to.len() && text.contains(from), "the payload has no {from}");
    wire["payload"] = STANDARD.encode(text.replacen(from, to, 1)).into();
    Ok(serde_json::to_vec(&wire)?)
}
