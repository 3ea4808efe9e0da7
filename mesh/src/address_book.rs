//! Where nodes were seen. Pure. Addresses are hints: the handshake must prove the node. A failed
//! dial takes nothing away, since a peer that is down comes back where it was.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use qb_model::NodeId;

use crate::limits::{ADDRESS_BOOK_NODES, ADDRESSES_PER_NODE};

/// Addresses per node: confirmed ones first, the newest of each kind first.
#[derive(Debug, Default)]
pub(crate) struct AddressBook {
    nodes: BTreeMap<NodeId, Entry>,
    /// Counts changes: the entry with the lowest stamp leaves a full book.
    clock: u64,
}

#[derive(Debug, Default)]
struct Entry {
    confirmed: Vec<SocketAddr>,
    heard: Vec<SocketAddr>,
    touched: u64,
}

impl Entry {
    fn all(&self) -> Vec<SocketAddr> {
        self.confirmed.iter().chain(&self.heard).copied().collect()
    }

    /// Drops the oldest that was only heard, then the oldest confirmed, down to the bound.
    fn trim(&mut self) {
        while self.confirmed.len() + self.heard.len() > ADDRESSES_PER_NODE {
            if self.heard.pop().is_none() {
                self.confirmed.pop();
            }
        }
    }
}

impl AddressBook {
    /// Adds addresses that somebody told, best first. Returns whether one of them is new.
    pub(crate) fn learn(&mut self, node: NodeId, addresses: &[SocketAddr]) -> bool {
        let told = addresses.iter().filter(|a| dialable(a)).take(ADDRESSES_PER_NODE);
        let told: Vec<SocketAddr> = told.copied().collect();
        if told.is_empty() {
            return false;
        }
        let entry = self.entry(node);
        let before = entry.all();
        for address in told.iter().rev() {
            if !entry.confirmed.contains(address) {
                entry.heard.retain(|a| a != address);
                entry.heard.insert(0, *address);
            }
        }
        entry.trim();
        entry.all().iter().any(|a| !before.contains(a))
    }

    /// The node proved its key at this address.
    pub(crate) fn confirm(&mut self, node: NodeId, address: SocketAddr) {
        let entry = self.entry(node);
        entry.heard.retain(|a| *a != address);
        entry.confirmed.retain(|a| *a != address);
        entry.confirmed.insert(0, address);
        entry.trim();
    }

    /// The node's addresses, best first.
    pub(crate) fn of(&self, node: NodeId) -> Vec<SocketAddr> {
        self.nodes.get(&node).map(Entry::all).unwrap_or_default()
    }

    /// Every node's addresses.
    pub(crate) fn all(&self) -> BTreeMap<NodeId, Vec<SocketAddr>> {
        self.nodes.iter().map(|(node, entry)| (*node, entry.all())).collect()
    }

    fn entry(&mut self, node: NodeId) -> &mut Entry {
        self.clock += 1;
        if !self.nodes.contains_key(&node) && self.nodes.len() >= ADDRESS_BOOK_NODES {
            let oldest = self.nodes.iter().min_by_key(|(_, e)| e.touched).map(|(n, _)| *n);
            oldest.map(|n| self.nodes.remove(&n));
        }
        let entry = self.nodes.entry(node).or_default();
        entry.touched = self.clock;
        entry
    }
}

/// Nobody listens on port 0 or on an unspecified address.
fn dialable(address: &SocketAddr) -> bool {
    address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 7000))
    }
    const NODE: NodeId = NodeId([1; 32]);

    #[test]
    fn newest_confirmed_comes_first() {
        let mut book = AddressBook::default();
        assert!(book.learn(NODE, &[address(1), address(2)]));
        assert!(!book.learn(NODE, &[address(2)]), "known already");
        assert_eq!(book.of(NODE), [address(2), address(1)]);
        book.confirm(NODE, address(1));
        book.confirm(NODE, address(3));
        assert!(book.learn(NODE, &[address(4)]));
        assert_eq!(book.of(NODE), [address(3), address(1), address(4), address(2)]);
        assert!(!book.learn(NODE, &[address(3)]), "stays confirmed");
        assert_eq!(book.of(NODE)[0], address(3));
    }

    #[test]
    fn addresses_are_bounded_and_confirmed_ones_stay() {
        let mut book = AddressBook::default();
        book.confirm(NODE, address(200));
        for last in 1..100 {
            book.learn(NODE, &[address(last)]);
        }
        assert_eq!(book.of(NODE).len(), ADDRESSES_PER_NODE);
        assert_eq!(book.of(NODE)[..2], [address(200), address(99)]);
        for last in 1..100 {
            book.confirm(NODE, address(last));
        }
        assert_eq!(book.of(NODE).len(), ADDRESSES_PER_NODE);
        assert_eq!(book.of(NODE)[0], address(99));
    }

    #[test]
    fn nodes_are_bounded_oldest_out() {
        let mut book = AddressBook::default();
        for n in 0..=ADDRESS_BOOK_NODES {
            let mut id = [0u8; 32];
            id[..8].copy_from_slice(&(n as u64).to_be_bytes());
            book.learn(NodeId(id), &[address(1)]);
        }
        assert_eq!(book.all().len(), ADDRESS_BOOK_NODES);
        assert!(book.of(NodeId([0; 32])).is_empty());
    }

    #[test]
    fn addresses_that_nobody_listens_on_are_left_out() {
        let mut book = AddressBook::default();
        for text in ["0.0.0.0:1", "[::]:1", "127.0.0.1:0", "224.0.0.1:5"] {
            assert!(!book.learn(NODE, &[text.parse().expect("an address")]), "{text}");
        }
        assert!(book.all().is_empty());
    }
}
