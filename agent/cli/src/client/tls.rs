//! TLS to an agent. Names and issuers mean nothing: the certificate carries a record, signed by the
//! node's own key, that binds the TLS key to site and node.

use std::sync::{Arc, Mutex};

use qb_model::dsse::Purpose;
use qb_model::statement::{SignedBytes, Statement as _, TlsKeyRecord};
use qb_model::{Digest, Millis, NodeId, SiteId};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::memory::{Belief, Memory};

/// The certificate extension that holds the record.
pub const EXTENSION: &str = "1.3.6.1.4.1.58888.1.1";
/// Longest certificate in bytes: an agent's has about 700.
const CERTIFICATE_MAX: usize = 8192;

/// Why a certificate is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsRefusal {
    /// No certificate that can be read.
    #[error("its certificate cannot be read")]
    Certificate,
    /// No record in it.
    #[error("it is no agent of qb: its certificate names no node")]
    NoRecord,
    /// The record is not valid.
    #[error("its certificate's record is not valid: {0}")]
    Record(String),
    /// The record is for another TLS key.
    #[error("its certificate's record is for another key")]
    OtherKey,
    /// The record is over.
    #[error("its certificate has ended: the agent there must be restarted, or this computer's clock set")]
    Ended,
    /// Another site.
    #[error("it belongs to another site: {0}")]
    OtherSite(SiteId),
    /// Another node answered here before.
    #[error("another node answers than before: {now}, it was {before}")]
    Changed {
        /// The one remembered.
        before: NodeId,
        /// The one that answers.
        now: NodeId,
    },
}

/// Checks a certificate: record, signature by the node, TLS key, site, time. The node it proves.
///
/// # Errors
/// The first of these that fails.
pub fn check_certificate(der: &[u8], site: SiteId, now: Millis) -> Result<NodeId, TlsRefusal> {
    if der.len() > CERTIFICATE_MAX {
        return Err(TlsRefusal::Certificate);
    }
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| TlsRefusal::Certificate)?;
    if !rest.is_empty() {
        return Err(TlsRefusal::Certificate);
    }
    let mut records = certificate.extensions().iter().filter(|e| e.oid.to_id_string() == EXTENSION);
    let (Some(extension), None) = (records.next(), records.next()) else { return Err(TlsRefusal::NoRecord) };
    let invalid = |e: qb_model::statement::StatementError| TlsRefusal::Record(e.to_string());
    let signed =
        SignedBytes::from_bytes(Purpose::TlsKey, extension.value, TlsKeyRecord::MAX).map_err(invalid)?;
    let record = signed.open::<TlsKeyRecord>().map_err(invalid)?.into_value();
    if record.spki_sha256 != Digest(Sha256::digest(certificate.public_key().raw).into()) {
        return Err(TlsRefusal::OtherKey);
    }
    if record.site != site {
        return Err(TlsRefusal::OtherSite(record.site));
    }
    if record.not_after <= now {
        return Err(TlsRefusal::Ended);
    }
    Ok(record.node)
}

/// What the handshake found out.
#[derive(Debug, Default)]
pub struct Proof(Mutex<Option<Result<(NodeId, Belief), TlsRefusal>>>);

impl Proof {
    /// The node and what is thought of it; or why it is refused.
    pub fn get(&self) -> Option<Result<(NodeId, Belief), TlsRefusal>> {
        self.0.lock().ok().and_then(|p| p.clone())
    }
}

#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    site: SiteId,
    door: String,
    memory: Memory,
    proof: Arc<Proof>,
}

impl Verifier {
    fn judge(&self, der: &[u8]) -> Result<(NodeId, Belief), TlsRefusal> {
        let now = check_certificate(der, self.site, crate::out::text::now())?;
        match self.memory.believe(&self.door, &now) {
            Belief::Changed(before) => Err(TlsRefusal::Changed { before, now }),
            belief => Ok((now, belief)),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged = self.judge(end_entity);
        let refused = judged.is_err();
        if let Ok(mut proof) = self.proof.0.lock() {
            *proof = Some(judged);
        }
        if refused {
            return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("doors speak TLS 1.3".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// A TLS configuration for one door, and where the proof will be.
///
/// # Errors
/// The TLS library does not know TLS 1.3.
pub fn config(site: SiteId, door: &str, memory: Memory) -> Result<(Arc<ClientConfig>, Arc<Proof>), Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let proof = Arc::new(Proof::default());
    let verifier =
        Verifier { provider: provider.clone(), site, door: door.to_owned(), memory, proof: proof.clone() };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok((Arc::new(config), proof))
}
