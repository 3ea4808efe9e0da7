//! Takes another node out of the cluster: cordon, drain, its etcd member, its node object. Works for one
//! that is dead as well, and can be killed anywhere.

use std::time::Duration;

use qb_model::action::NodeRole;
use qb_model::ids::{HostName, Version};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::Host;
use super::api::{self, kubectl, minor};
use super::etcd;
use crate::progress::StepError;

/// How long it is tried in one go to move pods away; then what holds them is told, and it is asked again.
pub(crate) const DRAIN: Duration = Duration::from_secs(600);
/// How long one run of kubectl tries before what it said is looked at.
const TRY: Duration = Duration::from_secs(20);
/// Pause between two.
const AGAIN: Duration = Duration::from_secs(5);
/// What a pod that may not be moved is said to be, in kubectl's words.
const HELD: [&str; 3] = ["Cannot evict pod", "cannot delete", "error when evicting"];
/// Since when kubeadm keeps no list of API servers of its own.
pub(super) const WITHOUT_STATUS: u32 = 22;
const CONFIG_MAP: &str = "kubeadm-config";
const STATUS: &str = "ClusterStatus";
const REMEDY: &str = "it is tried again; `qb cluster list` shows the control plane nodes";

/// Who is taken out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Leaver {
    /// Its name in Kubernetes.
    pub(crate) name: HostName,
    /// Its IP address.
    pub(crate) address: String,
    /// Its role.
    pub(crate) role: NodeRole,
    /// The version of Kubernetes.
    pub(crate) version: Version,
}

pub(super) async fn is_out(host: &Host, leaver: &Leaver) -> Result<bool, StepError> {
    let member = leaver.role == NodeRole::ControlPlane && etcd::has_member(host, &leaver.address).await?;
    Ok(!member && api::node(host, leaver.name.as_str()).await?.is_none())
}

pub(super) async fn take_out(host: &Host, leaver: &Leaver) -> Result<(), StepError> {
    let name = leaver.name.as_str();
    if let Some(node) = api::node(host, name).await? {
        host.tell.tell(&format!("cordoning {name}"));
        said(host, &["cordon", name]).await?;
        // Pods on a node that says nothing cannot be ended gently: they go with its object.
        if node.ready().is_ok() {
            drain(host, name).await?;
        }
    }
    if leaver.role == NodeRole::ControlPlane {
        host.tell.tell(&format!("taking the etcd member of {name} out"));
        etcd::remove_member(host, &leaver.address).await?;
        if minor(&leaver.version) < WITHOUT_STATUS {
            forget_endpoint(host, name).await?;
        }
    }
    host.tell.tell(&format!("deleting the node {name}"));
    said(host, &["delete", "node", name, "--ignore-not-found", "--timeout=15s"]).await
}

async fn said(host: &Host, args: &[&str]) -> Result<(), StepError> {
    let output = host.programs.run(kubectl(host, args.iter().copied())?).await?;
    output.done(&format!("kubectl {}", args[..2.min(args.len())].join(" ")), REMEDY).map(drop)
}

/// Evicts pods until none is left that may move. Pods without a controller and those with data of their
/// own (emptyDir) are left for people to decide.
async fn drain(host: &Host, name: &str) -> Result<(), StepError> {
    let until = Instant::now() + DRAIN;
    let timeout = format!("--timeout={}s", TRY.as_secs());
    loop {
        host.tell.tell(&format!("draining {name}"));
        let call = kubectl(host, ["drain", name, "--ignore-daemonsets", timeout.as_str()])?;
        let output = host.programs.run(call.limit(TRY + AGAIN + AGAIN).most(1 << 20)).await?;
        if output.is_ok() {
            return Ok(());
        }
        let why = held(&output.said);
        host.tell.tell(&why);
        if Instant::now() > until {
            return Err(StepError::new(
                format!("{name} is not drained: {why}"),
                "make room for the pod, or delete it with `qb kubectl CLUSTER -- delete pod NAME`; it is tried again",
            ));
        }
        sleep(AGAIN).await;
    }
}

