//! qb-link: the link between a site's gateway and a relay, both ends.
//!
//! ```text
//!  agent                                                              relay
//!  Uplink ── dial.rs: TCP, [CONNECT], TLS ── WebSocket (ws.rs) ──────── accept
//!    │                                                                    │
//!    └────────── handshake.rs: preface, Noise XX, signed hellos ──────────┘
//!                noise.rs: frames of at most 16 KiB
//!                mux.rs: yamux
//!                  relay > agent   one stream per API request, HTTP/1.1
//!                  agent > relay   one stream, the first: push.rs
//! ```
//!
//! | file | holds |
//! |---|---|
//! | [`limits`] | every bound, with its reason |
//! | [`hello`] | what both ends sign: `link-agent.v1`, `link-relay.v1` |
//! | [`handshake`] | preface, Noise XX, hellos, verdict: [`handshake::connect`], [`handshake::accept`] |
//! | [`noise`] | keys, and the encrypted stream |
//! | [`mux`] | streams inside one connection |
//! | [`tunnel`] | an admin's tunnel to an agent: Noise from `qb` to the node, whoever carries it |
//! | [`push`] | messages of the push stream, both directions |
//! | [`ws`] | a WebSocket as a stream of bytes |
//! | [`dial`] | the way to a relay: address, proxy, TLS |
//! | [`uplink`] | the agent's end: connect, serve, push, connect again |
//! | [`backoff`] | how long to wait before the next try: a pure function |
//!
//! # Invariants
//! - Never here: mesh, consensus, drivers, a decision about the site. Bytes are carried, not judged.
//! - The pin is the relay's ed25519 key. TLS outside hides metadata only, and may end anywhere.
//! - No hello is believed whose Noise key, host, versions or partner differ from the handshake's own.
//! - Every length is checked before it is read; every wait has a deadline; every queue a bound.
//! - No task outlives its handle.

pub mod backoff;
pub mod dial;
pub mod handshake;
pub mod hello;
pub mod limits;
pub mod mux;
pub mod noise;
pub mod push;
pub mod tunnel;
pub mod uplink;
pub mod ws;

pub use dial::{DialConfig, OuterTls, Proxy};
pub use handshake::{AgentEnd, AgentPeer, LinkError, RelayEnd, RelayPeer, Verdict};
pub use mux::{Mux, MuxEnd, Stream};
pub use push::{Admission, Hints, Push, RosterEntry, Told};
pub use uplink::{LinkState, Source, Uplink, UplinkConfig, UplinkHandle};
