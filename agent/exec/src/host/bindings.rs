//! The role bindings that qb keeps in the cluster, one of each admin: looked at, compared, deleted,
//! created. Bindings without qb's label are nobody's business here.

use std::collections::BTreeMap;

use qb_drivers::access::{self, BINDING_LABEL, BINDING_LIST_BYTES, BindingChanges};
use qb_model::action::Role;
use qb_model::ids::Name;

use super::Host;
use super::api::{self, ADMIN, kubectl};
use crate::progress::StepError;

const REMEDY: &str = "it is tried again; `qb cluster list` shows the control plane nodes";
/// Bindings that are deleted in one go: their names fit into an argument list.
const AT_ONCE: usize = 100;

pub(super) async fn are_kept(host: &Host, admins: &BTreeMap<Name, Role>) -> Result<bool, StepError> {
    Ok(changes(host, admins).await?.is_empty())
}

pub(super) async fn keep(host: &Host, admins: &BTreeMap<Name, Role>) -> Result<(), StepError> {
    let changes = changes(host, admins).await?;
    for names in changes.delete.chunks(AT_ONCE) {
        let head = ["delete", "clusterrolebindings", "--ignore-not-found", "--"];
        let call = kubectl(host, head.into_iter().chain(names.iter().map(String::as_str)))?;
        host.programs.run(call).await?.done("kubectl delete clusterrolebindings", REMEDY)?;
    }
    if changes.create.is_empty() {
        return Ok(());
    }
    let call = kubectl(host, ["apply", "-f", "-"])?.input(access::manifest(&changes.create));
    let remedy =
        "if one of that name is there without the label of qb, delete it with kubectl; it is tried again";
    host.programs.run(call).await?.done("kubectl apply", remedy).map(drop)
}

async fn changes(host: &Host, admins: &BTreeMap<Name, Role>) -> Result<BindingChanges, StepError> {
    // The kubelet's credential, which is there on every node, may not do it.
    if !api::has(host, ADMIN)? {
        return Err(StepError::new(
            format!("/{ADMIN} is not on this machine"),
            "a control plane node does it once it is done: see `qb cluster list`",
        ));
    }
    let selector = format!("{}={}", BINDING_LABEL.0, BINDING_LABEL.1);
    let call = kubectl(host, ["get", "clusterrolebindings", "-l", selector.as_str(), "-o", "json"])?;
    let output = host.programs.run(call.most(BINDING_LIST_BYTES)).await?;
    let list = output.done("kubectl get clusterrolebindings", REMEDY)?;
    let found = access::read_bindings(&list).map_err(|e| StepError::new(e.to_string(), REMEDY))?;
    Ok(access::changes(&access::desired(admins), &found))
}

#[cfg(test)]
#[path = "bindings_tests.rs"]
mod tests;
