//! The executor as a process of its own: a real `qb-exec` at a socket, with callers that are honest and
//! callers that are not. What a compromised agent can say at all is what the frames can say.
#![allow(clippy::unwrap_used)]

mod forged;
mod frames;
mod orders;
mod program;
mod releases;
mod signed;
