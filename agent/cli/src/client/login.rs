//! Logging in at a network's door: a signed challenge, bound to the door that was connected to.

use qb_model::document::{Document as _, Login};
use qb_model::dsse::{SecretKey, Signer};
use qb_model::{Millis, NodeId};
use qb_portal::paths;
use qb_portal::view::{LoginChallenge, LoginView};
use zeroize::Zeroizing;

use super::Client;
use crate::error::CliError;

/// How long the signed answer is good for: one round trip, and a clock that is a minute off.
const LIFE_MS: u64 = 110_000;

impl Client {
    /// Logs in. The key of the door must be that of the node that proved itself in the handshake.
    ///
    /// # Errors
    /// The door is another one than it says, or refuses.
    pub async fn login(
        &mut self,
        signer: &dyn Signer,
        node: NodeId,
        now: Millis,
    ) -> Result<LoginView, CliError> {
        let challenge: LoginChallenge = self.get(paths::LOGIN).await?;
        if challenge.server_key != node.public_key() {
            return Err(CliError::refused("The door asks for a login with another key than its own."));
        }
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut())
            .map_err(|e| CliError::failed(format!("The system gives no random bytes: {e}.")))?;
        let login = Login {
            origin: self.door().to_string(),
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
