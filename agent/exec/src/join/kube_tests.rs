//! With an RSA key in the form that kubeadm writes.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use qb_model::assignment::Member;
use qb_model::ids::{Digest, Generation, NodeId, SiteId};
use rcgen::{BasicConstraints, IsCa};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use secrecy::ExposeSecret as _;
use x509_parser::prelude::*;

use super::*;
use crate::seal::{self, SealContext, SealSecret};

/// Made for this test; nothing was ever signed with it elsewhere.
const RSA: &str = "\
     MIIEpAIBAAKCAQEAssUGf5hkXmz+LSe5CaCX+PywPSf1qCiBzQPm1JLEQl0OEJSdISGAmLKxRE0dr6UIbQcIOtyAG3G9D3StmpwV \
     k70aeJ3sQBpcW4Wf0p61Q2lud/StyZYvpo+GChTRsSf6LpvVJuaDs+n6OgDQshW7m73U4F8da09TRch3JqK2z1H+igraSAF1jugd \
     w1H5t4Xdq0Rk8LGC4/IU4XCi7BxTa2oJYE8bwPlnPcWnCL6r05IEGj/SWI2nwb3s65RvB3ySbEATX3hNYKN166WdPTsNodGcM7d6 \
     gMHUh8mmmv0h7yNoUTh+QZ0QTwBiDrelRsvuAZ4MGXkOK0QdLKJ69OEm/QIDAQABAoIBAFO+wq2RSSuG6YdjvWYKKkdEsJblmkn9 \
     N9k/w6m/W1svVoBj7jvwAtsFks9JROfcatcQXUWduBGjNYsBALaV+fGsu7LXYC4jazKgpV84Y/fBczOUlrkBty7Su1sLp7PS43tk \
     GvVPNVFaAZOcgCd80NdDlW7Kf/CeR4dAQrkBrpvtpurQk9KedwdFN+bM5YF0cRt23wuuubIirshaqFMUjhAz8dsAWKB+WswnVJzB \
     RhmNTzlorsCqsjRyb2ojiG+Isut/WNpfSakRzkTTPBTa1a0ZYpQAbfgUigm3VUNUfSeIYwv5SdFslqMnwrVYq4mbMV0VWKXl77DX \
     +7txAxdKN00CgYEA687LESp9zSPKAQL4tKdCvLGsv45ZFrcnDDbbThePvsJys+odA8Xe+i4cBitbjrzRoOWhhX2GGdqCgIhV83Jh \
     9R66udUSnZHMscP4WOXwMB7HJlbJZtTqAAoXy62SQOfv13jTJFOwhLQHX/xfJ94ARTRiejmHaoxpoJ9QL4rXkr8CgYEAwhPiGOvd \
     UPdviUbTQmRsTLHIDhgkoQioxYythiVzP0ahWMoJmuWBtmTbHGYZAJkDEoIKwfM5XHaQwJfiqa9195lD+Ru6Q4eZbOu4CGDOrx34 \
     MYaeQtRbBuDcf5ckJdy4fB8DBGdlT6l+uarrks/cjaydbJuntqi8vyXkmOjdAUMCgYEAnhxXbpgmJ/GSVeFPL5pjFjCwGvTwaVm/ \
     NeJmY9NKj+bDkD0u3UPEwc0+/yf9SRT0HkU6a06CJz2reVFxCD4uznOfUlE7HSoQrTUwhTMQPMO2Vs+kVW33xLT/xZMJWLnryHd8 \
     Y4Q1/JTVyRdoGkwxtDVuvnNqiBfED24jDu2yo/MCgYAyywFhhFln11pZky+3MJEngV/aUHdFrf59tVO0yBhhdxrDIh1hbK+GDN9L \
     j2z7uxASx/YIzJ82k9FOlnG79y/onTQs/hTBl7uPxiFkD/IH4tASJilFVE5+fls3CVdskVe3JGalwGnDb5i6/wCoa75NVd/djN9X \
     7tF3NXOekVNGAQKBgQDJ5rOJtobb9fWHIULV2GeXsqzHugjHsP16vRB148dkanB1mUMCDtqHWMpn6wPLyQ5lQlOQG3/l1TG0qiNR \
     FFqMYXh/VjS2hw28yIbYS5kacIFqEWRr8b5bV+39L9riat0z9tfMUJq4fhxB+srwepC6YGCDpKkojn0Tv4jpUIWWBA==";

/// PKCS #1, as kubeadm writes it.
pub(crate) fn rsa() -> String {
    let lines: Vec<&str> = RSA.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).unwrap()).collect();
    let word = "RSA PRIVATE KEY";
    format!("-----BEGIN {word}-----\n{}\n-----END {word}-----\n", lines.join("\n"))
}

/// The identity of a cluster in a directory.
pub(crate) fn identity() -> (tempfile::TempDir, String) {
    let temp = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "kubernetes");
    let authority = params.self_signed(&pki::signing_key(&rsa()).unwrap()).unwrap().pem();
    std::fs::create_dir(temp.path().join("etcd")).unwrap();
    for file in FILES {
        let content = match file.path {
            "ca.crt" => authority.clone(),
            "ca.key" => rsa(),
            other => format!("{other}\n"),
        };
        std::fs::write(temp.path().join(file.path), content).unwrap();
    }
    (temp, authority)
}

