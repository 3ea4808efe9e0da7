//! The bundle format: what is made verifies, and nothing else does.
#![allow(clippy::unwrap_used)]

use qb_drivers::bundle::{BundleError, Manifest, assemble, manifest_digest, peek, verify_bundle};
use qb_drivers::{Observed, build_rehearsal_bundle, driver};
use qb_model::dsse::{Purpose, SecretKey, Signer as _};
use qb_model::envelope::Envelope;
use qb_model::ids::{Millis, PublicKey};

fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32])
}

fn parts() -> (Vec<u8>, Vec<u8>) {
    build_rehearsal_bundle(&"1.0.0".parse().unwrap(), Millis(1_790_000_000_000)).unwrap()
}

fn bundle(signer: &SecretKey) -> Vec<u8> {
    let (manifest, artifacts) = parts();
    assemble(&Envelope::sign(Purpose::Bundle, manifest, &[signer]), &artifacts)
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    assert_eq!(parts(), parts());
    let digest = manifest_digest(&parts().0);
    let (peeked, manifest) = peek(&bundle(&key(1))).unwrap();
    assert_eq!(peeked, digest);
    assert_eq!(manifest.artifacts.len(), 1);
}

#[test]
fn a_bundle_of_an_allowed_publisher_verifies() {
    let allowed = [key(2).public_key(), key(1).public_key()];
    let file = bundle(&key(1));
    let verified = verify_bundle(&file, &allowed).unwrap();
    assert_eq!(verified.publisher(), key(1).public_key());
    assert_eq!(verified.digest(), manifest_digest(&parts().0));
    assert!(verified.is(&verified.digest()).is_ok());
    assert!(matches!(verified.is(&qb_model::ids::Digest([0; 32])), Err(BundleError::OtherBundle { .. })));
    assert_eq!(verified.artifacts().map(|(_, bytes)| bytes.to_vec()).collect::<Vec<_>>(), [parts().1]);
}

#[test]
fn unsigned_and_foreign_bundles_are_refused() {
    let none: [PublicKey; 0] = [];
    assert!(matches!(verify_bundle(&bundle(&key(1)), &none), Err(BundleError::Unsigned { tried: 0 })));
    let other = [key(3).public_key()];
    assert!(matches!(verify_bundle(&bundle(&key(1)), &other), Err(BundleError::Unsigned { tried: 1 })));
    // The right bytes, signed for another purpose.
    let (manifest, artifacts) = parts();
    let intent = Envelope::sign(Purpose::Intent, manifest, &[&key(1)]);
    let file = assemble(&intent, &artifacts);
    let result = verify_bundle(&file, &[key(1).public_key()]);
    assert!(matches!(result, Err(BundleError::Damaged(_))));
}

#[test]
fn a_flipped_bit_anywhere_is_refused() {
    let good = bundle(&key(1));
    let allowed = [key(1).public_key()];
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        // A key id is a hint: a change there leaves the same manifest, digest and signature.
        if let Ok(verified) = verify_bundle(&bad, &allowed) {
            assert_eq!(verified.digest(), manifest_digest(&parts().0), "byte {at}");
        }
    }
    for length in [0, 3, 4, 100, good.len() - 1] {
        assert!(verify_bundle(&good[..length], &allowed).is_err(), "cut at {length}");
    }
    let mut longer = good;
    longer.push(0);
    assert!(verify_bundle(&longer, &allowed).is_err());
}

#[test]
fn a_bundle_for_something_else_compiles_to_nothing() {
    let (manifest, _) = parts();
    let mut manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
    manifest.arch = "aarch64".to_owned();
    let observed = Observed { arch: "x86_64".to_owned(), bundle: Some(manifest) };
    assert!(driver(&"rehearsal".parse().unwrap()).unwrap().compile(&order(), &observed).is_err());
}

fn order() -> qb_model::assignment::Assignment {
    use qb_model::action::NodeRole;
    use qb_model::assignment::{Assignment, Citation, Member, Stage};
    use qb_model::ids::{Digest, Generation, NodeId, SiteId};
    let cites = Citation { digest: Digest([7; 32]), index: 12 };
    let node = NodeId([1; 32]);
    Assignment {
        site: SiteId(Digest([9; 32])),
        node,
        generation: Generation(4),
        cluster: "clus100".parse().unwrap(),
        driver: "rehearsal".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        bundle: Digest([8; 32]),
        role: NodeRole::ControlPlane,
        stage: Stage::Prepare,
        members: vec![Member {
            node,
            host: "lyon-r1-01".parse().unwrap(),
            address: "127.0.1.1".to_owned(),
            role: NodeRole::ControlPlane,
        }],
        first: node,
        cites,
        created_by: cites,
    }
}
