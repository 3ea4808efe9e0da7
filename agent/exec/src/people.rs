//! People who reach a cluster: certificates for their grants (security rules 7.4). Nothing that the agent says is believed: the trust log
//! is replayed from the charter, and must contain the one that this node has seen.

use std::io;
use std::path::Path;
use std::time::Duration;

use qb_drivers::access;
use qb_model::action::Role;
use qb_model::assignment::{AssignmentError, trusted};
use qb_model::document::GrantTarget;
use qb_model::grant::{GrantContext, GrantError, Granted, judge_grant};
use qb_model::ids::{Digest, Millis, Name};
use qb_model::limits::CERTIFICATE_MS;
use qb_model::trust::{TrustEntry, TrustState};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, Issuer,
    KeyUsagePurpose, SerialNumber,
};
use rustls::pki_types::CertificateSigningRequestDer;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::clock;
use crate::dir::Dir;
use crate::errors::OrderError;
use crate::exec::{Exec, cluster_dir};
use crate::pki::{self, PkiError};
use crate::steps::certificates::{read_certificate, read_key};

/// Where kubeadm keeps the authority of the one cluster of a machine.
const KUBERNETES_PKI: &str = "/etc/kubernetes/pki";
/// What lies in the directory of a cluster whose authority is there.
const HOST_RECORD: &str = "record.json";
/// How far back a certificate begins: clocks of a site may differ. Its life is an hour in all.
const EARLIER_MS: u64 = 5 * 60_000;
/// Bytes of a certificate request: that of an RSA key of 4096 bits.
const REQUEST_BYTES: usize = 4 * 1024;

/// What this node is to believe of the site's admins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustGrounds {
    /// The charter's envelope.
    pub charter: Vec<u8>,
    /// The trust log.
    pub trust_log: Vec<TrustEntry>,
}

/// A person wants a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialRequest {
    /// The cluster.
    pub cluster: Name,
    /// The envelope of the grant.
    pub grant: Vec<u8>,
    /// The certificate request that it names, DER.
    pub request: Vec<u8>,
    /// Who may do what.
    pub grounds: TrustGrounds,
}

/// A client certificate that was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// The certificate, PEM.
    pub certificate: String,
    /// The cluster's authority, PEM.
    pub authority: String,
    /// When it ends.
    pub expires: Millis,
}

/// Why no certificate is signed, or no role binding ordered.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// The site or the trust log does not stand.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// The grant does not.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The authority is not on this machine.
    #[error(
        "the authority of {0} is not on this machine: ask a control plane node of it, see qb cluster show {0}"
    )]
    NotHere(Name),
    /// The request is not what the grant names, or no request.
    #[error("the certificate request is refused: {0}; sign a new grant with the key made anew")]
    Request(String),
    /// An intent does not stand, or says nothing of what is asked.
    #[error("the intent is refused: {0}; nothing was changed: qb audit verify")]
    Intent(String),
    /// Signing failed.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The machine.
    #[error("the authority of the cluster cannot be read: {0}; look at the disk of this machine")]
    Io(#[from] io::Error),
    /// Something in the cluster's directory is damaged.
    #[error("{0}")]
    Damaged(String),
}

impl From<AssignmentError> for PeopleError {
    fn from(error: AssignmentError) -> Self {
        Self::Order(error.into())
    }
}

impl Exec {
    /// Signs a client certificate for whom a grant stands, on a machine that has the cluster's authority.
    ///
    /// # Errors
    /// The trust log, the grant or the request does not stand, or the authority is not here.
    pub async fn certify(&self, request: CredentialRequest) -> Result<Credential, PeopleError> {
        let exec = self.clone();
        // A long trust log takes its time: not on a thread that others wait for.
        let done = tokio::task::spawn_blocking(move || exec.certify_now(&request)).await;
        done.unwrap_or_else(|error| Err(PeopleError::Damaged(format!("the executor stopped: {error}"))))
    }

    fn certify_now(&self, asked: &CredentialRequest) -> Result<Credential, PeopleError> {
        let trust = self.admins(&asked.grounds)?;
        let at = cluster_dir(&asked.cluster).map_err(|e| PeopleError::Damaged(e.to_string()))?;
        let exists = self.0.root.has_dir(&at);
        let (cluster, now) = (&asked.cluster, clock::now());
        let ctx = GrantContext { site: trust.site(), trust: &trust, cluster, exists, now };
        let granted = judge_grant(&ctx, &asked.grant)?;
        fits(&granted, &asked.request)?;
        let authority = Authority::find(&self.0.root.sub(&at)?, Path::new(KUBERNETES_PKI))?;
        let authority = authority.ok_or_else(|| PeopleError::NotHere(cluster.clone()))?;
        // The last check, so that nothing else can use a grant up.
        self.0.used_grants().take(&granted, now)?;
        authority.certify(&granted, &asked.request, now)
    }

