//! The execution side of a node: the only code that changes a host.
//!
//! ```text
//!   assignment + signed intents                            progress, result
//!            |                                                   ^
//!        Exec::verify  (floor: generation, trust head)           |
//!            |                                                   |
//!        Exec::run --> driver compiles (qb-drivers, pure) --> stage: check > apply > verify
//!                                                                |
//!              +--------------------+----------------------+-----+
//!            dir, unpack          pki, seal, join      supervisor (one thread)
//!            files of one         keys, sealed         |  spawns, restarts, stops
//!            cluster              secrets              v
//!                                                  stand-ins: api-server, node-service
//! ```
//!
//! | file | what |
//! |---|---|
//! | `exec.rs`, `errors.rs` | [`Exec`]: the handle; why it refuses |
//! | `floor.rs` | what this node refuses: older orders, anything while it is held |
//! | `stage.rs`, `progress.rs` | runs the steps of one order; what it tells meanwhile |
//! | `steps.rs`, `steps/` | check and apply of every kind of action |
//! | `supervisor.rs`, `supervisor/` | keeps units running: as children, or by systemd over D-Bus |
//! | `site.rs` | which site this machine is bound to |
//! | `wire.rs`, `raw.rs`, `server.rs`, `remote.rs`, `limits.rs` | the socket of an executor that is a process of its own |
//! | `removal.rs`, `bin/qb-exec` | the program; whether the package may go |
//! | `standin.rs`, `standin/` | the stand-ins' own code, run by the agent's hidden subcommand |
//! | `join.rs`, `seal.rs` | join secrets; HPKE |
//! | `release.rs` | takes another node out of a cluster; who the members are |
//! | `upkeep.rs`, `certificates.rs` | what a control plane node does for itself: certificates, backups |
//! | `people.rs`, `bindings.rs` | certificates and role bindings for the site's admins |
//! | `keep.rs` | labels and taints of nodes, add-ons |
//! | `pki.rs`, `client.rs` | certificates; an HTTPS client with one pinned authority |
//! | `bundle.rs`, `unpack.rs`, `dir.rs` | bundles onto disk, in verified chunks; a directory that nothing leads out of |
//! | `versions.rs`, `versions/` | other versions of qb's own programs: installed, tried out, kept or left |
//! | `probe.rs`, `facts.rs` | preflight: what answers, what this machine is |
//!
//! # Invariants
//! - [`Exec::run`] takes a `VerifiedAssignment`, which only verification against signed intents
//!   makes. Nothing takes a path, a step or an argument from outside.
//! - Every step is idempotent. Killed at any point and run again, a stage converges; what detaching
//!   leaves is what was there before attaching.
//! - Everything of a cluster lies in one directory, which no link leads out of.
//! - The site, the publishers, the recipients of join secrets and the node itself are proved, never
//!   told: by root's enrolment file, the trust log, signed orders, and a record that the node signed.
//! - No shell. Children get an argument vector, an empty environment and a process group of their
//!   own, and die with the executor; units of systemd live on, and are found again by their mark.
//! - Secrets are opened here only, are never formatted, and go to files of mode 0600.
//! - What is absent on purpose: package managers, and root where systemd is not asked. The rehearsal
//!   needs none; a driver for a real distribution brings its actions with it.

mod bindings;
mod bundle;
mod certificates;
mod client;
mod clock;
mod dir;
mod errors;
mod exec;
mod facts;
mod floor;
mod host;
mod join;
mod keep;
pub mod limits;
mod people;
mod pki;
pub mod probe;
mod progress;
pub mod raw;
mod release;
mod remote;
pub mod removal;
pub mod seal;
mod server;
mod site;
mod stage;
pub mod standin;
mod steps;
mod supervisor;
mod unpack;
mod upkeep;
pub mod versions;
mod wire;

pub use bindings::{BindingsRequest, VerifiedBindings};
pub use bundle::{Bundle, TakeError, file_of};
pub use errors::{ExecError, NodeError, OrderError};
pub use exec::{ClusterNode, Exec, ExecConfig, Supplies};
pub use facts::{FactsConfig, FactsError, gather_facts};
pub use floor::FloorError;
pub use host::helper::{HelperError, host};
pub use join::{JOIN_LIFE_MS, MintError, MintRequest, PURPOSE as JOIN_PURPOSE};
pub use keep::{CitedIntent, KeepRequest, VerifiedKeep};
pub use people::{Credential, CredentialRequest, PeopleError, TrustGrounds};
pub use pki::PkiError;
pub use progress::{StageDone, StageError, StepProgress, StepState};
pub use release::{Peers, ReleaseRequest};
pub use remote::{RemoteError, RemoteExec};
pub use seal::{SealContext, SealError, SealSecret, SealedSecret};
pub use server::Server;
pub use site::{SiteError, SiteSource};
pub use supervisor::{UnitHealth, UnitState, Units};
pub use unpack::UnpackError;
pub use upkeep::BackupRequest;
pub use wire::{About, Order, WireError};

/// The version of this build: a vendor's `QB_VERSION`, else the one of the source.
pub const VERSION: &str = match option_env!("QB_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

#[cfg(test)]
mod tests;
