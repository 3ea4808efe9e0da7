//! `qb bundle`, and the bundle that a new cluster installs from. The rehearsal's bundle is built and
//! signed here when the site holds none.

mod send;
mod sources;
mod tree;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use qb_drivers::agent::{AGENT, PROGRAM_BYTES, PROGRAMS, Programs, build_agent_bundle};
use qb_drivers::build_rehearsal_bundle;
use qb_drivers::bundle::{HEAD_BYTES, Unsigned, manifest_digest, named_keys};
use qb_model::action::Action;
use qb_model::dsse::{SecretKey, Signer as _};
use qb_model::{Digest, Name, PublicKey, Version};
use qb_portal::view::BundleView;
use serde::Serialize;

use crate::args::cluster::CreateArgs;
use crate::args::trust::{BuildArgs, BundleCommand};
use crate::change::Change;
use crate::ctx::{Ctx, Here, Session};
use crate::error::{CliError, sentence};
use crate::files;
use crate::keyfile::Kind;
use crate::out::table::{Column, Table};
use crate::out::text::{bytes, clean, now, plural, short_hash};

use super::watch::{Shown, once};

pub use send::{peek_file, push, push_bytes};

/// The driver whose bundle `qb` can build.
const REHEARSAL: &str = "rehearsal";
/// The oldest agent that knows how to upgrade itself.
const OLDEST_AGENT: &str = "0.1.0";
/// The version of the rehearsal that is built.
const VERSION: &str = "1.36.2";

/// Runs a verb.
///
/// # Errors
/// What went wrong.
pub async fn run(ctx: &Ctx, verb: BundleCommand) -> Result<(), CliError> {
    match verb {
        BundleCommand::List => list(&ctx.session().await?).await,
        BundleCommand::Push { file } => {
            let view = send::push(&ctx.session().await?, &file).await?;
            pushed(ctx, &view)
        }
        BundleCommand::Verify { file, publisher } => verify(ctx, &file, publisher),
        BundleCommand::Export { bundle } => export(&ctx.session().await?, &bundle).await,
        BundleCommand::Trust { publisher, key } => {
            let again = format!("qb bundle trust {publisher} {key}");
            trust(ctx, Change::new(Action::PublisherAdd { publisher, key }, again)).await
        }
        BundleCommand::Distrust { key } => {
            let again = format!("qb bundle distrust {key}");
            trust(ctx, Change::new(Action::PublisherRemove { key }, again)).await
        }
        BundleCommand::Build(args) => build_verb(ctx, args).await,
    }
}

async fn build_verb(ctx: &Ctx, args: BuildArgs) -> Result<(), CliError> {
    match args {
        BuildArgs { driver, version, from, sources, cache, publisher, .. }
            if driver.as_str() == tree::KUBEADM =>
        {
            let version = version.ok_or_else(|| {
                CliError::usage("Which version of Kubernetes is it?")
                    .remedy("qb bundle build --driver kubeadm --version v1.36.2 --from DIR")
            })?;
            let places = Places { from, sources, cache, publisher };
            build_tree(ctx, &version, places).await
        }
        BuildArgs { driver, version: Some(version), from: Some(from), min_agent, .. } => {
            if driver.as_str() != AGENT {
                let text = format!("--from goes with --driver {AGENT} and kubeadm, not {driver}.");
                return Err(CliError::usage(text));
            }
            let oldest = min_agent.map_or_else(|| OLDEST_AGENT.parse(), Ok)?;
            let (digest, bytes) = build_agent(ctx, &ctx.here()?, &version, &oldest, &from)?;
            built(ctx, &format!("{driver}-{version}"), &digest, &bytes, |file| {
                format!("qb agent upgrade {file} --first NODE --plan")
            })
        }
        BuildArgs { driver, .. } => {
            let (digest, bytes) = build(ctx, &ctx.here()?, &driver)?;
            built(ctx, &format!("{driver}-{VERSION}"), &digest, &bytes, |file| {
                format!("qb bundle push {file}")
            })
        }
    }
}

