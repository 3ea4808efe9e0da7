//! The rehearsal's certificates: one authority per cluster, one serving certificate per API server.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::clock;

/// How long certificates are valid: longer than any rehearsal, since none renews them.
const VALID: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How far back they begin: clocks of a site may differ.
const EARLIER: Duration = Duration::from_secs(86_400);

/// Why certificates could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// Making one failed.
    #[error("the certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// A file does not hold what it should.
    #[error("{0} is damaged")]
    Damaged(&'static str),
    /// TLS refuses the files.
    #[error("the certificate cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

/// A key and its certificate, PEM.
pub(crate) struct Pair {
    pub(crate) key: SecretString,
    pub(crate) certificate: String,
}

/// The one crypto provider of this crate.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A new key, PEM.
pub(crate) fn new_key() -> Result<SecretString, PkiError> {
    Ok(KeyPair::generate()?.serialize_pem().into())
}

/// The key of an authority, PEM: of our own kind, or RSA as kubeadm writes it (PKCS #1), which the library
/// for certificates does not read without its frame.
pub(crate) fn signing_key(pem: &str) -> Result<KeyPair, PkiError> {
    let damaged = |_| PkiError::Damaged("the authority's key");
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(damaged)?;
    let framed = match &key {
        PrivateKeyDer::Pkcs1(inner) => PrivateKeyDer::Pkcs8(in_pkcs8(inner.secret_pkcs1_der()).into()),
        _ => return Ok(KeyPair::try_from(&key)?),
    };
    Ok(KeyPair::try_from(&framed)?)
}

/// An RSA key in the frame that says so: version 0, rsaEncryption without parameters, the key.
fn in_pkcs8(key: &[u8]) -> Vec<u8> {
    const HEAD: [u8; 18] = [2, 1, 0, 0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    let mut inside = Zeroizing::new(HEAD.to_vec());
    der(&mut inside, 4, key);
    let mut all = Vec::new();
    der(&mut all, 0x30, &inside);
    all
}

/// Appends a value with its tag and length.
fn der(to: &mut Vec<u8>, tag: u8, value: &[u8]) {
    to.push(tag);
    let len = value.len().to_be_bytes();
    let len = &len[len.iter().position(|b| *b != 0).unwrap_or(len.len() - 1)..];
    if len.len() > 1 || len[0] > 0x7f {
        // At most 8 bytes.
        to.push(0x80 | len.len() as u8);
    }
    to.extend_from_slice(len);
    to.extend_from_slice(value);
}

/// The certificate of an authority called `name`.
pub(crate) fn authority(name: &str, key: &SecretString) -> Result<String, PkiError> {
    let key = KeyPair::from_pem(key.expose_secret())?;
    Ok(authority_params(name)?.self_signed(&key)?.pem())
}

/// A serving certificate for `address`, issued by the authority called `name`.
pub(crate) fn serving(name: &str, authority_key: &SecretString, address: IpAddr) -> Result<Pair, PkiError> {
    let params = authority_params(name)?;
    let issuer = Issuer::from_params(&params, KeyPair::from_pem(authority_key.expose_secret())?);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    validity(&mut params);
    params.distinguished_name.push(DnType::CommonName, "API server (rehearsal)");
    params.subject_alt_names = vec![SanType::IpAddress(address)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, &issuer)?.pem();
    Ok(Pair { key: key.serialize_pem().into(), certificate })
}

/// Whether a serving certificate was issued by the authority, for the address, and is valid now.
pub(crate) fn is_valid(certificate: &[u8], authority: &[u8], address: IpAddr) -> bool {
    let check = || -> Result<(), PkiError> {
        let roots = Arc::new(roots(authority)?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|_| PkiError::Damaged("the authority's certificate"))?;
        let leaf = certificate_der(certificate, "the serving certificate")?;
        let name = ServerName::IpAddress(address.into());
        verifier.verify_server_cert(&leaf, &[], &name, &[], UnixTime::now())?;
        Ok(())
    };
    check().is_ok()
}

/// A client that believes one authority only.
pub(crate) fn client(authority: &[u8]) -> Result<rustls::ClientConfig, PkiError> {
    Ok(rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots(authority)?)
        .with_no_client_auth())
}

/// A server with these files.
pub(crate) fn server(certificate: &[u8], key: &[u8]) -> Result<rustls::ServerConfig, PkiError> {
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| PkiError::Damaged("the serving key"))?;
    let certificate = certificate_der(certificate, "the serving certificate")?;
    Ok(rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?)
}

/// Whether this is one certificate in PEM that can be an authority.
pub(crate) fn is_authority(pem: &[u8]) -> bool {
    roots(pem).is_ok()
}

fn roots(authority: &[u8]) -> Result<RootCertStore, PkiError> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate_der(authority, "the authority's certificate")?)?;
    Ok(roots)
}

fn certificate_der(pem: &[u8], what: &'static str) -> Result<CertificateDer<'static>, PkiError> {
    CertificateDer::from_pem_slice(pem).map_err(|_| PkiError::Damaged(what))
}

fn authority_params(name: &str) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new(Vec::new())?;
    validity(&mut params);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn validity(params: &mut CertificateParams) {
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_millis(clock::now().0);
    params.not_before = now - EARLIER;
    params.not_after = now + VALID;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_serving_certificate_is_good_for_its_address_and_authority_only() {
        let here: IpAddr = "127.0.1.1".parse().unwrap();
        let key = new_key().unwrap();
        let ca = authority("clus100 (rehearsal)", &key).unwrap();
        let pair = serving("clus100 (rehearsal)", &key, here).unwrap();
        assert!(is_authority(ca.as_bytes()) && !is_authority(b"nothing"));
        assert!(is_valid(pair.certificate.as_bytes(), ca.as_bytes(), here));
        assert!(!is_valid(pair.certificate.as_bytes(), ca.as_bytes(), "127.0.1.2".parse().unwrap()));
        let other = authority("clus100 (rehearsal)", &new_key().unwrap()).unwrap();
        assert!(!is_valid(pair.certificate.as_bytes(), other.as_bytes(), here));
        server(pair.certificate.as_bytes(), pair.key.expose_secret().as_bytes()).unwrap();
        assert!(server(pair.certificate.as_bytes(), key.expose_secret().as_bytes()).is_err());
    }
}
