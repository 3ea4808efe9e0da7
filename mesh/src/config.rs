//! What a mesh is started with.

use std::net::SocketAddr;

use zeroize::Zeroizing;

/// The seed of a node's ed25519 key. Wiped when dropped; has no `Debug`, so it reaches no log.
#[derive(Clone)]
pub struct SecretKey(Zeroizing<[u8; 32]>);

impl SecretKey {
    /// Wraps a seed.
    pub fn new(seed: [u8; 32]) -> Self {
        Self(Zeroizing::new(seed))
    }

    /// The libp2p key pair with this seed.
    pub(crate) fn keypair(&self) -> libp2p::identity::Keypair {
        let mut seed = self.0.clone();
        libp2p::identity::Keypair::ed25519_from_bytes(seed.as_mut_slice())
            .expect("every 32 bytes are an ed25519 seed")
    }
}

impl From<[u8; 32]> for SecretKey {
    fn from(seed: [u8; 32]) -> Self {
        Self::new(seed)
    }
}

/// Settings of a mesh. All are fixed for its life; what may change has a setter on `Mesh`.
#[derive(Clone)]
pub struct MeshConfig {
    /// The node's key: its identity towards every peer.
    pub secret_key: SecretKey,
    /// The mesh port, for members only. Port 0 takes a free one, see `Mesh::listen_address`.
    pub listen: SocketAddr,
    /// The port where strangers may knock; `None` on nodes that take no knocks.
    pub knock_listen: Option<SocketAddr>,
    /// The site's id. Part of every stream's hello and of the gossip topics: two sites never mix.
    pub site_tag: [u8; 32],
}
