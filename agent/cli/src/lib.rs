//! `qb`: the command line of qb. An HTTP client that signs.
//!
//! ```text
//!  args ──> cmd::<noun> ──> ctx::Session ──> client::api ──> door (socket, agent, relay)
//!             │    │            │ keyfile, memory, config
//!             │    └> change: draft > plan > agree > sign > send > verdict
//!             └> out: tables, plans, progress, waiting_on (all pure)
//! ```
//!
//! | files | what |
//! |---|---|
//! | `args` | the grammar, one file a group of nouns; help with examples first |
//! | `cmd` | the verbs, one file a noun |
//! | `complete` `completion/` | what can come next on a command line; the shells' scripts |
//! | `change` `agree` | the one path of every change of a site; how a person agrees |
//! | `through` `receipt` | an intent through a relay; whose word an outcome is |
//! | `access` | the way to a cluster's API server: certificates, tunnels, kubeconfigs |
//! | `portal` | the web UI on this computer, signed by this program's key |
//! | `client` | HTTP over a socket or TLS; whom a door is believed to be |
//! | `manual` | the man pages, made from the grammar |
//! | `config` `keyfile` `files` `enrol` | what lies on this computer |
//! | `out` | what is printed |
//!
//! Invariants: a change of a site is a signed intent and nothing else; what is signed is built and
//! worded here, never taken from a door; secrets are in key files of mode 0600 and in memory, never in
//! arguments, variables, messages or traces; everything from outside is bounded before it is read and
//! made harmless before it is printed; `--plan` changes nothing.

pub mod access;
pub mod agree;
pub mod args;
pub mod change;
pub mod client;
pub mod cmd;
pub mod complete;
pub mod config;
pub mod ctx;
pub mod door;
pub mod enrol;
pub mod error;
pub mod files;
pub mod keyfile;
pub mod manual;
pub mod out;
pub mod package;
pub mod passphrase;
pub mod portal;
pub mod receipt;
pub mod sentence;
pub mod through;
