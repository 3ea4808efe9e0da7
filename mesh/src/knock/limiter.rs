//! How often and how many at once strangers may knock. Pure: time is given in milliseconds.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::limits::{KNOCK_BURST, KNOCK_RATE, KNOCK_SOURCES, KNOCKS, KNOCKS_PER_SUBNET};

/// A token is a thousand of these, so that whole numbers suffice.
const TOKEN: u64 = 1_000;

/// Why a knock is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Busy {
    /// The address knocks too often.
    #[error("this address knocks too often")]
    Rate,
    /// Its subnet has too many knocks open.
    #[error("too many knocks from this subnet at once")]
    Subnet,
    /// Too many knocks are open in all.
    #[error("too many knocks at once")]
    Full,
}

/// A token bucket per source address, and counts of open knocks.
#[derive(Debug, Default)]
pub(crate) struct KnockLimiter {
    sources: HashMap<IpAddr, Bucket>,
    subnets: HashMap<IpAddr, usize>,
    open: usize,
}

#[derive(Debug)]
struct Bucket {
    level: u64,
    at: u64,
}

impl Bucket {
    fn refill(&mut self, now_ms: u64) {
        let gained = now_ms.saturating_sub(self.at).saturating_mul(KNOCK_RATE * TOKEN) / 1_000;
        self.level = self.level.saturating_add(gained).min(KNOCK_BURST * TOKEN);
        self.at = now_ms;
    }
}

impl KnockLimiter {
    /// Lets a knock in, or says why not. Each one let in must be released.
    pub(crate) fn admit(&mut self, now_ms: u64, source: IpAddr) -> Result<(), Busy> {
        if self.open >= KNOCKS {
            return Err(Busy::Full);
        }
        if self.subnets.get(&subnet(source)).is_some_and(|open| *open >= KNOCKS_PER_SUBNET) {
            return Err(Busy::Subnet);
        }
        self.take_token(now_ms, source)?;
        self.open += 1;
        *self.subnets.entry(subnet(source)).or_default() += 1;
        Ok(())
    }

    /// A knock that was let in is over.
    pub(crate) fn release(&mut self, source: IpAddr) {
        self.open = self.open.saturating_sub(1);
        if let Some(open) = self.subnets.get_mut(&subnet(source)) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                self.subnets.remove(&subnet(source));
            }
        }
    }

    fn take_token(&mut self, now_ms: u64, source: IpAddr) -> Result<(), Busy> {
        if !self.sources.contains_key(&source) && self.sources.len() >= KNOCK_SOURCES {
            // A full bucket says no more than no bucket.
            self.sources.retain(|_, bucket| {
                bucket.refill(now_ms);
                bucket.level < KNOCK_BURST * TOKEN
            });
            if self.sources.len() >= KNOCK_SOURCES {
                return Err(Busy::Full);
            }
        }
        let fresh = Bucket { level: KNOCK_BURST * TOKEN, at: now_ms };
        let bucket = self.sources.entry(source).or_insert(fresh);
        bucket.refill(now_ms);
        bucket.level = bucket.level.checked_sub(TOKEN).ok_or(Busy::Rate)?;
        Ok(())
    }
}

/// The /24 of a v4 address (mapped ones too), the /64 of a v6 address.
fn subnet(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(ip) => {
            let s = ip.segments();
            IpAddr::from([s[0], s[1], s[2], s[3], 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(c: u8, d: u8) -> IpAddr {
        IpAddr::from([10, 0, c, d])
    }

    #[test]
    fn one_per_second_after_the_burst() {
        let mut limiter = KnockLimiter::default();
        for _ in 0..KNOCK_BURST {
            assert_eq!(limiter.admit(0, v4(0, 1)), Ok(()));
            limiter.release(v4(0, 1));
        }
        for (now, want) in [
            (0, Err(Busy::Rate)),
            (999, Err(Busy::Rate)),
            (1_000, Ok(())),
            (1_001, Err(Busy::Rate)),
            (2_000, Ok(())),
        ] {
            assert_eq!(limiter.admit(now, v4(0, 1)), want, "at {now}");
        }
        assert_eq!(limiter.admit(2_000, v4(0, 2)), Ok(()), "another address has its own rate");
    }

    #[test]
    fn a_subnet_and_the_whole_are_bounded_at_once() {
        let mut limiter = KnockLimiter::default();
        for d in 0..KNOCKS_PER_SUBNET as u8 {
            assert_eq!(limiter.admit(0, v4(0, d)), Ok(()));
        }
        assert_eq!(limiter.admit(0, v4(0, 200)), Err(Busy::Subnet));
        for n in 0..(KNOCKS - KNOCKS_PER_SUBNET) as u16 {
            let [high, low] = n.to_be_bytes();
            assert_eq!(limiter.admit(0, IpAddr::from([11, high, low, 1])), Ok(()));
        }
        assert_eq!(limiter.admit(0, v4(9, 9)), Err(Busy::Full));
        limiter.release(v4(0, 0));
        assert_eq!(limiter.admit(0, v4(0, 200)), Ok(()));
    }

    #[test]
    fn sources_are_bounded_and_idle_ones_make_room() {
        let mut limiter = KnockLimiter::default();
        for n in 0..KNOCK_SOURCES as u16 {
            let [high, low] = n.to_be_bytes();
            let source = IpAddr::from([12, high, low, 1]);
            assert_eq!(limiter.admit(0, source), Ok(()));
            limiter.release(source);
        }
        assert_eq!(limiter.admit(0, v4(0, 1)), Err(Busy::Full));
        assert_eq!(limiter.admit(1_000, v4(0, 1)), Ok(()));
        assert_eq!(limiter.sources.len(), 1);
    }

    #[test]
    fn v6_is_counted_by_its_64() {
        let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(subnet(parse("2001:db8:1:2:3:4:5:6")), parse("2001:db8:1:2::"));
        assert_eq!(subnet(parse("::ffff:10.1.2.3")), parse("10.1.2.0"));
    }
}
