//! What is around the link: TLS in all its settings (S34), a proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use qb_link::dial::Target;
use qb_link::{DialConfig, OuterTls, Proxy};
use qb_model::Digest;
use qb_relay::config::TlsFiles;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::agent::FakeAgent;
use crate::client::Client;
use crate::site::FakeSite;
use crate::world::World;

#[tokio::test]
async fn t70_tls_outside_is_checked_as_configured_and_never_trusted() {
    let mut world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (world.dir().join("tls.crt"), world.dir().join("tls.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    world.restart_with_tls(TlsFiles { certificate, key }).await;
    let spki =
        Digest(Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&made.signing_key)).into());
    let dial = |outer| DialConfig { url: world.url.clone(), proxy: None, outer };
    let good = [OuterTls::Any, OuterTls::Spki(spki), OuterTls::from_pem(made.cert.pem().as_bytes())];
    for (at, outer) in good.into_iter().enumerate() {
        let agent = FakeAgent::dialling(&site, (101, 1 + at as u64), dial(outer), world.key, true).up().await;
        drop(agent);
    }
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let bad = [OuterTls::Spki(Digest([1; 32])), OuterTls::from_pem(other.cert.pem().as_bytes())];
    for outer in bad {
        let agent = FakeAgent::dialling(&site, (102, 1), dial(outer), world.key, true);
        let why = agent.down().await;
        assert!(why.contains("relay/tls-intercepted, issuer \"CN="), "{why}");
    }
    // Any certificate outside, but another relay's key inside.
    let agent = FakeAgent::dialling(&site, (102, 1), dial(OuterTls::Any), crate::site::public(1, 222), true);
    assert!(agent.down().await.contains("the site trusts"));
}

/// Ends TLS on the way, with a certificate of an issuer that the machine trusts, and passes on what is
/// inside. Once told to, it changes a bit of what the agent says.
async fn interceptor(
    relay: String,
    certificate: &rcgen::Certificate,
    key: &rcgen::KeyPair,
) -> (u16, Arc<AtomicBool>) {
    let chain = vec![certificate.der().clone()];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let tls = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let edit = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&edit);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            // One that refuses the certificate ends here.
            let Ok(near) = tls.accept(near).await else { continue };
            let far = TcpStream::connect(&relay).await.unwrap();
            tokio::spawn(pass_on(near, far, Arc::clone(&edit)));
        }
    });
    (port, told)
}

async fn pass_on(near: impl AsyncRead + AsyncWrite, far: TcpStream, edit: Arc<AtomicBool>) {
    let (mut from_agent, mut to_agent) = tokio::io::split(near);
    let (mut from_relay, mut to_relay) = far.into_split();
    let there = async {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from_agent.read(&mut bytes).await {
            if edit.load(Ordering::SeqCst) {
                bytes[count - 1] ^= 1;
            }
            if to_relay.write_all(&bytes[..count]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = there => {}
        _ = tokio::io::copy(&mut from_relay, &mut to_agent) => {}
    }
}

#[tokio::test]
async fn t72_an_interceptor_that_the_machine_trusts_is_named_and_carries_the_link_only_if_told_to() {
    let mut world = World::new().await;
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(vec![]).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.distinguished_name.push(rcgen::DnType::CommonName, "Initech Web Filter");
    let bundle = ca.self_signed(&ca_key).unwrap().pem();
    let key = rcgen::KeyPair::generate().unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &issuer).unwrap();
    let (port, edit) = interceptor(world.authority.clone(), &certificate, &key).await;
    world.restart_behind(&format!("https://localhost:{port}")).await;
    let site = FakeSite::founded(1, "plant", &world.url, world.key);
    let host = format!("localhost:{port}");
    let got = Client::stranger_as(&world.authority, &host)
        .post("/v1/register", serde_json::to_vec(&site.registration("acme")).unwrap())
        .await;
    assert_eq!(got.status, 201, "{}", got.text());
    let dial = |outer| DialConfig { url: world.url.clone(), proxy: None, outer };

    // The default: public issuers, whatever this machine's bundle says.
    let agent = FakeAgent::dialling(&site, (101, 1), dial(OuterTls::public()), world.key, true);
    let why = agent.down().await;
    assert!(why.contains("relay/tls-intercepted, issuer \"") && why.contains("Initech Web Filter"), "{why}");
    for remedy in ["--relay-ca FILE", "--relay-outer-tls system", "--relay-outer-tls any"] {
        assert!(why.contains(remedy), "{why}");
    }
    drop(agent);
    // Told to trust that issuer, or any: the relay's own link passes.
    let trusted = OuterTls::from_pem(bundle.as_bytes());
    drop(FakeAgent::dialling(&site, (101, 2), dial(trusted), world.key, true).up().await);
    let agent = FakeAgent::dialling(&site, (101, 3), dial(OuterTls::Any), world.key, true).up().await;
    // And nobody on the way can put a byte into it.
    edit.store(true, Ordering::SeqCst);
    agent.link.changed();
    agent.down().await;
}

#[tokio::test]
async fn t71_a_proxy_is_asked_for_the_way() {
    let world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let authority = world.authority.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(near.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            assert!(head.starts_with(&format!("CONNECT {authority} HTTP/1.1\r\n")), "{head}");
            if !head.contains("Proxy-Authorization: Basic cWI6cWI=\r\n") {
                near.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.unwrap();
                continue;
            }
            let mut far = TcpStream::connect(&authority).await.unwrap();
            near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
        }
    });
    let dial = |authorization: Option<&str>| DialConfig {
        url: world.url.clone(),
        proxy: Some(Proxy {
            host: "127.0.0.1".into(),
            port,
            authorization: authorization.map(|a| a.to_owned().into()),
        }),
        outer: OuterTls::Any,
    };
    let agent = FakeAgent::dialling(&site, (101, 1), dial(None), world.key, true);
    let why = agent.down().await;
    assert!(why.contains("407"), "{why}");
    drop(agent);
    let _agent =
        FakeAgent::dialling(&site, (101, 2), dial(Some("Basic cWI6cWI=")), world.key, true).up().await;
}

#[test]
fn addresses_are_https_or_of_this_very_machine() {
    let good = [
        ("https://relay.example", true, "relay.example", 443),
        ("https://Relay.Example:8443/", true, "relay.example", 8443),
        ("http://localhost:80", false, "localhost", 80),
        ("http://127.0.0.1", false, "127.0.0.1", 80),
        ("http://[::1]:9", false, "::1", 9),
    ];
    for (url, tls, host, port) in good {
        let target = Target::parse(url).unwrap();
        assert_eq!((target.tls, target.host.as_str(), target.port), (tls, host, port), "{url}");
    }
    for url in [
        "http://relay.example",
        "http://localhost.example",
        "ftp://relay.example",
        "https://a@relay.example",
        "https://relay.example/path",
        "https://relay.example/?q",
        "relay.example",
        "",
    ] {
        assert!(Target::parse(url).is_err(), "{url}");
    }
}
