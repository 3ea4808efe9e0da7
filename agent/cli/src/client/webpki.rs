//! TLS to a relay: the certificates that this computer trusts, or those of `SSL_CERT_FILE`.
//!
//! An agent's link takes public issuers alone by default, because it can say so in a journal that an
//! administrator reads, and loses nothing by it. Here a company's issuer is taken if the computer
//! trusts it: browsers at the same desk take it for the same relay, and a company's own relay has no
//! other. Who ends TLS on the way so sees the session's token and what the relay shows, and can read
//! with both until the session ends. It can sign nothing, change no intent and feign no receipt: those
//! are checked against the pinned charter. `SSL_CERT_FILE` with one issuer keeps such a reader out.

use std::sync::Arc;

use rustls::{CertificateError, ClientConfig, Error, RootCertStore};

/// A TLS configuration with the roots of this computer.
///
/// # Errors
/// There are none, as the end of a sentence.
pub fn config() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    // One that cannot be read is left out, as everywhere.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(
            "this computer trusts no certificates: install ca-certificates, or set SSL_CERT_FILE".into()
        );
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| e.to_string())?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// Why a handshake fails, as the end of a sentence.
pub fn explain(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "its certificate is by nobody whom this computer trusts; a company's own issuer goes into SSL_CERT_FILE".into()
        }
        Some(Error::InvalidCertificate(why)) => format!("its certificate is not good: {why}"),
        _ => format!("TLS fails: {error}"),
    }
}
