//! `qb cluster upgrade` and `halt`.

use std::path::Path;

use qb_model::action::Action;
use qb_model::settings::Settings;
use qb_model::{Digest, Name, Version};
use qb_portal::view::{BundleView, ClusterUpgradeState, ClusterView};

use crate::args::cluster::UpgradeArgs;
use crate::change::Change;
use crate::ctx::Session;
use crate::error::CliError;
use crate::out::text::{plural, short_hash};

use super::bundle;
use super::cluster::expectation;
use super::follow::{Goal, follow};

/// The bundle of the site whose digest begins so, fit for a cluster.
///
/// # Errors
/// None, several, another driver's, or no publisher's that the site accepts.
pub fn held(bundles: &[BundleView], text: &str, cluster: &ClusterView) -> Result<BundleView, CliError> {
    let other = |name: &Name| other_driver(name, cluster);
    bundle::held(bundles, text, cluster.driver.as_str(), other)
}

/// The one bundle of a cluster's driver and a version that the site holds and accepts.
///
/// # Errors
/// None, or several.
pub fn of_version(
    bundles: &[BundleView],
    version: &Version,
    cluster: &ClusterView,
) -> Result<BundleView, CliError> {
    let fits = |b: &&BundleView| b.name == cluster.driver && b.version == *version && b.publisher.is_some();
    let found: Vec<&BundleView> = bundles.iter().filter(fits).collect();
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(CliError::usage(format!("The site holds no bundle of {} {version}.", cluster.driver))
            .remedy("qb bundle push FILE, or --bundle FILE")),
        several => Err(CliError::usage(format!(
            "The site holds {} of {} {version}.",
            plural(several.len(), "bundle"),
            cluster.driver
        ))
        .remedy("--bundle with the beginning of a digest, from qb bundle list")),
    }
}

fn other_driver(name: &Name, cluster: &ClusterView) -> CliError {
    CliError::usage(format!("The bundle is of {name}; {} is of driver {}.", cluster.name, cluster.driver))
        .remedy("qb bundle list")
}

/// Whether a bundle brings the version that was asked for.
///
/// # Errors
/// It brings another one.
pub fn brings(have: &Version, wanted: &Version) -> Result<(), CliError> {
    if have == wanted {
        return Ok(());
    }
    Err(CliError::usage(format!("The bundle brings {have}, not {wanted}."))
        .remedy(format!("--version {have}, or a bundle of {wanted}: qb bundle list")))
}

/// The bundle that was named. A file is pushed, unless only the plan is asked for.
async fn choose(
    session: &Session<'_>,
    args: &UpgradeArgs,
    cluster: &ClusterView,
) -> Result<Digest, CliError> {
    let Some(named) = &args.bundle else {
        return Ok(of_version(&session.api.bundles().await?, &args.version, cluster)?.digest);
    };
    let path = Path::new(named);
    if !path.is_file() {
        let bundle = held(&session.api.bundles().await?, named, cluster)?;
        brings(&bundle.version, &args.version)?;
        return Ok(bundle.digest);
    }
    let (digest, manifest) = bundle::peek_file(path)?;
    if manifest.driver != cluster.driver {
        return Err(other_driver(&manifest.driver, cluster));
    }
    brings(&manifest.version, &args.version)?;
    if session.ctx.globals.plan.is_none() {
        let view = bundle::push(session, path).await?;
        session.ctx.out.hint(&format!(
            "Pushed {} {} ({}).",
            view.name,
            view.version,
            short_hash(&view.digest.0)
        ));
    }
    Ok(digest)
}

/// `qb cluster upgrade`.
///
/// # Errors
/// What went wrong; also that a node returned, which halts it.
pub async fn run(session: &mut Session<'_>, args: &UpgradeArgs) -> Result<(), CliError> {
    let cluster = session.api.cluster(&args.cluster).await?;
    let bundle = choose(session, args, &cluster).await?;
    let (name, version, batch) = (args.cluster.clone(), args.version.clone(), args.batch);
    let again = format!("qb cluster upgrade {name} --version {version} --bundle {bundle} --batch {batch}");
    let driver = cluster.driver.clone();
    let settings = cluster.settings.as_ref().and_then(Settings::chosen);
    let action = Action::ClusterUpgrade { cluster: name.clone(), driver, version, bundle, batch, settings };
    let mut change = Change::new(action, again);
    change.expect.push(expectation(&cluster));
    let Some(view) = session.change(&change).await? else { return Ok(()) };
    session.hint_accepted(&view, &format!("{name} goes to {}", args.version));
    follow(session, &view, &name, Goal::Upgraded(args.version.clone())).await
}

/// `qb cluster halt`.
///
/// # Errors
/// What went wrong; also that there is nothing to halt.
pub async fn halt(session: &mut Session<'_>, name: &Name) -> Result<(), CliError> {
    let cluster = session.api.cluster(name).await?;
    let rolling = cluster.upgrade.as_ref().filter(|u| u.state == ClusterUpgradeState::Rolling);
    let Some(upgrade) = rolling else {
        return Err(CliError::failed(format!("No upgrade of {name} goes on."))
            .remedy(format!("qb cluster show {name}")));
    };
    let action = Action::ClusterUpgradeStop { cluster: name.clone(), upgrade: upgrade.intent };
    let change = Change::new(action, format!("qb cluster halt {name}"));
    if let Some(view) = session.change(&change).await? {
        let what = format!("the upgrade of {name} to {} is halted", upgrade.version);
        session.accepted(&view, &what, Some(&format!("qb cluster show {name}")))?;
    }
    Ok(())
}
