#![allow(clippy::unwrap_used)]

use qb_model::action::{KeyClass, NewKey};
use qb_model::charter::{Charter, CharterBody, Founder};
use qb_model::document::{Document as _, Grant, GrantScope};
use qb_model::dsse::{SecretKey, Signer as _};
use qb_model::ids::{NodeId, Nonce16, PublicKey};
use rcgen::KeyPair;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use super::*;
use crate::{ExecConfig, SealSecret, SiteSource, Units};

fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32])
}

pub(crate) fn charter() -> (Charter, Vec<u8>) {
    let body = CharterBody {
        v: 1,
        name: "plant-7".parse().unwrap(),
        nonce: Nonce16([7; 16]),
        founders: vec![Founder {
            admin: "olga".parse().unwrap(),
            name: "Olga".into(),
            keys: vec![NewKey { key: key(1).public_key(), class: KeyClass::Cli, expires_ms: None }],
        }],
        recovery: None,
        relays: vec![],
        issued_ms: Millis(1),
    };
    let bytes = body.sign(&[&key(1)]).to_bytes();
    (Charter::verify(&bytes).unwrap(), bytes)
}

pub(crate) fn cluster() -> Name {
    "clus100".parse().unwrap()
}

/// A machine with the authority of a cluster in that cluster's directory.
pub(crate) struct Machine {
    _temp: tempfile::TempDir,
    pub(crate) exec: Exec,
}

impl Machine {
    pub(crate) async fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let exec = Exec::open(ExecConfig {
            root: temp.path().join("exec"),
            hold: temp.path().join("hold"),
            node: Some(NodeId([1; 32])),
            site: SiteSource::Told(charter().0.site_id()),
            seal_secret: SealSecret::from_bytes(Zeroizing::new([1; 32])),
            stand_in: "none".into(),
            units: Units::Children,
        })
        .await
        .unwrap();
        let dir = cluster_dir(&cluster()).unwrap();
        exec.0.root.make_dirs(&format!("{dir}/pki").parse().unwrap()).unwrap();
        let key = pki::new_key().unwrap();
        let pem = pki::authority("clus100 (rehearsal)", &key).unwrap();
        let dir = exec.0.root.sub(&dir).unwrap();
        dir.write(&"pki/ca.key".parse().unwrap(), key.expose_secret().as_bytes(), 0o600).unwrap();
        dir.write(&"pki/ca.crt".parse().unwrap(), pem.as_bytes(), 0o644).unwrap();
        Self { _temp: temp, exec }
    }
}

fn request_for(params: CertificateParams) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().der().to_vec()
}

fn asked(nonce: u8, signer: u8, request: Vec<u8>) -> CredentialRequest {
    let now = clock::now();
    let grant = Grant {
        v: 1,
        site: charter().0.site_id(),
        scope: GrantScope::Cluster(cluster()),
        target: GrantTarget::Certificate(Digest(Sha256::digest(&request).into())),
        admin_key: key(signer).public_key(),
        client_key: PublicKey([3; 32]),
        issued_ms: now,
        expires_ms: now.plus(60_000),
        nonce: Nonce16([nonce; 16]),
    };
    CredentialRequest {
        cluster: cluster(),
        grant: grant.sign(&[&key(signer)]).to_bytes(),
        request,
        grounds: TrustGrounds { charter: charter().1, trust_log: Vec::new() },
    }
}

/// Test S63: an hour, the asker's name, no group of Kubernetes, whatever the request says.
#[tokio::test]
async fn s63_a_certificate_is_the_askers_for_an_hour_and_nobodys_master() {
    let machine = Machine::new().await;
    let mut greedy = CertificateParams::new(vec!["kubernetes".to_owned()]).unwrap();
    greedy.distinguished_name.push(DnType::OrganizationName, "system:masters");
    greedy.distinguished_name.push(DnType::CommonName, "kubernetes-admin");
    greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let credential = machine.exec.certify(asked(1, 1, request_for(greedy))).await.unwrap();
    let der = CertificateDer::from_pem_slice(credential.certificate.as_bytes()).unwrap();
    let (_, parsed) = X509Certificate::from_der(&der).unwrap();
    assert_eq!(parsed.subject().to_string(), "CN=qb:olga, O=qb:owner");
    assert!(!credential.certificate.contains("masters"));
    assert!(parsed.subject_alternative_name().unwrap().is_none());
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    assert!(!parsed.is_ca());
    let validity = parsed.validity();
    let life = validity.not_after.timestamp() - validity.not_before.timestamp();
    assert!((1..=3600).contains(&life), "{life}");
    assert_eq!(validity.not_after.timestamp(), i64::try_from(credential.expires.0 / 1_000).unwrap());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(credential.authority.as_bytes()).unwrap()).unwrap();
    let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), pki::provider());
    let verifier = builder.build().unwrap();
    verifier.verify_client_cert(&der, &[], UnixTime::now()).unwrap();
}

