//! Real meshes on loopback addresses, one binary.

mod admission;
mod bulk;
mod gossip;
mod knock;
mod lanes;
mod reconnect;
mod support;
