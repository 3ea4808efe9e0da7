//! The way to a cluster's API server: a certificate of an hour, a tunnel, a kubeconfig.
//!
//! ```text
//!  kubectl ── exec plugin: qb cluster credential ── cache ── tunnel.rs: grant, Noise ── certificate
//!  kubectl ── 127.0.0.1:PORT ── proxy.rs ── tunnel.rs: grant, Noise, yamux ── agent ── API server
//! ```
//! Keys are made here and never leave this computer: what goes out is a certificate request, and what
//! comes back is believed because a node that the signed log names sent it, encrypted to this very run.

pub mod credential;
pub mod kubeconfig;
pub mod proxy;
pub mod tunnel;
