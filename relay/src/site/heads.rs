//! What gateways handed out of the voters' signatures, compared over time: the relay vouches for
//! nothing, but says when what it carries cannot be.

use std::sync::{Mutex, PoisonError};

use qb_model::attest::{Attestation, Memory, Verdict, judge, verify};
use qb_model::{Millis, SiteId};

use super::{Mark, Marks};
use crate::limits::REFRESH;

/// The newest state that voters signed, as far as this relay has verified it.
#[derive(Default)]
pub(crate) struct Heads {
    inner: Mutex<(Option<Memory>, Option<u64>)>,
}

impl Heads {
    /// Verifies what a gateway handed out, at most once in the time between two reads of the views: it
    /// costs a signature for each entry of the trust log. Marks two states that cannot both be.
    pub(crate) fn look(&self, site: SiteId, document: &Attestation, now: u64, marks: &Marks) {
        {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let every = u64::try_from(REFRESH.as_millis()).unwrap_or(u64::MAX);
            if inner.1.is_some_and(|last| now.saturating_sub(last) < every) {
                return;
            }
            inner.1 = Some(now);
        }
        // What does not verify is shown as it is: the reader verifies it too, and says why not.
        let Ok(seen) = document.decode().and_then(|proof| verify(site, &proof)) else { return };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Verdict::Split { index, .. } = judge(inner.0.as_ref(), &seen, Millis(now)) {
            marks.put(Mark::Heads(index), now);
        }
        Memory::advance(&mut inner.0, &seen);
    }
}