/// Where the files of a cluster's bundle are.
struct Places {
    from: Option<PathBuf>,
    sources: Option<PathBuf>,
    cache: Option<PathBuf>,
    publisher: Option<Name>,
}

async fn build_tree(ctx: &Ctx, version: &Version, places: Places) -> Result<(), CliError> {
    let here = ctx.here()?;
    let name = places.publisher.map_or_else(|| publisher(&here), Ok)?;
    let to = ctx.file().map_or_else(|| format!("kubeadm-{version}.qbb").into(), ToOwned::to_owned);
    let cache = places.cache.unwrap_or_else(|| ctx.paths.cache().join("bundles"));
    let tree = match (&places.from, &places.sources) {
        (Some(from), None) => tree::Tree::look(from)?,
        (None, Some(list)) => {
            let list = sources::Sources::read(list, version)?;
            let laid = cache.join(format!("tree-{version}"));
            // Of an earlier run: what the list no longer names must not come along.
            match std::fs::remove_dir_all(&laid) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(CliError::file("empty", &laid, &e));
                }
                _ => {}
            }
            list.lay_out(&cache, &laid, &ctx.out).await?;
            tree::Tree::look(&laid)?
        }
        _ => {
            return Err(CliError::usage("Where are the files of the bundle?").remedy(
                "--from DIR with bin/, cni/, images/ and manifests/, or --sources FILE with their addresses",
            ));
        }
    };
    let key = ctx.open_key(&name, Kind::Publisher, &here.name)?;
    let digest = tree.build(version, &key.secret, &to, &ctx.out)?;
    told(ctx, &digest, &to, &format!("qb bundle push {}", to.display()))
}

/// Verifies a file: signature, table, every chunk, every artifact.
fn verify(ctx: &Ctx, file: &Path, given: Option<PublicKey>) -> Result<(), CliError> {
    let fail = |e: std::io::Error| CliError::file("read", file, &e);
    let mut beginning = Vec::new();
    std::fs::File::open(file)
        .and_then(|f| f.take(HEAD_BYTES as u64).read_to_end(&mut beginning))
        .map_err(fail)?;
    let keys = match given {
        Some(key) => vec![key],
        None => named_keys(&beginning).map_err(|e| CliError::usage(sentence(&e.to_string())))?,
    };
    let head = tree::verify(file, &keys, &ctx.out)?;
    let manifest = head.manifest();
    let shown = Verified {
        digest: head.digest(),
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        arch: manifest.arch.clone(),
        size: head.file_size(),
        artifacts: manifest.artifacts.len(),
        publisher: head.publisher(),
        compared: given.is_some(),
    };
    if ctx.out.documents() {
        return ctx.out.document(&shown);
    }
    ctx.out.print(&format!(
        "{} {} for {}, {}, {} artifacts, digest {}\nEvery byte is what the manifest says. Signed by {}.",
        shown.name,
        shown.version,
        shown.arch,
        bytes(shown.size),
        shown.artifacts,
        shown.digest,
        shown.publisher,
    ))?;
    if !shown.compared {
        ctx.out.hint(
            "Whether that is a publisher you trust, only you know: compare the key, or give --publisher KEY.",
        );
    }
    Ok(())
}

/// What `qb bundle verify` found.
#[derive(Debug, Serialize)]
struct Verified {
    digest: Digest,
    name: Name,
    version: Version,
    arch: String,
    size: u64,
    artifacts: usize,
    publisher: PublicKey,
    /// Whether the publisher is the one that was given.
    compared: bool,
}

