//! What a reader remembers against what a door shows.

use proptest::prelude::*;
use qb_model::attest::{Differ, Memory, Unverified, Verdict, compare, judge, judge_door};
use qb_model::ids::{Digest, Millis};
use qb_model::limits::STALE_MS;

use super::site::Votes;
use crate::support::NOW;

const SEEN: Millis = Millis(NOW + 4_000);

#[test]
fn ages_are_told_by_the_readers_clock() {
    let seen = Votes::three().attested(|_| {});
    for (after, verdict) in [
        (0, Verdict::Verified { age_ms: 0 }),
        (4_000, Verdict::Verified { age_ms: 4_000 }),
        (STALE_MS, Verdict::Verified { age_ms: STALE_MS }),
        (STALE_MS + 1, Verdict::StaleSince(SEEN)),
    ] {
        assert_eq!(judge(None, &seen, SEEN.plus(after)), verdict);
    }
    let early = Millis(SEEN.0 - STALE_MS);
    assert_eq!(judge(None, &seen, early), Verdict::Verified { age_ms: 0 });
    let early = Millis(early.0 - 1);
    let ahead = Verdict::Unverified(Unverified::Ahead(STALE_MS + 1));
    assert_eq!(judge(None, &seen, early), ahead);
}

#[test]
fn two_heads_at_one_index_are_a_split() {
    let votes = Votes::three();
    let ours = votes.attested(|_| {});
    let memory = Memory::from(&ours);
    let head = votes.attested(|c| c.chain_head = Digest([8; 32]));
    let state = votes.attested(|c| c.state_hash = Digest([8; 32]));
    let trust = votes.attested(|c| c.trust_head = votes.site().0);
    for (theirs, what, mine) in [
        (&head, Differ::Chain, ours.chain_head),
        (&state, Differ::State, ours.state_hash),
        (&trust, Differ::Trust, ours.trust_head),
    ] {
        let verdict = judge(Some(&memory), theirs, SEEN);
        assert!(
            matches!(verdict, Verdict::Split { index: 812, what: w, ours: o, .. } if w == what && o == mine),
            "{verdict:?}"
        );
        assert!(verdict.forbids_signing());
        assert!(compare(&ours, theirs).is_some() && compare(theirs, &ours).is_some());
        // A split is not learned from.
        let mut held = Some(memory);
        Memory::advance(&mut held, theirs);
        assert_eq!(held, Some(memory));
    }
    // A later state whose trust log has lost a head.
    let later = votes.attested(|c| (c.index, c.trust_head) = (900, votes.site().0));
    assert!(matches!(judge(Some(&memory), &later, SEEN), Verdict::Split { what: Differ::Trust, .. }));
    assert_eq!(compare(&ours, &votes.attested(|c| c.index = 900)), None);
}

#[test]
fn going_back_is_seen() {
    let votes = Votes::three();
    let memory = Memory::from(&votes.attested(|c| c.index = 812));
    let old = votes.attested(|c| (c.index, c.log_time) = (810, Millis(NOW)));
    // A door that lags by seconds is no roll-back, one that lags for longer is.
    assert_eq!(judge(Some(&memory), &old, SEEN), Verdict::Verified { age_ms: 4_000 });
    let late = Millis(NOW + STALE_MS + 1);
    let back = Verdict::RolledBack { ours: 812, theirs: 810 };
    assert_eq!(judge(Some(&memory), &old, late), back);
    // Voters who sign less at a later time went back.
    let again = votes.attested(|c| (c.index, c.log_time) = (810, SEEN.plus(1)));
    assert_eq!(judge(Some(&memory), &again, SEEN), back);
    // An older epoch never passes.
    let memory = Memory { epoch: 1, ..memory };
    assert!(matches!(judge(Some(&memory), &votes.attested(|_| {}), SEEN), Verdict::RolledBack { .. }));
}

#[test]
fn a_dark_door_is_stale_unless_it_showed_more() {
    let votes = Votes::three();
    let site = Memory::from(&votes.attested(|_| {}));
    let old = votes.attested(|c| (c.index, c.log_time) = (810, Millis(NOW)));
    let shown = Memory::from(&old);
    let late = Millis(NOW + STALE_MS + 1);
    assert_eq!(judge_door(Some(&site), Some(&shown), &old, late), Verdict::StaleSince(Millis(NOW)));
    assert_eq!(judge_door(Some(&site), None, &old, late), Verdict::StaleSince(Millis(NOW)));
    let back = Verdict::RolledBack { ours: 812, theirs: 810 };
    assert_eq!(judge_door(Some(&site), Some(&site), &old, late), back);
    let again = votes.attested(|c| (c.index, c.log_time) = (810, SEEN.plus(1)));
    assert_eq!(judge_door(Some(&site), Some(&shown), &again, SEEN), back);
    let other = votes.attested(|c| c.chain_head = Digest([8; 32]));
    assert!(matches!(judge_door(Some(&site), Some(&shown), &other, SEEN), Verdict::Split { .. }));
}

proptest! {
    /// In whatever order views come, the memory ends at the highest and never goes back.
    #[test]
    fn memory_never_goes_back(views in proptest::collection::vec((800u64..820, 0u64..10_000), 1..20)) {
        let votes = Votes::three();
        let mut held = None;
        let mut place = (0, Millis(0));
        for (index, ms) in &views {
            let seen = votes.attested(|c| (c.index, c.log_time) = (*index, Millis(NOW + ms)));
            Memory::advance(&mut held, &seen);
            let now = held.map(|m: Memory| (m.index, m.log_time)).unwrap();
            prop_assert!(now >= place);
            place = now;
        }
        let most = views.iter().map(|(i, ms)| (*i, Millis(NOW + ms))).max().unwrap();
        prop_assert_eq!(place, most);
    }
}
