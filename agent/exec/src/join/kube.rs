//! What lets a node into a real cluster: a client certificate of a quarter of an hour, signed with the
//! cluster's authority, and for a control plane node the files of the cluster's identity. No token.

use std::io;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qb_model::action::NodeRole;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{JOIN_LIFE_MS, MintError, Recipient};
use crate::clock;
use crate::dir::Dir;
use crate::pki::{self, PkiError};
use crate::progress::StepError;

/// Where kubeadm keeps the identity of the one cluster of a machine.
pub(crate) const PKI: &str = "/etc/kubernetes/pki";
/// Whom the API server lets ask for a kubelet's certificate: kubeadm binds the rights for joining to it.
const GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";
const USER: &str = "system:bootstrap:";
/// The API server, at every node's own balancer.
const SERVER: &str = "https://127.0.0.1:6444";
/// How far back the certificate begins: clocks of a site may differ.
const EARLIER: Duration = Duration::from_secs(5 * 60);
/// Bytes of a key or a certificate.
const PEM_BYTES: u64 = 16 * 1024;

/// A file of the cluster's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdentityFile {
    /// Below `/etc/kubernetes/pki`.
    pub(crate) path: &'static str,
    /// Permission bits.
    pub(crate) mode: u32,
}

const fn file(path: &'static str, mode: u32) -> IdentityFile {
    IdentityFile { path, mode }
}

/// The files of a cluster's identity; a worker gets the first one only.
pub(crate) const FILES: [IdentityFile; 8] = [
    file("ca.crt", 0o644),
    file("ca.key", 0o600),
    file("sa.key", 0o600),
    file("sa.pub", 0o600),
    file("front-proxy-ca.crt", 0o644),
    file("front-proxy-ca.key", 0o600),
    file("etcd/ca.crt", 0o644),
    file("etcd/ca.key", 0o600),
];

/// The secret as it is sealed. It cannot be printed, and is erased when dropped.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Plain {
    v: u16,
    /// The node's name.
    node: String,
    /// Certificate and key of the one who joins, PEM.
    certificate: String,
    key: String,
    /// Contents by [`FILES`]: the first one, or all.
    files: Vec<String>,
}

/// A join secret of a real cluster.
pub(crate) struct KubeSecret(Plain);

impl KubeSecret {
    /// Reads what was sealed; none if it is of another version or not whole.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (plain, rest) = postcard::take_from_bytes::<Plain>(bytes).ok()?;
        let whole = rest.is_empty() && plain.v == 2 && [1, FILES.len()].contains(&plain.files.len());
        (whole && pki::is_authority(plain.files[0].as_bytes())).then_some(Self(plain))
    }

    /// The form that is sealed.
    pub(crate) fn encode(&self) -> Result<Zeroizing<Vec<u8>>, StepError> {
        postcard::to_stdvec(&self.0).map(Zeroizing::new).map_err(|_| StepError::damaged("the join secret"))
    }

    /// For which role it was made.
    pub(crate) fn role(&self) -> NodeRole {
        if self.0.files.len() == 1 { NodeRole::Worker } else { NodeRole::ControlPlane }
    }

    /// Which files it holds.
    pub(crate) fn files(&self) -> impl Iterator<Item = (IdentityFile, SecretString)> {
        FILES.iter().zip(&self.0.files).map(|(file, content)| (*file, SecretString::from(content.as_str())))
    }

    /// What kubeadm finds the cluster by: server, authority, and the certificate to ask with. YAML, of
    /// which JSON is a part.
    pub(crate) fn kubeconfig(&self) -> Result<SecretString, StepError> {
        let base64 = |text: &str| Zeroizing::new(STANDARD.encode(text));
        let key = base64(&self.0.key);
        let config = Kubeconfig {
            api_version: "v1",
            kind: "Config",
            clusters: [Named {
                name: "kubernetes",
                value: Value::Cluster { server: SERVER, authority: STANDARD.encode(&self.0.files[0]) },
            }],
            users: [Named {
                name: "join",
                value: Value::User { certificate: STANDARD.encode(&self.0.certificate), key: &key },
            }],
            contexts: [Named { name: "join", value: Value::Context { cluster: "kubernetes", user: "join" } }],
            current: "join",
        };
        let text = serde_json::to_string(&config).map(Zeroizing::new);
        Ok(SecretString::from(text.map_err(|_| StepError::damaged("the discovery file"))?.as_str()))
    }
}

