//! Logging in at a network's door: a signed challenge, bound to the door that was connected to.

use qb_model::document::{Document as _, Login};
use qb_model::dsse::{SecretKey, Signer as _};
use qb_model::words::fingerprint;
use qb_model::{Millis, PublicKey};
use qb_portal::paths;
use qb_portal::view::{LoginChallenge, LoginView};
use zeroize::Zeroizing;

use super::Client;
use crate::error::CliError;

/// How long the signed answer is good for: one round trip, and a clock that is a minute off.
const LIFE_MS: u64 = 110_000;

impl Client {
    /// What the door asks to be signed.
    ///
    /// # Errors
    /// The door does not answer, or has no login.
    pub async fn challenge(&self) -> Result<LoginChallenge, CliError> {
        self.get(paths::LOGIN).await
    }

    /// Logs in. The key that the door names must be the one that is expected there: of the node that
    /// proved itself in the handshake, or of the relay as the site trusts it.
    ///
    /// # Errors
    /// The door is another one than it says, or refuses.
    pub async fn login(
        &mut self,
        signer: &SecretKey,
        server: PublicKey,
        now: Millis,
    ) -> Result<LoginView, CliError> {
        let challenge = self.challenge().await?;
        if challenge.server_key != server {
            let door = self.door();
            let text = format!("{door} asks for a login with another key than the one that is known of it.");
            return Err(CliError::refused(text).remedy(match door.relay() {
                Some(url) => format!(
                    "it says {}, known is {}; if the relay has a new key, an owner adds it: qb relay add {url}",
                    fingerprint(&challenge.server_key.0),
                    fingerprint(&server.0)
                ),
                None => "qb doctor".to_owned(),
            }));
        }
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut())
            .map_err(|e| CliError::failed(format!("The system gives no random bytes: {e}.")))?;
        let login = Login {
            origin: self.door().origin(),
            server_key: challenge.server_key,
            nonce: challenge.nonce,
            issued_ms: now,
            expires_ms: now.plus(LIFE_MS),
            session_key: SecretKey::from_bytes(&seed).public_key(),
        };
        let envelope = login.sign(&[signer]).to_bytes();
        let mut view: LoginView = self.send(paths::LOGIN, "application/json", envelope.into()).await?;
        self.set_token(Zeroizing::new(std::mem::take(&mut view.token)));
        Ok(view)
    }
}
