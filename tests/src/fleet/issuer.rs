//! A company's own issuer of certificates.

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer as Signer, KeyPair, KeyUsagePurpose};

/// An issuer.
#[derive(Debug)]
pub struct Issuer {
    signer: Signer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, as PEM.
#[derive(Debug)]
pub struct Issued {
    /// The chain.
    pub certificate: String,
    /// The key.
    pub key: String,
}

impl Issuer {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().context("no key")?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { signer: Signer::new(params, key), pem })
    }

    /// Its certificate, which others trust.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for a server of these names or addresses.
    ///
    /// # Errors
    /// A name is none.
    pub fn issue(&self, names: &[String]) -> Result<Issued> {
        let params = CertificateParams::new(names.to_vec())?;
        let key = KeyPair::generate().context("no key")?;
        let certificate = params.signed_by(&key, &self.signer)?.pem();
        Ok(Issued { certificate, key: key.serialize_pem() })
    }
}
