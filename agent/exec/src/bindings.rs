//! Role bindings for exactly the admins that the trust log names (security rules 7.4): verified here,
//! kept by a helper with the cluster's own kubectl.

use std::collections::BTreeMap;
use std::time::Duration;

use qb_drivers::access;
use qb_model::action::Role;
use qb_model::ids::Name;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::exec::{Exec, Inner, cluster_dir};
use crate::host::order::{HostOrder, Lane, Work};
use crate::host::runner::Task;
use crate::people::{PeopleError, TrustGrounds};
use crate::progress::{StageError, StepError};

/// What it is, for people.
const TITLE: &str = "keep the role bindings of admins";
/// How long it may take: a look, deleting, creating and a look again, at an API server that is slow.
const LIMIT: Duration = Duration::from_secs(180);

/// Whose role bindings a cluster is to have: nothing of it is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingsRequest {
    /// The cluster.
    pub cluster: Name,
    /// Who may do what.
    pub grounds: TrustGrounds,
}

/// The admins of the site by a trust log that stands, for one cluster. Only [`Exec::verify_bindings`]
/// makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedBindings {
    cluster: Name,
    admins: BTreeMap<Name, Role>,
}

impl Exec {
    /// Replays the trust log, which must contain the one that this node has seen.
    ///
    /// # Errors
    /// It does not stand.
    pub fn verify_bindings(&self, request: &BindingsRequest) -> Result<VerifiedBindings, PeopleError> {
        let trust = self.admins(&request.grounds)?;
        Ok(VerifiedBindings { cluster: request.cluster.clone(), admins: access::roles(trust.admins()) })
    }

    /// Makes the role bindings that qb keeps in a cluster those of its admins. Idempotent; killed at any
    /// point and asked again, it goes on from there.
    ///
    /// # Errors
    /// What did not succeed, why, and what to do.
    pub async fn keep_bindings(
        &self,
        verified: VerifiedBindings,
        stop: &CancellationToken,
    ) -> Result<(), StageError> {
        let done = self.bindings_by_helper(verified, stop).await;
        done.map_err(|e| StageError::of_one_step(TITLE, e))
    }

    async fn bindings_by_helper(
        &self,
        verified: VerifiedBindings,
        stop: &CancellationToken,
    ) -> Result<(), StepError> {
        let VerifiedBindings { cluster, admins } = verified;
        self.0.free()?;
        self.0.lies_here(&cluster)?;
        let task = Task {
            lane: Lane::Bindings,
            title: TITLE,
            order: HostOrder::new(cluster, Work::Bindings(admins)),
            limit: LIMIT,
        };
        self.0.runner.run(self.0.helpers()?, task, stop, |_| ()).await.map(drop)
    }
}

impl Inner {
    /// Whether a cluster has its place on this machine.
    pub(crate) fn lies_here(&self, cluster: &Name) -> Result<(), StepError> {
        if cluster_dir(cluster).is_ok_and(|at| self.root.has_dir(&at)) {
            return Ok(());
        }
        Err(StepError::new(
            format!("{cluster} does not lie on this machine"),
            "a control plane node of it is asked: see `qb cluster list`",
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::people::tests::{Machine, charter, cluster};

    fn request(cluster: Name, charter: Vec<u8>) -> BindingsRequest {
        BindingsRequest { cluster, grounds: TrustGrounds { charter, trust_log: Vec::new() } }
    }

    #[tokio::test]
    async fn only_a_trust_log_that_stands_says_who_is_an_admin() {
        let machine = Machine::new().await;
        let verified = machine.exec.verify_bindings(&request(cluster(), charter().1)).unwrap();
        assert_eq!(verified.admins, BTreeMap::from([("olga".parse().unwrap(), Role::Owner)]));
        let error = machine.exec.verify_bindings(&request(cluster(), b"{}".to_vec())).unwrap_err();
        assert!(error.to_string().contains("trust log does not stand"), "{error}");
    }

    #[tokio::test]
    async fn where_it_cannot_be_done_it_is_said_with_what_to_do() {
        let machine = Machine::new().await;
        let refused = async |cluster: Name| {
            let verified = machine.exec.verify_bindings(&request(cluster, charter().1)).unwrap();
            machine.exec.keep_bindings(verified, &CancellationToken::new()).await.unwrap_err()
        };
        let elsewhere = refused("clus200".parse().unwrap()).await;
        assert!(elsewhere.text.contains("does not lie on this machine"), "{}", elsewhere.text);
        // Units are children here: nobody starts helpers.
        let children = refused(cluster()).await;
        assert!(children.remedy.contains("qb-agent package"), "{}", children.remedy);
        std::fs::write(&machine.exec.0.config.hold, "").unwrap();
        assert!(refused(cluster()).await.text.contains("held on this machine"));
    }
}
