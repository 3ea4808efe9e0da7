//! Taking another node out of a cluster, and knowing who its members are.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use qb_drivers::host_step::NetworkMember;
use qb_model::assignment::{Assignment, Grounds, KUBEADM, Member};
use qb_model::ids::Name;
use qb_model::release::{VerifiedRelease, verify_release};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::errors::{NodeError, OrderError};
use crate::exec::{Exec, Inner, cluster_dir};
use crate::host::leaver::{DRAIN, Leaver};
use crate::host::order::{HostOrder, Lane, Work};
use crate::host::runner::Task;
use crate::progress::{StageError, StepError, StepProgress, StepState};

/// What a release may take beside its drain.
const RELEASE_MARGIN: Duration = Duration::from_secs(180);
/// How long a pod network may take.
const NETWORK: Duration = Duration::from_secs(60);
/// Pause before one that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Members of one cluster that are told: a pod network has no more parts.
pub(crate) const PEERS: usize = qb_model::limits::KUBEADM_SLOTS as usize;

/// Whom to take out of a cluster: nothing of it is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRequest {
    /// The order of the node that leaves.
    pub order: Assignment,
    /// What it rests on.
    pub grounds: Grounds,
}

/// Who the members of a cluster are now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    /// The cluster.
    pub cluster: Name,
    /// Its members, this node too, sorted by node.
    pub members: Vec<Member>,
}

impl Exec {
    /// Verifies that signed intents make the node of a request leave, and that this node may take it out.
    ///
    /// # Errors
    /// What of that does not stand.
    pub fn verify_release(&self, request: ReleaseRequest) -> Result<VerifiedRelease, OrderError> {
        let site = self.site()?;
        let me = self.node().ok_or(NodeError::Unknown)?;
        let inner = Arc::clone(&self.0);
        let mut floor = inner.floor();
        // This node's own name, and no number of its own orders.
        let lowest = floor.for_other(site, me);
        let (release, head) = verify_release(request.order, &request.grounds, &lowest)?;
        floor.saw(&inner.root, site, head)?;
        Ok(release)
    }

    /// Takes a node out of a cluster. Waiting for others (a budget that holds a pod) is told as progress,
    /// and goes on until `stop`; killed at any point and asked again, it goes on from there.
    ///
    /// # Errors
    /// What did not succeed, why, and what to do.
    pub async fn release(
        &self,
        release: VerifiedRelease,
        progress: watch::Sender<Vec<StepProgress>>,
        stop: &CancellationToken,
    ) -> Result<(), StageError> {
        let title = format!("take {} out of the cluster", release.member().host);
        let tell = |state, detail: &str| {
            let (step, since, title) = (1, clock::now(), title.clone());
            progress.send_if_modified(|all| {
                let new = StepProgress { step, title, state, since, detail: detail.to_owned() };
                let news = all.first().is_none_or(|old| (old.state, &old.detail) != (state, &new.detail));
                if news {
                    *all = vec![new];
                }
                news
            });
        };
        tell(StepState::Applying, "");
        let done = self.release_by_helper(&release, stop, |line| tell(StepState::Applying, line)).await;
        match done {
            Ok(()) => {
                tell(StepState::Done, "");
                Ok(())
            }
            Err(error) => {
                tell(StepState::Failed, &error.text);
                let StepError { text, remedy } = error;
                Err(StageError { step: 1, title: title.clone(), text, remedy, returned: false })
            }
        }
    }