/// The bundle of the site whose digest begins so; it must be of this driver.
///
/// # Errors
/// None, several, no publisher's that the site accepts, or what is said of another driver's.
pub fn held(
    bundles: &[BundleView],
    text: &str,
    driver: &str,
    other: impl Fn(&Name) -> CliError,
) -> Result<BundleView, CliError> {
    let begins = |b: &&BundleView| crate::out::text::begins(&b.digest, text);
    let found: Vec<&BundleView> = bundles.iter().filter(begins).collect();
    match found.as_slice() {
        [one] if one.name.as_str() != driver => Err(other(&one.name)),
        [one] if one.publisher.is_none() => Err(CliError::refused(format!(
            "No publisher that the site accepts signed bundle {}.",
            clean(text)
        ))
        .remedy("qb bundle trust PUBLISHER KEY")),
        [one] => Ok((*one).clone()),
        [] => Err(CliError::usage(format!(
            "There is no file {0}, and no bundle of the site begins so.",
            clean(text)
        ))
        .remedy("qb bundle list, or name a bundle's file")),
        several => {
            let text = format!("{} names {}.", clean(text), plural(several.len(), "bundle"));
            Err(CliError::usage(text).remedy("more of the digest, from qb bundle list"))
        }
    }
}

/// The bundle of a site as a file, for a site without a line: verified when it is here.
async fn export(session: &Session<'_>, which: &str) -> Result<(), CliError> {
    let bundles = session.api.bundles().await?;
    let mut fits = bundles.iter().filter(|b| crate::out::text::begins(&b.digest, which));
    let bundle = match (fits.next(), fits.next()) {
        (Some(bundle), None) => bundle,
        (None, _) => {
            return Err(
                CliError::failed(format!("The site holds no bundle {which}.")).remedy("qb bundle list")
            );
        }
        (Some(_), Some(_)) => {
            return Err(CliError::usage(format!("{which} begins several digests.")).remedy("qb bundle list"));
        }
    };
    let ctx = session.ctx;
    let to = ctx
        .file()
        .map_or_else(|| format!("{}-{}.qbb", bundle.name, bundle.version).into(), ToOwned::to_owned);
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let what = format!("{} {}", bundle.name, bundle.version);
    let mut bar = send::Bar::new(&ctx.out, what, bundle.size);
    session.api.bundle_file(&bundle.digest, &part, |count| bar.add(count)).await?;
    drop(bar);
    let head = std::fs::File::open(&part).and_then(|f| {
        let mut head = Vec::new();
        f.take(HEAD_BYTES as u64).read_to_end(&mut head).map(|_| head)
    });
    let head = head.map_err(|e| CliError::file("read", &part, &e))?;
    let keys = named_keys(&head).map_err(|e| CliError::failed(sentence(&e.to_string())))?;
    let verified = tree::verify(&part, &keys, &ctx.out)
        .and_then(|v| v.is(&bundle.digest).map_err(|e| CliError::refused(sentence(&e.to_string()))));
    if let Err(error) = verified {
        // What a door sent that is not the bundle is of no use.
        let _ = std::fs::remove_file(&part);
        return Err(error);
    }
    std::fs::rename(&part, &to).map_err(|e| CliError::file("write", &to, &e))?;
    told(ctx, &bundle.digest, &to, &format!("qb bundle push {}", to.display()))
}

fn told(ctx: &Ctx, digest: &Digest, to: &Path, next: &str) -> Result<(), CliError> {
    ctx.out.print(&digest.to_string())?;
    ctx.out.hint(&format!("Written to {}.  next: {next}", to.display()));
    Ok(())
}

fn built(
    ctx: &Ctx,
    name: &str,
    digest: &Digest,
    bytes: &[u8],
    next: impl Fn(&str) -> String,
) -> Result<(), CliError> {
    let path = ctx.file().map_or_else(|| format!("{name}.qbb").into(), ToOwned::to_owned);
    files::write(&path, bytes, 0o644, false)?;
    ctx.out.print(&digest.to_string())?;
    let shown = path.display().to_string();
    ctx.out.hint(&format!("Written to {shown}.  next: {}", next(&shown)));
    Ok(())
}

async fn trust(ctx: &Ctx, change: Change) -> Result<(), CliError> {
    let mut session = ctx.session().await?;
    let what = crate::sentence::of(&change.action, &change.hosts);
    if let Some(view) = session.change(&change).await? {
        session.accepted(&view, &what, Some("qb bundle list"))?;
    }
    Ok(())
}

