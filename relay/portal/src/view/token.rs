//! Join tokens, as the site counts them. A secret is never in a view: a site has none.

use qb_model::{Digest, Millis, Name, PublicKey};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A join token that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Version of this document: 1.
    pub v: u8,
    /// Its public key.
    #[schema(value_type = String)]
    pub token: PublicKey,
    /// The key's fingerprint: what logs of machines name.
    pub fingerprint: String,
    /// Who minted it.
    #[schema(value_type = String)]
    pub by: Name,
    /// The intent that minted it.
    #[schema(value_type = String)]
    pub intent: Digest,
    /// When, by log time.
    #[schema(value_type = u64)]
    pub minted: Millis,
    /// When it ends, by log time.
    #[schema(value_type = u64)]
    pub expires: Millis,
    /// Machines that it lets in.
    pub uses: u16,
    /// Machines that it still lets in.
    pub left: u16,
    /// Host names that it is for; none for all.
    pub host: Option<String>,
    /// Blocks of addresses that its machines knock from; none for everywhere.
    pub addresses: Vec<String>,
    /// Labels of its machines as `key=value`.
    pub labels: Vec<String>,
    /// Whether it lets nobody in, since its minter's key was revoked as compromised.
    pub held: bool,
}
