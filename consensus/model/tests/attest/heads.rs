//! Attested heads: whose signatures count, and for what.

use qb_model::attest::{Attestation, Proof, Unverified};
use qb_model::dsse::Purpose;
use qb_model::ids::{Digest, SiteId};
use qb_model::statement::{Checkpoint, Statement as _};

use super::site::{A, B, C, D, Votes, X, set, signed_by};

fn why(votes: &Votes, proof: &Proof) -> String {
    votes.verify(proof).unwrap_err().to_string()
}

#[test]
fn a_majority_attests() {
    let votes = Votes::three();
    for by in [&[A, B][..], &[B, C], &[A, B, C], &[X, A, D, C]] {
        let seen = votes.verify(&votes.proof(by)).unwrap();
        assert_eq!((seen.index, seen.term, seen.chain_head), (812, 3, votes.world.head.hash));
        assert!(seen.knows_trust(&votes.site().0) && seen.knows_trust(&votes.world.trust.head()));
        assert!(!seen.knows_trust(&Digest([1; 32])));
    }
}

/// S29 and its kin: each with its reason.
#[test]
fn fewer_do_not() {
    let votes = Votes::three();
    for (by, text) in [
        (&[D][..], "0 of 3 voters signed, 2 must; 1 signature is by no voter"),
        (&[A, D], "1 of 3 voters signed, 2 must; 1 signature is by no voter"),
        (&[A, A, A], "1 of 3 voters signed, 2 must; 2 signatures are by a voter once more"),
        (&[], "0 of 3 voters signed, 2 must"),
    ] {
        assert_eq!(why(&votes, &votes.proof(by)), text);
    }
    let mut forged = votes.proof(&[A, B]);
    forged.checkpoint.as_mut().unwrap().signatures[1].sig.0[3] ^= 1;
    assert_eq!(why(&votes, &forged), "1 of 3 voters signed, 2 must; 1 signature is not valid");
}

#[test]
fn an_invented_set_is_refused() {
    let votes = Votes::three();
    // D makes a set of its own and signs the link itself.
    let mut forged = votes.proof(&[D, X]);
    let body = votes.at.link_to(&set(&[D, X])).to_body();
    forged.voters.push(signed_by(Purpose::Voters, &body, &[D, X]));
    let text = "link 2 of the voters: 0 of 3 voters signed, 2 must; 2 signatures are by no voter";
    assert_eq!(why(&votes, &forged), text);
    // It names a set that nothing leads to.
    let invented = Checkpoint { voters_seq: 2, ..votes.checkpoint() };
    assert_eq!(
        why(&votes, &votes.signed(&invented, &[A, B])),
        "the checkpoint names voters 2, the chain ends at 1"
    );
    // The links are cut off: the founder alone no longer speaks for the site.
    let mut cut = votes.proof(&[A]);
    cut.voters.clear();
    assert_eq!(why(&votes, &cut), "the checkpoint names voters 1, the chain ends at 0");
}

#[test]
fn other_sites_epochs_and_histories_are_refused() {
    let votes = Votes::three();
    let other = SiteId(Digest([9; 32]));
    let proof = votes.signed(&Checkpoint { site: other, ..votes.checkpoint() }, &[A, B]);
    assert!(matches!(votes.verify(&proof), Err(Unverified::Site { .. })));
    assert!(matches!(qb_model::attest::verify(other, &votes.proof(&[A, B])), Err(Unverified::Site { .. })));
    let proof = votes.signed(&Checkpoint { epoch: 1, ..votes.checkpoint() }, &[A, B]);
    assert_eq!(why(&votes, &proof), "the checkpoint is of epoch 1, its voters are of epoch 0");
    // The trust log is cut before the head that voters signed.
    let mut cut = votes.proof(&[A, B]);
    cut.trust.clear();
    cut.roster[0].index = 2;
    assert!(votes.verify(&cut).is_err());
    let proof = votes.signed(&Checkpoint { trust_head: Digest([7; 32]), ..votes.checkpoint() }, &[A, B]);
    assert_eq!(votes.verify(&proof), Err(Unverified::TrustBehind));
    let none = Proof { checkpoint: None, ..votes.proof(&[A, B]) };
    assert_eq!(votes.verify(&none), Err(Unverified::None));
}

#[test]
fn the_document_says_the_same() {
    let votes = Votes::three();
    let proof = votes.proof(&[A, B]);
    let document = Attestation::from(&proof);
    let text = serde_json::to_string(&document).unwrap();
    let read: Attestation = serde_json::from_str(&text).unwrap();
    assert_eq!(read.decode().unwrap(), proof);
    for (from, to) in [("\"v\":1,\"charter\"", "\"v\":2,\"charter\""), ("\"sig\":\"", "\"sig\":\"-")] {
        let changed = text.replacen(from, to, 1);
        let changed: Attestation = serde_json::from_str(&changed).unwrap();
        assert!(matches!(changed.decode(), Err(Unverified::Form(_))), "{from}");
    }
    let mut many = document;
    let line = many.checkpoint.as_ref().unwrap().signatures[0].clone();
    many.checkpoint.as_mut().unwrap().signatures = vec![line; 15];
    assert!(matches!(many.decode(), Err(Unverified::Form(_))));
}
