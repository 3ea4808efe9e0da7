//! When the certificates that kubeadm made on a control plane node end. Read here, judged by the driver.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qb_drivers::RelPath;
use qb_drivers::kubeadm::upkeep::Expiry;
use qb_model::ids::Millis;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use crate::dir::Dir;
use crate::host::place::clean;
use crate::progress::StepError;

/// Where they are.
pub(crate) const FOLDER: &str = "etc/kubernetes";
/// Certificates; each has its key beside it.
const CERTIFICATES: [&str; 7] = [
    "pki/apiserver",
    "pki/apiserver-etcd-client",
    "pki/apiserver-kubelet-client",
    "pki/front-proxy-client",
    "pki/etcd/healthcheck-client",
    "pki/etcd/peer",
    "pki/etcd/server",
];
/// Credentials with a certificate inside.
const CREDENTIALS: [&str; 3] = ["admin.conf", "controller-manager.conf", "scheduler.conf"];
/// One that only some versions write, and that is taken away after init.
const SUPER_ADMIN: &str = "super-admin.conf";
/// Where a credential has its certificate.
const INSIDE: &str = "client-certificate-data:";
/// Bytes of a certificate, a key or a credential.
pub(crate) const FILE_BYTES: u64 = 64 * 1024;

/// All files that a renewal writes, below the root.
pub(crate) fn files() -> Vec<String> {
    let pairs = CERTIFICATES.iter().flat_map(|name| [format!("{name}.crt"), format!("{name}.key")]);
    let all = pairs.chain(CREDENTIALS.iter().chain([&SUPER_ADMIN]).map(|name| (*name).to_owned()));
    all.map(|name| format!("{FOLDER}/{name}")).collect()
}

/// When each certificate of a control plane node ends.
///
/// # Errors
/// One is missing, empty as after a power cut, or no certificate; or the disk fails.
pub(crate) fn read(root: &Dir) -> Result<Vec<Expiry>, StepError> {
    let mut all = Vec::new();
    for name in CERTIFICATES {
        let name = format!("{name}.crt");
        let pem = content(root, &name)?.ok_or_else(|| damaged(&name))?;
        all.push(Expiry { ends: end_of(&pem).ok_or_else(|| damaged(&name))?, name });
        let key = all.last().map(|e| e.name.replace(".crt", ".key")).unwrap_or_default();
        if content(root, &key)?.is_none_or(|key| key.is_empty()) {
            return Err(damaged(&key));
        }
    }
    for name in CREDENTIALS.into_iter().chain([SUPER_ADMIN]) {
        match content(root, name)? {
            None if name == SUPER_ADMIN => {}
            found => {
                let ends = found.as_deref().and_then(|text| end_inside(text)).ok_or_else(|| damaged(name))?;
                all.push(Expiry { ends, name: name.to_owned() });
            }
        }
    }
    Ok(all)
}

fn damaged(name: &str) -> StepError {
    StepError::new(
        format!("/{FOLDER}/{name} is missing or damaged"),
        "detach this node and attach it again: the other control plane nodes go on meanwhile",
    )
}

fn content(root: &Dir, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StepError> {
    let at: RelPath = clean(&format!("{FOLDER}/{name}"))?;
    match root.read(&at, FILE_BYTES) {
        // A folder above it is not there either.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        found => Ok(found.map_err(|e| StepError::disk(format!("/{at}"), &e))?.map(Zeroizing::new)),
    }
}

/// When the first certificate in a PEM file ends.
fn end_of(pem: &[u8]) -> Option<Millis> {
    let der = CertificateDer::from_pem_slice(pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or_default();
    Some(Millis(seconds.saturating_mul(1_000)))
}

/// The same of a credential: one line of YAML holds it, as kubeadm writes it.
fn end_inside(text: &[u8]) -> Option<Millis> {
    let text = std::str::from_utf8(text).ok()?;
    let data = text.lines().find_map(|line| line.trim().strip_prefix(INSIDE))?;
    end_of(&STANDARD.decode(data.trim().trim_matches('"')).ok()?)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// A certificate that ends then, PEM.
    pub(crate) fn ending(at: Millis) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.not_before = SystemTime::UNIX_EPOCH.into();
        params.not_after = (SystemTime::UNIX_EPOCH + Duration::from_millis(at.0)).into();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    /// Everything that kubeadm writes, ending then.
    pub(crate) fn write_all(root: &Path, ends: Millis) {
        let pem = ending(ends);
        for file in files() {
            if file.ends_with(SUPER_ADMIN) {
                continue;
            }
            let at = root.join(&file);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            let content = match file.rsplit('.').next() {
                Some("crt") => pem.clone(),
                Some("key") => "a key".to_owned(),
                _ => format!("users:\n- user:\n    {INSIDE} {}\n", STANDARD.encode(&pem)),
            };
            fs::write(at, content).unwrap();
        }
    }

    #[test]
    fn each_certificate_tells_when_it_ends_and_damage_is_told() {
        let temp = tempfile::tempdir().unwrap();
        let root = Dir::open(temp.path()).unwrap();
        assert!(read(&root).unwrap_err().text.contains("pki/apiserver.crt is missing"));
        write_all(temp.path(), Millis(1_900_000_000_000));
        let one = temp.path().join("etc/kubernetes/pki/etcd/peer.crt");
        fs::write(&one, ending(Millis(1_800_000_000_000))).unwrap();
        let all = read(&root).unwrap();
        assert_eq!(all.len(), 10);
        let first = all.iter().min().unwrap();
        assert_eq!((first.name.as_str(), first.ends), ("pki/etcd/peer.crt", Millis(1_800_000_000_000)));
        for name in ["pki/etcd/peer.crt", "pki/etcd/peer.key", "admin.conf"] {
            let at = temp.path().join(FOLDER).join(name);
            let before = fs::read(&at).unwrap();
            fs::write(&at, "").unwrap();
            assert!(read(&root).unwrap_err().text.contains(name), "{name}");
            fs::write(&at, before).unwrap();
        }
        assert!(read(&root).is_ok());
        fs::write(temp.path().join(FOLDER).join(SUPER_ADMIN), "users: []").unwrap();
        assert!(read(&root).unwrap_err().text.contains(SUPER_ADMIN));
    }
}
