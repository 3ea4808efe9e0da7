//! Knocking: how a node that is not a member asks to be let in, and how members hear it.
//!
//! listener > knocker: [`crate::rpc::Challenge`]; knocker > listener: signed `knock.v1`;
//! listener > knocker: [`crate::rpc::KnockAnswer`], held back for some seconds while nobody has
//! decided, so that an authorization reaches the node at once.

pub mod client;
pub mod server;
pub mod table;
pub mod token;
