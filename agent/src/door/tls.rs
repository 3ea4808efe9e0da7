//! The door's certificate: a fresh P-256 key per start, bound to the node's key by a signed record
//! in an extension. Names and dates in it mean nothing; clients verify the record.

use std::sync::Arc;

use qb_model::statement::{Statement as _, TlsKeyRecord};
use qb_model::{Digest, Millis};
use rcgen::{CertificateParams, CustomExtension, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};

use crate::node::Node;

/// The extension that carries the record: a private arc.
const EXTENSION: &[u64] = &[1, 3, 6, 1, 4, 1, 58_888, 1, 1];

/// Why the door cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate could not be made.
    #[error("cannot make the door's certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS does not take it.
    #[error("cannot set up the door's TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// TLS of this node's door.
pub fn config(node: &Node) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let spki = Sha256::digest(key.subject_public_key_info());
    let record = TlsKeyRecord {
        v: 1,
        site: node.enrolment.site,
        node: node.id(),
        spki_sha256: Digest(spki.into()),
        seq: node.identity.incarnation,
        not_after: Millis(u64::from(u32::MAX) * 1_000),
    };
    let signed = record.sign(&node.identity.key).to_bytes();
    let mut params = CertificateParams::new(vec![node.config.address.to_string()])?;
    params.custom_extensions.push(CustomExtension::from_oid_content(EXTENSION, signed));
    let certificate = params.self_signed(&key)?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(certificate.der().to_vec())], private)?;
    Ok(Arc::new(config))
}
