//! The state machine, the planner, and what nodes verify.

mod clusters;
mod holds;
mod implied;
mod nodes;
mod orders;
mod place;
mod roster;
mod sim;
mod snapshots;
mod tokens;
mod upgrade;
mod why;
