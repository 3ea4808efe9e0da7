//! Who talks to whom: an authenticated mesh of a site's nodes over libp2p (TCP, Noise, Yamux).
//!
//! It carries opaque request bytes and small gossiped facts between members, and lets strangers
//! knock on a port of its own. It decides nothing about the site: the roster, the addresses and
//! the peers to stay connected to are handed in; what arrives is handed out.
//!
//! ```text
//!   Mesh (handle) --- sets, commands ---> SwarmTask --- owns ---> mesh swarm   members only
//!     |   ^                                 |   |                   limits, allow list, ping,
//!     |   '------- watch: who is there -----'   |                   streams, gossip
//!     |                     |                   |
//!     |                events task         Server, one per inbound stream
//!     |                     '------> Handler <--'--- one task per request
//!     |                                 ^
//!     '------- knock orders ------> KnockTask --- owns ---> knock swarm   strangers
//!     |                                                       rate gate, /qb/knock/1
//!     '--- LaneClient, one per peer and lane: many requests on one stream
//! ```
//!
//! # Tasks
//! | task | input | output |
//! |---|---|---|
//! | `SwarmTask` | commands, roster, wanted, swarm events | streams, watch of peers, facts |
//! | `KnockTask` | knock orders, swarm events | knock streams |
//! | events | watch of peers | `Handler::peer` |
//! | facts | bounded queue | `Handler::gossip` |
//! | `LaneClient` | bounded queue of requests, a stream | answers |
//! | `Server` | a stream | `Handler::request`, answers |
//!
//! # Files
//! Pure: `address_book` where nodes were seen; `backoff` and `dialer` whom to dial when;
//! `admission` who may speak; `links` which connection carries what; `knock/limiter` how often a
//! stranger may knock; `limits` every bound. Wire: `frame` lengths and heads; `gossip` topics and
//! settings; `identity` node ids as libp2p says them. Shell: `mesh` the handle; `swarm` the loop,
//! with `swarm/open` and `swarm/inbound`; `behaviour` what the port speaks; `handshakes` bounds
//! those in progress; `streams` opens and
//! accepts streams; `lane` asks, `serve` answers; `events` who came and went; `knock` the talk,
//! `knock/gate` and `knock/swarm` its port; `tasks` keeps all tasks.
//!
//! # Invariants
//! - A byte of an unadmitted peer on the mesh port is parsed by the Noise handshake and by nothing
//!   after it. Admission is checked per connection, per stream and per gossiped fact.
//! - Removal from the roster closes every connection of the node, and with it what it asked for.
//! - The swarm's loop awaits nothing but its inputs. No handler runs on it.
//! - No task outlives the [`MeshTask`].
//! - A request is sent at most once. [`RequestError::Closed`] and [`RequestError::Deadline`] leave
//!   open whether the peer acted.
//! - Each lane has bounds of its own, so that bulk takes no place of control's. A new stream of a lane is
//!   never refused: it ends the peer's oldest one of that lane.
//! - Raft and control stay on the bulk connection only while no other can be dialled.
//! - An address is a hint: a failed dial removes none, and none proves who answers.
//! - What a length announces is checked against a limit, and memory grows with what arrives.
//!
//! Deliberately absent: identify, Kademlia, mDNS, relays and QUIC; retries of requests; knowledge
//! of Raft, of intents and of what a request's kind means.

mod address_book;
mod admission;
mod backoff;
mod behaviour;
mod config;
mod dialer;
mod error;
mod events;
mod frame;
mod gossip;
mod handler;
mod handshakes;
mod identity;
mod knock;
mod lane;
pub mod limits;
mod links;
mod mesh;
mod serve;
mod streams;
mod swarm;
mod tasks;

pub use config::{MeshConfig, SecretKey};
pub use error::{KnockError, MeshError, RequestError};
pub use gossip::Topic;
pub use handler::{Handler, Lane, PeerEvent, PeerInfo};
pub use knock::KnockStream;
pub use mesh::Mesh;
pub use tasks::MeshTask;
