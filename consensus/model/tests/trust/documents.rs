//! Charter, login, grant, manifest, and what nodes sign.

use qb_model::charter::{Charter, CharterError};
use qb_model::document::{Document, DocumentError, Grant, GrantScope, GrantTarget, Login, open};
use qb_model::dsse::{Purpose, Signer};
use qb_model::ids::{Digest, Generation, Millis, Nonce, Nonce16, SealKey};
use qb_model::key::KeyKind;
use qb_model::statement::{
    Checkpoint, Clock, GossipBody, Knock, Report, SealAad, SealKeyRecord, SignedBytes, Statement,
    StatementError, TlsKeyRecord, TokenUse, Voters,
};

use crate::support::{NOW, OLGA, OTTO, charter, charter_body, key, name, node, public};

pub(crate) fn login() -> Login {
    Login {
        origin: "https://portal.example".into(),
        server_key: public(101),
        nonce: Nonce([6; 32]),
        issued_ms: Millis(NOW),
        expires_ms: Millis(NOW + 120_000),
        session_key: public(200),
    }
}

pub(crate) fn grant() -> Grant {
    Grant {
        v: 1,
        site: charter().site_id(),
        scope: GrantScope::Cluster(name("blue")),
        target: GrantTarget::Apiserver,
        admin_key: public(OLGA),
        client_key: public(201),
        issued_ms: Millis(NOW),
        expires_ms: Millis(NOW + 15 * 60_000),
        nonce: Nonce16([1; 16]),
    }
}

pub(crate) fn certificate() -> Grant {
    Grant { target: GrantTarget::Certificate(Digest([9; 32])), nonce: Nonce16([2; 16]), ..grant() }
}

pub(crate) fn knock() -> Knock {
    let site = charter().site_id();
    let seal =
        SealKeyRecord { v: 1, site, node: node(103), key: SealKey([3; 32]), seq: 1, not_after: Millis(NOW) };
    Knock {
        v: 1,
        site,
        node: node(103),
        listener: node(101),
        nonce: Nonce([2; 32]),
        seal_key: seal.sign(&key(103)),
        machine: Digest([5; 32]),
        host: "web-07.plant".parse().unwrap(),
        facts: vec![1; 100],
        agent_version: "0.1.0".into(),
        addresses: vec!["10.0.0.7:7443".into(), "[fe80::1]:7443".into()],
        token_use: None,
    }
}

#[test]
fn a_charter_is_signed_by_every_founder() {
    let site = charter().site_id();
    let one = charter_body().sign(&[&key(OLGA)]).to_bytes();
    assert_eq!(Charter::verify(&one), Err(CharterError::Unsigned(public(OTTO))));
    let more = charter_body().sign(&[&key(99), &key(OTTO), &key(OLGA)]).to_bytes();
    assert_eq!(Charter::verify(&more).unwrap().site_id(), site, "signatures do not change the site");
}

#[test]
fn charters_out_of_bounds_are_refused() {
    type Change = fn(&mut qb_model::charter::CharterBody);
    let cases: [(&str, Change); 7] = [
        ("unsorted", |c| c.founders.reverse()),
        ("nobody", |c| c.founders.clear()),
        ("one key twice", |c| c.founders[1].keys = c.founders[0].keys.clone()),
        ("only browser keys", |c| {
            for founder in &mut c.founders {
                founder.keys[0].class = qb_model::action::KeyClass::Browser;
            }
        }),
        ("a weak key", |c| c.founders[0].keys[0].key = qb_model::ids::PublicKey([0; 32])),
        ("version", |c| c.v = 2),
        ("an address", |c| {
            c.relays =
                vec![qb_model::charter::CharterRelay { url: "http://evil.example".into(), key: public(9) }];
        }),
    ];
    for (what, change) in cases {
        let mut body = charter_body();
        change(&mut body);
        let bytes = body.sign(&[&key(OLGA), &key(OTTO)]).to_bytes();
        assert!(matches!(Charter::verify(&bytes), Err(CharterError::Value(_))), "{what}");
    }
}

#[test]
fn documents_open_for_their_key_only() {
    let signer = key(OLGA);
    let bytes = login().sign(&[&signer]).to_bytes();
    let by = |seed| open::<Login>(&bytes, KeyKind::Ed25519, &public(seed));
    assert_eq!(by(OLGA).unwrap().0, login());
    assert_eq!(by(OTTO), Err(DocumentError::Unsigned(public(OTTO))));
    assert_eq!(
        open::<Grant>(&bytes, KeyKind::Ed25519, &public(OLGA)),
        Err(DocumentError::Purpose(Purpose::Login))
    );
    let mut long = login();
    long.expires_ms = long.expires_ms.plus(1);
    let bytes = long.sign(&[&signer]).to_bytes();
    assert!(matches!(open::<Login>(&bytes, KeyKind::Ed25519, &public(OLGA)), Err(DocumentError::Value(_))));
    let bytes = grant().sign(&[&signer]).to_bytes();
    assert_eq!(open::<Grant>(&bytes, KeyKind::Ed25519, &public(OLGA)).unwrap().0, grant());
}

