//! `qb package build|verify|line|fetch`.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use qb_model::charter::CharterRelay;
use qb_package::{Format, Vendor, digest, limits};
use qb_portal::install::{self, Line};
use qb_portal::paths;
use serde::Serialize;
use serde_json::json;

use crate::args::package::{BuildArgs, FetchArgs, FromArgs, LineArgs, PackageCommand, VerifyArgs};
use crate::client::Client;
use crate::ctx::{Ctx, Here};
use crate::door::{Door, RelayUrl};
use crate::enrol;
use crate::error::{CliError, Exit, sentence};
use crate::files;
use crate::out::text::bytes as size_of;
use crate::package::SitePackage;

use super::site::site_words;

/// Runs a verb.
///
/// # Errors
/// What went wrong.
pub async fn run(ctx: &Ctx, verb: PackageCommand) -> Result<(), CliError> {
    match verb {
        PackageCommand::Build(args) => build(ctx, &args),
        PackageCommand::Verify(args) => verify(ctx, &args).await,
        PackageCommand::Line(args) => line(ctx, &args).await,
        PackageCommand::Fetch(args) => fetch(ctx, &args).await,
    }
}

/// The last part of a package's path at a relay.
fn route(format: Format) -> &'static str {
    match format {
        Format::Deb => "qb-agent.deb",
        Format::Rpm => "qb-agent.rpm",
    }
}

/// The vendor's package that something is compared with, and who gave it.
struct From {
    vendor: Vendor,
    sha256: String,
    /// The relay, if it came from there.
    relay: Option<RelayUrl>,
}

impl From {
    fn word(&self) -> &'static str {
        if self.relay.is_some() { "relay" } else { "file" }
    }

    /// What the comparison is worth.
    fn worth(&self) -> String {
        match &self.relay {
            None => format!("sha256 {}", self.sha256),
            Some(url) => format!("sha256 {}, as {url} hands it out", self.sha256),
        }
    }

    /// The limit of a comparison with what the relay itself handed out.
    fn limit(&self, ctx: &Ctx) {
        if let Some(url) = &self.relay {
            ctx.out.hint(&format!(
                "This compares {url} with itself. Compare {} with the vendor's SHA256SUMS for {}, or give \
                 the vendor's own package: --vendor FILE",
                self.sha256,
                self.vendor.file_name()
            ));
        }
    }
}

fn open_vendor(bytes: Bytes, named: &str) -> Result<Vendor, CliError> {
    let vendor = Vendor::open(bytes).map_err(|e| CliError::usage(sentence(&format!("{named}: {e}"))))?;
    if vendor.name() != "qb-agent" {
        let text = format!("{named} is the package {}, not that of the agent.", vendor.name());
        return Err(CliError::usage(text).remedy("give the package qb-agent, as its vendor made it"));
    }
    Ok(vendor)
}

fn read_vendor(path: &Path) -> Result<From, CliError> {
    let vendor = open_vendor(read_package(path)?.into(), &path.display().to_string())?;
    Ok(From { sha256: digest(vendor.bytes()), vendor, relay: None })
}

fn read_package(path: &Path) -> Result<Vec<u8>, CliError> {
    files::read(path, limits::PACKAGE_BYTES as u64)
}

/// The vendor's package of a format: of the files given, else the relay's.
async fn from(ctx: &Ctx, args: &FromArgs, format: Format) -> Result<From, CliError> {
    for path in &args.vendor {
        let from = read_vendor(path)?;
        if from.vendor.format() == format {
            return Ok(from);
        }
    }
    if !args.vendor.is_empty() && args.via.is_none() {
        let text = format!("--vendor names no {} and the package is one.", format.name());
        return Err(CliError::usage(text).remedy("give the vendor's package of both formats: --vendor FILE"));
    }
    let (url, client) = relay(ctx, args).await?;
    let bytes = download(&client, &paths::vendor_package(route(format))).await?;
    let vendor = open_vendor(bytes, &format!("what {url} hands out as the vendor's"))?;
    Ok(From { sha256: digest(vendor.bytes()), vendor, relay: Some(url) })
}

async fn download(client: &Client, path: &str) -> Result<Bytes, CliError> {
    client.download(path, limits::PACKAGE_BYTES).await
}

