//! Whom a network's door is believed to be.

use std::sync::Arc;

use qb_cli::client::tls::{EXTENSION, TlsRefusal, check_certificate};
use qb_model::dsse::{SecretKey, Signer as _};
use qb_model::statement::{Statement as _, TlsKeyRecord};
use qb_model::{Digest, Millis, NodeId, SiteId};
use qb_portal::{Access, DoorConfig};
use rcgen::{CertificateParams, CustomExtension, KeyPair, PublicKeyData as _};
use sha2::{Digest as _, Sha256};

use crate::door::qb;
use crate::site::FakeSite;

const NOW: Millis = Millis(1_000_000);

struct Made {
    der: Vec<u8>,
    key: KeyPair,
    node: NodeId,
}

fn made(seed: u8, site: SiteId, not_after: Millis, spki: Option<Digest>) -> Made {
    let (signer, key) = (SecretKey::from_bytes(&[seed; 32]), KeyPair::generate().unwrap());
    let node = NodeId(signer.public_key().0);
    let own = Digest(Sha256::digest(key.subject_public_key_info()).into());
    let record = TlsKeyRecord { v: 1, site, node, spki_sha256: spki.unwrap_or(own), seq: 1, not_after };
    let oid: Vec<u64> = EXTENSION.split('.').map(|p| p.parse().unwrap()).collect();
    let mut params = CertificateParams::new(vec!["qb".to_owned()]).unwrap();
    params.custom_extensions.push(CustomExtension::from_oid_content(&oid, record.sign(&signer).to_bytes()));
    let der = params.self_signed(&key).unwrap().der().to_vec();
    Made { der, key, node }
}

#[test]
fn the_certificate_binds_key_node_and_site() {
    let (site, other) = (SiteId(Digest([1; 32])), SiteId(Digest([2; 32])));
    let good = made(7, site, Millis(2_000_000), None);
    assert_eq!(check_certificate(&good.der, site, NOW), Ok(good.node));
    assert_eq!(check_certificate(&good.der, other, NOW), Err(TlsRefusal::OtherSite(site)));
    assert_eq!(check_certificate(&good.der, site, Millis(2_000_000)), Err(TlsRefusal::Ended));
    let foreign = made(7, site, Millis(2_000_000), Some(Digest([9; 32])));
    assert_eq!(check_certificate(&foreign.der, site, NOW), Err(TlsRefusal::OtherKey));
    let plain = CertificateParams::new(vec!["qb".to_owned()]).unwrap().self_signed(&good.key).unwrap();
    assert_eq!(check_certificate(plain.der(), site, NOW), Err(TlsRefusal::NoRecord));
    assert_eq!(check_certificate(b"no certificate", site, NOW), Err(TlsRefusal::Certificate));
    let mut torn = good.der.clone();
    torn.push(0);
    assert_eq!(check_certificate(&torn, site, NOW), Err(TlsRefusal::Certificate));
}

/// Serves a site over TLS with a certificate; the door's address.
fn serve(runtime: &tokio::runtime::Runtime, site: Arc<FakeSite>, certificate: Made) -> String {
    let _guard = runtime.enter();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let door = format!("https://{host}");
    let access = Access::Network { origins: vec![door.clone()], hosts: vec![host] };
    let router = qb_portal::api(site, DoorConfig { access, server_key: certificate.node.public_key() });
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(certificate.key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der.into()], key)
        .unwrap();
    runtime.spawn(qb_portal::serve_tls(
        listener,
        tokio_rustls::TlsAcceptor::from(Arc::new(config)),
        router,
        std::future::pending(),
    ));
    door
}

#[test]
fn the_first_node_at_a_door_is_remembered_and_another_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let site = FakeSite::new(crate::door::charter(folder.path()), 2);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let id = site.charter.site_id();
    let door = serve(&runtime, site.clone(), made(7, id, Millis(u64::MAX), None));

    let first = qb(folder.path(), &["--door", &door, "node", "list", "-o", "name"]);
    assert_eq!((first.code, first.out.as_str()), (0, "lyon-r1-01\nlyon-r1-02\n"), "{first:?}");
    assert!(first.err.contains("First time at https://127.0.0.1:"), "{}", first.err);
    let second = qb(folder.path(), &["--door", &door, "node", "list", "-o", "name", "-v"]);
    assert_eq!(second.code, 0, "{second:?}");
    assert!(!second.err.contains("First time"), "{}", second.err);
    assert_eq!(site.lock().logins, 2);

    // The same address with another node's key.
    let memory = folder.path().join("config/known/lyon.json");
    let text = std::fs::read_to_string(&memory).unwrap();
    let node = made(7, id, Millis(u64::MAX), None).node.to_string();
    let other = made(8, id, Millis(u64::MAX), None).node.to_string();
    std::fs::write(&memory, text.replace(&node, &other)).unwrap();
    let refused = qb(folder.path(), &["--door", &door, "node", "list"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.err.contains("another node answers than before"), "{}", refused.err);
}
