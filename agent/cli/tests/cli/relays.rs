//! `qb relay`: what is shown to a relay, which key is believed, and what lies on this computer after.

use qb_cli::client::memory::Memory;
use qb_cli::cmd::relay::{Registration, compare};
use qb_cli::door::{Door, RelayUrl};
use qb_model::dsse::{SecretKey, Signer as _};
use qb_model::trust::TrustEntry;
use qb_model::{Digest, Millis, PublicKey};

use crate::door::qb;

fn key(number: u8) -> PublicKey {
    SecretKey::from_bytes(&[number; 32]).public_key()
}

#[test]
fn the_registration_is_what_relays_read() {
    let entry = TrustEntry {
        parent: Digest([1; 32]),
        digest: Digest([2; 32]),
        index: 7,
        log_time: Millis(9),
        envelope: b"{}".to_vec(),
    };
    let form =
        Registration { v: 1, charter: "{\"c\":1}".into(), trust: vec![entry], intent: "{\"i\":1}".into() };
    let json = serde_json::to_string(&form).unwrap();
    let (parent, digest) = (Digest([1; 32]), Digest([2; 32]));
    let pinned = format!(
        r#"{{"v":1,"charter":"{{\"c\":1}}","trust":[{{"parent":"{parent}","digest":"{digest}","index":7,"log_time":9,"envelope":[123,125]}}],"intent":"{{\"i\":1}}"}}"#
    );
    assert_eq!(json, pinned);
}

#[test]
fn a_relays_key_is_compared_or_shown() {
    let url: RelayUrl = "https://relay.example".parse().unwrap();
    let first = compare(&url, &key(1), None).unwrap();
    assert!(first.contains("Trust on first use") && first.contains("words"), "{first}");
    let told = compare(&url, &key(1), Some(&key(1))).unwrap();
    assert!(told.contains("the key of --relay-key") && !told.contains("first use"), "{told}");
    let error = compare(&url, &key(1), Some(&key(2))).unwrap_err();
    assert!(error.text.starts_with("Another key answers at https://relay.example: "), "{error}");
}

#[test]
fn addresses_of_relays_are_read() {
    for (text, shown) in [
        ("https://Relay.Example", "https://relay.example"),
        ("https://relay.example:443/", "https://relay.example"),
        ("https://relay.example:8443", "https://relay.example:8443"),
        ("http://127.0.0.1:8480", "http://127.0.0.1:8480"),
        ("http://localhost:8480", "http://localhost:8480"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
    ] {
        assert_eq!(text.parse::<RelayUrl>().unwrap().to_string(), shown);
        assert_eq!(format!("relay:{text}").parse::<Door>().unwrap().to_string(), format!("relay:{shown}"));
    }
    for bad in [
        "http://relay.example",
        "https://relay.example/x",
        "https://u@relay.example",
        "https://relay.example?x",
        "https://",
        "https://relay.example:0",
        "https://relay.example:99999",
        "relay.example",
        "ssh://relay.example",
    ] {
        assert!(bad.parse::<RelayUrl>().is_err(), "{bad}");
    }
}

#[test]
fn a_charter_names_its_first_relay() {
    let folder = tempfile::tempdir().unwrap();
    let relay = key(5).to_string();
    let args = ["site", "create", "lyon", "--no-passphrase", "--relay", "https://relay.example"];
    let alone = qb(folder.path(), &args);
    assert_eq!(alone.code, 2, "an address without a key: {alone:?}");
    let made = qb(folder.path(), &[&args[..], &["--relay-key", &relay]].concat());
    assert_eq!(made.code, 0, "{made:?}");
    let file = std::fs::read_to_string(folder.path().join("lyon.enroll.json")).unwrap();
    let file: serde_json::Value = serde_json::from_str(&file).unwrap();
    assert_eq!(file["relays"], serde_json::json!([{"url": "https://relay.example", "key": relay}]));
    let config = std::fs::read_to_string(folder.path().join("config/config.toml")).unwrap();
    assert!(
        config.contains(r#"doors = ["unix:/run/qb/agent/agent.sock", "relay:https://relay.example"]"#),
        "{config}"
    );
}

#[test]
fn what_was_remembered_before_there_were_relays_is_read() {
    let memory: Memory = serde_json::from_str(r#"{"nodes":[],"doors":{},"head":null}"#).unwrap();
    assert!(memory.relays.is_empty());
}
