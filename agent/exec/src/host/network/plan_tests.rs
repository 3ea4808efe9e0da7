#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;

fn seat(slot: u16) -> Seat {
    Seat { slot, address: Ipv4Addr::from_bits(Ipv4Addr::new(192, 168, 0, 10).to_bits() + u32::from(slot)) }
}

fn seats(own: u16, peers: impl IntoIterator<Item = u16>) -> Seats {
    let peers = peers.into_iter().filter(|slot| *slot != own).map(seat).collect();
    Seats { v: 1, own: seat(own), peers, networks: built_in(), quiet_link_local: false }
}

fn networks(pods: &str, overlay: &str) -> Networks {
    Networks { pods: pods.parse().unwrap(), overlay: overlay.parse().unwrap() }
}

fn built_in() -> Networks {
    networks("10.244.0.0/16", "10.245.0.0/16")
}

fn pods(slot: u16) -> Subnet {
    built_in().pods_of(slot).unwrap()
}

fn overlay_address(slot: u16) -> Ipv4Addr {
    built_in().overlay_address(slot).unwrap()
}

/// What the kernel makes of a change.
fn apply(overlay: &mut Overlay, change: Change) {
    let there = overlay.device.is_some();
    match change {
        Change::DropDevice => *overlay = Overlay { quiet: overlay.quiet, ..Overlay::default() },
        Change::MakeDevice(kind) => {
            assert!(!there, "there is one already");
            overlay.device = Some((Some(kind), Running { mtu: 1500, up: false }));
        }
        Change::Run(running) => overlay.device.as_mut().unwrap().1 = running,
        Change::DropAddress(address) => assert!(overlay.addresses.remove(&address)),
        Change::AddAddress(address) => assert!(there && overlay.addresses.insert(address)),
        Change::DropForward(mac, to) => assert!(overlay.forwards.remove(&(mac, to))),
        Change::AddForward(mac, to) => assert!(there && overlay.forwards.insert((mac, to))),
        Change::DropNeighbour(of) => assert!(overlay.neighbours.remove(&of).is_some()),
        Change::SetNeighbour(of, mac) => {
            assert!(there);
            overlay.neighbours.insert(of, mac);
        }
        Change::DropRoute(to) => assert!(overlay.routes.remove(&to).is_some()),
        Change::SetRoute(to, via) => {
            let up = overlay.device.unwrap().1.up;
            assert!(up && overlay.neighbours.contains_key(&via), "a route to nowhere");
            overlay.routes.insert(to, via);
        }
        Change::Quiet(quiet) => overlay.quiet = quiet,
    }
}

fn overlays() -> impl Strategy<Value = Overlay> {
    let made = (0..SLOTS, prop::collection::btree_set(0..SLOTS, 0..12), 1300_u32..9000, any::<[bool; 4]>());
    made.prop_map(|(own, peers, mtu, [none, other, down, quiet])| {
        let mut seats = seats(own, peers);
        seats.quiet_link_local = quiet;
        let mut overlay = wanted(&seats, mtu, false);
        if none {
            return Overlay { quiet, ..Overlay::default() };
        }
        if other && let Some((kind, _)) = &mut overlay.device {
            *kind = None;
        }
        if down && let Some((_, running)) = &mut overlay.device {
            running.up = false;
            overlay.routes.clear();
        }
        overlay
    })
}

proptest! {
    #[test]
    fn whatever_is_there_becomes_what_is_wanted(
        own in 0..SLOTS,
        peers in prop::collection::btree_set(0..SLOTS, 0..12),
        actual in overlays(),
    ) {
        let wanted = wanted(&seats(own, peers), 1500, false);
        let mut now = actual;
        for change in changes(&wanted, &now) {
            apply(&mut now, change);
        }
        prop_assert_eq!(&now, &wanted);
        prop_assert_eq!(changes(&wanted, &now), []);
    }

    #[test]
    fn killed_anywhere_it_goes_on(
        peers in prop::collection::btree_set(0..SLOTS, 0..12),
        actual in overlays(),
        done in 0_usize..40,
    ) {
        let wanted = wanted(&seats(3, peers), 1500, false);
        let mut now = actual;
        for change in changes(&wanted, &now).into_iter().take(done) {
            apply(&mut now, change);
        }
        for change in changes(&wanted, &now) {
            apply(&mut now, change);
        }
        prop_assert_eq!(now, wanted);
    }

    #[test]
    fn slots_never_share_anything(one in 0..SLOTS, other in 0..SLOTS) {
        prop_assume!(one != other);
        prop_assert_ne!(pods(one), pods(other));
        prop_assert_ne!(overlay_address(one), overlay_address(other));
        prop_assert_ne!(mac(one), mac(other));
        prop_assert!(built_in().hold(pods(one)));
        prop_assert!(built_in().hold(Subnet::host(overlay_address(one))));
    }

    /// Whatever networks a cluster may have: every slot that it gives has pods and an address of its own,
    /// and no other has.
    #[test]
    fn chosen_networks_have_room_for_their_slots(base: u32, bits in 8_u8..=20, slot in 0..SLOTS) {
        let address = Ipv4Addr::from_bits(base & (u32::MAX << (32 - bits)));
        let settings = qb_model::settings::Settings { pods: Subnet { address, bits }, ..Default::default() };
        prop_assume!(settings.check().is_ok());
        let networks = Networks { pods: settings.pods, overlay: settings.overlay() };
        prop_assert_eq!(networks.pods_of(slot).is_some(), slot < settings.slots());
        prop_assert!(networks.overlay_address(slot).is_some());
        if let Some(pods) = networks.pods_of(slot) {
            prop_assert!(settings.pods.holds(pods) && pods.bits == 24);
        }
    }
}

