//! S02, S03, S04: bits, curve points, types.

use qb_model::dsse::{Purpose, SecretKey, Signer, digest_of, pae, verify};
use qb_model::envelope::Envelope;
use qb_model::ids::PublicKey;
use qb_model::judge::{Refusal, Verdict};
use qb_model::key::{KeyId, KeyKind, check_public_key, sk_message, verify_kind};
use qb_model::words::{fingerprint, words};

use crate::support::{OPAL, World, key, label, public, sign};
use crate::trust::forge::{forged, honest};

#[test]
fn s02_no_flipped_bit_passes() {
    let mut world = World::staffed();
    let intent = world.intent("opal", label());
    let bytes = sign(&intent, &[OPAL]).to_bytes();
    assert!(matches!(world.judge(&bytes), Verdict::Pass(_)));
    let envelope = Envelope::parse(&bytes).unwrap();
    // Every bit of the envelope's text. White space and the hint aside, none may pass; none may be
    // recorded, since nobody signed it.
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            let verdict = world.judge(&bad);
            assert!(matches!(verdict, Verdict::Refused(_)), "byte {at} bit {bit}: {verdict:?}");
        }
    }
    // Every bit of payload and signature behind the base64.
    let sig: [u8; 64] = envelope.signatures()[0].sig.clone().try_into().unwrap();
    for at in 0..envelope.payload().len() {
        let mut bad = envelope.payload().to_vec();
        bad[at] ^= 1;
        assert!(!verify(Purpose::Intent, &bad, &public(OPAL), &sig), "payload byte {at}");
    }
    for at in 0..64 {
        let mut bad = sig;
        bad[at] ^= 1;
        assert!(!verify(Purpose::Intent, envelope.payload(), &public(OPAL), &bad), "sig byte {at}");
    }
}

#[test]
fn s03_forged_points_are_refused() {
    let good = honest();
    assert!(verify(Purpose::Intent, &good.body, &good.key, &good.sig));
    assert_eq!(check_public_key(&good.key), Ok(()));
    for case in forged() {
        assert_eq!(check_public_key(&case.key).is_ok(), case.key_ok, "{}", case.name);
        let verifies = verify(Purpose::Intent, &case.body, &case.key, &case.sig);
        // Only the check when the key is added catches this one.
        assert_eq!(verifies, case.name == "mixed_order_a_lucky", "{}", case.name);
    }
}

#[test]
fn s04_a_signature_counts_for_its_own_type_only() {
    let body = b"{\"v\":1}";
    let signer = key(9);
    for made in Purpose::ALL {
        let sig = signer.sign(*made, body);
        for read in Purpose::ALL {
            let valid = verify(*read, body, &signer.public_key(), &sig);
            assert_eq!(valid, made == read, "{made} read as {read}");
        }
        assert_eq!(Purpose::from_media_type(made.media_type()), Some(*made));
    }
}

#[test]
fn s04_a_body_signed_as_something_else_is_no_intent() {
    let mut world = World::staffed();
    let intent = world.intent("opal", label());
    for purpose in Purpose::ALL.iter().filter(|p| **p != Purpose::Intent) {
        let other = Envelope::sign(*purpose, intent.to_payload(), &[&key(OPAL)]);
        assert_eq!(world.judge(&other.to_bytes()), Verdict::Refused(Refusal::Purpose(*purpose)),);
        let text = String::from_utf8(other.to_bytes()).unwrap();
        let renamed = text.replace(purpose.media_type(), Purpose::Intent.media_type());
        assert_eq!(world.judge(renamed.as_bytes()), Verdict::Refused(Refusal::Unsigned), "{purpose}");
    }
}

#[test]
fn pae_is_that_of_dsse() {
    // The example of the DSSE protocol document.
    let expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world";
    assert_eq!(pae("http://example.com/HelloWorld", b"hello world"), expected);
    assert_eq!(pae("", b""), b"DSSEv1 0  0 ");
    assert_eq!(pae("é", "ü".as_bytes()), "DSSEv1 2 é 2 ü".as_bytes());
}

#[test]
fn fido2_signatures_need_a_touch_and_their_own_kind() {
    let token = RawKey::new(60);
    let body = b"{}";
    let digest = digest_of(Purpose::Login.media_type(), body);
    let make = |flags: u8| token.sk_signature(flags, 7, &sk_message(flags, 7, &digest));
    let check = |kind, purpose, sig: &[u8]| verify_kind(kind, purpose, body, &token.public, sig);
    assert!(check(KeyKind::SkEd25519, Purpose::Login, &make(1)));
    assert!(check(KeyKind::SkEd25519, Purpose::Login, &make(5)), "other flags do not matter");
    assert!(!check(KeyKind::SkEd25519, Purpose::Login, &make(0)), "nobody touched it");
    assert!(!check(KeyKind::SkEd25519, Purpose::Grant, &make(1)));
    assert!(!check(KeyKind::Ed25519, Purpose::Login, &make(1)[5..]));
    let mut counted = make(1);
    counted[4] ^= 1;
    assert!(!check(KeyKind::SkEd25519, Purpose::Login, &counted));
    assert!(!check(KeyKind::SkEd25519, Purpose::Login, &make(1)[..68]));
    let plain = SecretKey::from_bytes(&[60; 32]).sign(Purpose::Login, body);
    assert!(!check(KeyKind::SkEd25519, Purpose::Login, &plain));
}

/// A key that signs raw bytes, as a FIDO2 device does. The product has no such thing.
pub(crate) struct RawKey {
    secret: ed25519_dalek::SigningKey,
    pub(crate) public: PublicKey,
}

impl RawKey {
    pub(crate) fn new(seed: u8) -> Self {
        let secret = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
        let public = PublicKey(secret.verifying_key().to_bytes());
        Self { secret, public }
    }

    pub(crate) fn sk_signature(&self, flags: u8, counter: u32, message: &[u8]) -> Vec<u8> {
        use ed25519_dalek::Signer as _;
        let mut out = vec![flags];
        out.extend(counter.to_be_bytes());
        out.extend(self.secret.sign(message).to_bytes());
        out
    }
}

#[test]
fn key_ids_round_trip() {
    for kind in [KeyKind::Ed25519, KeyKind::SkEd25519] {
        let id = KeyId { kind, key: public(1) };
        assert_eq!(id.to_string().parse::<KeyId>(), Ok(id));
    }
    assert!("rsa:AAAA".parse::<KeyId>().is_err());
}

#[test]
fn words_and_fingerprints_are_stable() {
    assert_eq!(words(&[0; 32]), ["grid", "duck", "problem", "valid", "cloth", "roof"]);
    assert_eq!(fingerprint(&[0; 32]), "csm7-nbfr-cayq-ev4f");
    assert_ne!(words(&[0; 32]), words(&[1; 32]));
}