#[derive(Serialize)]
struct Kubeconfig<'a> {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    clusters: [Named<'a>; 1],
    users: [Named<'a>; 1],
    contexts: [Named<'a>; 1],
    #[serde(rename = "current-context")]
    current: &'static str,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'static str,
    #[serde(flatten)]
    value: Value<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Value<'a> {
    Cluster {
        server: &'static str,
        #[serde(rename = "certificate-authority-data")]
        authority: String,
    },
    User {
        #[serde(rename = "client-certificate-data")]
        certificate: String,
        #[serde(rename = "client-key-data")]
        key: &'a str,
    },
    Context {
        cluster: &'static str,
        user: &'static str,
    },
}

/// Makes the secret for a recipient from the cluster's identity in a directory; none if it is not there.
pub(crate) fn make(pki: &Path, recipient: &Recipient) -> Result<Option<KubeSecret>, MintError> {
    let dir = match Dir::open(pki) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        dir => dir.map_err(|e| StepError::disk(pki.display(), &e))?,
    };
    let Some(authority_key) = read(&dir, "ca.key")? else { return Ok(None) };
    let Some(authority) = read(&dir, "ca.crt")? else { return Ok(None) };
    let node = recipient.member.host.to_string();
    let (certificate, key) = bootstrapper(&authority, &authority_key, &node)
        .map_err(|e| StepError::new(e.to_string(), "the order is tried again"))?;
    let wanted = match recipient.member.role {
        NodeRole::Worker => &FILES[..1],
        NodeRole::ControlPlane => &FILES[..],
    };
    let mut files = Vec::new();
    for file in wanted {
        let content = read(&dir, file.path)?;
        let content =
            content.ok_or_else(|| StepError::damaged(format!("{}/{}", pki.display(), file.path)))?;
        files.push(content.as_str().to_owned());
    }
    Ok(Some(KubeSecret(Plain { v: 2, node, certificate, key, files })))
}

/// A file, if it is there and not empty: an empty one is what a power cut leaves.
fn read(dir: &Dir, name: &str) -> Result<Option<Zeroizing<String>>, StepError> {
    let at = super::path(name)?;
    let bytes = dir.read(&at, PEM_BYTES).map_err(|e| StepError::disk(&at, &e))?.map(Zeroizing::new);
    let text = bytes.map(|bytes| std::str::from_utf8(&bytes).map(|text| Zeroizing::new(text.to_owned())));
    let text = text.transpose().map_err(|_| StepError::damaged(&at))?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// Certificate and key that let a node ask for its own certificate, for a quarter of an hour.
fn bootstrapper(authority: &str, authority_key: &str, node: &str) -> Result<(String, String), PkiError> {
    let issuer = Issuer::from_ca_cert_pem(authority, pki::signing_key(authority_key)?)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_millis(clock::now().0);
    params.not_before = now - EARLIER;
    params.not_after = now + Duration::from_millis(JOIN_LIFE_MS);
    params.distinguished_name.push(DnType::OrganizationName, GROUP);
    params.distinguished_name.push(DnType::CommonName, format!("{USER}{node}"));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.serial_number = Some(serial().map_err(|_| PkiError::Damaged("the system's randomness"))?);
    let certificate = params.signed_by(&key, &issuer)?.pem();
    Ok((certificate, key.serialize_pem()))
}

/// Positive, and never short.
fn serial() -> Result<SerialNumber, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
#[path = "kube_tests.rs"]
pub(crate) mod tests;
