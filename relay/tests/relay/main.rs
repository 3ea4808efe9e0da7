//! The relay through its public API: real connections on 127.0.0.1, a site whose state is the real
//! state machine, and agents that are just enough of one.

#![allow(clippy::unwrap_used)]

mod agent;
mod client;
mod dark;
mod flow;
mod handshake;
mod hostile;
mod links;
mod outbox;
mod outer;
mod packages;
mod schedules;
mod site;
mod tenancy;
mod tunnel;
mod views;
mod world;
