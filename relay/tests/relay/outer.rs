//! What is around the link: TLS in all its settings (S34), a proxy.

use qb_link::dial::Target;
use qb_link::{DialConfig, OuterTls, Proxy};
use qb_model::Digest;
use qb_relay::config::TlsFiles;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::agent::FakeAgent;
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
