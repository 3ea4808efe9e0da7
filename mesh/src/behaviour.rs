//! The behaviour of the mesh port, and how its swarm is built. The order of the fields matters:
//! a connection that an earlier one denies is never shown to a later one.

use libp2p::allow_block_list::{self, AllowedPeers};
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::identity::Keypair;
use libp2p::swarm::{NetworkBehaviour, StreamProtocol};
use libp2p::{Swarm, SwarmBuilder, noise, ping, tcp, yamux};

use crate::error::MeshError;
use crate::gossip::{self, Gossip};
use crate::handler::Lane;
use crate::handshakes::Handshakes;
use crate::limits;
use crate::streams::Streams;

/// What the mesh port speaks.
#[derive(NetworkBehaviour)]
pub(crate) struct MeshBehaviour {
    pub(crate) handshakes: Handshakes,
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) allowed: allow_block_list::Behaviour<AllowedPeers>,
    pub(crate) ping: ping::Behaviour,
    pub(crate) streams: Streams,
    pub(crate) gossip: Gossip,
}

impl MeshBehaviour {
    fn new(key: &Keypair, site: &[u8; 32]) -> Result<Self, MeshError> {
        let bounds = ConnectionLimits::default()
            .with_max_pending_incoming(Some(limits::PENDING_INBOUND))
            .with_max_pending_outgoing(Some(limits::PENDING_OUTBOUND))
            .with_max_established(Some(limits::CONNECTIONS))
            .with_max_established_per_peer(Some(limits::CONNECTIONS_PER_PEER));
        let ping =
            ping::Config::new().with_interval(limits::PING_INTERVAL).with_timeout(limits::PING_TIMEOUT);
        let lanes = Lane::ALL.map(|lane| StreamProtocol::new(lane.protocol()));
        Ok(Self {
            handshakes: Handshakes::default(),
            limits: connection_limits::Behaviour::new(bounds),
            allowed: allow_block_list::Behaviour::default(),
            ping: ping::Behaviour::new(ping),
            streams: Streams::new(lanes),
            gossip: gossip::build(key, site)?,
        })
    }
}

/// The swarm of the mesh port, not yet listening.
pub(crate) fn mesh_swarm(key: &Keypair, site: &[u8; 32]) -> Result<Swarm<MeshBehaviour>, MeshError> {
    let behaviour = MeshBehaviour::new(key, site)?;
    swarm(key, behaviour, limits::YAMUX_STREAMS, limits::CONNECTION_IDLE)
}

/// A swarm over TCP, Noise and Yamux.
pub(crate) fn swarm<B: NetworkBehaviour>(
    key: &Keypair,
    behaviour: B,
    streams: usize,
    idle: std::time::Duration,
) -> Result<Swarm<B>, MeshError> {
    let multiplexer = || {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(streams);
        config
    };
    let setup = |part, reason: String| MeshError::Setup { part, reason };
    let swarm = SwarmBuilder::with_existing_identity(key.clone())
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, multiplexer)
        .map_err(|error| setup("noise", error.to_string()))?
        .with_behaviour(|_| behaviour)
        .map_err(|error| setup("behaviour", error.to_string()))?
        .with_swarm_config(|config| {
            config.with_idle_connection_timeout(idle).with_max_negotiating_inbound_streams(streams)
        })
        .with_connection_timeout(limits::HANDSHAKE)
        .build();
    Ok(swarm)
}
