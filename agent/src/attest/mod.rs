//! Voters sign what they have agreed on, so that no door and no relay can invent a view or freeze one
//! unnoticed.
//!
//! ```text
//!  leader (lead.rs)                                    each voter (sign.rs)
//!   state changed (at most 1/s), or 30 s went by
//!   "sign index 812, time T, set 3"  ── ATTEST ──>  its own state at 812 ─> hash, sign
//!   a majority signed one body  <── signature ───
//!   members of the group changed ──── LINK ─────>  sees the same members ─> sign
//!   doors (door.rs) of any node ───── PROOF ────>  chain and newest checkpoint
//! ```
//!
//! | file | what |
//! |---|---|
//! | `capture.rs` | copies of the state at exactly the index that is signed |
//! | `held.rs` | the chain of voters on disk, the newest checkpoint in memory |
//! | `sign.rs` | a voter's side |
//! | `lead.rs` | the leader's side |
//! | `door.rs` | the document of a door |
//!
//! Invariants: a voter signs its own words only, never bytes that it was sent; a chain is on disk
//! before anything rests on it; nothing here holds up or changes the site: without a majority the view
//! is unproved, and says why.
//!
//! The chain lies in a file of each member and not in the replicated state: the set is what Raft itself
//! decides, signing it needs every member's own key, and the state's form stays as it is.

mod capture;
mod door;
mod held;
mod lead;
mod sign;

pub use capture::Captures;
pub use door::document;
pub use held::{Attest, FILE};
pub use lead::run;
pub use sign::{sign_link, sign_state};
