//! Who may do what: the table of actions, the trust state, and the log that it is derived from
//! (security rules 3.1 to 3.4).
//!
//! | file | what |
//! |---|---|
//! | `table.rs` | the one table: role, browser keys, removal, for every action |
//! | `authority.rs` | whether these signers may order this action |
//! | `state.rs` | admins, keys, policy, publishers, relays, the log and its head |
//! | `change.rs` | what each action does to them, and the rules after the change |
//! | `log.rs` | an entry, its hash, and the replay of a whole log from the charter |
//!
//! Invariants: every change is an entry with its envelope; the head commits to all entries; a key
//! has one owner and one use, now and in the past; an owner with a lasting key is always left.

mod authority;
mod change;
mod log;
mod state;
mod table;

pub use authority::{Authority, Shortfall, Signatory, authority};
pub use log::{TrustEntry, TrustError, TrustFault, next_trust_head, replay_log};
pub use state::{Admin, AdminKey, KeyUse, Publisher, Relay, TrustState};
pub use table::{ACTIONS, ActionClass, KeyRule, required, required_by_name};
