//! Logging in at a door: what is asked, what comes of it.

use qb_model::action::Role;
use qb_model::{Name, Nonce, PublicKey};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::mirror;

/// What a login must sign, as `login.v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoginChallenge {
    /// Version of this document: 1.
    pub v: u8,
    /// Good once, for two minutes.
    #[schema(value_type = String)]
    pub nonce: Nonce,
    /// The key of the node that answers.
    #[schema(value_type = String)]
    pub server_key: PublicKey,
    /// The origins that this door has. Sign the one that was connected to, never one read here:
    /// this list only explains a refusal.
    pub origins: Vec<String>,
}

/// A session. The token goes into `Authorization: Bearer`, and nowhere else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoginView {
    /// Version of this document: 1.
    pub v: u8,
    /// 32 random bytes as base64url without padding.
    pub token: String,
    /// Who logged in.
    #[schema(value_type = String)]
    pub admin: Name,
    /// The admin's role.
    #[schema(value_type = mirror::Role)]
    pub role: Role,
    /// The key that signed.
    #[schema(value_type = String)]
    pub key: PublicKey,
    /// The session ends after this long without a request.
    pub idle_ms: u64,
    /// The session ends after this long in any case.
    pub max_ms: u64,
}

impl std::fmt::Debug for LoginView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginView")
            .field("admin", &self.admin)
            .field("role", &self.role)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