#[test]
fn three_members_by_slot() {
    let wanted = wanted(&seats(0, [1, 255]), 1500, false);
    let text = |subnet: &Subnet| subnet.to_string();
    assert_eq!(wanted.addresses.iter().map(text).collect::<Vec<_>>(), ["10.245.0.1/16"]);
    let routes: Vec<_> = wanted.routes.iter().map(|(to, via)| format!("{to} via {via}")).collect();
    assert_eq!(routes, ["10.244.1.0/24 via 10.245.0.2", "10.244.255.0/24 via 10.245.1.0"]);
    let forwards: Vec<_> = wanted.forwards.iter().map(|(mac, to)| (mac.0[5], to.to_string())).collect();
    assert_eq!(forwards, [(1, "192.168.0.11".to_owned()), (255, "192.168.1.9".to_owned())]);
}

#[test]
fn networks_of_its_own() {
    let mut seats = seats(0, [1, 15]);
    seats.networks = networks("192.168.16.0/20", "100.127.0.0/16");
    let wanted = wanted(&seats, 1500, false);
    let routes: Vec<_> = wanted.routes.iter().map(|(to, via)| format!("{to} via {via}")).collect();
    assert_eq!(routes, ["192.168.17.0/24 via 100.127.0.2", "192.168.31.0/24 via 100.127.0.16"]);
    assert_eq!(seats.check(), Ok(()));
    seats.peers.insert(seat(16));
    assert_eq!(seats.check(), Err(SeatsError::Slot(16, seats.networks)), "16 parts of it");
    // A host may be where other clusters have their pods, and not where this one has.
    seats.peers = [Seat { slot: 1, address: Ipv4Addr::new(10, 244, 0, 9) }].into();
    assert_eq!(seats.check(), Ok(()));
    let inside = Ipv4Addr::new(192, 168, 31, 9);
    seats.peers = [Seat { slot: 1, address: inside }].into();
    assert_eq!(seats.check(), Err(SeatsError::Address(inside)));
    seats.networks = networks("10.245.0.0/20", "10.245.0.0/16");
    assert_eq!(seats.check(), Err(SeatsError::Overlap(seats.networks)));
}

#[test]
fn a_member_that_left_leaves_nothing() {
    let before = wanted(&seats(0, [1, 2]), 1500, false);
    let after = wanted(&seats(0, [1]), 1500, false);
    let two = seat(2);
    assert_eq!(
        changes(&after, &before),
        [
            Change::DropRoute(pods(2)),
            Change::DropNeighbour(overlay_address(2)),
            Change::DropForward(mac(2), two.address),
        ]
    );
}

#[test]
fn a_member_with_another_address_is_reached_there() {
    let mut moved = seats(0, []);
    let to = Ipv4Addr::new(192, 168, 9, 9);
    moved.peers.insert(Seat { slot: 1, address: to });
    let (before, after) = (wanted(&seats(0, [1]), 1500, false), wanted(&moved, 1500, false));
    let from = seat(1).address;
    assert_eq!(changes(&after, &before), [Change::DropForward(mac(1), from), Change::AddForward(mac(1), to)]);
}

#[test]
fn packets_fit_the_link() {
    for (link, pods) in [(1500, 1450), (9000, 1450), (1400, 1350), (1300, 1280), (0, 1280)] {
        assert_eq!(mtu(link), pods, "{link}");
    }
}

#[test]
fn link_local_is_made_quiet_only_where_nobody_uses_it() {
    let mut seats = seats(0, []);
    assert!(!wanted(&seats, 1500, false).quiet);
    seats.quiet_link_local = true;
    assert!(wanted(&seats, 1500, false).quiet);
    assert!(!wanted(&seats, 1500, true).quiet);
}

#[test]
fn networks_of_others_are_seen_where_they_collide() {
    let subnet = |a, b, c, d, bits| Subnet { address: Ipv4Addr::new(a, b, c, d), bits };
    for (other, collides) in [
        (subnet(10, 244, 3, 0, 24), true),
        (subnet(10, 244, 0, 0, 16), true),
        (subnet(10, 245, 0, 9, 32), true),
        // Ours are parts of it: they go first.
        (subnet(10, 0, 0, 0, 8), false),
        (subnet(0, 0, 0, 0, 0), false),
        (subnet(10, 243, 255, 0, 24), false),
    ] {
        let foreign = [(other, "eth0".to_owned())].into();
        let actual = Actual { foreign, ..Actual::default() };
        assert_eq!(conflict(built_in(), &actual).is_some(), collides, "{other}");
    }
}

#[test]
fn members_that_cannot_be_are_refused() {
    let address = |a, b, c, d| Ipv4Addr::new(a, b, c, d);
    for (peer, why) in [
        (Seat { slot: 256, address: address(192, 168, 0, 1) }, SeatsError::Slot(256, built_in())),
        (Seat { slot: 0, address: address(192, 168, 0, 1) }, SeatsError::SlotTwice(0)),
        (Seat { slot: 1, address: seat(0).address }, SeatsError::AddressTwice(seat(0).address)),
        (Seat { slot: 1, address: address(127, 0, 0, 1) }, SeatsError::Address(address(127, 0, 0, 1))),
        (Seat { slot: 1, address: address(224, 0, 0, 1) }, SeatsError::Address(address(224, 0, 0, 1))),
        (Seat { slot: 1, address: address(10, 244, 1, 1) }, SeatsError::Address(address(10, 244, 1, 1))),
    ] {
        let mut seats = seats(0, []);
        seats.peers.insert(peer);
        assert_eq!(seats.check(), Err(why));
    }
    assert_eq!(seats(0, 1..SLOTS).check(), Ok(()));
    assert_eq!(Seats { v: 2, ..seats(0, []) }.check(), Err(SeatsError::Version(2)));
}
