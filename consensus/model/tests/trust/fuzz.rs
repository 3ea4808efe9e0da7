//! No input makes a parser panic, and nothing unsigned passes.

use proptest::prelude::*;
use qb_model::charter::Charter;
use qb_model::document::{Login, open};
use qb_model::envelope::Envelope;
use qb_model::ids::{Digest, Millis};
use qb_model::intent::{Intent, ObjectRef};
use qb_model::judge::Verdict;
use qb_model::key::KeyKind;
use qb_model::outcome::Outcome;
use qb_model::replay::ReplayTable;
use qb_model::statement::{Clock, GossipBody, Knock, NodeCommand, SignedBytes, Statement};
use qb_model::strict::{Rules, check};

use crate::support::{OPAL, World, every_action, key, label, name, public, sign, ulid};

fn world() -> &'static World {
    static WORLD: std::sync::OnceLock<World> = std::sync::OnceLock::new();
    WORLD.get_or_init(World::staffed)
}

fn valid() -> &'static (Intent, Vec<u8>) {
    static VALID: std::sync::OnceLock<(Intent, Vec<u8>)> = std::sync::OnceLock::new();
    VALID.get_or_init(|| {
        let mut world = World::staffed();
        let intent = world.intent("opal", label());
        let bytes = sign(&intent, &[OPAL]).to_bytes();
        (intent, bytes)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(matches!(world().judge(&bytes), Verdict::Refused(_)));
        let _ = Charter::verify(&bytes);
        let _ = open::<Login>(&bytes, KeyKind::Ed25519, &public(1));
        let _ = check(&bytes, Rules { max_bytes: 1 << 16, null: true });
        let signed = key(1).sign_raw_body(&bytes);
        let _ = signed.open::<Knock>();
        let _ = signed.open::<NodeCommand>();
        let _ = signed.open::<Clock>();
        let _ = signed.open::<GossipBody>();
        let _ = SignedBytes::from_bytes(Clock::PURPOSE, &bytes, 256);
    }

    #[test]
    fn json_like_text_is_refused(text in r#"[\{\}\[\]",:0-9a-z\\ue. -]{0,200}"#) {
        let _ = Intent::parse(text.as_bytes());
        prop_assert!(Envelope::parse(text.as_bytes()).is_err());
    }

    #[test]
    fn mutated_envelopes_never_pass(
        at in any::<prop::sample::Index>(),
        insert in proptest::collection::vec(any::<u8>(), 0..4),
        cut in 0usize..4,
    ) {
        let (_, good) = valid();
        let at = at.index(good.len());
        let end = (at + cut).min(good.len());
        let mut bad = good.clone();
        bad.splice(at..end, insert);
        if bad != *good {
            match world().judge(&bad) {
                Verdict::Refused(_) => {}
                // White space between tokens changes nothing.
                Verdict::Pass(verified) => prop_assert_eq!(verified.digest(), valid().0.digest()),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn mutated_payloads_signed_by_a_viewer_never_pass(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        action in any::<prop::sample::Index>(),
    ) {
        // Signed bytes of any shape: parsing must stay total behind a valid signature too.
        let mut intent = valid().0.clone();
        let all = every_action();
        intent.action = all[action.index(all.len())].clone();
        let mut payload = intent.to_payload();
        let at = at.index(payload.len());
        payload[at] = byte;
        let purpose = qb_model::dsse::Purpose::Intent;
        let envelope = Envelope::sign(purpose, payload, &[&key(crate::support::VERA)]).to_bytes();
        prop_assert!(!matches!(world().judge(&envelope), Verdict::Pass(_)));
    }

    #[test]
    fn texts_of_objects_round_trip(text in "(cluster|node|admin|trust|x)?/?[a-z0-9-]{0,10}") {
        if let Ok(object) = text.parse::<ObjectRef>() {
            prop_assert_eq!(object.to_string(), text);
        }
    }

    #[test]
    fn a_restored_table_judges_alike(
        steps in proptest::collection::vec((0u8..4, 0u64..40, 0u64..6, 0u64..50), 1..120),
    ) {
        let mut table = ReplayTable::new();
        let mut twin = ReplayTable::new();
        for (index, (admin, digest, id, time)) in steps.into_iter().enumerate() {
            let mut bytes = [0; 32];
            bytes[0] = (digest * 37 % 251) as u8;
            let record = qb_model::judge::Record {
                digest: Digest(bytes),
                id: ulid(id),
                author: name(&format!("a{admin}")),
                key: public(admin),
                expires: Millis(time),
                envelope: vec![],
            };
            let now = Millis(1 + time / 2);
            for one in [&mut table, &mut twin] {
                one.record(&record, Outcome::Pending { have: 1, need: 2 }, index as u64, now);
                let _ = one.cancel(Digest(bytes), &record.author, time % 2 == 0, now);
                one.prune(now);
            }
            twin = postcard::from_bytes(&postcard::to_stdvec(&twin).unwrap()).unwrap();
            prop_assert_eq!(table.by_id(&record.key, &record.id), twin.by_id(&record.key, &record.id));
            prop_assert_eq!(&table, &twin);
        }
    }
}

trait SignRaw {
    fn sign_raw_body(&self, body: &[u8]) -> SignedBytes;
}

impl SignRaw for qb_model::dsse::SecretKey {
    /// Signs a body of any shape as a clock stamp.
    fn sign_raw_body(&self, body: &[u8]) -> SignedBytes {
        use qb_model::dsse::Signer;
        let sig = qb_model::key::Signature(self.sign(Clock::PURPOSE, body));
        SignedBytes { body: body.to_vec(), key: self.public_key(), sig }
    }
}
