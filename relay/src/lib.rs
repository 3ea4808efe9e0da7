//! qb-relay: the thin relay on the internet. It shows sites and forwards what their administrators
//! signed; it can command nothing.
//!
//! ```text
//!  browser, qb ──> qb-portal ──> door.rs ── site ──┬── fold.rs: last views, with their age
//!                                   │              ├── outbox.rs ── queued > handed > receipt
//!                                   │              └── ask.rs ──┐
//!  owner ──> register.rs ── trust.rs (verifies)                 v
//!  agent ──> link/accept.rs ── link/session.rs ── gateway, standby (link/registry.rs)
//! ```
//!
//! | files | what |
//! |---|---|
//! | `config` `limits` `key` `tls` | options, bounds, the relay's own key, certificates |
//! | `relay` | what all parts share: sites, store, tasks; [`Relay::open`], [`serve`] |
//! | `store` | SQLite: orgs, sites, trust, roster, views, outbox, receipts |
//! | `trust` | what the relay believes of a site: only what replays from its charter |
//! | `register` `scope` | how a site comes to an org; who sees which site |
//! | `site` | one site while the relay runs: links, views, events, knocks, marks |
//! | `packages` | packages of agents: the vendor's, and those of sites, made while they are downloaded |
//! | `link` | a gateway's connection from upgrade to end; gateway and standby; clones |
//! | `ask` `fold` `outbox` `intents` | requests over a link; the folded view; intents on their way |
//! | `door` `alerts` | the API of one site, for one session |
//!
//! # Invariants
//! - Never here: mesh, consensus, drivers, a private key of an admin, a decision about a site.
//! - What an administrator signed is passed on byte by byte. Nothing else changes a site.
//! - Done is what a receipt says that a node of the verified roster signed; everything else is
//!   "the relay says".
//! - Everything is looked up through a session's scope. Another org's site answers as a random id.
//! - A site's trust log only grows: one that does not extend what is held is refused, and marked.
//! - Every table, queue, body and wait has its bound in `limits`.

mod alerts;
mod ask;
pub mod config;
mod door;
mod fold;
mod intents;
pub mod key;
pub mod limits;
mod link;
mod outbox;
mod packages;
mod register;
mod relay;
mod scope;
mod site;
mod store;
pub mod tls;
mod trust;
mod tunnel;

pub use config::{Config, OrgConfig, Timing};
pub use register::Registration;
pub use relay::{Relay, serve};
pub use store::StoreError;
