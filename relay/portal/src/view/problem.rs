//! The one form of every error.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An error, as `application/problem+json` (RFC 9457), with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{title}: {detail}")]
pub struct Problem {
    /// `https://qb.invalid/problems/CODE`-free: the stable code itself.
    #[serde(rename = "type")]
    pub code: String,
    /// HTTP status.
    pub status: u16,
    /// Short, the same for every occurrence.
    pub title: String,
    /// This occurrence: names the field and the value.
    pub detail: String,
    /// What to do: a command or a sentence.
    pub remedy: Option<String>,
}
