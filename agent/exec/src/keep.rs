//! Labels and taints of nodes, and add-ons: verified here against signed intents, kept by a helper with
//! the cluster's own kubectl. What no intent names is not touched: a removal is an intent as well.

use std::time::Duration;

use qb_drivers::addons::Addon;
use qb_drivers::marks::NodeMarks;
use qb_model::action::Action;
use qb_model::assignment::{Citation, signed_intent};
use qb_model::ids::{Millis, Name};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::exec::Exec;
use crate::host::order::{HostOrder, Keep, Lane, Work};
use crate::host::runner::Task;
use crate::limits::KEEP_INTENTS;
use crate::people::{PeopleError, TrustGrounds};
use crate::progress::{StageError, StepError};

/// What it is, for people.
const TITLE: &str = "keep labels and add-ons";
/// How long it may take beside what each thing may.
const MARGIN: Duration = Duration::from_secs(30);
/// How long one thing may take: some questions, and one apply, at an API server that is slow.
const EACH: Duration = Duration::from_secs(240);

/// An intent with where it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CitedIntent {
    /// Its envelope.
    pub envelope: Vec<u8>,
    /// What is cited.
    pub cites: Citation,
    /// When it was accepted.
    pub at: Millis,
}

/// What is to be kept inside a cluster: nothing of it is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepRequest {
    /// The cluster.
    pub cluster: Name,
    /// Who may do what.
    pub grounds: TrustGrounds,
    /// The intents that say it, at most [`KEEP_INTENTS`].
    pub intents: Vec<CitedIntent>,
}

/// What signed intents want inside one cluster. Only [`Exec::verify_keep`] makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedKeep {
    cluster: Name,
    things: Vec<Keep>,
}

impl Exec {
    /// Verifies that admins signed what is to be kept.
    ///
    /// # Errors
    /// The trust log or an intent does not stand, or is about something else.
    pub fn verify_keep(&self, request: &KeepRequest) -> Result<VerifiedKeep, PeopleError> {
        if request.intents.len() > KEEP_INTENTS {
            let have = request.intents.len();
            return Err(PeopleError::Intent(format!("there are {have}, at most {KEEP_INTENTS} are taken")));
        }
        let trust = self.admins(&request.grounds)?;
        let mut things = Vec::new();
        for CitedIntent { envelope, cites, at } in &request.intents {
            let intent = signed_intent(envelope, &trust, cites, *at).map_err(PeopleError::Intent)?;
            things.push(thing(&request.cluster, intent.action)?);
        }
        Ok(VerifiedKeep { cluster: request.cluster.clone(), things })
    }

    /// Makes it so. Idempotent; killed at any point and asked again, it goes on from there.
    ///
    /// # Errors
    /// What did not succeed, why, and what to do.
    pub async fn keep(&self, verified: VerifiedKeep, stop: &CancellationToken) -> Result<(), StageError> {
        let done = self.keep_by_helper(verified, stop).await;
        done.map_err(|e| StageError::of_one_step(TITLE, e))
    }

    async fn keep_by_helper(
        &self,
        verified: VerifiedKeep,
        stop: &CancellationToken,
    ) -> Result<(), StepError> {
        let VerifiedKeep { cluster, things } = verified;
        self.0.free()?;
        self.0.lies_here(&cluster)?;
        let many = u32::try_from(things.len()).unwrap_or(u32::MAX);
        let task = Task {
            lane: Lane::Keep,
            title: TITLE,
            limit: EACH * many + MARGIN,
            order: HostOrder::new(cluster, Work::Keep(things)),
        };
        self.0.runner.run(self.0.helpers()?, task, stop, |_| ()).await.map(drop)
    }
}

/// What an intent wants in a cluster.
fn thing(name: &Name, action: Action) -> Result<Keep, PeopleError> {
    match action {
        Action::ClusterLabel { cluster, host, labels, taints, .. } if cluster == *name => {
            Ok(Keep::Marks(NodeMarks { host, labels, taints }))
        }
        Action::ClusterAddonSet { cluster, addon, manifest } if cluster == *name => {
            Ok(Keep::Addon(Addon { name: addon, manifest: Some(manifest) }))
        }
        Action::ClusterAddonRemove { cluster, addon } if cluster == *name => {
            Ok(Keep::Addon(Addon { name: addon, manifest: None }))
        }
        other => Err(PeopleError::Intent(format!("{} says nothing that is kept in {name}", other.name()))),
    }
}

#[cfg(test)]
#[path = "keep_tests.rs"]
mod tests;
