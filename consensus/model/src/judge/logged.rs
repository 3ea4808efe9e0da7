//! Judging again what a log says was judged: for snapshots, executors and audits.

use super::stages::{Stop, check_site, check_trust_head, window};
use super::{Record, Refusal, Signed, Verified, read, signed};
use crate::ids::Millis;
use crate::intent::Expect;
use crate::outcome::Reason;
use crate::trust::{Shortfall, TrustState, authority};

/// Why an intent in a log cannot have been accepted at its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoggedError {
    /// Nobody who might sign had signed it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It would have been rejected.
    #[error(transparent)]
    Rejected(#[from] Reason),
    /// Too few admins had signed.
    #[error("{have} admins signed, {need} had to")]
    Pending {
        /// Admins who signed with the power to.
        have: u8,
        /// Admins who had to.
        need: u8,
    },
}

/// Verifies an intent that a log says was accepted at `log_time` under `trust`: signatures, author,
/// site, window, authority, trust head. What only the moment knew (replay table, anchors, `after`,
/// generations) is not judged again: the chain and the checkpoints stand for it.
///
/// # Errors
/// It cannot have been accepted.
pub fn verify_logged(trust: &TrustState, envelope: &[u8], log_time: Millis) -> Result<Verified, LoggedError> {
    let envelope = read(envelope)?;
    let digest = envelope.digest();
    let Signed { intent, record, signers } = signed(&envelope, digest, trust, log_time)?;
    check_site(trust.site(), &intent)?;
    match window(trust, &intent, log_time) {
        Ok(()) => {}
        Err(Stop::Hold(reason) | Stop::Reject(reason)) => return Err(reason.into()),
        Err(Stop::Pending { have, need }) => return Err(LoggedError::Pending { have, need }),
    }
    let role = match authority(trust, &intent, &signers) {
        Ok(authority) => authority.role,
        Err(Shortfall::Refused(reason)) => return Err(reason.into()),
        Err(Shortfall::Pending { have, need }) => return Err(LoggedError::Pending { have, need }),
    };
    for expect in &intent.expect {
        if let Expect::Trust { hash } = expect {
            check_trust_head(trust, &intent, hash)?;
        }
    }
    Ok(Verified { intent, record, role, signers })
}

/// Who signed an envelope of an intent validly under `trust`, with its digest, whatever became of it.
///
/// # Errors
/// Nobody who might sign had signed it.
pub fn verify_author(trust: &TrustState, envelope: &[u8], log_time: Millis) -> Result<Record, Refusal> {
    let envelope = read(envelope)?;
    signed(&envelope, envelope.digest(), trust, log_time).map(|s| s.record)
}