/// The sentence that says what holds a drain.
fn held(said: &str) -> String {
    let line = said.lines().rev().find(|line| HELD.iter().any(|held| line.contains(held)));
    let line =
        line.or_else(|| said.lines().rev().find(|line| !line.trim().is_empty())).unwrap_or("no answer");
    line.trim().trim_start_matches("error: ").chars().take(300).collect()
}

#[derive(Deserialize)]
struct Config {
    metadata: Version1,
    #[serde(default)]
    data: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Version1 {
    #[serde(rename = "resourceVersion")]
    resource: String,
}

/// Drops the node from the list of API servers that kubeadm kept up to 1.21.
pub(super) async fn forget_endpoint(host: &Host, name: &str) -> Result<(), StepError> {
    let get = ["get", "configmap", CONFIG_MAP, "-n", "kube-system", "-o", "json"];
    let found =
        host.programs.run(kubectl(host, get)?.most(1 << 20)).await?.done("kubectl get configmap", REMEDY)?;
    let config: Config = serde_json::from_slice(&found)
        .map_err(|_| StepError::new("kubectl get configmap gives no object", REMEDY))?;
    let Some(status) = config.data.get(STATUS) else { return Ok(()) };
    let without = without_endpoint(status, name);
    if without == *status {
        return Ok(());
    }
    // Refused if somebody else changed it meanwhile.
    let patch = serde_json::json!({
        "metadata": { "resourceVersion": config.metadata.resource },
        "data": { STATUS: without },
    });
    let patch = patch.to_string();
    let args = ["patch", "configmap", CONFIG_MAP, "-n", "kube-system", "--type=merge", "-p", patch.as_str()];
    host.programs.run(kubectl(host, args)?).await?.done("kubectl patch configmap", REMEDY).map(drop)
}

/// The status without the block of one node: two spaces, the name, a colon, and what is further in.
fn without_endpoint(status: &str, name: &str) -> String {
    let head = format!("  {name}:");
    let (mut out, mut inside) = (String::new(), false);
    for line in status.split_inclusive('\n') {
        let depth = line.len() - line.trim_start_matches(' ').len();
        inside = if line.trim_end() == head { true } else { inside && depth > 2 };
        if !inside {
            out.push_str(line);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_is_dropped_from_the_list() {
        let status = "apiEndpoints:\n  h1:\n    advertiseAddress: 10.77.0.1\n    bindPort: 6443\n  h10:\n    advertiseAddress: 10.77.0.10\n    bindPort: 6443\napiVersion: kubeadm.k8s.io/v1beta2\nkind: ClusterStatus\n";
        let rest = "apiEndpoints:\n  h10:\n    advertiseAddress: 10.77.0.10\n    bindPort: 6443\napiVersion: kubeadm.k8s.io/v1beta2\nkind: ClusterStatus\n";
        assert_eq!(without_endpoint(status, "h1"), rest);
        assert_eq!(without_endpoint(rest, "h1"), rest);
        assert_eq!(
            without_endpoint(rest, "h10"),
            "apiEndpoints:\napiVersion: kubeadm.k8s.io/v1beta2\nkind: ClusterStatus\n"
        );
    }

    #[test]
    fn what_holds_a_drain_is_said() {
        let said = "node/w1 cordoned\nevicting pod default/web-1\nerror when evicting pods/\"web-1\" -n \"default\" (will retry after 5s): Cannot evict pod as it would violate the pod's disruption budget.\nThere are pending nodes to be drained:\n w1\nerror: drain did not complete within 20s\n";
        assert!(held(said).contains("violate the pod's disruption budget"), "{}", held(said));
        assert_eq!(held("error: unknown flag"), "unknown flag");
        assert_eq!(held(""), "no answer");
    }
}