/// The relay that packages come from.
async fn relay(ctx: &Ctx, args: &FromArgs) -> Result<(RelayUrl, Client), CliError> {
    let here = ctx.here()?;
    let doors = ctx.doors(&here);
    let charter = ctx.charter(&here)?;
    let named = || charter.body().relays.iter().find_map(|relay| relay.url.parse().ok());
    let url = args.via.clone().or_else(|| doors.iter().find_map(Door::relay).cloned()).or_else(named);
    let url = url.ok_or_else(|| {
        CliError::usage(format!("No relay of {} is known here.", here.name))
            .remedy("name one: --via URL, or make the package here: qb package build --vendor FILE")
    })?;
    let client = super::relay::stranger(ctx, &url).await?;
    Ok((url, client))
}

/// Judges a package: whose it is, which relays it names, and whether the rest is the vendor's.
async fn judge(ctx: &Ctx, here: &Here, package: &SitePackage, from: &From) -> Result<(), CliError> {
    package.check_site(&here.name, here.config.id)?;
    let charter = ctx.charter(here)?;
    if let Some(first) = package.strangers(&charter.body().relays).first() {
        // Owners may have changed them since the founding: only the trust log knows.
        let trusted = trusted(ctx).await.map_err(|error| match error.exit {
            Exit::Unreachable => {
                let text = format!(
                    "The package names the relay {}, which the charter does not, and no door answers to say \
                     whether {} trusts it since.",
                    first.url, here.name
                );
                CliError::unreachable(text).remedy("qb doctor")
            }
            _ => error,
        })?;
        if let Some(stranger) = package.strangers(&trusted).first() {
            return Err(package.stranger(&here.name, stranger));
        }
    }
    package.check_vendor(&from.vendor)
}

/// The relays that the site trusts now, by its log.
async fn trusted(ctx: &Ctx) -> Result<Vec<CharterRelay>, CliError> {
    let trust = super::audit::trust(&ctx.session().await?).await?;
    let relay = |(key, relay): (&qb_model::PublicKey, &qb_model::trust::Relay)| CharterRelay {
        url: relay.url.clone(),
        key: *key,
    };
    Ok(trust.relays().iter().map(relay).collect())
}

/// A package as `-o json` shows it.
#[derive(Serialize)]
struct Shown<'a> {
    v: u8,
    file: String,
    format: &'a str,
    arch: &'a str,
    version: &'a str,
    size: usize,
    sha256: String,
    site: qb_model::SiteId,
    words: String,
    relays: &'a [CharterRelay],
    seeds: Vec<String>,
    vendor_sha256: &'a str,
    vendor: &'a str,
}

fn show(ctx: &Ctx, file: &str, package: &SitePackage, from: &From, end: &str) -> Result<(), CliError> {
    let (vendor, enrolment) = (&from.vendor, package.enrolment());
    let shown = Shown {
        v: 1,
        file: file.to_owned(),
        format: vendor.format().name(),
        arch: vendor.arch().name(vendor.format()),
        version: vendor.version(),
        size: package.bytes().len(),
        sha256: package.sha256(),
        site: enrolment.site,
        words: site_words(enrolment.site),
        relays: &enrolment.relays,
        seeds: enrolment.seeds.iter().map(ToString::to_string).collect(),
        vendor_sha256: &from.sha256,
        vendor: from.word(),
    };
    if ctx.out.documents() {
        return ctx.out.document(&shown);
    }
    let urls: Vec<&str> = shown.relays.iter().map(|relay| relay.url.as_str()).collect();
    let or = |all: String, none: &str| if all.is_empty() { none.to_owned() } else { all };
    let text = format!(
        "file     {file}\npackage  qb-agent {} {}, {}\nsha256   {}\nsite     {}\nwords    {}\nrelays   \
         {}\nseeds    {}\nvendor   {}\n{end}\n",
        shown.version,
        shown.arch,
        size_of(shown.size as u64),
        shown.sha256,
        shown.site,
        shown.words,
        or(urls.join(", "), "none: machines knock on their own network"),
        or(shown.seeds.join(", "), "none: machines knock through a relay"),
        from.worth(),
    );
    ctx.out.print(&text)
}

/// Where a package is written: as `-o` says, else as its kind is called.
fn target(ctx: &Ctx, here: &Here, vendor: &Vendor) -> PathBuf {
    let format = vendor.format();
    let name =
        || install::file_name(format.name(), vendor.version(), &here.name, vendor.arch().name(format)).into();
    ctx.file().map_or_else(name, Path::to_path_buf)
}