#[tokio::test]
async fn a_grant_that_does_not_stand_gets_nothing() {
    let machine = Machine::new().await;
    let plain = || request_for(CertificateParams::new(Vec::new()).unwrap());
    let good = asked(1, 1, plain());
    machine.exec.certify(good.clone()).await.unwrap();
    let refused =
        async |request: CredentialRequest| machine.exec.certify(request).await.unwrap_err().to_string();
    assert!(refused(good.clone()).await.contains("used before"));
    assert!(refused(asked(2, 9, plain())).await.contains("no key of a current admin"));
    let swapped = CredentialRequest { request: plain(), ..asked(3, 1, plain()) };
    assert!(refused(swapped).await.contains("names another one"));
    let elsewhere = CredentialRequest { cluster: "clus200".parse().unwrap(), ..asked(4, 1, plain()) };
    assert!(refused(elsewhere).await.contains("another cluster"));
    let damaged = asked(5, 1, b"no request".to_vec());
    assert!(refused(damaged).await.contains("certificate request is refused"));
    let mut other = asked(6, 1, plain());
    other.grounds.charter = b"{}".to_vec();
    assert!(refused(other).await.contains("trust log does not stand"));
}

#[tokio::test]
async fn a_machine_without_the_authority_says_so_and_uses_no_grant_up() {
    let machine = Machine::new().await;
    let dir = machine.exec.0.root.sub(&cluster_dir(&cluster()).unwrap()).unwrap();
    let (from, to) = ("pki/ca.key".parse().unwrap(), "pki/away".parse().unwrap());
    dir.rename(&from, &to).unwrap();
    let request = asked(1, 1, request_for(CertificateParams::new(Vec::new()).unwrap()));
    let error = machine.exec.certify(request.clone()).await.unwrap_err();
    assert!(matches!(error, PeopleError::NotHere(_)), "{error}");
    dir.rename(&to, &from).unwrap();
    machine.exec.certify(request).await.unwrap();
}

#[tokio::test]
async fn the_authority_of_kubeadm_counts_for_the_machines_own_cluster_only() {
    let machine = Machine::new().await;
    let dir = machine.exec.0.root.sub(&cluster_dir(&cluster()).unwrap()).unwrap();
    let kubernetes = machine._temp.path().join("kubernetes-pki");
    let there = Dir::create(&kubernetes).unwrap();
    for name in ["ca.key", "ca.crt"] {
        let bytes = dir.read(&format!("pki/{name}").parse().unwrap(), 1 << 16).unwrap().unwrap();
        there.write(&name.parse().unwrap(), &bytes, 0o600).unwrap();
    }
    dir.remove_tree(&"pki".parse().unwrap()).unwrap();
    assert!(Authority::find(&dir, &kubernetes).unwrap().is_none());
    dir.write(&HOST_RECORD.parse().unwrap(), b"{}", 0o600).unwrap();
    assert!(Authority::find(&dir, &kubernetes).unwrap().is_some());
    assert!(Authority::find(&dir, &machine._temp.path().join("nowhere")).unwrap().is_none());
    // What a power cut leaves.
    there.write(&"ca.key".parse().unwrap(), b"", 0o600).unwrap();
    assert!(Authority::find(&dir, &kubernetes).unwrap().is_none());
}

/// kubeadm's authority has an RSA key in PKCS #1.
#[tokio::test]
async fn the_authority_of_kubeadm_signs_too() {
    let machine = Machine::new().await;
    let (files, authority) = crate::join::kube::tests::identity();
    let key = std::fs::read_to_string(files.path().join("ca.key")).unwrap();
    assert!(key.starts_with(&["-----BEGIN RSA", "PRIVATE KEY-----"].join(" ")));
    let dir = machine.exec.0.root.sub(&cluster_dir(&cluster()).unwrap()).unwrap();
    dir.write(&"pki/ca.key".parse().unwrap(), key.as_bytes(), 0o600).unwrap();
    dir.write(&"pki/ca.crt".parse().unwrap(), authority.as_bytes(), 0o644).unwrap();
    let request = asked(1, 1, request_for(CertificateParams::new(Vec::new()).unwrap()));
    let credential = machine.exec.certify(request).await.unwrap();
    assert_eq!(credential.authority, authority);
    let der = CertificateDer::from_pem_slice(credential.certificate.as_bytes()).unwrap();
    let (_, parsed) = X509Certificate::from_der(&der).unwrap();
    assert_eq!(parsed.signature_algorithm.algorithm.to_id_string(), "1.2.840.113549.1.1.11");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), pki::provider());
    builder.build().unwrap().verify_client_cert(&der, &[], UnixTime::now()).unwrap();
}
