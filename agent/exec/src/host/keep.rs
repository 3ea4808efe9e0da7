//! What qb keeps inside the cluster: labels and taints of nodes, and add-ons. Looked at, compared, written
//! down, changed, written down again; the decisions are [`marks::changes`] and [`addons::changes`].

use std::time::Duration;

use qb_drivers::addons::{self, Addon};
use qb_drivers::kept::{ANSWER_BYTES, KeptError, NAMESPACE};
use qb_drivers::marks::{self, NodeMarks};

use super::Host;
use super::api::{self, ADMIN, kubectl};
use super::order::Keep;
use crate::progress::StepError;

/// How long applying or deleting an add-on may take: each object is a question.
const APPLY: Duration = Duration::from_secs(120);
const REMEDY: &str = "it is tried again; `qb cluster list` shows the control plane nodes";
const MANIFEST: &str = "correct the manifest and set the add-on again; it is tried again until then";

/// Makes all of it so: what fails is told once everything was tried, the first of it.
pub(super) async fn keep(host: &Host, things: &[Keep]) -> Result<(), StepError> {
    // The kubelet's credential, which is there on every node, may not do it.
    if !api::has(host, ADMIN)? {
        return Err(StepError::new(
            format!("/{ADMIN} is not on this machine"),
            "a control plane node does it once it is done: see `qb cluster list`",
        ));
    }
    let mut failed = Ok(());
    for thing in things {
        let done = match thing {
            Keep::Marks(wanted) => mark(host, wanted).await,
            Keep::Addon(addon) => addon_of(host, addon).await,
        };
        failed = failed.and(done);
    }
    failed
}

async fn mark(host: &Host, wanted: &NodeMarks) -> Result<(), StepError> {
    let name = wanted.host.as_str();
    let (node, record) = (format!("node/{name}"), format!("configmap/{}", wanted.record()));
    let args = ["get", &node, &record, "-n", NAMESPACE, "--ignore-not-found", "-o", "json"];
    let output = host.programs.run(kubectl(host, args)?.most(ANSWER_BYTES)).await?;
    let answer = output.done(&format!("kubectl get {node}"), REMEDY)?;
    let changes = marks::changes(wanted, &answer).map_err(unread)?;
    let Some(changes) = changes else {
        return Err(StepError::new(format!("the cluster has no node {name}"), REMEDY));
    };
    record_as(host, changes.before).await?;
    if let Some(patch) = changes.patch {
        let call = kubectl(host, ["patch", "node", name, "--type=merge", "-p", &patch])?;
        host.programs.run(call).await?.done(&format!("kubectl patch {node}"), REMEDY)?;
    }
    record_as(host, changes.after).await
}

async fn addon_of(host: &Host, addon: &Addon) -> Result<(), StepError> {
    let labelled = match &addon.manifest {
        Some(lines) => {
            let args = ["label", "--local", "-f", "-", "-o", "json", "--overwrite", &addon.label()];
            let call = kubectl(host, args)?.input(lines.join("\n") + "\n").most(ANSWER_BYTES);
            host.programs.run(call).await?.done("kubectl label", MANIFEST)?
        }
        None => Vec::new(),
    };
    let record = addon.record();
    let args = ["get", "configmap", &record, "-n", NAMESPACE, "--ignore-not-found", "-o", "json"];
    let output = host.programs.run(kubectl(host, args)?.most(ANSWER_BYTES)).await?;
    let answer = output.done("kubectl get configmap", REMEDY)?;
    let changes = addons::changes(addon, &labelled, &answer).map_err(|e| match e {
        KeptError::Form(_) => unread(e),
        wrong => StepError::new(wrong.to_string(), MANIFEST),
    })?;
    record_as(host, changes.before).await?;
    if let Some(list) = changes.apply {
        let call = kubectl(host, ["apply", "-f", "-"])?.input(list).limit(APPLY).most(ANSWER_BYTES);
        host.programs.run(call).await?.done("kubectl apply", MANIFEST)?;
    }
    if let Some(list) = changes.delete {
        delete(host, list).await?;
    }
    record_as(host, changes.after).await?;
    if changes.forget {
        let args = ["delete", "configmap", &record, "-n", NAMESPACE, "--ignore-not-found"];
        host.programs.run(kubectl(host, args)?).await?.done("kubectl delete configmap", REMEDY)?;
    }
    Ok(())
}

async fn delete(host: &Host, list: String) -> Result<(), StepError> {
    let args = ["delete", "--ignore-not-found", "--wait=false", "-f", "-"];
    let call = kubectl(host, args)?.input(list).limit(APPLY).most(ANSWER_BYTES);
    let output = host.programs.run(call).await?;
    if !output.is_ok() && only_unknown_kinds(&output.said) {
        return Ok(());
    }
    output.done("kubectl delete", REMEDY).map(drop)
}

/// Whether all that a deletion complains of is kinds that the API does not have (any more): then nothing
/// of these kinds is there either.
fn only_unknown_kinds(said: &str) -> bool {
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty()).peekable();
    lines.peek().is_some()
        && lines.all(|line| {
            line.contains("no matches for kind")
                || line.starts_with("ensure CRDs are installed first")
                || line.ends_with(" deleted")
                || line.contains("\" deleted from ")
                || line.starts_with("warning: deleting cluster-scoped resources")
                || line.starts_with("Warning: deleting cluster-scoped resources")
        })
}

/// Writes a record down, if there is one to write.
async fn record_as(host: &Host, record: Option<String>) -> Result<(), StepError> {
    let Some(record) = record else { return Ok(()) };
    let call = kubectl(host, ["apply", "-f", "-"])?.input(record).most(ANSWER_BYTES);
    host.programs.run(call).await?.done("kubectl apply of qb's record", REMEDY).map(drop)
}

fn unread(error: KeptError) -> StepError {
    StepError::new(error.to_string(), REMEDY)
}

#[cfg(test)]
#[path = "keep_tests.rs"]
mod tests;
