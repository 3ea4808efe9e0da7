//! Golden vectors: one file that every implementation of the formats reads. Made from fixed seeds;
//! `QB_BLESS=1 cargo test` writes it, otherwise it is compared byte for byte.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qb_model::action::{Action, KeyClass, NewKey, Role};
use qb_model::charter::{Charter, Recovery};
use qb_model::document::{Document, open};
use qb_model::dsse::{Purpose, Signer, digest_of, pae, verify};
use qb_model::envelope::Envelope;
use qb_model::ids::PublicKey;
use qb_model::intent::Intent;
use qb_model::key::{KeyId, KeyKind, check_public_key, sk_message, verify_kind};
use qb_model::statement::{Statement, TokenEntry, TokenUse};
use qb_model::token::{Entry, sign_entry};
use qb_model::trust::replay_log;
use qb_model::words::{fingerprint, words};
use serde_json::{Value, json};

use super::documents::{certificate, grant, knock, login};
use super::forge::{Forged, forged, honest};
use super::signatures::RawKey;
use super::strict::bad_payloads;
use crate::support::actions::{chosen, create_chosen, upgrade_chosen};
use crate::support::{
    HOUR, NOW, OLGA, OPAL, OTTO, VERA, World, add, charter_body, every_action, key, label, name, new_key,
    policy, public, remove, sign,
};

const FIDO: u8 = 60;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/vectors.json")
}

fn b64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn paes() -> Value {
    let mut all = vec![
        ("empty", String::new(), Vec::new()),
        ("dsse_example", "http://example.com/HelloWorld".into(), b"hello world".to_vec()),
        ("multi_byte", "application/vnd.qb.intent.v1+json".into(), "{\"note\":\"Ørsted 東京 🦀\"}".into()),
        ("multi_byte_type", "tüpe".into(), vec![0, 255, 10]),
    ];
    for purpose in Purpose::ALL {
        all.push(("purpose", purpose.media_type().to_owned(), b"{}".to_vec()));
    }
    let one = |(name, kind, body): (&str, String, Vec<u8>)| {
        let digest = digest_of(&kind, &body).to_string();
        json!({"name": name, "type": kind, "body": b64(&body), "pae": b64(&pae(&kind, &body)), "digest": digest})
    };
    all.into_iter().map(one).collect()
}

/// A charter with everything in it: recovery keys, a relay, a FIDO2 founder.
fn full_charter() -> Charter {
    let fido = RawKey::new(FIDO);
    let mut body = charter_body();
    let hardware = NewKey { key: fido.public, class: KeyClass::Hardware, expires_ms: None };
    body.founders[0].keys.push(hardware);
    body.founders[0].keys.sort_by_key(|k| k.key);
    let mut keys = vec![public(240), public(241), public(242)];
    keys.sort();
    body.recovery = Some(Recovery { threshold: 2, keys });
    body.relays =
        vec![qb_model::charter::CharterRelay { url: "https://relay.example".into(), key: public(31) }];
    let mut envelope = body.sign(&[&key(OLGA), &key(OTTO)]);
    let id = KeyId { kind: KeyKind::SkEd25519, key: fido.public };
    envelope.add_signature(id, fido.sk_signature(1, 3, &sk_message(1, 3, &envelope.digest())));
    Charter::verify(&envelope.to_bytes()).unwrap()
}

fn charters() -> Value {
    let one = |charter: &Charter| {
        let envelope = Envelope::parse(charter.envelope()).unwrap();
        json!({
            "envelope": text(charter.envelope()),
            "digest": envelope.digest().to_string(),
            "site": charter.site_id().to_string(),
            "words": words(charter.site_id().0.as_bytes()),
            "fingerprint": fingerprint(charter.site_id().0.as_bytes()),
        })
    };
    json!([one(&crate::support::charter()), one(&full_charter())])
}

