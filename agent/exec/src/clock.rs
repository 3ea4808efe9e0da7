//! The machine's clock, for labels and expiry. Nothing that replicas must agree on uses it.

use std::time::{SystemTime, UNIX_EPOCH};

use qb_model::ids::Millis;

/// Now. A clock before 1970 reads as 1970.
pub(crate) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
