//! What is done to the host itself, outside of the executor's sandbox: by a helper, one step at a time.
//!
//! ```text
//!   qb-exec serve (no capability, strict sandbox)        qb-exec host FILE (a transient unit, root)
//!     compiles a verified order
//!     host/order.json, 0600  ------ systemd ------------>  check > apply > check of one action
//!     waits, looks at what is told  <------------------    host/order.told
//!     reads what became of it  <-----------------------    host/order.result
//! ```
//!
//! | file | what |
//! |---|---|
//! | `host.rs` | [`Host`]: all that an action may touch; which file does which action |
//! | `order.rs`, `runner.rs`, `helper.rs` | what is handed over; the executor's half; the helper's |
//! | `run.rs`, `redact.rs`, `tell.rs` | programs: started in one place, their words without secrets; what is told |
//! | `units.rs`, `unit.rs` | what is asked of systemd; the two units of a cluster |
//! | `fit.rs`, `ours.rs`, `place.rs` | who else lives here; which files are ours; writing them |
//! | `images.rs`, `kubeadm.rs`, `secret.rs`, `api.rs`, `etcd.rs` | images, kubeadm, join secrets, kubectl, etcdctl |
//! | `kept.rs` | how a node was before an upgrade, and the way back |
//! | `renewal.rs` | new certificates, and parts started anew with them |
//! | `backup.rs`, `restore.rs` | snapshots of the store; the store from one of them |
//! | `leaver.rs`, `bindings.rs` | takes another node out; the role bindings of admins |
//! | `keep.rs` | labels and taints of nodes, add-ons |
//! | `network.rs`, `network/` | the pod network, kept over restarts |
//! | `settings.rs`, `record.rs`, `clean.rs` | the kernel; how the host was; taking the cluster off it |
//!
//! # An action
//! One file for each kind, with `pub(super) async fn check(host: &Host, ...) -> Result<bool, StepError>`,
//! which only looks and says whether it is so, and
//! `pub(super) async fn apply(host: &Host, ...) -> Result<(), StepError>`, which brings it about and
//! can be killed anywhere and run again. Files are touched through [`Host::root`] and [`Host::dir`],
//! which follow no links; programs through [`Host::programs`]; units through [`Host::units`].

pub(crate) mod api;
pub(crate) mod backup;
mod bindings;
pub(crate) mod clean;
mod etcd;
mod fit;
pub(crate) mod helper;
pub(crate) mod images;
mod keep;
mod kept;
pub(crate) mod kubeadm;
pub(crate) mod leaver;
pub(crate) mod network;
pub(crate) mod order;
pub(crate) mod ours;
pub(crate) mod place;
pub(crate) mod record;
pub(crate) mod redact;
pub(crate) mod renewal;
mod restore;
pub(crate) mod run;
pub(crate) mod runner;
mod secret;
pub(crate) mod settings;
pub(crate) mod tell;
mod unit;
pub(crate) mod units;

use std::time::Duration;

use qb_drivers::host_step::HostAction;
use qb_model::ids::Name;

use crate::dir::Dir;
use crate::progress::StepError;
pub(crate) use kubeadm::ENDED;
use run::Programs;
use tell::Tell;
use units::HostUnits;

/// How long an action may take that has no limit of its own.
const LIMIT: Duration = Duration::from_secs(180);
/// The same for what moves much data, or waits for many containers to end.
const LONG: Duration = Duration::from_secs(900);
/// What a helper may take longer than the limit of its action: looking before and after.
const MARGIN: Duration = Duration::from_secs(90);

/// All that an action may touch.
pub(crate) struct Host {
    /// The cluster.
    pub(crate) cluster: Name,
    /// The cluster's directory in the executor's.
    pub(crate) dir: Dir,
    /// `/`; in tests another directory.
    pub(crate) root: Dir,
    /// Starts programs.
    pub(crate) programs: Box<dyn Programs>,
    /// The host's units.
    pub(crate) units: Box<dyn HostUnits>,
    /// Where a long action says where it is.
    pub(crate) tell: Tell,
}

/// How long a helper may take for an action.
pub(crate) fn limit(action: &HostAction) -> Duration {
    match action {
        HostAction::Kubeadm(run) => Duration::from_secs(run.limit_s.into()) + MARGIN,
        // Its server, then its node.
        HostAction::GoBack { limit_s, .. } => LIMIT + Duration::from_secs((*limit_s).into()) * 2 + MARGIN,
        HostAction::AwaitApi { limit_s, .. } | HostAction::AwaitNode { limit_s, .. } => {
            Duration::from_secs((*limit_s).into()) + MARGIN
        }
        HostAction::CheckBackup { .. } | HostAction::RestoreStore { .. } => LONG,
        HostAction::Park { limit_s, .. } => Duration::from_secs((*limit_s).into()) + MARGIN,
        HostAction::RestartPart { limit_s, .. } => Duration::from_secs((*limit_s).into()) + MARGIN,
        HostAction::Images { .. } | HostAction::Clean => LONG,
        _ => LIMIT,
    }
}