fn intent_vector(name: &str, envelope: &Envelope) -> Value {
    let signers: Vec<&str> = envelope.signatures().iter().map(|s| s.keyid.as_str()).collect();
    json!({
        "name": name,
        "envelope": text(&envelope.to_bytes()),
        "digest": envelope.digest().to_string(),
        "signers": signers,
    })
}

fn intents() -> Value {
    let mut world = World::staffed();
    let mut all: Vec<Value> = every_action()
        .into_iter()
        .map(|action| {
            let name = action.name();
            let intent = world.intent("olga", action);
            intent_vector(name, &sign(&intent, &[OLGA]))
        })
        .collect();
    for (name, action) in [
        ("cluster.create_chosen", create_chosen("blue", chosen())),
        ("cluster.upgrade_chosen", upgrade_chosen("blue", "1.36.3", Some(chosen()))),
    ] {
        all.push(intent_vector(name, &sign(&world.intent("olga", action), &[OLGA])));
    }
    let mut full = world.intent("opal", label());
    full.after = Some(vec![full.digest()]);
    full.note = Some("für Ørsted \\ \"東京\" 🦀 </script>".into());
    let object = crate::support::cluster("blue");
    full.expect =
        vec![qb_model::intent::Expect::Generation { object, generation: qb_model::ids::Generation(3) }];
    all.push(intent_vector("every_member", &sign(&full, &[OPAL])));
    let two = world.intent("olga", remove("vera"));
    all.push(intent_vector("two_of_three", &sign(&two, &[OLGA, OTTO])));
    let fido = RawKey::new(FIDO);
    let hard = world.intent("olga", remove("vera"));
    let mut envelope = sign(&hard, &[]);
    let id = KeyId { kind: KeyKind::SkEd25519, key: fido.public };
    envelope.add_signature(id, fido.sk_signature(1, 42, &sk_message(1, 42, &envelope.digest())));
    all.push(intent_vector("sk_ed25519", &envelope));
    Value::Array(all)
}

fn documents() -> Value {
    let signer = key(OLGA);
    json!([
        intent_vector("login", &login().sign(&[&signer])),
        intent_vector("grant", &grant().sign(&[&signer])),
        intent_vector("grant_certificate", &certificate().sign(&[&signer])),
    ])
}

fn statements() -> Value {
    let signed = knock().sign(&key(103));
    let body = |s: &qb_model::statement::SignedBytes, purpose: Purpose| {
        json!({
            "type": purpose.media_type(),
            "body": b64(&s.body),
            "key": s.key.to_string(),
            "sig": b64(&s.sig.0),
            "digest": s.digest(purpose).to_string(),
        })
    };
    json!([body(&signed, Purpose::Knock), body(&signed.body_seal(), Purpose::SealKey)])
}

trait SealOf {
    fn body_seal(&self) -> qb_model::statement::SignedBytes;
}

impl SealOf for qb_model::statement::SignedBytes {
    fn body_seal(&self) -> qb_model::statement::SignedBytes {
        self.open::<qb_model::statement::Knock>().unwrap().into_value().seal_key
    }
}

