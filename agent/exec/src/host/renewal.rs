//! New certificates for a control plane node, and its parts started anew with them, one after the other.
//!
//! ```text
//!   renewal.json: how the files were, parts left ──> kubeadm certs renew all ──> on the disk
//!                                  each part: others well? end it, it runs again, left out of the list
//!                                                         none left: renewal.json is deleted
//! ```
//!
//! Killed anywhere it goes on: what is old is renewed again, what is left is started anew. Files that a power
//! cut emptied are put back from what was kept before kubeadm is run. A part whose container was ended is not
//! ended again when it comes late: the kubelet waits up to five minutes before it starts one that ended often.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use qb_drivers::host_step::Part;
use qb_drivers::kubeadm::upkeep::{Certificates, judge};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::images::ctr;
use super::place::clean;
use super::{Host, api, etcd};
use crate::dir::Dir;
use crate::progress::StepError;
use crate::{certificates, clock};

/// What is left to do, in the cluster's directory. It holds keys, for as long as a renewal takes.
pub(crate) const LEFT: &str = "renewal.json";
/// Bytes of it: two dozen files.
const LEFT_BYTES: u64 = 4 << 20;
/// Pause between two looks.
const AGAIN: Duration = Duration::from_millis(500);
/// Where an API server listens.
const API_PORT: u16 = qb_drivers::kubeadm::API_SERVER_PORT;
const REMEDY: &str =
    "`journalctl -u kubelet` and the files in /var/log/pods on this machine show why; it is tried again";

/// How a file was.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct Was {
    content: String,
    mode: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Left {
    v: u16,
    parts: BTreeSet<Part>,
    files: BTreeMap<String, Was>,
    /// Containers of parts as they ran with the old certificates.
    old: BTreeMap<Part, BTreeSet<String>>,
    /// Whether certificates had ended: the others may be no better off, and nobody waits for them.
    ended: bool,
}

fn left(host: &Host) -> Result<Option<Left>, StepError> {
    let at = clean(LEFT)?;
    let bytes = host.dir.read(&at, LEFT_BYTES).map_err(|e| StepError::disk(&at, &e))?.map(Zeroizing::new);
    let read = |bytes: Zeroizing<Vec<u8>>| serde_json::from_slice(&bytes);
    bytes.map(read).transpose().map_err(|_| StepError::damaged(&at))
}

fn keep(host: &Host, left: &Left) -> Result<(), StepError> {
    let at = clean(LEFT)?;
    let bytes = serde_json::to_vec(left).map(Zeroizing::new).map_err(|_| StepError::damaged(&at))?;
    host.dir.write(&at, &bytes, 0o600).map_err(|e| StepError::disk(&at, &e))
}

/// Whether a renewal in this cluster's directory was begun since certificates had ended; none if none was begun.
pub(crate) fn begun(dir: &Dir) -> Option<bool> {
    let at = clean(LEFT).ok()?;
    // What cannot be read says nothing of the others; the renewal itself says what is wrong with it.
    let bytes = dir.read(&at, LEFT_BYTES).ok()?.map(Zeroizing::new)?;
    Some(serde_json::from_slice::<Left>(&bytes).is_ok_and(|left| left.ended))
}

