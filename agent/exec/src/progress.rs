//! What a stage tells while it runs, and how it ends.

use qb_model::ids::Millis;
use serde::{Deserialize, Serialize};

/// Where a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// Not begun.
    Waiting,
    /// Looks whether it is done already.
    Checking,
    /// Does it.
    Applying,
    /// Looks whether it is done now.
    Verifying,
    /// Is done.
    Done,
    /// Did not succeed: the stage stops here.
    Failed,
}

/// One step of a stage as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepProgress {
    /// Its number.
    pub step: u16,
    /// What it does.
    pub title: String,
    /// Where it is.
    pub state: StepState,
    /// Since when.
    pub since: Millis,
    /// What there is to say; empty, or why it waits or failed. Never a secret.
    pub detail: String,
}

/// A stage that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageDone {
    /// What other members need to know; empty for most stages.
    pub public: Vec<u8>,
}

/// A stage that was not. What was done stays; running the order again goes on from there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{title}: {text}; {remedy}")]
pub struct StageError {
    /// The step, 0 if none was begun.
    pub step: u16,
    /// What it does.
    pub title: String,
    /// What failed, on what.
    pub text: String,
    /// What to do.
    pub remedy: String,
    /// Whether everything is again as it was before the order: it is not tried again.
    pub returned: bool,
}

impl StageError {
    /// Of work that is one step.
    pub(crate) fn of_one_step(title: &str, error: StepError) -> Self {
        let StepError { text, remedy } = error;
        Self { step: 1, title: title.to_owned(), text, remedy, returned: false }
    }
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StepError {
    pub(crate) text: String,
    pub(crate) remedy: String,
}

impl StepError {
    pub(crate) fn new(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { text: text.into(), remedy: remedy.into() }
    }

    /// The disk does not do what it should.
    pub(crate) fn disk(what: impl std::fmt::Display, error: &std::io::Error) -> Self {
        Self::new(
            format!("{what}: {error}"),
            "check the disk (`df -h`, `dmesg`), then the step runs again by itself",
        )
    }

    /// Something in the cluster's directory is not as a step before left it.
    pub(crate) fn damaged(what: impl std::fmt::Display) -> Self {
        Self::new(format!("{what} is missing or damaged"), "detach this node and attach it again")
    }

    /// The caller stopped it.
    pub(crate) fn cancelled() -> Self {
        Self::new("stopped", "give the order again: it goes on where it stopped")
    }
}