fn pushed(ctx: &Ctx, view: &BundleView) -> Result<(), CliError> {
    if ctx.out.documents() {
        return ctx.out.document(view);
    }
    ctx.out.hint(&format!(
        "The site holds bundle {} {} ({}).",
        view.name,
        view.version,
        short_hash(&view.digest.0)
    ));
    Ok(())
}

async fn list(session: &Session<'_>) -> Result<(), CliError> {
    let bundles = session.api.bundles().await?;
    let mut table = Table::new([
        Column::new("NAME"),
        Column::new("VERSION"),
        Column::number("SIZE", 3),
        Column::cut("PUBLISHER", 4),
        Column::new("DIGEST"),
    ]);
    for bundle in &bundles {
        let publisher = bundle.publisher.as_ref().map_or("not accepted", Name::as_str);
        table.row([
            bundle.name.as_str().into(),
            bundle.version.as_str().into(),
            bytes(bundle.size).into(),
            publisher.into(),
            bundle.digest.to_string().into(),
        ]);
    }
    let footer =
        bundles.is_empty().then(|| "The site holds no bundle.  Next: qb bundle push FILE".to_owned());
    let text = if table.is_empty() { String::new() } else { session.ctx.out.render(&table) };
    let items = bundles.into_iter().map(|b| (b.digest.to_string(), b)).collect();
    once(session.ctx, &Shown { items, text, footer, lines: Vec::new() }, true)
}

/// Builds a driver's bundle and signs it with the site's publisher key.
///
/// # Errors
/// No such driver can be built here, or there is no publisher key.
pub fn build(ctx: &Ctx, here: &Here, driver: &Name) -> Result<(Digest, Vec<u8>), CliError> {
    if driver.as_str() == AGENT {
        return Err(CliError::usage("A bundle of the agent is built from its two programs.")
            .remedy("qb bundle build --driver agent --version VERSION --from DIR"));
    }
    if driver.as_str() != REHEARSAL {
        return Err(CliError::usage(format!("qb cannot build a bundle of driver {driver}."))
            .remedy("take a bundle of its publisher: qb bundle push FILE"));
    }
    let key = ctx.open_key(&publisher(here)?, Kind::Publisher, &here.name)?;
    let version: Version = VERSION.parse()?;
    let (manifest, artifacts) =
        build_rehearsal_bundle(&version, now()).map_err(|e| CliError::failed(sentence(&e.to_string())))?;
    Ok(signed(&manifest, &key.secret, &artifacts))
}

/// Builds a bundle of the agent from the folder with its two programs, signed with the site's
/// publisher key.
///
/// # Errors
/// A program is missing, is none for a machine that qb knows, or there is no publisher key.
pub fn build_agent(
    ctx: &Ctx,
    here: &Here,
    version: &Version,
    oldest: &Version,
    from: &Path,
) -> Result<(Digest, Vec<u8>), CliError> {
    let [agent, exec] = PROGRAMS;
    let read = |name: &str| files::read(&from.join(name), PROGRAM_BYTES);
    let (agent, exec) = (read(agent)?, read(exec)?);
    let programs = Programs { agent: &agent, exec: &exec };
    let (manifest, artifacts) = build_agent_bundle(version, oldest, now(), &programs)
        .map_err(|e| CliError::usage(sentence(&e.to_string())))?;
    let key = ctx.open_key(&publisher(here)?, Kind::Publisher, &here.name)?;
    Ok(signed(&manifest, &key.secret, &artifacts))
}

/// The digest of a small bundle, and its file.
fn signed(unsigned: &Unsigned, key: &SecretKey, artifacts: &[u8]) -> (Digest, Vec<u8>) {
    let mut bytes = unsigned.sign(&[key]);
    bytes.extend_from_slice(artifacts);
    (manifest_digest(&unsigned.manifest), bytes)
}

