//! The state machine, the planner, and what nodes verify.

mod cluster_upgrades;
mod clusters;
mod holds;
mod implied;
mod joins;
mod kept;
mod nodes;
mod orders;
mod place;
mod releases;
mod restores;
mod roster;
mod settings;
mod sim;
mod slots;
mod snapshots;
mod tokens;
mod upgrade;
mod why;
