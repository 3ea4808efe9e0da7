//! The agent of a node: composes mesh, consensus, executor and API into one daemon.
//!
//! ```text
//!   qb, portal ── door/ (unix socket, TLS) ──┐
//!                                            v
//!   knock/ <── mesh (handler.rs) ──> node.rs ── propose.rs ──> consensus ──> machine.rs ──> state
//!                                      │  ^                                                  │
//!         report.rs (board) ───────────┘  └── leader.rs, seats.rs (leader only) <────────────┤
//!         secrets.rs, said.rs <── reconcile.rs (this node's own order) <─────────────────────┘
//!                                      └──> qb-exec (the only code that changes the host)
//! ```
//!
//! | files | what |
//! |---|---|
//! | `start` `daemon` `config` `node` | before it runs, composition, options, what all parts share |
//! | `service` `starts` | systemd's ready, status, watchdog; crash loops |
//! | `identity` `enroll` `member` `files` `blobs` | what is on disk |
//! | `bundles` | bundles between nodes |
//! | `handler` `rpc` `transport` | requests between members |
//! | `uplink` | links to relays: who holds them, knocks and admissions through them, receipts |
//! | `knock` `found` | how a node becomes a member, and the first one |
//! | `propose` `machine` `said` | into the log, out of the log, this node's own commands |
//! | `leader` `seats` `preflight` | what the leader does besides: plan, seats, checks |
//! | `attest` | voters sign the state and their successors; what doors show of it |
//! | `reconcile` `executor` `secrets` `report` `host` | carrying out orders, here or in a root process; join secrets; reports |
//! | `upkeep` | what this node does for its cluster's control plane by itself |
//! | `releasing` `peers` | taking others out of this node's cluster; who its members are, told on |
//! | `bindings` `keeping` | role bindings of admins; labels and taints of nodes, add-ons: kept by one control plane member |
//! | `balancer` | 127.0.0.1:6444: the way to the API servers of this node's cluster |
//! | `alerts` `history` | what is wrong, told at every door; the last hour |
//! | `tunnel` | tunnels of admins to the API servers of clusters: their end, the way there, records |
//! | `door` `events` `text` | the API; what happened; safe text |
//! | `id` `reset` | `qb-agent id`, `qb-agent reset`; `qb-agent enroll` is in `enroll` |
//!
//! Invariants: no business rule here, the model decides; nothing changes desired state but the log;
//! every task ends with the daemon; nothing that a peer sends is shown uncleaned or held unbounded.

pub mod alerts;
pub mod attest;
pub mod balancer;
pub mod bindings;
pub mod blobs;
pub mod bundles;
pub mod config;
pub mod daemon;
pub mod door;
pub mod enroll;
pub mod events;
pub mod executor;
pub mod files;
pub mod found;
pub mod handler;
pub mod history;
pub mod host;
pub mod id;
pub mod identity;
pub mod keeping;
pub mod knock;
pub mod leader;
pub mod machine;
pub mod member;
pub mod node;
pub mod peers;
pub mod preflight;
pub mod propose;
pub mod reconcile;
pub mod releasing;
pub mod report;
pub mod reset;
pub mod rpc;
pub mod said;
pub mod seats;
pub mod secrets;
pub mod service;
pub mod start;
pub mod starts;
pub mod text;
pub mod transport;
pub mod tunnel;
pub mod upgrade;
pub mod upkeep;
pub mod uplink;
