//! How many downloads an address may begin: so many at once, and then one every so often.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use qb_portal::room::holder;

use crate::limits::{DOWNLOAD_EVERY, DOWNLOADERS, DOWNLOADS};

/// What addresses have begun, as the time when each will have all its room again.
#[derive(Default)]
pub(super) struct Rate(Mutex<HashMap<IpAddr, Instant>>);

impl Rate {
    /// Counts a download. The time to wait if it is one too many. Connections without an address are
    /// not counted.
    pub(super) fn admit(&self, from: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let Some(from) = from.map(holder) else { return Ok(()) };
        // Whole after every statement, so a panic elsewhere does not spoil it.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = all.get(&from).copied().unwrap_or(now).max(now);
        let next = free + DOWNLOAD_EVERY;
        let most = DOWNLOAD_EVERY * DOWNLOADS;
        if next.duration_since(now) > most {
            return Err(next.duration_since(now) - most);
        }
        if all.len() >= DOWNLOADERS && !all.contains_key(&from) {
            let quiet = all.iter().min_by_key(|(_, free)| **free).map(|(who, _)| *who);
            quiet.and_then(|who| all.remove(&who));
        }
        all.insert(from, next);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u16) -> Option<IpAddr> {
        let [a, b] = n.to_be_bytes();
        Some(IpAddr::from([10, 1, a, b]))
    }

    #[test]
    fn an_address_has_its_share_and_gets_it_back_with_time() {
        let (rate, now) = (Rate::default(), Instant::now());
        (0..DOWNLOADS).for_each(|n| assert_eq!(rate.admit(ip(1), now), Ok(()), "{n}"));
        assert_eq!(rate.admit(ip(1), now), Err(DOWNLOAD_EVERY));
        assert_eq!(rate.admit(ip(2), now), Ok(()), "another has its own");
        assert_eq!(rate.admit(None, now), Ok(()));
        let later = now + DOWNLOAD_EVERY;
        assert_eq!(rate.admit(ip(1), later), Ok(()));
        assert!(rate.admit(ip(1), later).is_err());
        let rested = later + DOWNLOAD_EVERY * DOWNLOADS;
        (0..DOWNLOADS).for_each(|_| assert_eq!(rate.admit(ip(1), rested), Ok(())));
        assert!(rate.admit(ip(1), rested).is_err());
    }

    #[test]
    fn all_of_one_ipv6_network_are_one() {
        let (rate, now) = (Rate::default(), Instant::now());
        let v6 = |n: u16| Some(IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, n]));
        (0..DOWNLOADS).for_each(|n| assert_eq!(rate.admit(v6(n as u16), now), Ok(())));
        assert!(rate.admit(v6(9_999), now).is_err());
    }

    #[test]
    fn the_table_ends_and_who_is_busy_stays_in_it() {
        let (rate, now) = (Rate::default(), Instant::now());
        (0..DOWNLOADS).for_each(|_| assert!(rate.admit(ip(0), now).is_ok()));
        for n in 1..=2 * DOWNLOADERS as u16 {
            assert!(rate.admit(ip(n), now).is_ok());
        }
        assert_eq!(rate.0.lock().unwrap_or_else(PoisonError::into_inner).len(), DOWNLOADERS);
        assert!(rate.admit(ip(0), now).is_err());
    }
}
