//! What the pod network of this host is to be, computed from who the members are, and what has to be
//! changed for that. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

pub(crate) use qb_model::settings::Subnet;
use serde::{Deserialize, Serialize};

/// Slots of a cluster: each has an address of its own between the hosts.
pub(crate) const SLOTS: u16 = 256;
/// Bits of the network of one slot's pods.
const SLOT_BITS: u8 = 24;
/// The VXLAN device.
pub(crate) const DEVICE: &str = "qb-vx0";
/// The bridge that the CNI plugin makes for pods.
pub(crate) const BRIDGE: &str = "cni0";
/// The network's number in every packet between hosts.
const VXLAN_ID: u32 = 42;
/// UDP port of the overlay.
const VXLAN_PORT: u16 = 8472;
/// Bytes that VXLAN adds to a packet.
const VXLAN_BYTES: u32 = 50;
/// Largest packet of pods, however large those of the host's link may be: the way between two hosts is
/// known to carry 1500.
const MOST_MTU: u32 = 1450;
/// Smallest packet that IPv6, and with it a pod that speaks it, may count on.
const LEAST_MTU: u32 = 1280;

/// Addresses that only one link knows, where a cloud answers and old kubelets look for one.
pub(crate) const LINK_LOCAL: Subnet = Subnet { address: Ipv4Addr::new(169, 254, 0, 0), bits: 16 };

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mac(pub(crate) [u8; 6]);

/// The networks of a cluster that its hosts have links and routes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Networks {
    /// All pods.
    pub(crate) pods: Subnet,
    /// The hosts' own addresses between each other's pods.
    pub(crate) overlay: Subnet,
}

impl Networks {
    /// The pods of one slot; none if the network has no room for it.
    pub(crate) fn pods_of(self, slot: u16) -> Option<Subnet> {
        let address = self.pods.address.to_bits().checked_add(u32::from(slot) << (32 - SLOT_BITS))?;
        let subnet = Subnet { address: Ipv4Addr::from_bits(address), bits: SLOT_BITS };
        self.pods.holds(subnet).then_some(subnet)
    }

    /// The overlay address of one slot; none if the network has no room for it.
    pub(crate) fn overlay_address(self, slot: u16) -> Option<Ipv4Addr> {
        let address = self.overlay.address.to_bits().checked_add(u32::from(slot) + 1)?;
        let address = Ipv4Addr::from_bits(address);
        self.overlay.holds(Subnet::host(address)).then_some(address)
    }

    /// Whether a network is in one of these.
    pub(crate) fn hold(self, subnet: Subnet) -> bool {
        self.pods.holds(subnet) || self.overlay.holds(subnet)
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of pods and {} between hosts", self.pods, self.overlay)
    }
}

/// The hardware address of one slot's device. Given by the slot, nobody has to ask who has it: no
/// broadcast, and nothing that a forged packet could teach.
fn mac(slot: u16) -> Mac {
    let [high, low] = slot.to_be_bytes();
    Mac([0x0a, b'q', b'b', 0, high, low])
}

/// The largest packet of pods on a link that carries `link` bytes.
pub(crate) fn mtu(link: u32) -> u32 {
    link.saturating_sub(VXLAN_BYTES).clamp(LEAST_MTU, MOST_MTU)
}

/// Where a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seat {
    /// Its number in the cluster, which gives its pods' addresses.
    pub(crate) slot: u16,
    /// The address that its host has for the others.
    pub(crate) address: Ipv4Addr,
}

/// Who takes part in the pod network. This is what `network.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seats {
    /// Version of this format.
    pub(crate) v: u8,
    /// This host.
    pub(crate) own: Seat,
    /// The others.
    pub(crate) peers: BTreeSet<Seat>,
    /// The cluster's networks.
    pub(crate) networks: Networks,
    /// Whether link-local addresses are to be unreachable where nothing else is said of them: kubelets
    /// of old look for a cloud there, and wait long where nobody answers.
    pub(crate) quiet_link_local: bool,
}