fn opens<T: Statement + PartialEq + std::fmt::Debug>(value: &T, signer: u8) {
    let signed = value.sign(&key(signer));
    assert_eq!(signed.open::<T>().unwrap().value(), value);
    let bytes = signed.to_bytes();
    assert_eq!(SignedBytes::from_bytes(T::PURPOSE, &bytes, T::MAX).as_ref(), Ok(&signed));
    // Another version, more bytes, another signer, a flipped bit.
    let again = |body: Vec<u8>| {
        let secret = key(signer);
        let sig = qb_model::key::Signature(secret.sign(T::PURPOSE, &body));
        SignedBytes { body, key: secret.public_key(), sig }
    };
    let mut body = signed.body.clone();
    body[0] = 2;
    assert!(again(body).open::<T>().is_err(), "version 2");
    let mut body = signed.body.clone();
    body.push(0);
    assert!(again(body).open::<T>().is_err(), "one byte more");
    if value.signer().is_some() {
        let other = value.sign(&key(222));
        assert!(matches!(other.open::<T>(), Err(StatementError::Signer(_))));
    }
    for at in 0..signed.body.len() {
        let mut bad = signed.clone();
        bad.body[at] ^= 1;
        assert!(bad.open::<T>().is_err(), "byte {at}");
    }
}

#[test]
fn what_nodes_sign_is_exact() {
    let site = charter().site_id();
    let (v, n) = (1, node(103));
    opens(&knock(), 103);
    opens(
        &TlsKeyRecord { v, site, node: n, spki_sha256: Digest([1; 32]), seq: 1, not_after: Millis(9) },
        103,
    );
    opens(&TokenUse { v, site, node: n, voter: node(101), nonce: Nonce([1; 32]) }, 104);
    opens(&Report { v, site, node: n, incarnation: 3, sequence: 4, body_hash: Digest([1; 32]) }, 103);
    opens(&Clock { v, site, epoch: 0, node: n, ms: Millis(NOW), previous_tick: 300 }, 103);
    let mut set = vec![node(101), n];
    set.sort();
    opens(&Voters { v, site, epoch: 0, seq: 1, set, previous: Digest([1; 32]) }, 103);
    let head = Digest([1; 32]);
    let checkpoint = Checkpoint {
        v,
        site,
        epoch: 0,
        index: 1,
        term: 2,
        log_time: Millis(NOW),
        chain_head: head,
        trust_head: head,
        state_hash: head,
        voters_seq: 1,
    };
    opens(&checkpoint, 101);
    let gossip = GossipBody {
        v,
        site,
        node: n,
        topic: "reports".into(),
        incarnation: 1,
        sequence: 2,
        payload: vec![7; 300],
    };
    opens(&gossip, 103);
}

#[test]
fn a_longer_encoding_of_a_number_is_refused() {
    let clock =
        Clock { v: 1, site: charter().site_id(), epoch: 0, node: node(101), ms: Millis(5), previous_tick: 0 };
    let mut body = clock.to_body();
    // postcard's varint 0 as two bytes.
    assert_eq!(body.pop(), Some(0));
    body.extend([0x80, 0x00]);
    let secret = key(101);
    let sig = qb_model::key::Signature(secret.sign(Purpose::Clock, &body));
    let signed = SignedBytes { body, key: secret.public_key(), sig };
    assert_eq!(signed.open::<Clock>().unwrap_err(), StatementError::Encoding(Purpose::Clock));
}

#[test]
fn a_knock_carries_its_own_seal_key() {
    let mut other = knock();
    other.node = node(104);
    assert!(matches!(other.sign(&key(104)).open::<Knock>(), Err(StatementError::Value { .. })));
    let mut odd = knock();
    odd.addresses = vec!["evil.example:1".into()];
    assert!(odd.sign(&key(103)).open::<Knock>().is_err());
    let mut large = knock();
    large.facts = vec![0; 4097];
    assert!(large.sign(&key(103)).open::<Knock>().is_err());
}

#[test]
fn s58_every_member_of_the_seal_context_counts() {
    let aad = SealAad {
        site: charter().site_id(),
        epoch: 1,
        purpose: "join".into(),
        cluster: Some(name("blue")),
        generation: Generation(2),
        sender: node(101),
        recipient: public(103),
        recipient_seal_seq: 1,
        expires: Millis(NOW),
    };
    let changes: [fn(&mut SealAad); 8] = [
        |a| a.epoch += 1,
        |a| a.purpose = "kubeconfig".into(),
        |a| a.cluster = None,
        |a| a.generation = Generation(3),
        |a| a.sender = node(102),
        |a| a.recipient = public(104),
        |a| a.recipient_seal_seq = 2,
        |a| a.expires = Millis(0),
    ];
    for change in changes {
        let mut other = aad.clone();
        change(&mut other);
        assert_ne!(other.to_bytes(), aad.to_bytes());
    }
}