/// An entry by a join token, with the charter under which its mint stands, and forgeries of it.
fn token_entries() -> Value {
    let mut world = World::staffed();
    let mint = every_action().into_iter().find(|a| a.name() == "token.mint").unwrap();
    let intent = world.intent("opal", mint);
    let site = world.charter.site_id();
    let (voter, node) = (qb_model::NodeId(public(101).0), qb_model::NodeId(public(110).0));
    let used = TokenUse { v: 1, site, node, voter, nonce: qb_model::Nonce([3; 32]) };
    let said = TokenEntry {
        v: 1,
        site,
        voter,
        token_use: used.sign(&key(32)),
        host: "web-7".parse().unwrap(),
        address: "10.0.0.7".into(),
        knock: qb_model::Digest([5; 32]),
        mint_index: 9,
        minted_at: qb_model::Millis(NOW),
        mint: sign(&intent, &[OPAL]).to_bytes(),
    };
    let mut forged = said.clone();
    forged.token_use = used.sign(&key(33));
    let mut captured = said.clone();
    captured.voter = qb_model::NodeId(public(102).0);
    let good = sign_entry(&said, &key(101));
    // A use by key 33 is valid as such; that it is not the minted key, the chain says.
    [
        ("good", good.clone(), 32, true),
        ("by_another_token", sign_entry(&forged, &key(101)), 33, true),
        ("at_another_voter", sign_entry(&captured, &key(102)), 32, false),
        ("signed_by_another", sign_entry(&said, &key(102)), 32, false),
        ("another_type", text(&good).replace("token-entry.v1", "token-use.v1").into_bytes(), 32, false),
    ]
    .into_iter()
    .map(|(name, envelope, token, valid)| {
        json!({
            "name": name,
            "envelope": text(&envelope),
            "site": site.to_string(),
            "voter": public(101).to_string(),
            "node": public(110).to_string(),
            "token": public(token).to_string(),
            "mint": intent.digest().to_string(),
            "mint_index": 9,
            "valid": valid,
        })
    })
    .collect()
}

/// A chain of five heads and a trust log of six entries.
fn histories() -> (Value, Value) {
    let mut world = World::founded();
    world.must("olga", add("opal", Role::Operator, vec![new_key(OPAL, KeyClass::Cli)]), &[OLGA]);
    world.must_not("opal", remove("olga"), &[OPAL], "role");
    world.must("opal", label(), &[OPAL]);
    assert_eq!(world.records.len(), 5);
    let records: Vec<Value> = world
        .records
        .iter()
        .map(|r| {
            let outcome = r.outcome.as_ref();
            json!({
                "index": r.index,
                "log_time": r.log_time.0,
                "digest": r.digest.to_string(),
                "outcome": outcome.map_or(0, qb_model::outcome::Outcome::chain_code),
                "generation": outcome.map_or(0, |o| o.generation().0),
                "head": r.head.to_string(),
            })
        })
        .collect();
    let chain = json!({"site": world.site().to_string(), "records": records});

    world.tick(NOW + HOUR);
    world.must("olga", add("vera", Role::Viewer, vec![new_key(VERA, KeyClass::Browser)]), &[OLGA]);
    world.must("olga", Action::AdminRole { admin: name("vera"), role: Role::Owner }, &[OLGA]);
    world.must("opal", Action::KeyAdd { admin: name("opal"), key: new_key(20, KeyClass::Cli) }, &[OPAL]);
    world.must("olga", policy(|p| p.owners_needed = 2), &[OLGA, OTTO]);
    world.must("olga", remove("vera"), &[OLGA, OTTO]);
    let entries: Vec<Value> = world
        .trust
        .log()
        .iter()
        .map(|e| {
            json!({
                "parent": e.parent.to_string(),
                "digest": e.digest.to_string(),
                "index": e.index,
                "log_time": e.log_time.0,
                "envelope": text(&e.envelope),
                "head": e.head().to_string(),
            })
        })
        .collect();
    assert_eq!(entries.len(), 6);
    assert_eq!(replay_log(&world.charter, world.trust.log()).unwrap().head(), world.trust.head());
    (chain, json!({"charter": text(world.charter.envelope()), "entries": entries}))
}

fn names() -> Value {
    (0..3u8)
        .map(|n| {
            let bytes = [n; 32];
            json!({"bytes": b64(&bytes), "words": words(&bytes), "fingerprint": fingerprint(&bytes)})
        })
        .collect()
}