fn build(ctx: &Ctx, args: &BuildArgs) -> Result<(), CliError> {
    let here = ctx.here()?;
    let from = read_vendor(&args.vendor)?;
    let seeds = if args.seeds.is_empty() { &here.config.seeds } else { &args.seeds };
    let file = enrol::build(&ctx.charter(&here)?, seeds)?;
    let made = from.vendor.with_site(&file).map_err(|e| CliError::failed(sentence(&e.to_string())))?;
    let package = SitePackage::read(made.to_vec())?;
    let path = target(ctx, &here, &from.vendor);
    files::write(&path, package.bytes(), 0o644, false)?;
    let end = "It holds no secret: a machine that has it can only knock, and prints these words.";
    show(ctx, &path.display().to_string(), &package, &from, end)
}

async fn verify(ctx: &Ctx, args: &VerifyArgs) -> Result<(), CliError> {
    let here = ctx.here()?;
    let package = SitePackage::read(read_package(&args.file)?)?;
    // Whose it is needs nobody else: said before a relay is asked.
    package.check_site(&here.name, here.config.id)?;
    let from = from(ctx, &args.from, package.format()).await?;
    judge(ctx, &here, &package, &from).await?;
    let end = format!("It is the vendor's package and {}'s enrolment file, byte for byte.", here.name);
    show(ctx, &args.file.display().to_string(), &package, &from, &end)?;
    from.limit(ctx);
    Ok(())
}

/// The site's package of a format as a relay hands it out, verified.
async fn verified(
    ctx: &Ctx,
    here: &Here,
    args: &FromArgs,
    format: Format,
) -> Result<(RelayUrl, SitePackage, From), CliError> {
    let (url, client) = relay(ctx, args).await?;
    let path = paths::package(&here.config.id.to_string(), route(format));
    let package = SitePackage::read(download(&client, &path).await?.to_vec())?;
    let from = from(ctx, args, format).await?;
    judge(ctx, here, &package, &from).await?;
    Ok((url, package, from))
}

async fn line(ctx: &Ctx, args: &LineArgs) -> Result<(), CliError> {
    let here = ctx.here()?;
    let (url, deb, deb_from) = verified(ctx, &here, &args.from, Format::Deb).await?;
    let (_, rpm, rpm_from) = verified(ctx, &here, &args.from, Format::Rpm).await?;
    let (relay, site, words) = (url.to_string(), here.config.id.to_string(), site_words(here.config.id));
    let digests = (deb.sha256(), rpm.sha256());
    let cacert = args.cacert.as_deref();
    let line = Line { relay: &relay, site: &site, words: &words, deb: &digests.0, rpm: &digests.1, cacert };
    let line = install::line(&line).map_err(|e| CliError::usage(sentence(&e.to_string())))?;
    if ctx.out.documents() {
        let one = |package: &SitePackage, from: &From| {
            json!({
                "format": package.format().name(), "version": from.vendor.version(),
                "sha256": package.sha256(), "vendor_sha256": from.sha256, "vendor": from.word(),
            })
        };
        let packages = [one(&deb, &deb_from), one(&rpm, &rpm_from)];
        let document = json!({
            "v": 1, "line": line, "site": here.config.id, "words": words, "relay": relay, "packages": packages,
        });
        return ctx.out.document(&document);
    }
    ctx.out.print(&format!("{line}\n"))?;
    ctx.out.hint(&format!(
        "Verified here: qb-agent {}, deb and rpm. Paste the line on each machine; it must print these site \
         words: {words}",
        deb_from.vendor.version()
    ));
    [&deb_from, &rpm_from].iter().for_each(|from| from.limit(ctx));
    // Read here only to say what the machines will lack: rustls-native-certs reads it itself.
    if url.tls() && cacert.is_none() && std::env::var_os("SSL_CERT_FILE").is_some() {
        ctx.out.hint(
            "This computer trusts the relay by SSL_CERT_FILE. Machines that do not know its issuer need that \
             file as well: --cacert FILE names where it lies on them",
        );
    }
    Ok(())
}

async fn fetch(ctx: &Ctx, args: &FetchArgs) -> Result<(), CliError> {
    let here = ctx.here()?;
    let format = if args.rpm { Format::Rpm } else { Format::Deb };
    let (_, package, from) = verified(ctx, &here, &args.from, format).await?;
    let path = target(ctx, &here, &from.vendor);
    files::write(&path, package.bytes(), 0o644, false)?;
    let install = match format {
        Format::Deb => "apt-get install",
        Format::Rpm => "dnf install",
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let end = format!("Verified. On the machine: {install} ./{name}, then qb-agent id prints these words.");
    show(ctx, &path.display().to_string(), &package, &from, &end)?;
    from.limit(ctx);
    Ok(())
}
