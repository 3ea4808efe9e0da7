//! Room for connections: in all, and of one address.

use std::net::IpAddr;
use std::time::Duration;

use qb_portal::room::Rooms;
use tokio::time::timeout;

#[tokio::test(start_paused = true)]
async fn an_address_has_its_share_and_nobody_elses() {
    let rooms = Rooms::new(7, 2);
    let at = |text: &str| Some(text.parse::<IpAddr>().unwrap());
    let mut held = Vec::new();
    for (from, admitted) in [
        ("192.0.2.1", true),
        ("::ffff:192.0.2.1", true),
        ("192.0.2.1", false),
        ("192.0.2.2", true),
        ("2001:db8::1", true),
        ("2001:db8::2:3", true),
        ("2001:db8::4", false),
        ("2001:db8:0:1::4", true),
    ] {
        let room = rooms.admit(rooms.wait().await, at(from));
        assert_eq!(room.is_some(), admitted, "{from}");
        held.extend(room);
    }
    // A socket and the streams of a link have no address; what was refused holds no room.
    held.push(rooms.admit(rooms.wait().await, None).unwrap());
    assert!(timeout(Duration::from_secs(1), rooms.wait()).await.is_err(), "seven are all");
    // What ends gives both back: its room, and its address's share.
    drop(held.remove(0));
    held.push(rooms.admit(rooms.wait().await, at("192.0.2.1")).unwrap());
    drop(held.pop());
    assert!(rooms.admit(rooms.wait().await, at("2001:db8::9")).is_none());
}
