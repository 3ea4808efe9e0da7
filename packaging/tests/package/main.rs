//! Tests of the package builder through its public API, with the formats' own programs too.
#![allow(clippy::unwrap_used)]

mod common;
mod damage;
mod dpkg_itself;
mod manifest;
mod program;
mod rpm_itself;
mod site;
mod spec;
mod structure;