fn publisher(here: &Here) -> Result<Name, CliError> {
    here.config.publisher_key.clone().ok_or_else(|| {
        CliError::refused(format!("No publisher key for {} on this computer.", here.name))
            .remedy("publisher_key = \"NAME\" in config.toml, after qb key new NAME --kind publisher")
    })
}

/// The bundle of a new cluster: the named one, else the newest accepted one of the driver, else, for
/// a rehearsal, one that is built now.
///
/// # Errors
/// There is none.
pub async fn choose(session: &mut Session<'_>, args: &CreateArgs) -> Result<BundleView, CliError> {
    let bundles = session.api.bundles().await?;
    if let Some(bundle) = pick(&bundles, args) {
        return Ok(bundle.clone());
    }
    if args.bundle.is_some() || args.driver.as_str() != REHEARSAL {
        let text = format!("The site holds no such bundle of driver {}.", args.driver);
        return Err(CliError::failed(text).remedy("qb bundle list, or qb bundle push FILE"));
    }
    if session.ctx.globals.plan.is_some() {
        let text = "The site holds no rehearsal bundle yet, so there is nothing to plan with.";
        return Err(CliError::failed(text)
            .remedy("qb cluster create builds and pushes one; or: qb bundle build, qb bundle push"));
    }
    provide(session, &args.driver).await
}

/// The bundle that fits, newest version first.
pub fn pick<'a>(bundles: &'a [BundleView], args: &CreateArgs) -> Option<&'a BundleView> {
    let key = |version: &Version| -> Vec<u64> {
        let core = version.as_str().split('-').next().unwrap_or_default();
        core.split('.').filter_map(|p| p.parse().ok()).collect()
    };
    bundles
        .iter()
        .filter(|b| b.name == args.driver && b.publisher.is_some())
        .filter(|b| args.bundle.is_none_or(|d| d == b.digest))
        .filter(|b| args.version.as_ref().is_none_or(|v| *v == b.version))
        .max_by_key(|b| key(&b.version))
}

async fn provide(session: &mut Session<'_>, driver: &Name) -> Result<BundleView, CliError> {
    let (ctx, here) = (session.ctx, session.here.clone());
    ctx.out.hint("The site holds no rehearsal bundle: building one.");
    let (digest, bytes) = build(ctx, &here, driver)?;
    ctx.out.hint(&format!(
        "Built {driver} {VERSION}, digest {}, signed with key {}.",
        short_hash(&digest.0),
        publisher(&here)?
    ));
    match send::push_bytes(session, bytes.clone()).await {
        Ok(view) if view.publisher.is_some() => return checked(view, digest),
        Ok(_) => {}
        // Other refusals come again below, after the publisher is accepted.
        Err(error) if error.exit == crate::error::Exit::Unreachable => return Err(error),
        Err(error) => ctx.out.trace(&format!("not taken yet: {error}")),
    }
    let name = publisher(&here)?;
    let key = ctx.open_key(&name, Kind::Publisher, &here.name)?.secret.public_key();
    ctx.out
        .hint(&format!("Publisher {name} is not accepted by {} yet: an owner signs that first.", here.name));
    let change = Change::new(
        Action::PublisherAdd { publisher: name.clone(), key },
        format!("qb bundle trust {name} {key}"),
    );
    match session.change(&change).await {
        Ok(Some(view)) => session.hint_accepted(&view, &format!("publisher {name}")),
        Ok(None) => {}
        // Accepted in the meantime, or before an interrupted run.
        Err(error) if error.text.contains("in use as publisher") => {}
        Err(error) => return Err(error),
    }
    let view = send::push_bytes(session, bytes).await?;
    ctx.out.hint(&format!("Pushed to {}: {}.", here.name, crate::out::text::bytes(view.size)));
    checked(view, digest)
}

fn checked(view: BundleView, digest: Digest) -> Result<BundleView, CliError> {
    if view.digest == digest {
        return Ok(view);
    }
    Err(CliError::failed("The door answers for another bundle than the one that was pushed."))
}
