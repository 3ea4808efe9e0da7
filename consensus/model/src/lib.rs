//! What a site agrees on: nouns, signed intents, the state machine, the planner, preflight.
//!
//! ```text
//!  admin                       voter (every replica)                       node
//!  Intent ─sign─> Envelope ──> judge ──> SiteState::apply ──> plan::next   assignment::verify
//!                              │ trust, replay, chain          │               │
//!                              └ Refused | Rejected | Pass     └ Command       └ VerifiedAssignment
//! ```
//!
//! | files | what |
//! |---|---|
//! | `ids` `key` `words` | identifiers, public keys, words and fingerprints to compare |
//! | `dsse` `strict` `envelope` `document` `statement` `limits` `validate` | signatures, strict JSON, signed things, bounds |
//! | `enrolment` | the file that tells a machine of its site |
//! | `charter` `action` `settings` `intent` `outcome` `sentence` | what admins sign and what became of it |
//! | `trust` `judge` `replay` `chain` `audit` | who may do what; the one judgement; replay; the audit chain |
//! | `grant` | what an admin's grant of a tunnel or a certificate opens |
//! | `token` | join tokens: what a mint allows, how an entry by one is verified |
//! | `command` `state` | the Raft entry and the state machine |
//! | `attest` | what voters signed of the state, verified from the charter; what a reader remembers |
//! | `plan` `preflight` `waiting` `facts` `board` `assignment` `agent_order` | what comes next, and why nothing happens |
//! | `alerts` `history` | what is wrong, told once; the last hour |
//!
//! Invariants: no IO, clock, randomness, threads or environment; the same bytes give the same state
//! on every replica (ordered maps only); nothing unsigned changes what is desired; whatever comes
//! from outside is bounded before it is decoded; no input makes it panic.

pub mod action;
pub mod agent_order;
pub mod alerts;
pub mod assignment;
pub mod attest;
pub mod audit;
pub mod board;
pub mod chain;
pub mod charter;
pub mod command;
pub mod document;
pub mod dsse;
pub mod enrolment;
pub mod envelope;
pub mod facts;
pub mod grant;
pub mod history;
pub mod ids;
pub mod intent;
pub mod judge;
pub mod key;
pub mod limits;
pub mod outcome;
pub mod plan;
pub mod preflight;
pub mod release;
pub mod replay;
pub mod sentence;
pub mod settings;
pub mod state;
pub mod statement;
pub mod strict;
pub mod token;
pub mod trust;
pub mod validate;
pub mod waiting;
pub mod words;

pub use ids::*;