/// Why members cannot make a pod network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SeatsError {
    #[error("the format of the pod network is {0}, this version knows 1; install the newer qb-agent again")]
    Version(u8),
    #[error("slot {0} has no room in the networks {1}; detach that node and attach it again")]
    Slot(u16, Networks),
    #[error("the networks {0} have addresses in common; detach this node and attach it again")]
    Overlap(Networks),
    #[error("slot {0} is given twice; detach one of the two nodes and attach it again")]
    SlotTwice(u16),
    #[error("two members have the address {0}: give each host its own, then restart its qb-agent")]
    AddressTwice(Ipv4Addr),
    #[error(
        "{0} is no address that other hosts reach: set `listen` in that host's agent configuration to one of its network"
    )]
    Address(Ipv4Addr),
}

impl Seats {
    /// Goes on where these can be the members of one pod network.
    pub(crate) fn check(&self) -> Result<(), SeatsError> {
        if self.v != 1 {
            return Err(SeatsError::Version(self.v));
        }
        let networks = self.networks;
        if networks.pods.overlaps(networks.overlay) {
            return Err(SeatsError::Overlap(networks));
        }
        let (mut slots, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for seat in std::iter::once(&self.own).chain(&self.peers) {
            let inside = networks.hold(Subnet::host(seat.address));
            let room = networks.pods_of(seat.slot).and(networks.overlay_address(seat.slot));
            if seat.slot >= SLOTS || room.is_none() {
                return Err(SeatsError::Slot(seat.slot, networks));
            }
            if seat.address.is_unspecified()
                || seat.address.is_loopback()
                || seat.address.is_multicast()
                || seat.address.is_broadcast()
                || inside
            {
                return Err(SeatsError::Address(seat.address));
            }
            if !slots.insert(seat.slot) {
                return Err(SeatsError::SlotTwice(seat.slot));
            }
            if !addresses.insert(seat.address) {
                return Err(SeatsError::AddressTwice(seat.address));
            }
        }
        Ok(())
    }
}

/// What cannot be changed on a device that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vxlan {
    pub(crate) id: u32,
    pub(crate) port: u16,
    pub(crate) local: Ipv4Addr,
    pub(crate) learning: bool,
    pub(crate) mac: Mac,
}

/// What can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) mtu: u32,
    pub(crate) up: bool,
}

/// A device and all that hangs on it, as it is to be or as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Overlay {
    /// None if there is no device. `None` within: it is of another kind.
    pub(crate) device: Option<(Option<Vxlan>, Running)>,
    /// Its addresses.
    pub(crate) addresses: BTreeSet<Subnet>,
    /// To which host a frame for a hardware address goes.
    pub(crate) forwards: BTreeSet<(Mac, Ipv4Addr)>,
    /// Which hardware address an overlay address has.
    pub(crate) neighbours: BTreeMap<Ipv4Addr, Mac>,
    /// By which overlay address a network is reached.
    pub(crate) routes: BTreeMap<Subnet, Ipv4Addr>,
    /// Whether our mark of link-local addresses as unreachable is there.
    pub(crate) quiet: bool,
}

/// What is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Actual {
    pub(crate) overlay: Overlay,
    /// Networks that others have routes to, with the names of the links.
    pub(crate) foreign: BTreeSet<(Subnet, String)>,
    /// Bytes that the link with the own address carries; none if no link has it.
    pub(crate) link_mtu: Option<u32>,
}

/// What is to be there, on a host whose link carries so many bytes. `link_local_taken`: others say
/// something about link-local addresses.
pub(crate) fn wanted(seats: &Seats, link_mtu: u32, link_local_taken: bool) -> Overlay {
    let own = seats.own;
    let device =
        Vxlan { id: VXLAN_ID, port: VXLAN_PORT, local: own.address, learning: false, mac: mac(own.slot) };
    let (peers, networks) = (seats.peers.iter(), seats.networks);
    let at = |seat: &Seat| networks.overlay_address(seat.slot);
    // All seats have room: they were checked.
    Overlay {
        device: Some((Some(device), Running { mtu: mtu(link_mtu), up: true })),
        addresses: at(&own)
            .map(|address| Subnet { address, bits: networks.overlay.bits })
            .into_iter()
            .collect(),
        forwards: peers.clone().map(|peer| (mac(peer.slot), peer.address)).collect(),
        neighbours: peers.clone().filter_map(|peer| Some((at(peer)?, mac(peer.slot)))).collect(),
        routes: peers.filter_map(|peer| Some((networks.pods_of(peer.slot)?, at(peer)?))).collect(),
        quiet: seats.quiet_link_local && !link_local_taken,
    }
}

