//! Black-box tests of qb: whole sites of real processes on loopback addresses.
//!
//! ```text
//!   qb-demo   qb-smoke   qb-bench        one line each: guard, options, run
//!      \         |          /
//!    demo/    smoke/     bench/          what they do, stage by stage
//!          \     |      /
//!             site.rs ── agent.rs ── process.rs     directories, agents, their processes
//!             command.rs   http.rs   signing.rs     `qb`, the API's socket, intents by hand
//!             views.rs  wait.rs  signals.rs         what doors answer; conditions with deadlines
//!             relay.rs  hostile.rs  browser.rs      the relay, one in the wrong hands, a real Chromium
//!             lab/  fleet/                          hosts with systemd, a site on them from its packages
//!             kubernetes/                           real Kubernetes for those hosts, built once
//!             writers/  (qb-writers)                an API server's interruptions, as its clients see them
//! ```
//!
//! Invariants: nothing of the product is linked but `qb-model`, and `qb-link` by `hostile.rs`, a relay in
//! the wrong hands, which must speak as a relay does, and by the bench of idle links; nothing leaves 127.0.0.0/8; no
//! process outlives the program that started it; nothing sleeps for a fixed time, everything waits
//! for a condition with a deadline; a failure shows the last lines of every agent's log.

pub mod agent;
pub mod bench;
pub mod binaries;
pub mod browser;
pub mod command;
pub mod demo;
pub mod fleet;
pub mod hostile;
pub mod http;
pub mod kubernetes;
pub mod lab;
pub mod packages;
pub mod process;
pub mod relay;
pub mod signals;
pub mod signing;
pub mod site;
pub mod smoke;
pub mod tls;
pub mod views;
pub mod wait;
pub mod writers;
