//! Real meshes on loopback addresses, one binary.

mod admission;
mod gossip;
mod knock;
mod lanes;
mod reconnect;
mod support;
