//! The hash of the whole state: what voters compare by signing it.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::SiteState;
use crate::ids::Digest;

/// Separates the state's hash from all others.
const DOMAIN: &[u8] = b"qb/state/1\0";

/// Hashes while postcard writes, so that no copy of the state is made.
struct Hashing(Sha256);

impl postcard::ser_flavors::Flavor for Hashing {
    type Output = Digest;

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.update([data]);
        Ok(())
    }

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.update(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Digest> {
        Ok(Digest(self.0.finalize().into()))
    }
}

fn hashed<T: Serialize>(into: Hashing, value: &T) -> Digest {
    // Fails only for types that postcard cannot hold, none of which the state has.
    postcard::serialize_with_flavor(value, into).unwrap_or(Digest([0; 32]))
}

impl SiteState {
    /// SHA-256 over a domain and the postcard form of everything but the audit records and the ring of
    /// anchors: the head of the chain, which is in it, commits to both, and they are what grows. So the
    /// cost follows the number of nodes and clusters and of intents that may still be repeated.
    pub fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        let Self {
            format,
            site,
            name,
            charter,
            founded,
            epoch,
            feature_level,
            log_time,
            issued_floor,
            applied,
            trust,
            replay,
            anchors: _,
            chain,
            chained,
            nodes,
            tombstones,
            clusters,
            generations,
            intents,
            seats,
            agents,
            tokens,
            audit: _,
        } = self;
        let head = (format, site, name, charter, founded, epoch, feature_level, log_time, issued_floor);
        let body = (nodes, tombstones, clusters, generations, intents, seats, agents, tokens);
        hashed(Hashing(hash), &(head, (applied, trust, replay, chain, chained), body))
    }
}
