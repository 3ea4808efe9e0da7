//! Steps that start and stop units.

use std::sync::Arc;

use qb_drivers::config::UnitDefaults;
use qb_drivers::{PathError, RelPath, StandIn};
use qb_model::ids::Digest;
use sha2::{Digest as _, Sha256};

use crate::dir::Dir;
use crate::progress::StepError;
use crate::stage::Context;
use crate::supervisor::{UnitKey, UnitRecord, UnitState};

/// Bytes of a record, a configuration or a certificate.
const FILE_BYTES: u64 = 1 << 20;

/// Where the records of units lie, in the cluster's directory.
pub(crate) const UNITS: &str = "units";

/// Where one record lies.
pub(crate) fn record_path(stand_in: StandIn) -> Result<RelPath, PathError> {
    format!("{UNITS}/{}.json", stand_in.name()).parse()
}

/// Reads a record; none if there is none, or none that can be understood.
pub(crate) fn read_record(dir: &Dir, stand_in: StandIn) -> std::io::Result<Option<UnitRecord>> {
    let at = record_path(stand_in).map_err(std::io::Error::other)?;
    Ok(dir.read(&at, FILE_BYTES)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

pub(super) async fn runs(
    context: &Context,
    stand_in: StandIn,
    config: &RelPath,
    defaults: &RelPath,
) -> Result<bool, StepError> {
    let wanted = record(context, stand_in, config, defaults)?;
    let stored = read_record(&context.dir, stand_in).map_err(|e| StepError::disk(UNITS, &e))?;
    if stored.as_ref() != Some(&wanted) {
        return Ok(false);
    }
    // One that is being started again counts: whether it is any good, the next step finds out.
    let units = context.inner.supervisor.look(&context.order.cluster).await?;
    Ok(units.iter().any(|(health, mark)| *mark == wanted.mark() && health.state != UnitState::Stopping))
}

/// Records the unit before it starts: one that runs is always known.
pub(super) async fn run(
    context: &Context,
    stand_in: StandIn,
    config: &RelPath,
    defaults: &RelPath,
) -> Result<(), StepError> {
    let record = record(context, stand_in, config, defaults)?;
    let at = record_path(stand_in).map_err(StepError::damaged)?;
    let bytes = serde_json::to_vec(&record).map_err(|_| StepError::damaged(&at))?;
    let units = UNITS.parse().map_err(|e: PathError| StepError::damaged(e))?;
    let written = context.dir.make_dirs(&units).and_then(|()| context.dir.write(&at, &bytes, 0o600));
    written.map_err(|e| StepError::disk(&at, &e))?;
    let key = UnitKey { cluster: context.order.cluster.clone(), stand_in };
    context.inner.supervisor.run(key, Arc::clone(&context.dir), record).await
}

/// What the unit is: its inputs are part of it, so that a changed one is started anew.
fn record(
    context: &Context,
    stand_in: StandIn,
    config: &RelPath,
    defaults: &RelPath,
) -> Result<UnitRecord, StepError> {
    let read = |at: &RelPath| match context.dir.read(at, FILE_BYTES) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(StepError::damaged(at)),
        Err(error) => Err(StepError::disk(at, &error)),
    };
    let mut inputs = Sha256::new();
    inputs.update(read(config)?);
    for name in certificates(stand_in) {
        let at = name.parse().map_err(|e: PathError| StepError::damaged(e))?;
        inputs.update(read(&at)?);
    }
    let defaults: UnitDefaults =
        serde_json::from_slice(&read(defaults)?).map_err(|_| StepError::damaged(defaults))?;
    Ok(UnitRecord {
        v: 1,
        stand_in,
        config: config.clone(),
        inputs: Digest(inputs.finalize().into()),
        defaults,
    })
}

/// The certificates that a unit reads at start.
fn certificates(stand_in: StandIn) -> &'static [&'static str] {
    match stand_in {
        StandIn::ApiServer => &["pki/ca.crt", "pki/api-server.crt"],
        StandIn::NodeService => &["pki/ca.crt"],
    }
}

pub(super) async fn is_stopped(context: &Context, stand_in: StandIn) -> Result<bool, StepError> {
    let at = record_path(stand_in).map_err(StepError::damaged)?;
    let recorded = context.dir.mode(&at).map_err(|e| StepError::disk(&at, &e))?.is_some();
    let units = context.inner.supervisor.look(&context.order.cluster).await?;
    Ok(!recorded && units.iter().all(|(health, _)| health.name != stand_in.name()))
}

/// Forgets the unit first: a crash in between does not start it again.
pub(super) async fn stop(context: &Context, stand_in: StandIn) -> Result<(), StepError> {
    let at = record_path(stand_in).map_err(StepError::damaged)?;
    context.dir.remove(&at).map_err(|e| StepError::disk(&at, &e))?;
    context.inner.supervisor.stop(UnitKey { cluster: context.order.cluster.clone(), stand_in }).await
}
