//! Everything about `qb`, in one binary: what it decides and prints, and the binary itself against a
//! door that is the real API over a made-up site.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agents;
mod bundles;
mod completion;
mod door;
mod flows;
mod grammar;
mod kept;
mod local;
mod log;
mod made;
mod package;
mod pages;
mod portal;
mod relays;
mod remedies;
mod rows;
mod settings;
mod site;
mod texts;
mod through;
mod tls;
mod verify;
