//! Golden vectors of attestations: one file that every implementation reads. `QB_BLESS=1 cargo test`
//! writes it, otherwise it is compared byte for byte.

use std::path::PathBuf;

use qb_model::attest::{Attestation, Memory, Proof, Verdict, judge, verify};
use qb_model::dsse::Purpose;
use qb_model::ids::{Digest, Millis, SiteId};
use qb_model::statement::{Checkpoint, Statement as _};
use serde_json::{Value, json};

use super::site::{A, B, C, D, Votes, X, set, signed_by};
use crate::support::NOW;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/attest.json")
}

fn vector(name: &str, site: SiteId, now: u64, proof: &Proof) -> Value {
    let verdict = match verify(site, proof) {
        Ok(seen) => {
            let age = match judge(None, &seen, Millis(now)) {
                Verdict::Verified { age_ms } => json!({"verified_age_ms": age_ms}),
                Verdict::StaleSince(at) => json!({"stale_since_ms": at.0}),
                other => panic!("{name}: {other:?}"),
            };
            json!({"attested": Memory::from(&seen), "term": seen.term, "voters_seq": seen.voters.seq,
                "voters": seen.voters.nodes, "signed": seen.signed, "judged": age})
        }
        Err(why) => json!({"unverified": why.to_string()}),
    };
    json!({"name": name, "site": site.to_string(), "now_ms": now,
        "document": Attestation::from(proof), "verdict": verdict})
}

fn made() -> Value {
    let votes = Votes::three();
    let site = votes.site();
    let now = NOW + 8_000;
    let mut grown = Votes::three();
    grown.grow(&[B, C, D], &[A, C]);
    let mut invented = votes.proof(&[D, X]);
    let body = votes.at.link_to(&set(&[D, X])).to_body();
    invented.voters.push(signed_by(Purpose::Voters, &body, &[D, X]));
    let mut tampered = votes.proof(&[A, B]);
    let last = tampered.checkpoint.as_mut().unwrap();
    let at = last.body.len() - 2;
    last.body[at] ^= 1;
    let other = SiteId(Digest([9; 32]));
    let mut cut = votes.proof(&[A]);
    cut.voters.clear();
    let mut trust_cut = votes.proof(&[A, B]);
    trust_cut.checkpoint =
        votes.signed(&Checkpoint { trust_head: Digest([7; 32]), ..votes.checkpoint() }, &[A, B]).checkpoint;
    json!({
        "about": "Attestations. Layout of the bodies: consensus/model/src/attest/mod.rs.",
        "encoding": "Bodies and signatures are standard base64, keys and digests base64url.",
        "vectors": [
            vector("three_voters", site, now, &votes.proof(&[A, B])),
            vector("all_sign_and_strangers_too", site, now, &votes.proof(&[X, A, D, B, C])),
            vector("stale", site, NOW + 4_000 + 90_001, &votes.proof(&[A, C])),
            vector("replaced_voter", site, now, &grown.proof(&[B, D])),
            vector("one_voter_and_a_stranger", site, now, &votes.proof(&[A, D])),
            vector("one_voter_twice", site, now, &votes.proof(&[A, A])),
            vector("invented_set", site, now, &invented),
            vector("links_cut_off", site, now, &cut),
            vector("body_changed", site, now, &tampered),
            vector("other_trust_head", site, now, &trust_cut),
            vector("other_site_pinned", other, now, &votes.proof(&[A, B])),
        ],
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

/// Whoever reads the file without having made it comes to the same verdicts.
#[test]
fn vectors_hold() {
    let file: Value = serde_json::from_slice(&std::fs::read(path()).unwrap()).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    let (mut good, mut bad) = (0, 0);
    for v in vectors {
        let name = v["name"].as_str().unwrap();
        let document: Attestation = serde_json::from_value(v["document"].clone()).unwrap();
        let site: SiteId = v["site"].as_str().unwrap().parse().unwrap();
        match verify(site, &document.decode().unwrap()) {
            Ok(seen) => {
                let memory: Memory = serde_json::from_value(v["verdict"]["attested"].clone()).unwrap();
                assert_eq!(Memory::from(&seen), memory, "{name}");
                good += 1;
            }
            Err(why) => {
                assert_eq!(v["verdict"]["unverified"], why.to_string(), "{name}");
                bad += 1;
            }
        }
    }
    assert_eq!((good, bad), (4, 7));
}
