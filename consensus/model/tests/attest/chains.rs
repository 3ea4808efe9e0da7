//! Chains of voters: forged, cut, reordered, grown by strangers.

use proptest::prelude::*;
use qb_model::attest::{Link, Unverified, VoterSet, chain};
use qb_model::dsse::Purpose;
use qb_model::ids::Digest;
use qb_model::statement::{Statement as _, Voters};

use super::site::{A, B, C, D, Votes, X, set, signed_by};
use crate::support::node;

/// A grown chain: {A}, {A B C}, {B C D}, {C D A}.
fn long() -> Votes {
    let mut votes = Votes::three();
    votes.grow(&[B, C, D], &[B, C]);
    votes.grow(&[A, C, D], &[C, D]);
    votes
}

fn walk(votes: &Votes, links: &[Link]) -> Result<VoterSet, Unverified> {
    chain(&votes.world.trust, &votes.founding, &votes.roster, links)
}

#[test]
fn a_chain_leads_to_the_present_set() {
    let votes = long();
    let at = walk(&votes, &votes.links).unwrap();
    assert_eq!((at.seq, at.nodes), (3, set(&[A, C, D]).into_iter().collect()));
    assert_eq!(walk(&votes, &[]).unwrap().nodes, [node(A)]);
}

#[test]
fn one_of_three_leads_nowhere() {
    let votes = Votes::three();
    let body = votes.at.link_to(&set(&[B, C, D])).to_body();
    for (by, text) in [
        (&[B][..], "link 2 of the voters: 1 of 3 voters signed, 2 must"),
        (&[B, B], "link 2 of the voters: 1 of 3 voters signed, 2 must; 1 signature is by a voter once more"),
        (&[B, D, X], "link 2 of the voters: 1 of 3 voters signed, 2 must; 2 signatures are by no voter"),
        (&[], "link 2 of the voters: 0 of 3 voters signed, 2 must"),
    ] {
        let link = signed_by(Purpose::Voters, &body, by);
        assert_eq!(votes.at.advance(&link).unwrap_err().to_string(), text);
    }
    // A signature for another purpose is none.
    let other = signed_by(Purpose::Checkpoint, &body, &[A, B]);
    let text = votes.at.advance(&other).unwrap_err().to_string();
    assert_eq!(text, "link 2 of the voters: 0 of 3 voters signed, 2 must; 2 signatures are not valid");
}

#[test]
fn a_link_must_follow() {
    let votes = Votes::three();
    let good = votes.at.link_to(&set(&[A, B, D]));
    let cases: [(&str, Voters); 4] = [
        ("it is of another site", Voters { site: qb_model::SiteId(Digest([9; 32])), ..good.clone() }),
        ("it is of another epoch", Voters { epoch: 1, ..good.clone() }),
        ("its number is not the next one", Voters { seq: 3, ..good.clone() }),
        ("it names another set before", Voters { previous: Digest([9; 32]), ..good.clone() }),
    ];
    for (why, body) in cases {
        let link = signed_by(Purpose::Voters, &body.to_body(), &[A, B, C]);
        assert_eq!(votes.at.advance(&link), Err(Unverified::Link { seq: body.seq, why }), "{why}");
    }
    let mut longer = good.to_body();
    longer.push(0);
    let link = signed_by(Purpose::Voters, &longer, &[A, B, C]);
    assert!(matches!(votes.at.advance(&link), Err(Unverified::Form(_))));
}

#[test]
fn voters_must_be_authorized() {
    let mut votes = Votes::three();
    votes.grow(&[A, B, X], &[A, B, C]);
    assert_eq!(walk(&votes, &votes.links), Err(Unverified::Stranger(node(X))));
    let mut votes = Votes::three();
    votes.roster.clear();
    assert!(matches!(walk(&votes, &votes.links), Err(Unverified::Stranger(_))));
    // An authorization that no admin signed.
    let mut votes = Votes::three();
    let envelope = String::from_utf8(votes.roster[0].envelope.clone()).unwrap();
    let at = envelope.find("\"sig\":\"").unwrap() + 10;
    let other = if &envelope[at..=at] == "A" { "B" } else { "A" };
    votes.roster[0].envelope = format!("{}{other}{}", &envelope[..at], &envelope[at + 1..]).into_bytes();
    assert!(matches!(walk(&votes, &votes.links), Err(Unverified::Trust(_))));
}

#[test]
fn a_founding_must_be_one() {
    let votes = Votes::three();
    let roster = votes.roster[0].envelope.clone();
    let wrong = chain(&votes.world.trust, &roster, &votes.roster, &votes.links);
    assert!(matches!(wrong, Err(Unverified::Founding(_))), "{wrong:?}");
    let none = chain(&votes.world.trust, b"{}", &votes.roster, &votes.links);
    assert!(matches!(none, Err(Unverified::Founding(_))), "{none:?}");
}

proptest! {
    /// No reordering, omission or repetition of links verifies, but the beginning of the chain does.
    #[test]
    fn only_beginnings_of_the_chain_verify(order in proptest::collection::vec(0usize..3, 0..5)) {
        let votes = long();
        let links: Vec<Link> = order.iter().map(|i| votes.links[*i].clone()).collect();
        let straight = order.iter().enumerate().all(|(at, i)| at == *i);
        prop_assert_eq!(walk(&votes, &links).is_ok(), straight, "{:?}", order);
    }

    /// Whatever bit of a body or a needed signature is changed, the link is refused.
    #[test]
    fn no_bit_of_a_link_can_be_changed(at in 0usize..4096, bit in 0u8..8) {
        let votes = Votes::three();
        let mut links = votes.links.clone();
        let (body, sig) = (links[0].body.len(), 64);
        match at % (body + sig) {
            n if n < body => links[0].body[n] ^= 1 << bit,
            n => links[0].signatures[0].sig.0[n - body] ^= 1 << bit,
        }
        prop_assert!(walk(&votes, &links).is_err());
    }
}
