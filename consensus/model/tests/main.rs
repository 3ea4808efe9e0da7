//! Tests of the model through its public face: one binary, to link once.
#![allow(clippy::unwrap_used)]

mod alerts;
mod attest;
mod state;
mod support;
mod trust;
