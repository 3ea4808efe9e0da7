//! Steps on the host itself: handed to a helper. Only what changes nothing there is done here.

use std::path::Path;

use qb_drivers::RelPath;
use qb_drivers::host_step::HostAction;

use crate::dir::Dir;
use crate::host::order::{HostOrder, Lane, Work};
use crate::host::runner::Task;
use crate::host::{api, limit};
use crate::pki;
use crate::progress::{StepError, StepState};
use crate::stage::Context;

/// Bytes of an authority's certificate that others are told.
const PUBLIC_BYTES: u64 = 16 * 1024;

/// Has a helper do it, and tells where it is.
pub(super) async fn apply(context: &Context, id: u16, action: &HostAction) -> Result<(), StepError> {
    let helpers = context.inner.helpers()?;
    let task = Task {
        lane: Lane::Order,
        title: action.word(),
        order: HostOrder {
            hidden: context.hidden.clone(),
            ..HostOrder::new(context.order.cluster.clone(), Work::Step(action.clone()))
        },
        limit: limit(action),
    };
    let told = |line: &str| context.note(id, StepState::Applying, line);
    context.inner.runner.run(helpers, task, &context.cancel, told).await.map(drop)
}

fn authority() -> Result<Vec<u8>, StepError> {
    let at: RelPath = api::AUTHORITY.parse().map_err(|e: qb_drivers::PathError| StepError::damaged(e))?;
    let shown = format!("/{at}");
    let found = Dir::open(Path::new("/")).and_then(|root| root.read(&at, PUBLIC_BYTES));
    let bytes = found.map_err(|e| StepError::disk(&shown, &e))?.ok_or_else(|| StepError::damaged(&shown))?;
    if pki::is_authority(&bytes) { Ok(bytes) } else { Err(StepError::damaged(&shown)) }
}

pub(super) fn is_published(context: &Context) -> Result<bool, StepError> {
    Ok(!context.public.is_empty() && context.public == authority()?)
}

pub(super) fn publish(context: &mut Context) -> Result<(), StepError> {
    context.public = authority()?;
    Ok(())
}