fn recipient(role: NodeRole) -> Recipient {
    let node = NodeId([3; 32]);
    let host = "lyon-r1-03".parse().unwrap();
    Recipient {
        site: SiteId(Digest([9; 32])),
        cluster: "clus100".parse().unwrap(),
        real: true,
        generation: Generation(2),
        member: Member { node, host, address: "127.0.0.3".into(), role, slot: 2 },
        seal_key: SealSecret::generate().unwrap().public(),
        seal_seq: 1,
    }
}

fn value(config: &serde_json::Value, path: &str) -> Vec<u8> {
    STANDARD.decode(config.pointer(path).unwrap().as_str().unwrap()).unwrap()
}

#[test]
fn a_secret_lets_one_node_in_for_a_quarter_of_an_hour() {
    let (pki, authority) = identity();
    let secret = make(pki.path(), &recipient(NodeRole::Worker)).unwrap().unwrap();
    let config: serde_json::Value =
        serde_json::from_str(secret.kubeconfig().unwrap().expose_secret()).unwrap();
    assert_eq!(config.pointer("/clusters/0/cluster/server").unwrap(), "https://127.0.0.1:6444");
    assert_eq!(config.pointer("/contexts/0/context/user").unwrap(), "join");
    let at = "/clusters/0/cluster/certificate-authority-data";
    assert_eq!(value(&config, at), authority.as_bytes());
    let certificate = value(&config, "/users/0/user/client-certificate-data");
    let key = value(&config, "/users/0/user/client-key-data");
    let leaf = CertificateDer::from_pem_slice(&certificate).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), pki::provider());
    verifier.build().unwrap().verify_client_cert(&leaf, &[], UnixTime::now()).unwrap();
    assert!(pki::server(&certificate, &key).is_ok());
    let (_, read) = X509Certificate::from_der(&leaf).unwrap();
    let subject = read.subject().to_string();
    assert!(subject.contains("O=system:bootstrappers:kubeadm:default-node-token"), "{subject}");
    assert!(subject.contains("CN=system:bootstrap:lyon-r1-03"), "{subject}");
    let life = read.validity().not_after.timestamp() - read.validity().not_before.timestamp();
    assert_eq!(life, 15 * 60 + 5 * 60);
    // A worker gets the certificate of the authority, and nothing of its key.
    let files: Vec<_> = secret.files().map(|(file, _)| file.path).collect();
    assert_eq!((files, secret.role()), (vec!["ca.crt"], NodeRole::Worker));
    let plain = secret.encode().unwrap();
    assert!(!String::from_utf8_lossy(&plain).contains(&RSA[..60]));
}

#[test]
fn a_control_plane_node_gets_the_identity_sealed_to_it_alone() {
    let (pki, _) = identity();
    let secret = make(pki.path(), &recipient(NodeRole::ControlPlane)).unwrap().unwrap();
    let (key, other) = (SealSecret::generate().unwrap(), SealSecret::generate().unwrap());
    let context = SealContext {
        site: SiteId(Digest([9; 32])),
        epoch: 0,
        purpose: "join".parse().unwrap(),
        cluster: "clus100".parse().unwrap(),
        generation: Generation(2),
        sender: NodeId([1; 32]),
        recipient: NodeId([3; 32]),
        seal_seq: 1,
        expires_ms: clock::now().plus(JOIN_LIFE_MS),
    };
    let sealed = seal::seal(context, &key.public(), &secret.encode().unwrap()).unwrap();
    assert!(seal::open(&sealed, &other).is_err());
    let opened = KubeSecret::decode(&seal::open(&sealed, &key).unwrap()).unwrap();
    assert_eq!(opened.role(), NodeRole::ControlPlane);
    let files: Vec<_> = opened.files().collect();
    assert_eq!(files.len(), 8);
    for (file, content) in files {
        let there = std::fs::read_to_string(pki.path().join(file.path)).unwrap();
        assert_eq!(content.expose_secret(), there, "{}", file.path);
        assert_eq!(file.mode, if file.path.ends_with(".crt") { 0o644 } else { 0o600 });
    }
}

#[test]
fn without_a_whole_identity_there_is_no_secret() {
    let (pki, _) = identity();
    let worker = recipient(NodeRole::Worker);
    // What a power cut leaves counts as not there.
    std::fs::write(pki.path().join("etcd/ca.key"), "").unwrap();
    assert!(make(pki.path(), &worker).unwrap().is_some());
    assert!(make(pki.path(), &recipient(NodeRole::ControlPlane)).is_err());
    std::fs::write(pki.path().join("ca.key"), "").unwrap();
    assert!(make(pki.path(), &worker).unwrap().is_none());
    assert!(make(&pki.path().join("none"), &worker).unwrap().is_none());
    std::fs::write(pki.path().join("ca.key"), "no key").unwrap();
    assert!(make(pki.path(), &worker).is_err());
}

#[test]
fn a_damaged_secret_is_not_taken() {
    let (pki, _) = identity();
    let whole = make(pki.path(), &recipient(NodeRole::ControlPlane)).unwrap().unwrap().encode().unwrap();
    assert!(KubeSecret::decode(&whole).is_some());
    let mut longer = whole.to_vec();
    longer.push(0);
    assert!(KubeSecret::decode(&longer).is_none());
    assert!(KubeSecret::decode(&whole[..whole.len() - 1]).is_none());
    let mut version = whole.to_vec();
    version[0] = 1;
    assert!(KubeSecret::decode(&version).is_none());
}
