//! Consensus of a site: the nodes with a seat order opaque commands in a Raft log and apply them to
//! a state machine; every other node follows the committed log and applies the same commands.
//!
//! ```text
//!            agent: Consensus (handle)            Machine (its state)        PeerTransport (its mesh)
//!                     │                               ▲    ▲                        ▲
//!      ┌──────────────┴──────────────┐          apply │    │ apply                  │
//!      │ Seated                      │ Following      │    │                        │
//!      │  seat ── openraft ── raft ──┼──────── state ─┘    │                        │
//!      │   │         │   (snapshots) │           │         │                        │
//!      │  log     network ───────────┼───────────┼─────────┼────────────────────────┤
//!      │   │      server ◄─ gate     │       follow ───────┘ ───────────────────────┘
//!      │ qb-queue  failover          │   (asks a voter, long poll)
//!      │   │                         │
//!      │ segment files, one fsync    │
//!      └─────────────────────────────┘
//! ```
//! Files: `consensus` (the handle, seated or following) · `seat` (a Raft id bound to a storage) ·
//! `log/` (durable log and vote) · `state/` (applied state and its snapshot) · `network`, `server`,
//! `gate` (requests out, in, and who may make them) · `failover` (a new leader in milliseconds) ·
//! `follow/` (nodes without a seat) · `change` (commands, reads, membership) · [`autopilot`] (who
//! should vote, pure) · `watch_seat` (view, watchdog) · `view` · `wire` (formats) · `types` (the
//! consensus library's types, named only there) · `context` (what all share) · [`limits`].
//!
//! # Invariants
//! - A Raft id is bound to one storage and never used again. A seat whose log is missing or damaged
//!   is lost: the node refuses to start on it, gives it up ([`give_up_seat`]) and asks for another.
//! - Vote and entries are durable before anybody is told of them, in one order, in one log. The
//!   first failed write or fsync is final and ends the process ([`Consensus::fatal`]).
//! - An entry is applied only when it is durable here, so state and log agree after any crash. What
//!   the log forgets is covered by a durable snapshot.
//! - Linearizable reads are ReadIndex. Lease reads do not exist here: fast failover gives leases up.
//! - A Raft request reaches the library only if the peer that sent it is the leader or candidate it
//!   speaks for, on this site, in this epoch, for this storage, with a plausible term.
//! - A voter's lease falls only to its own finding that the leader is gone, or to the leader.
//! - A follower gets what a voter has applied, never more.
//!
//! Deliberately absent: forwarding to the leader (the agent does it), any knowledge of commands,
//! checks of memberships against the roster, attestation of snapshots, recovery after the loss of a
//! quorum.

pub mod autopilot;
mod change;
mod consensus;
mod context;
mod failover;
mod follow;
mod gate;
pub mod limits;
mod log;
mod machine;
mod network;
mod peer;
mod seat;
mod server;
mod state;
mod types;
mod view;
mod watch_seat;
mod wire;

pub use change::{ChangeError, ProposeError, ReadError, VoterChange};
pub use consensus::{Consensus, ConsensusConfig, OpenError, PromoteError};
pub use context::{FatalReason, Timing};
pub use log::{LogError, LogFailure};
pub use machine::{Machine, MachineError};
pub use peer::{PeerTransport, RpcKind, TransportError, UnknownKind};
pub use seat::{SeatError, give_up_seat};
pub use state::SnapshotError;
pub use view::{RaftView, Role};