/// Whether no certificate ends soon.
pub(super) fn is_renewed(host: &Host) -> Result<bool, StepError> {
    match certificates::read(&host.root) {
        Ok(all) => Ok(judge(&all, clock::now()) == Certificates::Well),
        // One that a renewal of before was writing when the power went.
        Err(_) if left(host)?.is_some() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Before kubeadm is run: how the files are is kept, or what was kept is put back where it is needed.
pub(super) fn before(host: &Host) -> Result<(), StepError> {
    let read = certificates::read(&host.root);
    let begun = left(host)?;
    let ended = read.as_deref().is_ok_and(|all| judge(all, clock::now()) == Certificates::Ended)
        || begun.as_ref().is_some_and(|left| left.ended);
    let files = match (begun, read.err()) {
        (None, Some(error)) => return Err(error),
        (Some(kept), Some(_)) => {
            put_back(host, &kept)?;
            kept.files
        }
        (_, None) => files(host)?,
    };
    // No part has the certificates that come now.
    keep(host, &Left { v: 1, parts: BTreeSet::from(Part::ALL), files, old: BTreeMap::new(), ended })
}

fn files(host: &Host) -> Result<BTreeMap<String, Was>, StepError> {
    let mut all = BTreeMap::new();
    for path in certificates::files() {
        let at = clean(&path)?;
        let error = |e: std::io::Error| StepError::disk(format!("/{path}"), &e);
        let content = host.root.read(&at, certificates::FILE_BYTES).map_err(error)?;
        if let Some((content, mode)) = content.zip(host.root.mode(&at).map_err(error)?) {
            let content = String::from_utf8(content).map_err(|_| StepError::damaged(format!("/{path}")))?;
            all.insert(path, Was { content, mode });
        }
    }
    Ok(all)
}

fn put_back(host: &Host, kept: &Left) -> Result<(), StepError> {
    tracing::warn!("certificates are damaged, as after a power cut: those of before are put back");
    for path in certificates::files() {
        let Some(was) = kept.files.get(&path) else { continue };
        let at = clean(&path)?;
        host.root
            .write(&at, was.content.as_bytes(), was.mode)
            .map_err(|e| StepError::disk(format!("/{path}"), &e))?;
    }
    Ok(())
}

/// Whether every other control plane node is well, or an error that says which one is not.
pub(super) async fn others_well(host: &Host) -> Result<(), StepError> {
    let wait = "it is tried again when all control plane nodes are well: `qb cluster list` shows them";
    for address in etcd::others(host).await? {
        let server = std::net::SocketAddr::new(address, API_PORT).to_string();
        if !api::is_ready(host, &server, None).await? {
            return Err(StepError::new(format!("the API server at {server} is not ready"), wait));
        }
    }
    Ok(())
}

pub(super) fn is_restarted(host: &Host, part: Part) -> Result<bool, StepError> {
    Ok(left(host)?.is_none_or(|left| !left.parts.contains(&part)))
}

/// Ends the part's container: the kubelet starts it again, from the files as they are now.
pub(super) async fn restart(host: &Host, part: Part, limit_s: u16) -> Result<(), StepError> {
    let Some(mut left) = left(host)? else { return Ok(()) };
    if !left.ended {
        others_well(host).await?;
    }
    let name = part.name();
    let old = match left.old.get(&part) {
        Some(old) => old.clone(),
        None => {
            let old = running(host, name).await?;
            left.old.insert(part, old.clone());
            keep(host, &left)?;
            old
        }
    };
    for container in running(host, name).await?.intersection(&old) {
        let call = ctr(&["tasks", "kill", "--signal", "SIGTERM", container]);
        let output = host.programs.run(call).await?;
        // One that has ended meanwhile is what was wanted.
        if !output.is_ok() && running(host, name).await?.contains(container) {
            output.done(&format!("ctr tasks kill ({name})"), REMEDY)?;
        }
    }
    await_new(host, part, &old, limit_s).await?;
    left.parts.remove(&part);
    if left.parts.is_empty() {
        let at = clean(LEFT)?;
        return host.dir.remove(&at).map_err(|e| StepError::disk(&at, &e));
    }
    keep(host, &left)
}

/// Waits until the part runs in another container than these.
async fn await_new(host: &Host, part: Part, old: &BTreeSet<String>, limit_s: u16) -> Result<(), StepError> {
    let name = part.name();
    let until = Instant::now() + Duration::from_secs(limit_s.into());
    loop {
        let runs = running(host, name).await?.iter().any(|id| !old.contains(id));
        if runs && (part != Part::Etcd || etcd::is_well(host).await) {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(StepError::new(format!("{name} does not run again after {limit_s} s"), REMEDY));
        }
        host.tell.tell(&format!("waiting for {name}"));
        sleep(AGAIN).await;
    }
}

/// Containers of a part that run.
pub(super) async fn running(host: &Host, name: &str) -> Result<BTreeSet<String>, StepError> {
    let filter = format!("labels.\"io.kubernetes.container.name\"=={name}");
    let of_name = host.programs.run(ctr(&["containers", "list", "-q", &filter])).await?;
    let of_name = of_name.done("ctr containers list", REMEDY)?;
    let tasks = host.programs.run(ctr(&["tasks", "list"])).await?.done("ctr tasks list", REMEDY)?;
    let (of_name, tasks) = (String::from_utf8_lossy(&of_name), String::from_utf8_lossy(&tasks));
    let runs: BTreeSet<&str> = tasks
        .lines()
        .filter_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [id, _, "RUNNING"] => Some(id),
            _ => None,
        })
        .collect();
    Ok(of_name.lines().map(str::trim).filter(|id| runs.contains(id)).map(str::to_owned).collect())
}

#[cfg(test)]
#[path = "renewal_tests.rs"]
mod tests;
