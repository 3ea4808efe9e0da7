//! `waiting_on`: why nothing happens, since when, and what clears it.

use serde::{Deserialize, Serialize};

use crate::ids::Millis;

/// What ends a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clears {
    /// Time does, or work that goes on.
    Itself,
    /// Somebody must act.
    Person,
    /// Nothing does; the text says the way out.
    Never,
}

/// One cause: the first in the causal chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingOn {
    /// Stable code, e.g. `node.authorize`.
    pub code: String,
    /// What waits: a node's, cluster's or intent's name.
    pub subject: String,
    /// The sentence after the subject: "waits for an administrator to authorize it".
    pub text: String,
    /// Since when.
    pub since: Millis,
    /// What clears it.
    pub clears: Clears,
    /// The role a person needs, where one must act.
    pub role: Option<String>,
    /// The command that clears it, whole.
    pub command: Option<String>,
    /// The machine to type it on, where that matters.
    pub host: Option<String>,
    /// How many further causes there are.
    pub more: u32,
}

impl WaitingOn {
    /// A wait that clears by itself.
    pub fn itself(code: &str, subject: &str, text: impl Into<String>, since: Millis) -> Self {
        Self {
            code: code.to_owned(),
            subject: subject.to_owned(),
            text: text.into(),
            since,
            clears: Clears::Itself,
            role: None,
            command: None,
            host: None,
            more: 0,
        }
    }

    /// A wait for a person with `role`, who types `command`.
    pub fn person(
        code: &str,
        subject: &str,
        text: impl Into<String>,
        since: Millis,
        (role, command): (&str, String),
    ) -> Self {
        Self {
            clears: Clears::Person,
            role: Some(role.to_owned()),
            command: Some(command),
            ..Self::itself(code, subject, text, since)
        }
    }
}