/// Whether what the action is to bring about is so.
async fn check(host: &Host, action: &HostAction) -> Result<bool, StepError> {
    match action {
        HostAction::Fit => fit::check(host).await,
        HostAction::Select { tree } => place::is_selected(host, tree),
        HostAction::Files { files } => place::are_written(host, files),
        HostAction::Plugins => place::has_plugins(host),
        HostAction::Remove { places } => place::are_gone(host, places),
        HostAction::Enable { unit } => unit::is_enabled(host, *unit).await,
        HostAction::Start { unit } => unit::runs(host, *unit).await,
        HostAction::Stop { unit } => unit::is_stopped(host, *unit).await,
        HostAction::Images { tree, without, pause } => {
            images::are_there(host, &images::Wanted { tree: tree.as_ref(), without, pause }).await
        }
        HostAction::Network(network) => network::check(host, network).await,
        HostAction::PlaceSecret { secret, discovery } => secret::is_placed(host, secret, discovery),
        HostAction::DropSecret { paths } => secret::is_dropped(host, paths),
        HostAction::Kubeadm(run) => kubeadm::is_done(host, run),
        HostAction::AwaitApi { server, version, .. } => api::is_ready(host, server, version.as_ref()).await,
        HostAction::AwaitNode { name, version, .. } => Ok(api::is_node(host, name, version).await),
        HostAction::Manifests => api::are_applied(host),
        HostAction::Sync => Ok(false),
        HostAction::PublishAuthority => Err(elsewhere()),
        HostAction::Keep { tree } => kept::is_kept(host, tree),
        HostAction::GoBack { tree, .. } => kept::is_back(host, tree),
        HostAction::Record => record::check(host),
        HostAction::Settings { modules, sysctls } => settings::check(host, modules, sysctls),
        HostAction::Clean => clean::check(host).await,
        HostAction::Compare => clean::check_compared(host).await,
        HostAction::OthersWell => renewal::others_well(host).await.map(|()| true),
        HostAction::CheckBackup { .. } => Ok(false),
        HostAction::Park { order, .. } => restore::is_parked(host, *order).await,
        HostAction::RestoreStore { order, .. } => restore::is_restored(host, *order),
        HostAction::Unpark => restore::is_unparked(host),
        HostAction::OnlyControlPlane { name, .. } => restore::is_alone(host, name).await,
        HostAction::RestartPart { part, .. } => renewal::is_restarted(host, *part),
    }
}

/// Brings it about.
async fn apply(host: &Host, action: &HostAction) -> Result<(), StepError> {
    match action {
        // A check that failed says so itself; there is nothing to do about it.
        HostAction::Fit => Ok(()),
        HostAction::Select { tree } => place::select(host, tree),
        HostAction::Files { files } => place::write(host, files),
        HostAction::Plugins => place::place_plugins(host),
        HostAction::Remove { places } => place::remove(host, places),
        HostAction::Enable { unit } => unit::enable(host, *unit).await,
        HostAction::Start { unit } => unit::start(host, *unit).await,
        HostAction::Stop { unit } => unit::stop(host, *unit).await,
        HostAction::Images { tree, without, pause } => {
            images::import(host, &images::Wanted { tree: tree.as_ref(), without, pause }).await
        }
        HostAction::Network(network) => network::apply(host, network).await,
        HostAction::PlaceSecret { secret, discovery } => secret::place(host, secret, discovery),
        HostAction::DropSecret { paths } => secret::drop_all(host, paths),
        HostAction::Kubeadm(run) => kubeadm::run(host, run).await,
        HostAction::AwaitApi { server, version, limit_s } => {
            api::await_ready(host, server, version.as_ref(), *limit_s).await
        }
        HostAction::AwaitNode { name, version, limit_s } => {
            api::await_node(host, name, version, *limit_s).await
        }
        HostAction::Manifests => api::apply_manifests(host).await,
        HostAction::Sync => kubeadm::sync(host),
        HostAction::PublishAuthority => Err(elsewhere()),
        HostAction::Keep { tree } => kept::keep(host, tree),
        HostAction::GoBack { tree, name, server, limit_s } => {
            kept::go_back(host, tree, name, server.as_deref(), *limit_s).await
        }
        HostAction::Record => record::apply(host).await,
        HostAction::Settings { modules, sysctls } => settings::apply(host, modules, sysctls).await,
        HostAction::Clean => clean::apply(host).await,
        HostAction::Compare => clean::apply_compared(host).await,
        // As with a host that is not fit.
        HostAction::OthersWell => Ok(()),
        HostAction::CheckBackup { backup } => restore::look_at(host, backup).await,
        HostAction::Park { limit_s, .. } => restore::park(host, *limit_s).await,
        HostAction::RestoreStore { backup, order, name, address } => {
            let member = restore::Single { name, address };
            restore::restore(host, backup, *order, &member).await
        }
        HostAction::Unpark => restore::unpark(host),
        HostAction::OnlyControlPlane { name, version } => restore::be_alone(host, name, version).await,
        HostAction::RestartPart { part, limit_s } => renewal::restart(host, *part, *limit_s).await,
    }
}

/// The executor does it itself: nothing of the host changes.
fn elsewhere() -> StepError {
    StepError::damaged("the helper's order")
}

#[cfg(test)]
#[path = "host/actions_tests.rs"]
mod actions_tests;
