//! Options: a TOML file, and flags that win over it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use qb_link::dial::Target;
use qb_model::{Name, PublicKey};
use serde::Deserialize;

use crate::limits;

/// An org that may register sites.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrgConfig {
    /// Its name.
    pub name: Name,
    /// Keys of owners who may register sites to it.
    pub keys: Vec<PublicKey>,
}

/// Waits that tests shorten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// When a site without a link is dark.
    pub dark: Duration,
    /// When an intent without a receipt goes to the standby too.
    pub standby_after: Duration,
    /// The longest pause between two reads of a site's views.
    pub refresh: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { dark: limits::DARK, standby_after: limits::STANDBY_AFTER, refresh: limits::REFRESH }
    }
}

/// Files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, PEM.
    pub certificate: PathBuf,
    /// The key, PEM.
    pub key: PathBuf,
}

/// How a relay is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Its directory: database and key.
    pub state: PathBuf,
    /// The address that people and agents use: `https://relay.example`.
    pub url: String,
    /// Its certificate; none only on this very machine, with or without a proxy in front.
    pub tls: Option<TlsFiles>,
    /// Whether an org that nobody has may be founded by the first site that registers to it.
    pub open: bool,
    /// Orgs that may register sites.
    pub orgs: Vec<OrgConfig>,
    /// The directory of the vendor's packages of agents, as the package of the relay brings them.
    pub packages: PathBuf,
    /// Waits.
    pub timing: Timing,
}

/// Where the relay's package puts those of agents.
pub const PACKAGES: &str = "/usr/share/qb-relay/packages";

/// The file's form.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: Option<SocketAddr>,
    state: Option<PathBuf>,
    url: Option<String>,
    tls_certificate: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    open_registration: Option<bool>,
    packages: Option<PathBuf>,
    #[serde(default)]
    org: Vec<OrgConfig>,
}

/// What flags say.
#[derive(Debug, Default, Clone)]
pub struct Flags {
    /// The file.
    pub file: Option<PathBuf>,
    /// Where it listens.
    pub listen: Option<SocketAddr>,
    /// Its directory.
    pub state: Option<PathBuf>,
    /// Its address.
    pub url: Option<String>,
    /// Certificate chain.
    pub tls_certificate: Option<PathBuf>,
    /// Certificate key.
    pub tls_key: Option<PathBuf>,
    /// Open registration.
    pub open_registration: bool,
    /// The directory of packages.
    pub packages: Option<PathBuf>,
}

impl Config {
    /// Reads the file, if there is one, and lets the flags win.
    ///
    /// # Errors
    /// The file cannot be read, or options contradict each other.
    pub fn read(flags: Flags) -> Result<Self> {
        let file = match &flags.file {
            Some(path) => read_file(path)?,
            None => File::default(),
        };
        let listen = flags.listen.or(file.listen).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8480)));
        let certificate = flags.tls_certificate.or(file.tls_certificate);
        let tls = match (certificate, flags.tls_key.or(file.tls_key)) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (None, None) => None,
            _ => bail!("tls_certificate and tls_key go together: give both"),
        };
        let config = Self {
            listen,
            state: flags.state.or(file.state).unwrap_or_else(|| PathBuf::from("/var/lib/qb-relay")),
            url: flags.url.or(file.url).unwrap_or_else(|| format!("http://{listen}")),
            tls,
            open: flags.open_registration || file.open_registration.unwrap_or(false),
            orgs: file.org,
            packages: flags.packages.or(file.packages).unwrap_or_else(|| PathBuf::from(PACKAGES)),
            timing: Timing::default(),
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        Target::parse(&self.url).context("url")?;
        ensure!(
            self.tls.is_some() || self.listen.ip().is_loopback(),
            "{} is no address of this very machine and there is no certificate: give tls_certificate and tls_key, \
             or listen on 127.0.0.1 behind a proxy",
            self.listen
        );
        Ok(())
    }

    /// The hosts and origins of its address.
    ///
    /// # Errors
    /// The address is none.
    pub fn names(&self) -> Result<(Vec<String>, Vec<String>)> {
        let target = Target::parse(&self.url).context("url")?;
        let scheme = if target.tls { "https" } else { "http" };
        let origin = format!("{scheme}://{}", target.authority);
        Ok((vec![target.authority], vec![origin]))
    }
}

fn read_file(path: &Path) -> Result<File> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))
}
