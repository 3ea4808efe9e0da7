//! The steps: one check and one apply for each kind of action. A check only looks; it is also what
//! verifies.

pub(crate) mod certificates;
mod files;
mod host;
mod network;
mod secret;
pub(crate) mod units;

use qb_drivers::StepAction;
use qb_drivers::host_step::HostAction;

use crate::progress::StepError;
use crate::stage::Context;

/// Whether what the action is to bring about is so.
pub(crate) async fn check(context: &Context, action: &StepAction) -> Result<bool, StepError> {
    match action {
        StepAction::Directories { paths } => Ok(files::are_there(context, paths)),
        StepAction::Unpack { bundle, into } => files::is_unpacked(context, bundle, into),
        StepAction::Files { files } => files::are_written(context, files),
        StepAction::CheckConfig { bundle, files } => files::agree(context, bundle, files),
        StepAction::MakeAuthority { authority, .. } => certificates::has_authority(context, authority),
        StepAction::IssueServing { authority, serving, address } => {
            certificates::has_serving(context, authority, serving, address)
        }
        StepAction::OwnCredential { into, identity, .. } => secret::has_credential(context, into, identity),
        StepAction::OpenSecret(parts) => secret::is_open(context, parts),
        StepAction::Unit { stand_in, config, defaults } => {
            units::runs(context, *stand_in, config, defaults).await
        }
        StepAction::AwaitReady { server, path, authority, .. } => {
            Ok(network::is_ready(context, server, path, authority).await.is_ok())
        }
        StepAction::AwaitJoined { status, .. } => Ok(network::has_joined(context, status).await?.is_ok()),
        StepAction::Remove { path } => files::is_gone(context, path),
        StepAction::Publish { path } => files::is_published(context, path),
        StepAction::StopUnit { stand_in } => units::is_stopped(context, *stand_in).await,
        StepAction::Deregister { config, .. } => network::is_signed_off(context, config),
        StepAction::RemoveTree => Ok(files::is_tree_gone(context)),
        StepAction::OpenKubeSecret { into } => secret::is_kube_open(context, into),
        StepAction::Host { host: HostAction::PublishAuthority } => host::is_published(context),
        // The helper looks itself, before and after.
        StepAction::Host { .. } => Ok(false),
    }
}

/// Whether applying it looked afterwards already, where it was done.
pub(crate) fn is_verified(action: &StepAction) -> bool {
    matches!(action, StepAction::Host { host } if *host != HostAction::PublishAuthority)
}

/// Takes an order back. `id` as of [`apply`].
pub(crate) async fn go_back(context: &Context, id: u16, way: &HostAction) -> Result<(), StepError> {
    host::apply(context, id, way).await
}

/// Brings it about. `id` is the step's number, under which a long wait says what it waits for.
pub(crate) async fn apply(context: &mut Context, id: u16, action: &StepAction) -> Result<(), StepError> {
    match action {
        StepAction::Directories { paths } => files::make(context, paths),
        StepAction::Unpack { into, .. } => files::unpack(context, into),
        StepAction::Files { files } => files::write(context, files),
        // A check that failed says so itself; there is nothing to do about it.
        StepAction::CheckConfig { .. } => Ok(()),
        StepAction::MakeAuthority { name, authority } => {
            certificates::make_authority(context, name, authority)
        }
        StepAction::IssueServing { authority, serving, address } => {
            certificates::issue_serving(context, authority, serving, address)
        }
        StepAction::OwnCredential { offers, into, .. } => secret::own_credential(context, offers, into),
        StepAction::OpenSecret(parts) => secret::open(context, parts),
        StepAction::Unit { stand_in, config, defaults } => {
            units::run(context, *stand_in, config, defaults).await
        }
        StepAction::AwaitReady { server, path, authority, limit_s } => {
            let probe = network::Ready { server, path, authority };
            network::await_ready(context, id, probe, *limit_s).await
        }
        StepAction::AwaitJoined { status, limit_s } => {
            network::await_joined(context, id, status, *limit_s).await
        }
        StepAction::Remove { path } => files::remove(context, path),
        StepAction::Publish { path } => files::publish(context, path),
        StepAction::StopUnit { stand_in } => units::stop(context, *stand_in).await,
        StepAction::Deregister { config, limit_s } => network::sign_off(context, id, config, *limit_s).await,
        StepAction::RemoveTree => files::remove_tree(context),
        StepAction::OpenKubeSecret { into } => secret::open_kube(context, into),
        StepAction::Host { host: HostAction::PublishAuthority } => host::publish(context),
        StepAction::Host { host: action } => host::apply(context, id, action).await,
    }
}