fn negative_signatures() -> Value {
    let one = |f: &Forged, valid: bool| {
        json!({
            "name": f.name,
            "type": Purpose::Intent.media_type(),
            "body": b64(&f.body),
            "key": f.key.to_string(),
            "sig": b64(&f.sig),
            "key_ok": f.key_ok,
            "valid": valid,
        })
    };
    let mut all: Vec<Value> = vec![one(&honest(), true)];
    all.extend(forged().iter().map(|f| one(f, false)));
    let signer = key(OLGA);
    let swapped = Forged {
        name: "body_type_swapped",
        key: signer.public_key(),
        body: b"{}".to_vec(),
        sig: signer.sign(Purpose::Login, b"{}"),
        key_ok: true,
    };
    all.push(one(&swapped, false));
    Value::Array(all)
}

/// Settings of a cluster in the right form and in wrong ones.
fn settings() -> Vec<(&'static str, &'static str, bool)> {
    vec![
        (
            "settings_all",
            r#"{"pods":"10.8.0.0/20","services":"172.16.0.0/12","endpoints":["a"],"port":1}"#,
            true,
        ),
        ("settings_pods", r#"{"pods":"203.0.0.0/8"}"#, true),
        ("settings_unordered_endpoints", r#"{"endpoints":["k8s.example.com","10.0.0.9","a"]}"#, true),
        ("settings_null", "null", false),
        ("settings_empty", "{}", false),
        ("settings_default_pods", r#"{"pods":"10.244.0.0/16"}"#, false),
        ("settings_default_services", r#"{"services":"10.96.0.0/16"}"#, false),
        ("settings_default_port", r#"{"endpoints":["a"],"port":6443}"#, false),
        ("settings_null_pods", r#"{"pods":null}"#, false),
        ("settings_host_bits", r#"{"pods":"10.8.1.0/16"}"#, false),
        ("settings_long_prefix", r#"{"pods":"10.8.0.0/21"}"#, false),
        ("settings_short_prefix", r#"{"services":"10.0.0.0/11"}"#, false),
        ("settings_padded_prefix", r#"{"pods":"10.8.0.0/016"}"#, false),
        ("settings_padded_address", r#"{"pods":"010.8.0.0/16"}"#, false),
        ("settings_v6", r#"{"pods":"fd00::/16"}"#, false),
        ("settings_loopback", r#"{"pods":"127.0.0.0/16"}"#, false),
        ("settings_link_local", r#"{"pods":"169.0.0.0/8"}"#, false),
        ("settings_multicast", r#"{"pods":"224.0.0.0/8"}"#, false),
        ("settings_reserved", r#"{"services":"240.0.0.0/12"}"#, false),
        ("settings_nowhere", r#"{"pods":"0.0.0.0/8"}"#, false),
        ("settings_overlap", r#"{"pods":"10.0.0.0/8"}"#, false),
        ("settings_overlap_default", r#"{"services":"10.244.7.0/24"}"#, false),
        ("settings_no_endpoint", r#"{"endpoints":[]}"#, false),
        ("settings_five_endpoints", r#"{"endpoints":["a","b","c","d","e"]}"#, false),
        ("settings_endpoint_twice", r#"{"endpoints":["a","a"]}"#, false),
        ("settings_endpoint_port", r#"{"endpoints":["a:1"]}"#, false),
        ("settings_endpoint_upper", r#"{"endpoints":["A"]}"#, false),
        ("settings_endpoint_number", r#"{"endpoints":["10.0.1"]}"#, false),
        ("settings_endpoint_loopback", r#"{"endpoints":["127.0.0.1"]}"#, false),
        ("settings_endpoint_in_pods", r#"{"endpoints":["10.244.0.1"]}"#, false),
        ("settings_endpoint_in_services", r#"{"endpoints":["10.96.0.1"]}"#, false),
        ("settings_endpoint_between_hosts", r#"{"endpoints":["10.245.0.1"]}"#, false),
        ("settings_port_alone", r#"{"port":443}"#, false),
        ("settings_port_zero", r#"{"endpoints":["a"],"port":0}"#, false),
        ("settings_port_large", r#"{"endpoints":["a"],"port":65536}"#, false),
        ("settings_unknown", r#"{"dns":"10.8.0.10"}"#, false),
    ]
}

fn negative_json() -> Value {
    let mut world = World::staffed();
    let good = text(&world.intent("opal", label()).to_payload());
    let payloads = bad_payloads(&good);
    let mut all =
        vec![json!({"name": "good", "form": "intent", "bytes": b64(good.as_bytes()), "valid": true})];
    for (name, bytes) in payloads {
        all.push(json!({"name": name, "form": "intent", "bytes": b64(&bytes), "valid": false}));
    }
    let whole = chosen();
    let create = text(&world.intent("opal", create_chosen("blue", whole.clone())).to_payload());
    let whole = serde_json::to_string(&whole).unwrap();
    for (name, settings, valid) in settings() {
        let bytes = create.replacen(&whole, settings, 1);
        assert_ne!(bytes, create, "{name}");
        assert_eq!(Intent::parse(bytes.as_bytes()).is_ok(), valid, "{name}");
        all.push(json!({"name": name, "form": "intent", "bytes": b64(bytes.as_bytes()), "valid": valid}));
    }
    let other = create.replacen("\"kubeadm\"", "\"rehearsal\"", 1);
    all.push(json!({"name": "settings_other_driver", "form": "intent", "bytes": b64(other.as_bytes()), "valid": false}));
    let intent = world.intent("opal", label());
    let envelope = text(&sign(&intent, &[OPAL]).to_bytes());
    all.push(json!({"name": "good", "form": "envelope", "bytes": b64(envelope.as_bytes()), "valid": true}));
    let sig = envelope.split("\"sig\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let next = char::from(sig.as_bytes()[85] + 1);
    let bad = [
        ("base64_url_alphabet", envelope.replacen(&sig, &format!("{}A==", "-_-_-".repeat(17)), 1)),
        ("base64_trailing_bits", envelope.replacen(&sig, &format!("{}{next}==", &sig[..85]), 1)),
        ("base64_without_padding", envelope.replacen(&sig, sig.trim_end_matches('='), 1)),
        ("unknown_member", envelope.replacen('{', "{\"alg\":\"none\",", 1)),
        ("duplicate_member", envelope.replacen('{', "{\"payload\":\"\",", 1)),
        ("unknown_type", envelope.replacen("intent.v1", "intent.v9", 1)),
        ("trailing_bytes", format!("{envelope} ")),
        ("no_signatures", envelope.split("\"signatures\"").next().unwrap().to_owned() + "\"signatures\":[]}"),
    ];
    for (name, bytes) in bad {
        all.push(json!({"name": name, "form": "envelope", "bytes": b64(bytes.as_bytes()), "valid": false}));
    }
    Value::Array(all)
}

fn made() -> Value {
    // The vector of sealed secrets is made by the crate that seals; it stays as it is found.
    let found = std::fs::read(path()).ok().and_then(|b| serde_json::from_slice::<Value>(&b).ok());
    let hpke = found.and_then(|v| v.get("hpke").cloned()).unwrap_or(Value::Null);
    let (chain, trust_log) = histories();
    json!({
        "about": "Vectors of the signed formats. Bodies and signatures are standard base64, keys and digests base64url.",
        "pae": paes(),
        "charters": charters(),
        "intents": intents(),
        "documents": documents(),
        "statements": statements(),
        "token_entries": token_entries(),
        "chain": chain,
        "trust_log": trust_log,
        "names": names(),
        "signatures": negative_signatures(),
        "json": negative_json(),
        "hpke": hpke,
    })
}

#[test]
fn vectors_are_as_they_were() {
    let fresh = serde_json::to_string_pretty(&made()).unwrap() + "\n";
    if std::env::var_os("QB_BLESS").is_some() {
        std::fs::write(path(), &fresh).unwrap();
    }
    let kept =
        std::fs::read_to_string(path()).expect("the vectors are there: QB_BLESS=1 cargo test writes them");
    let differ = kept.lines().zip(fresh.lines()).position(|(a, b)| a != b);
    assert!(kept == fresh, "a signed format changed, first at line {:?}", differ.map(|l| l + 1));
}

fn list<'a>(vectors: &'a Value, name: &str) -> &'a Vec<Value> {
    vectors[name].as_array().unwrap()
}

fn get<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name].as_str().unwrap()
}

fn raw(vector: &Value, name: &str) -> Vec<u8> {
    STANDARD.decode(get(vector, name)).unwrap()
}

/// Whoever reads the file without having made it comes to the same verdicts.
#[test]
fn vectors_hold() {
    let vectors: Value = serde_json::from_slice(&std::fs::read(path()).unwrap()).unwrap();
    for vector in list(&vectors, "token_entries") {
        let read = Entry::open(get(vector, "envelope").as_bytes());
        assert_eq!(read.is_ok(), vector["valid"].as_bool().unwrap(), "{}", get(vector, "name"));
        let Ok(read) = read else { continue };
        assert_eq!(read.node().to_string(), get(vector, "node"));
        assert_eq!(read.token().to_string(), get(vector, "token"));
        assert_eq!(read.mint().unwrap().digest.to_string(), get(vector, "mint"));
    }
    for vector in list(&vectors, "pae") {
        let body = raw(vector, "body");
        assert_eq!(pae(get(vector, "type"), &body), raw(vector, "pae"));
        assert_eq!(digest_of(get(vector, "type"), &body).to_string(), get(vector, "digest"));
    }
    for vector in list(&vectors, "charters") {
        let charter = Charter::verify(get(vector, "envelope").as_bytes()).unwrap();
        assert_eq!(charter.site_id().to_string(), get(vector, "site"));
    }
    for vector in list(&vectors, "intents").iter().chain(list(&vectors, "documents")) {
        let envelope = Envelope::parse(get(vector, "envelope").as_bytes()).unwrap();
        assert_eq!(envelope.digest().to_string(), get(vector, "digest"));
        for line in envelope.signatures() {
            let id: KeyId = line.keyid.parse().unwrap();
            let (purpose, payload) = (envelope.purpose(), envelope.payload());
            assert!(verify_kind(id.kind, purpose, payload, &id.key, &line.sig), "{}", get(vector, "name"));
        }
    }
    for vector in list(&vectors, "intents") {
        let envelope = Envelope::parse(get(vector, "envelope").as_bytes()).unwrap();
        Intent::parse(envelope.payload()).unwrap();
    }
    let documents = list(&vectors, "documents");
    let bytes = |n: usize| get(&documents[n], "envelope").as_bytes();
    assert_eq!(
        open::<qb_model::document::Login>(bytes(0), KeyKind::Ed25519, &public(OLGA)).unwrap().0,
        login()
    );
    assert_eq!(
        open::<qb_model::document::Grant>(bytes(1), KeyKind::Ed25519, &public(OLGA)).unwrap().0,
        grant()
    );
    for vector in list(&vectors, "signatures") {
        let key: PublicKey = get(vector, "key").parse().unwrap();
        let sig: [u8; 64] = raw(vector, "sig").try_into().unwrap();
        let key_ok = check_public_key(&key).is_ok();
        assert_eq!(key_ok, vector["key_ok"], "{}", get(vector, "name"));
        let valid = key_ok && verify(Purpose::Intent, &raw(vector, "body"), &key, &sig);
        assert_eq!(valid, vector["valid"], "{}", get(vector, "name"));
    }
    for vector in list(&vectors, "json") {
        let bytes = raw(vector, "bytes");
        let valid = match get(vector, "form") {
            "intent" => Intent::parse(&bytes).is_ok(),
            _ => Envelope::parse(&bytes).is_ok(),
        };
        assert_eq!(valid, vector["valid"], "{}", get(vector, "name"));
    }
}