    async fn release_by_helper(
        &self,
        release: &VerifiedRelease,
        stop: &CancellationToken,
        told: impl Fn(&str),
    ) -> Result<(), StepError> {
        let (order, member) = (release.order(), release.member());
        if order.driver.as_str() != KUBEADM {
            return Err(StepError::new(
                format!("driver {} takes nobody out", order.driver),
                "its nodes leave by themselves: nothing to do",
            ));
        }
        self.0.free()?;
        let here = cluster_dir(&order.cluster).is_ok_and(|at| self.0.root.has_dir(&at));
        if !here {
            return Err(StepError::new(
                format!("{} does not lie on this machine", order.cluster),
                "a control plane node of it is asked: see `qb cluster list`",
            ));
        }
        let leaver = Leaver {
            name: member.host.clone(),
            address: member.address.clone(),
            role: member.role,
            version: order.version.clone(),
        };
        let task = Task {
            lane: Lane::Release,
            title: "take a node out",
            order: HostOrder::new(order.cluster.clone(), Work::Release(leaver)),
            limit: DRAIN + RELEASE_MARGIN,
        };
        self.0.runner.run(self.0.helpers()?, task, stop, told).await.map(drop)
    }

    /// Notes who the members of a cluster are, if it lies here, and brings its pod network about.
    ///
    /// # Errors
    /// What of it cannot be: a member without an IP address, two with one slot, too many.
    pub fn peers(&self, peers: &Peers) -> Result<(), String> {
        if peers.members.len() > PEERS {
            return Err(format!("{} members, at most {PEERS}", peers.members.len()));
        }
        let mut slots = std::collections::BTreeSet::new();
        for member in &peers.members {
            let is_ip = member.address.parse::<IpAddr>().is_ok();
            if !is_ip || usize::from(member.slot) >= PEERS || !slots.insert(member.slot) {
                return Err(format!("{} has no address or no slot of its own", member.host));
            }
        }
        let me = self.node().ok_or_else(|| NodeError::Unknown.to_string())?;
        if !self.is_real(&peers.cluster) {
            // Its order brings a network.
            return Ok(());
        }
        let part = |member: &Member| NetworkMember {
            host: member.host.clone(),
            address: member.address.clone(),
            slot: member.slot,
        };
        let mut others: Vec<_> = peers.members.iter().filter(|m| m.node != me).map(part).collect();
        others.sort_by_key(|member| member.slot);
        let told = self.0.told_peers().insert(peers.cluster.clone(), others.clone());
        if told.as_ref() != Some(&others) {
            self.keep_network(peers.cluster.clone());
        }
        Ok(())
    }

    /// Brings the pod networks of all clusters here about, as they were kept: they do not outlive a
    /// start of the machine.
    pub(crate) fn keep_networks(&self) {
        for cluster in self.clusters().unwrap_or_default() {
            if self.is_real(&cluster) {
                self.keep_network(cluster);
            }
        }
    }

    /// The same for one, in the background, again and again until it is so. Those who were told meanwhile
    /// are part of it.
    fn keep_network(&self, cluster: Name) {
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            loop {
                let Some(inner) = inner.upgrade() else { return };
                let exec = Exec(inner);
                if !exec.is_real(&cluster) {
                    exec.0.told_peers().remove(&cluster);
                    return;
                }
                let told = exec.0.told_peers().get(&cluster).cloned();
                let done = network(&exec.0, &cluster, told.clone()).await;
                match done {
                    Ok(()) if exec.0.told_peers().get(&cluster) == told.as_ref() => return,
                    Ok(()) => continue,
                    Err(error) => tracing::warn!(%cluster, "pod network: {}; {}", error.text, error.remedy),
                }
                drop(exec);
                tokio::time::sleep(AGAIN).await;
            }
        });
    }
}

/// Brings a network about: with these members, or as it is kept.
async fn network(inner: &Inner, cluster: &Name, peers: Option<Vec<NetworkMember>>) -> Result<(), StepError> {
    inner.free()?;
    let task = Task {
        lane: Lane::Peers,
        title: "pod network",
        order: HostOrder::new(cluster.clone(), peers.map_or(Work::Restore, Work::Peers)),
        limit: NETWORK,
    };
    inner.runner.run(inner.helpers()?, task, &CancellationToken::new(), |_| ()).await.map(drop)
}
