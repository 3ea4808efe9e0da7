//! Formats, signatures, judgement, trust and audit.

mod chain;
mod documents;
mod forge;
mod fuzz;
mod golden;
mod grants;
mod judging;
mod owners;
mod roles;
mod signatures;
mod strict;