    /// The site's trust state by grounds that contain what this node has seen.
    pub(crate) fn admins(&self, grounds: &TrustGrounds) -> Result<TrustState, PeopleError> {
        let site = self.site().map_err(OrderError::from)?;
        let mut floor = self.0.floor();
        let trust = trusted(&grounds.charter, &grounds.trust_log, site, &floor.trust_head(site))?;
        floor.saw(&self.0.root, site, trust.head()).map_err(OrderError::from)?;
        Ok(trust)
    }
}

/// Whether this is the request that the grant names.
fn fits(granted: &Granted, request: &[u8]) -> Result<(), PeopleError> {
    if request.len() > REQUEST_BYTES {
        return Err(PeopleError::Request(format!("it has {} bytes", request.len())));
    }
    match granted.target() {
        GrantTarget::Certificate(digest) if digest == Digest(Sha256::digest(request).into()) => Ok(()),
        GrantTarget::Certificate(_) => Err(PeopleError::Request("the grant names another one".to_owned())),
        GrantTarget::Apiserver | GrantTarget::AgentPortal => Err(GrantError::Target.into()),
    }
}

/// The authority of a cluster.
struct Authority {
    key: SecretString,
    certificate: String,
}

impl Authority {
    /// In the cluster's own directory, else where kubeadm keeps it if this is the machine's cluster.
    fn find(cluster: &Dir, kubernetes: &Path) -> Result<Option<Self>, PeopleError> {
        if let Some(own) = Self::read(cluster, "pki/")? {
            return Ok(Some(own));
        }
        let path =
            HOST_RECORD.parse().map_err(|e: qb_drivers::PathError| PeopleError::Damaged(e.to_string()))?;
        if cluster.mode(&path)?.is_none() {
            return Ok(None);
        }
        match Dir::open(kubernetes) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            dir => Self::read(&dir?, ""),
        }
    }

    fn read(dir: &Dir, below: &str) -> Result<Option<Self>, PeopleError> {
        let path = |name: &str| {
            let path = format!("{below}{name}").parse();
            path.map_err(|e: qb_drivers::PathError| PeopleError::Damaged(e.to_string()))
        };
        let damaged =
            |e: crate::progress::StepError| PeopleError::Damaged(format!("{}; {}", e.text, e.remedy));
        let key = read_key(dir, &path("ca.key")?).map_err(damaged)?;
        let certificate = read_certificate(dir, &path("ca.crt")?).map_err(damaged)?;
        let (Some(key), Some(certificate)) = (key, certificate) else { return Ok(None) };
        // An empty file is what a power cut leaves of one.
        if key.expose_secret().is_empty() || certificate.is_empty() {
            return Ok(None);
        }
        let certificate = String::from_utf8(certificate).map_err(|_| PkiError::Damaged("the authority"))?;
        Ok(Some(Self { key, certificate }))
    }

    /// Signs for the key of the request and for nothing else that it says: name, groups, use and life
    /// come from here.
    fn certify(&self, granted: &Granted, request: &[u8], now: Millis) -> Result<Credential, PeopleError> {
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
            .map_err(|e| PeopleError::Request(e.to_string()))?;
        if !pki::is_authority(self.certificate.as_bytes()) {
            return Err(PkiError::Damaged("the authority's certificate").into());
        }
        let key = pki::signing_key(self.key.expose_secret())?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, key).map_err(PkiError::from)?;
        let expires = now.plus(CERTIFICATE_MS - EARLIER_MS);
        let mut params = params(granted.admin(), granted.role())?;
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_millis(now.0.saturating_sub(EARLIER_MS));
        params.not_after = epoch + Duration::from_millis(expires.0);
        let signed = params.signed_by(&request.public_key, &issuer).map_err(PkiError::from)?;
        Ok(Credential { certificate: signed.pem(), authority: self.certificate.clone(), expires })
    }
}

fn params(admin: &Name, role: Role) -> Result<CertificateParams, PeopleError> {
    let mut params = CertificateParams::new(Vec::new()).map_err(PkiError::from)?;
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(io::Error::other)?;
    // Positive, and never short.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name.push(DnType::OrganizationName, access::group(role));
    params.distinguished_name.push(DnType::CommonName, access::user(admin));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

#[cfg(test)]
#[path = "people_tests.rs"]
pub(crate) mod tests;
