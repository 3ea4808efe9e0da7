//! Views that voters sign: chains of voters, attested heads, what a reader remembers.

mod chains;
mod golden;
mod heads;
mod memory;
mod site;
mod state_hash;
