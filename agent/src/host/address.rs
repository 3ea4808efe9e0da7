//! The address that a node serves on, where nobody said which: chosen from those that the machine has.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Addresses that are shown when one must be chosen by hand.
const SHOWN: usize = 8;
/// Where the way out is looked for if no seed is known: addresses for documentation, which nobody has.
/// Nothing is sent there.
const ANYWHERE: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 9),
];

/// What a machine says of its addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Addresses of its links that are up.
    pub own: BTreeSet<IpAddr>,
    /// From which it would speak to each seed, then to the rest of the world; the system's choice.
    pub sources: Vec<IpAddr>,
}

/// What is to be done about the address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// This one.
    Take(IpAddr),
    /// The machine has none yet: wait.
    Wait,
    /// Several would do: people choose.
    Ask(Vec<IpAddr>),
}

/// Whether other machines can reach it: not this very machine's, not of one link, not a group.
fn is_reachable(ip: &IpAddr) -> bool {
    let local = match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(local || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast())
}

/// Chooses: from where the machine speaks to the site, if that address is its own; its only one
/// otherwise.
pub fn choose(seen: &Seen) -> Choice {
    let own: Vec<IpAddr> = seen.own.iter().copied().filter(is_reachable).collect();
    if let Some(source) = seen.sources.iter().find(|ip| own.contains(ip)) {
        return Choice::Take(*source);
    }
    match own[..] {
        [] => Choice::Wait,
        [only] => Choice::Take(only),
        _ => Choice::Ask(own),
    }
}

/// What people are told who must choose.
pub fn ask(own: &[IpAddr], file: &str) -> String {
    let shown: Vec<String> = own.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = own.len().saturating_sub(SHOWN);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let first = shown.first().map_or("IP", String::as_str);
    format!(
        "this machine has several addresses, {}{more}, and none leads to the site: write the one that other \
         nodes reach into {file}, as: address = \"{first}\"",
        shown.join(", ")
    )
}

/// Looks at the machine's addresses. Nothing is sent: a datagram socket that is connected only asks
/// the system for the way.
pub fn see(seeds: &[SocketAddr]) -> Seen {
    let links = if_addrs::get_if_addrs().unwrap_or_default();
    // Some drivers do not tell whether they are up.
    let down = |link: &if_addrs::Interface| link.oper_status == if_addrs::IfOperStatus::Down;
    let own = links.iter().filter(|link| !down(link)).map(if_addrs::Interface::ip).collect();
    let sources = seeds.iter().chain(&ANYWHERE).filter_map(source).collect();
    Seen { own, sources }
}

fn source(to: &SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    #[test]
    fn the_address_towards_the_site_wins_then_the_only_one() {
        use Choice::{Ask, Take, Wait};
        let take = |text: &str| Take(text.parse().unwrap());
        // (the machine's addresses, from where it would speak, what is done)
        for (own, sources, want) in [
            (vec![], vec![], Wait),
            (vec!["127.0.0.1", "::1"], vec!["127.0.0.1"], Wait),
            (vec!["127.0.0.1", "169.254.3.4", "fe80::1"], vec!["fe80::1"], Wait),
            (vec!["127.0.0.1", "10.0.0.5"], vec![], take("10.0.0.5")),
            (vec!["127.0.0.1", "10.0.0.5", "fe80::1"], vec![], take("10.0.0.5")),
            (vec!["10.0.0.5", "192.168.1.2"], vec!["192.168.1.2", "10.0.0.5"], take("192.168.1.2")),
            // A seed on this very machine says nothing of the way to others.
            (vec!["127.0.0.1", "10.0.0.5", "192.168.1.2"], vec!["127.0.0.1", "10.0.0.5"], take("10.0.0.5")),
            (vec!["10.0.0.5", "192.168.1.2"], vec!["172.16.0.1"], Ask(ips(&["10.0.0.5", "192.168.1.2"]))),
            (vec!["10.0.0.5", "192.168.1.2"], vec![], Ask(ips(&["10.0.0.5", "192.168.1.2"]))),
            (vec!["2001:db8::5", "fd00::1"], vec!["fd00::1"], take("fd00::1")),
            (vec!["0.0.0.0", "224.0.0.1"], vec!["0.0.0.0"], Wait),
        ] {
            let seen = Seen { own: ips(&own).into_iter().collect(), sources: ips(&sources) };
            assert_eq!(choose(&seen), want, "{own:?} {sources:?}");
        }
    }

    #[test]
    fn who_must_choose_is_told_the_line_to_write() {
        let own = ips(&["10.0.0.5", "192.168.1.2"]);
        let told = ask(&own, "/etc/qb/agent.toml");
        assert!(told.contains("10.0.0.5, 192.168.1.2,"), "{told}");
        assert!(told.ends_with("into /etc/qb/agent.toml, as: address = \"10.0.0.5\""), "{told}");
        let many: Vec<IpAddr> = (0..20u8).map(|n| Ipv4Addr::new(10, 0, 0, n).into()).collect();
        assert!(ask(&many, "x").contains("and 12 more"));
    }

    #[test]
    fn this_machine_is_seen() {
        let seen = see(&["127.0.0.1:9".parse().unwrap()]);
        assert!(seen.own.contains(&IpAddr::from(Ipv4Addr::LOCALHOST)), "{seen:?}");
        assert_eq!(seen.sources.first(), Some(&IpAddr::from(Ipv4Addr::LOCALHOST)));
    }
}
