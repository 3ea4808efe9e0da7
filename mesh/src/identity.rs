//! Conversions between the project's words and libp2p's: node ids and addresses.

use std::net::{IpAddr, SocketAddr};

use libp2p::PeerId;
use libp2p::multiaddr::{Multiaddr, Protocol};
use qb_model::NodeId;

/// What stands before the key in a PeerId: identity multihash (code 0, 36 bytes) of a protobuf
/// with type ed25519 (field 1 = 1) and 32 bytes of key (field 2).
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// The PeerId of a node. Total: whether the key is a curve point shows at the handshake.
pub(crate) fn peer_of(node: NodeId) -> PeerId {
    let mut bytes = [0u8; 38];
    bytes[..6].copy_from_slice(&PEER_ID_PREFIX);
    bytes[6..].copy_from_slice(&node.0);
    PeerId::from_bytes(&bytes).expect("prefix and length are those of an inline identity")
}

/// The node behind a PeerId; `None` if its key is not an inline ed25519 key.
pub(crate) fn node_of(peer: &PeerId) -> Option<NodeId> {
    let bytes = peer.to_bytes();
    let key = bytes.strip_prefix(PEER_ID_PREFIX.as_slice())?;
    <[u8; 32]>::try_from(key).ok().map(NodeId)
}

/// `/ip4|ip6/../tcp/..` for a socket address.
pub(crate) fn to_multiaddr(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()))
}

/// The IP address at the head of a multiaddr.
pub(crate) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip)),
        _ => None,
    }
}

/// The socket address at the head of a multiaddr.
pub(crate) fn to_socket(address: &Multiaddr) -> Option<SocketAddr> {
    match address.iter().nth(1)? {
        Protocol::Tcp(port) => Some(SocketAddr::new(ip_of(address)?, port)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SecretKey;

    #[test]
    fn node_and_peer_ids_are_one_key() {
        for seed in 0..32u8 {
            let public = SecretKey::new([seed; 32]).keypair().public();
            let peer = PeerId::from_public_key(&public);
            let node = node_of(&peer).expect("an ed25519 peer is a node");
            let key = public.try_into_ed25519().expect("an ed25519 key");
            assert_eq!(node.0, key.to_bytes());
            assert_eq!(peer_of(node), peer);
        }
        assert!(node_of(&PeerId::random()).is_none());
    }

    #[test]
    fn addresses_round_trip() {
        for text in ["127.0.0.7:9", "[::1]:65535"] {
            let address: SocketAddr = text.parse().expect("an address");
            assert_eq!(to_socket(&to_multiaddr(address)), Some(address));
        }
        let udp: Multiaddr = "/ip4/127.0.0.1/udp/1".parse().expect("a multiaddr");
        assert_eq!(to_socket(&udp), None);
    }
}
