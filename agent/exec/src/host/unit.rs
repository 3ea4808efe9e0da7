//! The two units of a real cluster: enabled, running, and started anew when what they read has changed.

use std::collections::BTreeMap;

use qb_drivers::host_step::HostUnit as Which;
use qb_model::ids::Digest;
use sha2::{Digest as _, Sha256};

use super::Host;
use super::ours::Ours;
use super::place::{CURRENT, clean};
use crate::progress::StepError;

/// Where it is kept by which inputs a unit was started.
const STARTED: &str = "started.json";
/// Bytes of it, and of a file that a unit reads.
const FILE_BYTES: u64 = 1 << 20;
/// Where unit files lie.
const UNITS: &str = "etc/systemd/system";

/// The files in the cluster's directory that a unit reads at start.
fn reads(unit: Which) -> &'static [&'static str] {
    match unit {
        Which::Containerd => &["config/containerd.toml"],
        Which::Kubelet => &[],
    }
}

pub(super) async fn runs(host: &Host, unit: Which) -> Result<bool, StepError> {
    let seen = host.units.look(unit.name()).await?;
    let by_these = started(host)?.get(unit.name()) == Some(&inputs(host, unit)?);
    // The kubelet ends and is started again until kubeadm wrote its configuration.
    let runs = matches!(seen.active.as_str(), "active" | "activating");
    Ok(runs && seen.enabled == "enabled" && !seen.stale && by_these)
}

pub(super) async fn is_enabled(host: &Host, unit: Which) -> Result<bool, StepError> {
    let seen = host.units.look(unit.name()).await?;
    Ok(seen.file == format!("/{UNITS}/{}", unit.name()) && seen.enabled == "enabled" && !seen.stale)
}

/// Has it started at boot. Who configures it starts it.
pub(super) async fn enable(host: &Host, unit: Which) -> Result<(), StepError> {
    let name = unit.name();
    let ours = format!("/{UNITS}/{name}");
    host.units.reload().await?;
    let seen = host.units.look(name).await?;
    if seen.file != ours {
        let found =
            if seen.file.is_empty() { "is not there".to_owned() } else { format!("is {}", seen.file) };
        return Err(StepError::new(
            format!("the unit {name} {found}, not {ours}"),
            "remove the package that brings it, then the step runs again",
        ));
    }
    host.units.enable(name, true).await?;
    host.units.reload().await
}

pub(super) async fn start(host: &Host, unit: Which) -> Result<(), StepError> {
    let name = unit.name();
    enable(host, unit).await?;
    let inputs = inputs(host, unit)?;
    host.units.restart(name).await?;
    let mut all = started(host)?;
    all.insert(name.to_owned(), inputs);
    keep(host, &all)
}

pub(super) async fn is_stopped(host: &Host, unit: Which) -> Result<bool, StepError> {
    let seen = host.units.look(unit.name()).await?;
    let known = started(host)?.contains_key(unit.name());
    let runs = !matches!(seen.active.as_str(), "inactive" | "failed" | "");
    // One that was never ours is nobody's business here, also where ours would lie: preparing refuses it.
    let foreign = !seen.file.is_empty() && !is_ours(host, unit, &seen.file)?;
    Ok(!known && (foreign || (!runs && seen.enabled != "enabled")))
}

/// Whether a unit's file is of this cluster. No other is called as its container runtime is.
fn is_ours(host: &Host, unit: Which, file: &str) -> Result<bool, StepError> {
    let wanted = format!("{UNITS}/{}", unit.name());
    if file.trim_start_matches('/') != wanted {
        return Ok(false);
    }
    let ours = Ours::open(&host.dir, &host.root)?;
    Ok(unit == Which::Containerd || ours.paths().any(|path| path.as_str() == wanted))
}

pub(super) async fn stop(host: &Host, unit: Which) -> Result<(), StepError> {
    let name = unit.name();
    host.units.stop(name).await?;
    if host.units.look(name).await?.enabled == "enabled" {
        host.units.enable(name, false).await?;
    }
    let mut all = started(host)?;
    all.remove(name);
    keep(host, &all)
}

/// Digest of everything that a unit reads at start: its files, its configuration, its programs.
fn inputs(host: &Host, unit: Which) -> Result<Digest, StepError> {
    let mut hash = Sha256::new();
    let mut add = |name: &str, bytes: &[u8]| {
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(Sha256::digest(bytes));
    };
    let current = clean(CURRENT)?;
    let tree = host.dir.link(&current).map_err(|e| StepError::disk(&current, &e))?.unwrap_or_default();
    add(CURRENT, tree.as_bytes());
    for name in reads(unit) {
        let at = clean(name)?;
        let bytes = host.dir.read(&at, FILE_BYTES).map_err(|e| StepError::disk(&at, &e))?;
        add(name, &bytes.unwrap_or_default());
    }
    let mine = format!("{UNITS}/{}", unit.name());
    for path in Ours::open(&host.dir, &host.root)?.paths().filter(|path| path.as_str().starts_with(&mine)) {
        let bytes = host.root.read(path, FILE_BYTES).map_err(|e| StepError::disk(path, &e))?;
        add(path.as_str(), &bytes.unwrap_or_default());
    }
    Ok(Digest(hash.finalize().into()))
}

fn started(host: &Host) -> Result<BTreeMap<String, Digest>, StepError> {
    let at = clean(STARTED)?;
    match host.dir.read(&at, FILE_BYTES).map_err(|e| StepError::disk(&at, &e))? {
        None => Ok(BTreeMap::new()),
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| StepError::damaged(&at)),
    }
}

fn keep(host: &Host, all: &BTreeMap<String, Digest>) -> Result<(), StepError> {
    let at = clean(STARTED)?;
    let bytes = serde_json::to_vec(all).map_err(|_| StepError::damaged(&at))?;
    host.dir.write(&at, &bytes, 0o600).map_err(|e| StepError::disk(&at, &e))
}
