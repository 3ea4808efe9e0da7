//! The way to relays: what the options of this machine say.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qb_link::dial::{SYSTEM_BUNDLES, Target};
use qb_link::{DialConfig, OuterTls, Proxy};
use rustls::ClientConfig;
use zeroize::Zeroizing;

use crate::config::{Config, RelayTls};
use crate::files::{self, FileError};

/// Most bytes of a file of root certificates.
const ROOTS_BYTES: u64 = 8 * 1024 * 1024;
/// Most bytes of a user and a password.
const AUTH_BYTES: u64 = 1_024;

/// Why the options for relays are not taken.
#[derive(Debug, thiserror::Error)]
pub enum WayError {
    /// The proxy's address.
    #[error("--relay-proxy: {0:?} is not http://HOST:PORT; credentials go into --relay-proxy-auth FILE")]
    Proxy(String),
    /// The file of credentials.
    #[error("--relay-proxy-auth: {0}")]
    File(#[from] FileError),
    /// The file of issuers.
    #[error("--relay-ca: {0}")]
    Ca(FileError),
    /// The file of issuers holds none.
    #[error("--relay-ca: {0} must hold certificates as PEM")]
    NoCa(PathBuf),
    /// The file of credentials has none.
    #[error("--relay-proxy-auth: {0} must hold one line, USER:PASSWORD")]
    Credentials(PathBuf),
}

/// How this machine reaches relays.
#[derive(Debug, Clone)]
pub struct Way {
    proxy: Option<Proxy>,
    outer: OuterTls,
}

impl Way {
    /// As the options say.
    ///
    /// # Errors
    /// They contradict their form, or a file cannot be read.
    pub fn open(config: &Config) -> Result<Self, WayError> {
        let proxy = match &config.relay_proxy {
            Some(url) => Some(proxy(url, config.relay_proxy_auth.as_deref())?),
            None => None,
        };
        let outer = match (&config.relay_ca, config.relay_outer_tls) {
            (Some(path), _) => own_issuers(path)?,
            (None, RelayTls::Webpki) => OuterTls::public(),
            (None, RelayTls::System) => machine(),
            (None, RelayTls::Any) => OuterTls::Any,
        };
        Ok(Self { proxy, outer })
    }

    /// The way to one relay.
    pub fn dial(&self, url: &str) -> DialConfig {
        DialConfig { url: url.to_owned(), proxy: self.proxy.clone(), outer: self.outer.clone() }
    }
}

/// The certificates that this machine trusts. None is told where TLS needs one: a relay on this very
/// machine does not.
fn machine() -> OuterTls {
    let pem = SYSTEM_BUNDLES.iter().find_map(|path| {
        let read = files::read_bounded(Path::new(path), ROOTS_BYTES);
        read.inspect_err(|e| tracing::warn!("root certificates: {e}")).ok().flatten()
    });
    OuterTls::from_pem(&pem.unwrap_or_default())
}

/// TLS that believes whom this machine believes: for what is verified by other means, too.
pub(crate) fn machine_tls() -> Result<Arc<ClientConfig>, rustls::Error> {
    let roots = match machine() {
        OuterTls::Roots(roots) => roots,
        OuterTls::Spki(_) | OuterTls::Any => Arc::new(rustls::RootCertStore::empty()),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// The issuers in a file, and no others.
fn own_issuers(path: &Path) -> Result<OuterTls, WayError> {
    let none = || WayError::NoCa(path.to_owned());
    let pem = files::read_bounded(path, ROOTS_BYTES).map_err(WayError::Ca)?.ok_or_else(none)?;
    match OuterTls::from_pem(&pem) {
        OuterTls::Roots(roots) if roots.is_empty() => Err(none()),
        outer => Ok(outer),
    }
}

fn proxy(url: &str, auth: Option<&Path>) -> Result<Proxy, WayError> {
    let wrong = || WayError::Proxy(url.rsplit('@').next().unwrap_or_default().chars().take(80).collect());
    let place = url.strip_prefix("http://").ok_or_else(wrong)?;
    // Any host is right here, where a relay's address must be https or this very machine's.
    let target = Target::parse(&format!("https://{place}")).map_err(|_| wrong())?;
    let named = target.authority != target.host && target.authority != format!("[{}]", target.host);
    if !named {
        return Err(wrong());
    }
    let authorization = match auth {
        Some(path) => Some(basic(path)?),
        None => None,
    };
    Ok(Proxy { host: target.host, port: target.port, authorization })
}

fn basic(path: &Path) -> Result<Zeroizing<String>, WayError> {
    let wrong = || WayError::Credentials(path.to_owned());
    let bytes = Zeroizing::new(files::read_secret(path, AUTH_BYTES)?.ok_or_else(wrong)?);
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    if !line.contains(&b':') || line.iter().any(u8::is_ascii_control) {
        return Err(wrong());
    }
    let encoded = Zeroizing::new(STANDARD.encode(line));
    Ok(Zeroizing::new(format!("Basic {}", encoded.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_issuers_are_certificates_in_a_file() {
        let path = std::env::temp_dir().join(format!("qb-ca-{}", std::process::id()));
        assert!(matches!(own_issuers(&path), Err(WayError::NoCa(_))), "there is no file");
        for empty in [&b""[..], b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
            files::write_atomic(&path, empty, 0o644).unwrap();
            assert!(matches!(own_issuers(&path), Err(WayError::NoCa(_))));
        }
        let made = rcgen::generate_simple_self_signed(vec!["relay.example".to_owned()]).unwrap();
        files::write_atomic(&path, made.cert.pem().as_bytes(), 0o644).unwrap();
        let OuterTls::Roots(roots) = own_issuers(&path).unwrap() else { panic!("issuers") };
        assert_eq!(roots.len(), 1, "these and no others");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_proxy_is_a_host_and_a_port_and_never_shows_its_password() {
        let dir = std::env::temp_dir().join(format!("qb-way-{}", std::process::id()));
        files::make_dir(&dir).unwrap();
        let auth = dir.join("auth");
        files::write_atomic(&auth, b"mira:secret\n", 0o600).unwrap();
        let good = proxy("http://proxy.example:3128", Some(&auth)).unwrap();
        assert_eq!((good.host.as_str(), good.port), ("proxy.example", 3128));
        assert_eq!(good.authorization.as_ref().unwrap().as_str(), "Basic bWlyYTpzZWNyZXQ=");
        assert!(!format!("{good:?}").contains("Basic"));
        for wrong in
            ["proxy.example:3128", "https://proxy.example:3128", "http://proxy.example", "http://a/b"]
        {
            assert!(matches!(proxy(wrong, None), Err(WayError::Proxy(_))), "{wrong}");
        }
        let told = proxy("http://mira:secret@proxy.example:3128", None).unwrap_err().to_string();
        assert!(!told.contains("secret"), "{told}");
        files::write_atomic(&auth, b"mira:secret", 0o640).unwrap();
        assert!(matches!(proxy("http://p:1", Some(&auth)), Err(WayError::File(_))));
        files::write_atomic(&auth, b"none", 0o600).unwrap();
        assert!(matches!(proxy("http://p:1", Some(&auth)), Err(WayError::Credentials(_))));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
