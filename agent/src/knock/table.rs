//! Who knocks here: bounded, the oldest unconfirmed of the fullest subnet leaves first. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use qb_model::{Millis, NodeId};

use crate::rpc::Waiting;

/// Most nodes in the table.
pub const MAX_WAITING: usize = 256;
/// A node that has not knocked for this long is gone, in milliseconds.
pub const FORGET_MS: u64 = 60_000;

/// The knocks, by node.
#[derive(Debug, Default)]
pub struct KnockTable {
    entries: BTreeMap<NodeId, (Waiting, [u8; 8])>,
}

/// The first bytes of an address that a subnet shares: /24 of IPv4, /64 of IPv6.
fn subnet(address: IpAddr) -> [u8; 8] {
    let mut out = [0; 8];
    match address {
        IpAddr::V4(v4) => out[..3].copy_from_slice(&v4.octets()[..3]),
        IpAddr::V6(v6) => out.copy_from_slice(&v6.octets()[..8]),
    }
    out
}

impl KnockTable {
    /// Takes a knock in. A repeated one keeps its first time.
    pub fn heard(&mut self, mut knock: Waiting, from: IpAddr) {
        let net = subnet(from);
        if let Some((held, _)) = self.entries.get(&knock.node) {
            knock.since = held.since;
        } else if self.entries.len() >= MAX_WAITING {
            self.make_room();
        }
        self.entries.insert(knock.node, (knock, net));
    }

    fn make_room(&mut self) {
        let mut counts: BTreeMap<[u8; 8], usize> = BTreeMap::new();
        for (_, net) in self.entries.values() {
            *counts.entry(*net).or_default() += 1;
        }
        let Some((fullest, _)) = counts.into_iter().max_by_key(|(_, n)| *n) else { return };
        let oldest = self
            .entries
            .values()
            .filter(|(_, net)| *net == fullest)
            .min_by_key(|(w, _)| w.last)
            .map(|(w, _)| w.node);
        if let Some(node) = oldest {
            self.entries.remove(&node);
        }
    }

    /// Drops nodes that are no longer waiting or have gone silent.
    pub fn prune(&mut self, now: Millis, waits: impl Fn(&NodeId) -> bool) {
        self.entries.retain(|node, (w, _)| waits(node) && now.since(w.last) < FORGET_MS);
    }

    /// Who waits, by node.
    pub fn list(&self) -> Vec<Waiting> {
        self.entries.values().map(|(w, _)| w.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qb_model::{Digest, facts::Facts};

    fn knock(node: u16, last: u64) -> Waiting {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&node.to_be_bytes());
        Waiting {
            node: NodeId(id),
            host: format!("n{node}").parse().unwrap(),
            knock: Digest([0; 32]),
            facts: Facts {
                host: "n".parse().unwrap(),
                addresses: Vec::new(),
                cores: 1,
                memory_bytes: 0,
                disk_bytes: 0,
                disk_free_bytes: 0,
                os: String::new(),
                kernel: String::new(),
                arch: String::new(),
                agent: String::new(),
                zone: String::new(),
            },
            since: Millis(last),
            last: Millis(last),
            mesh: Vec::new(),
        }
    }

    #[test]
    fn a_flood_from_one_subnet_does_not_push_out_another() {
        let mut table = KnockTable::default();
        table.heard(knock(9_999, 1), "10.9.9.9".parse().unwrap());
        for n in 0..2_000 {
            table.heard(knock(n, 100 + u64::from(n)), "10.0.0.1".parse().unwrap());
        }
        assert_eq!(table.list().len(), MAX_WAITING);
        assert!(table.list().iter().any(|w| w.host.as_str() == "n9999"));
    }

    #[test]
    fn the_first_time_is_kept_and_silence_forgets() {
        let mut table = KnockTable::default();
        table.heard(knock(1, 10), "10.0.0.1".parse().unwrap());
        table.heard(knock(1, 50), "10.0.0.1".parse().unwrap());
        assert_eq!(table.list()[0].since, Millis(10));
        table.prune(Millis(50 + FORGET_MS), |_| true);
        assert!(table.list().is_empty());
    }
}
