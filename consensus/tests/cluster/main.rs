//! Whole groups in one process over a transport in memory, with real directories.

#![allow(clippy::unwrap_used)]

mod failover;
mod follow;
mod group;
mod harness;
mod membership;