/// A network of somebody else where ours are: the first such.
pub(crate) fn conflict(networks: Networks, actual: &Actual) -> Option<&(Subnet, String)> {
    actual.foreign.iter().find(|(subnet, _)| networks.hold(*subnet))
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    DropDevice,
    MakeDevice(Vxlan),
    Run(Running),
    DropAddress(Subnet),
    AddAddress(Subnet),
    DropForward(Mac, Ipv4Addr),
    AddForward(Mac, Ipv4Addr),
    DropNeighbour(Ipv4Addr),
    SetNeighbour(Ipv4Addr, Mac),
    DropRoute(Subnet),
    SetRoute(Subnet, Ipv4Addr),
    Quiet(bool),
}

/// What makes `actual` what is wanted, in this order. Nothing if it is so. What is stale goes first,
/// routes come last: no packet is led where nobody takes it.
pub(crate) fn changes(wanted: &Overlay, actual: &Overlay) -> Vec<Change> {
    let mut changes = Vec::new();
    let kept = wanted.device.map(|(kind, _)| kind) == actual.device.map(|(kind, _)| kind);
    // What hangs on a device goes with it.
    let nothing = Overlay { quiet: actual.quiet, ..Overlay::default() };
    let now = if kept { actual } else { &nothing };
    if !kept && actual.device.is_some() {
        changes.push(Change::DropDevice);
    }
    changes.extend(stale(wanted, now));
    if let Some((Some(kind), running)) = wanted.device {
        if !kept {
            changes.push(Change::MakeDevice(kind));
        }
        if now.device.is_none_or(|(_, now)| now != running) {
            changes.push(Change::Run(running));
        }
    }
    changes.extend(missing(wanted, now));
    changes
}

fn stale<'a>(wanted: &'a Overlay, now: &'a Overlay) -> impl Iterator<Item = Change> + 'a {
    let routes = now.routes.keys().filter(|to| !wanted.routes.contains_key(to));
    let neighbours = now.neighbours.keys().filter(|of| !wanted.neighbours.contains_key(of));
    let forwards = now.forwards.difference(&wanted.forwards);
    let addresses = now.addresses.difference(&wanted.addresses);
    routes
        .map(|to| Change::DropRoute(*to))
        .chain(neighbours.map(|of| Change::DropNeighbour(*of)))
        .chain(forwards.map(|(mac, to)| Change::DropForward(*mac, *to)))
        .chain(addresses.map(|address| Change::DropAddress(*address)))
        .chain((now.quiet && !wanted.quiet).then_some(Change::Quiet(false)))
}

fn missing<'a>(wanted: &'a Overlay, now: &'a Overlay) -> impl Iterator<Item = Change> + 'a {
    let addresses = wanted.addresses.difference(&now.addresses);
    let forwards = wanted.forwards.difference(&now.forwards);
    let neighbours = wanted.neighbours.iter().filter(|(of, mac)| now.neighbours.get(of) != Some(mac));
    let routes = wanted.routes.iter().filter(|(to, via)| now.routes.get(to) != Some(via));
    addresses
        .map(|address| Change::AddAddress(*address))
        .chain(forwards.map(|(mac, to)| Change::AddForward(*mac, *to)))
        .chain(neighbours.map(|(of, mac)| Change::SetNeighbour(*of, *mac)))
        .chain(routes.map(|(to, via)| Change::SetRoute(*to, *via)))
        .chain((wanted.quiet && !now.quiet).then_some(Change::Quiet(true)))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
