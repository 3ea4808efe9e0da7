//! S50 to S52, S73: join tokens. One entry of the log checks, counts and lets in.

use proptest::prelude::*;
use qb_model::action::{Action, Label, RevokeReason};
use qb_model::audit::{ChainFault, verify_chain};
use qb_model::chain::AuditRecord;
use qb_model::command::Command;
use qb_model::dsse::Signer as _;
use qb_model::ids::{Digest, Millis, NodeId, Nonce, PublicKey};
use qb_model::outcome::Outcome;
use qb_model::state::{Applied, SiteState, SnapshotError};
use qb_model::statement::{Statement as _, TokenEntry, TokenUse};
use qb_model::token::{Entry, TokenError, sign_entry};
use qb_model::trust::replay_log;

use crate::support::site::{FIRST, Site, attach_explicit, attach_named, authorize, create, picture, revoke};
use crate::support::{
    HOUR, OLGA, OPAL, OPAL_BROWSER, VERA, add, charter, key, name, new_key, node, public, rejection,
};

/// The key of the token.
const TOKEN: u8 = 70;

fn mint(site: &Site, uses: u16) -> Action {
    Action::TokenMint {
        token: public(TOKEN),
        uses,
        expires_ms: site.now.plus(24 * HOUR),
        host: Some("web-*".parse().unwrap()),
        addresses: vec!["10.0.0.0/8".parse().unwrap()],
        labels: vec![Label { key: "rack".into(), value: "r7".into() }],
    }
}

/// A machine as a voter hears it.
#[derive(Clone)]
struct Heard {
    node: NodeId,
    voter: u8,
    host: &'static str,
    address: &'static str,
    token: u8,
}

fn heard(seed: u8) -> Heard {
    Heard { node: node(seed), voter: FIRST, host: "web-7", address: "10.0.0.7", token: TOKEN }
}

fn said(site: &Site, who: &Heard) -> TokenEntry {
    let (voter, v) = (node(who.voter), 1);
    let used = TokenUse { v, site: site.id(), node: who.node, voter, nonce: Nonce([3; 32]) };
    let token = site.state.tokens().get(&public(TOKEN));
    let live = token.map(|t| (t, site.state.intents()[&t.cites.digest].envelope.clone()));
    TokenEntry {
        v,
        site: site.id(),
        voter,
        token_use: used.sign(&key(who.token)),
        host: who.host.parse().unwrap(),
        address: who.address.into(),
        knock: Digest([5; 32]),
        mint_index: live.as_ref().map_or(7, |(t, _)| t.cites.index),
        minted_at: live.as_ref().map_or(site.now, |(t, _)| t.at),
        mint: live.map(|(_, envelope)| envelope).unwrap_or_else(|| b"{}".to_vec()),
    }
}

fn entry(site: &Site, who: &Heard) -> Vec<u8> {
    sign_entry(&said(site, who), &key(who.voter))
}

fn enter(site: &mut Site, who: &Heard) -> Outcome {
    let envelope = entry(site, who);
    match site.propose(Command::TokenUse(envelope)) {
        Applied::Token { outcome, .. } => outcome,
        other => panic!("{other:?}"),
    }
}

/// A site with a minted token of so many uses.
fn minted(uses: u16) -> Site {
    let mut site = Site::with_pool(2);
    let action = mint(&site, uses);
    site.must("opal", action, &[OPAL]);
    site
}

fn left(site: &Site) -> u16 {
    site.state.tokens()[&public(TOKEN)].left
}

fn refused(site: &mut Site, who: &Heard, code: &str) {
    let before = picture(&site.state);
    let (tokens, head) = (site.state.tokens().clone(), site.state.chain_head());
    let outcome = enter(site, who);
    assert_eq!(rejection(&outcome), Some(code), "{outcome:?}");
    assert!(picture(&site.state) == before, "refused with {code}, but the state changed");
    assert!(*site.state.tokens() == tokens && site.state.chain_head() == head, "{code}");
    let Outcome::Rejected(reason) = outcome else { panic!("{outcome:?}") };
    assert!(reason.remedy().is_some(), "{code} has no remedy");
}

#[test]
fn a_token_lets_in_on_probation_and_twice_is_once() {
    let mut site = minted(2);
    assert!(matches!(enter(&mut site, &heard(110)), Outcome::Accepted { .. }));
    let record = site.record(110).clone();
    assert!(record.probation && !site.state.eligible(&node(110)));
    assert_eq!((record.host.as_str(), record.labels[0].value.as_str()), ("web-7", "r7"));
    assert_eq!(left(&site), 1);
    for voter in [FIRST, FIRST] {
        let again = enter(&mut site, &Heard { voter, ..heard(110) });
        assert!(matches!(again, Outcome::Duplicate { index, .. } if index == record.authorized.index));
    }
    assert_eq!(left(&site), 1, "the same node uses nothing up");
    assert!(matches!(enter(&mut site, &heard(111)), Outcome::Accepted { .. }));
    refused(&mut site, &heard(112), "token_used_up");
}

#[test]
fn who_mints_and_who_ends() {
    let mut site = Site::with_pool(1);
    let action = mint(&site, 1);
    let end = Action::TokenRevoke { token: public(TOKEN) };
    // S73: neither is in the portal set.
    site.must_not("opal", action.clone(), &[OPAL_BROWSER], "key_class");
    site.must_not("vera", action.clone(), &[VERA], "role");
    site.must_not("opal", end.clone(), &[OPAL], "unknown_key");
    site.must("opal", action.clone(), &[OPAL]);
    site.must_not("opal", action, &[OPAL], "key_in_use");
    site.must_not("opal", end.clone(), &[OPAL_BROWSER], "key_class");
    // Classes of keys are disjoint.
    let role = qb_model::action::Role::Viewer;
    let taken = add("tom", role, vec![new_key(TOKEN, qb_model::action::KeyClass::Cli)]);
    site.must_not("olga", taken, &[OLGA], "key_in_use");
    let named = vec![qb_model::action::AuthorizedNode {
        node: NodeId(public(TOKEN).0),
        host: "web-1".parse().unwrap(),
        knock: Digest([1; 32]),
    }];
    site.must_not("opal", Action::NodeAuthorize { nodes: named }, &[OPAL], "key_in_use");
    site.must("opal", end, &[OPAL]);
    refused(&mut site, &heard(110), "token_unknown");
}

#[test]
fn a_mint_ends_within_a_week_and_there_are_so_many() {
    let mut site = Site::staffed();
    let with = |site: &Site, token: PublicKey, expires: Millis| match mint(site, 1) {
        Action::TokenMint { uses, host, addresses, labels, .. } => {
            Action::TokenMint { token, uses, expires_ms: expires, host, addresses, labels }
        }
        other => other,
    };
    for expires in [site.now, Millis(site.now.0 - 1), site.now.plus(8 * 24 * HOUR)] {
        let action = with(&site, public(TOKEN), expires);
        site.must_not("opal", action, &[OPAL], "token_expiry");
    }
    for n in 0..256u32 {
        let mut seed = [9; 32];
        seed[..4].copy_from_slice(&n.to_be_bytes());
        let token = qb_model::dsse::SecretKey::from_bytes(&seed).public_key();
        let action = with(&site, token, site.now.plus(HOUR));
        site.must("opal", action, &[OPAL]);
    }
    let action = mint(&site, 1);
    site.must_not("opal", action.clone(), &[OPAL], "cap");
    // The ended ones leave by time alone.
    site.wait(2 * HOUR);
    assert!(site.state.tokens().is_empty());
    let action = mint(&site, 1);
    site.must("opal", action, &[OPAL]);
}

#[test]
fn constraints_and_states_that_refuse() {
    let base = heard(110);
    for (who, code) in [
        (Heard { host: "db-1", ..base.clone() }, "token_host"),
        (Heard { address: "192.0.2.1", ..base.clone() }, "token_address"),
        (Heard { address: "fd00::1", ..base.clone() }, "token_address"),
        (Heard { token: 71, ..base.clone() }, "token_unknown"),
        // 103 is a member and no voter.
        (Heard { voter: 103, ..base.clone() }, "token_voter"),
        (Heard { voter: 120, ..base.clone() }, "token_voter"),
        (Heard { node: NodeId(public(OPAL).0), ..base.clone() }, "key_in_use"),
    ] {
        refused(&mut minted(1), &who, code);
    }
    let mut site = minted(3);
    enter(&mut site, &base);
    site.must("opal", revoke(110), &[OPAL]);
    refused(&mut site, &base, "tombstone");
    assert_eq!(left(&site), 2, "a revoked node gives no use back");
    site.must(
        "olga",
        Action::KeyRevoke { admin: name("opal"), key: public(OPAL), reason: RevokeReason::Compromised },
        &[OLGA],
    );
    refused(&mut site, &heard(111), "token_held");
}

#[test]
fn time_ends_a_token_at_its_millisecond() {
    let mut site = minted(3);
    let expires = site.state.tokens()[&public(TOKEN)].expires;
    let envelope = entry(&site, &heard(110));
    // The entry's own stamp is one second later than `now`.
    site.now = Millis(expires.0 - 1_000);
    assert!(matches!(
        site.propose(Command::TokenUse(envelope)),
        Applied::Token { outcome: Outcome::Accepted { .. }, .. }
    ));
    let late = entry(&site, &heard(111));
    let applied = site.propose(Command::TokenUse(late));
    let Applied::Token { outcome, .. } = applied else { panic!("{applied:?}") };
    assert_eq!(rejection(&outcome), Some("token_unknown"));
    assert!(site.state.tokens().is_empty());
    assert!(site.state.node(&node(110)).is_some(), "who came in stays");
}

/// S51: what one node showed to one voter is worth nothing elsewhere.
#[test]
fn captured_uses_are_worth_nothing() {
    let site = minted(3);
    let honest = said(&site, &heard(110));
    assert!(Entry::open(&sign_entry(&honest, &key(FIRST))).is_ok());
    let other_voter = TokenEntry { voter: node(102), ..honest.clone() };
    let other_site = TokenEntry { site: qb_model::SiteId(Digest([1; 32])), ..honest.clone() };
    let mut moved = honest.clone();
    moved.token_use.body[34] ^= 1;
    for (what, envelope) in [
        ("to another voter", sign_entry(&other_voter, &key(102))),
        ("at another site", sign_entry(&other_site, &key(FIRST))),
        ("by another node", sign_entry(&moved, &key(FIRST))),
        ("signed by another than it says", sign_entry(&honest, &key(102))),
        ("as an intent", site.state.intents().values().next().unwrap().envelope.clone()),
        ("nothing", Vec::new()),
    ] {
        assert!(Entry::open(&envelope).is_err(), "{what}");
        site.ignored(Command::TokenUse(envelope));
    }
}

/// S52: no vote and no control plane, however long; lifted by a key of another class.
#[test]
fn probation_lasts_until_a_lasting_key_lifts_it() {
    let mut site = minted(3);
    enter(&mut site, &heard(110));
    site.hello(110);
    site.must("opal", create("blue"), &[OPAL]);
    site.must_not("opal", attach_explicit("blue", &[110], &[]), &[OPAL], "probation");
    site.wait(HOUR);
    assert!(site.ignored(Command::Seat(node(110))).contains("may not vote"));
    site.must_not("opal", authorize(&[110]), &[OPAL_BROWSER], "already_member");
    assert!(site.record(110).probation);
    site.must("opal", attach_named("blue", &[102, 110]), &[OPAL]);
    site.settle();
    let role = site.record(110).phase.role();
    assert_eq!(role, Some(qb_model::action::NodeRole::Worker));
    site.must("opal", authorize(&[110]), &[OPAL]);
    assert!(!site.record(110).probation && site.state.eligible(&node(110)));
    let copy = SiteState::from_snapshot(&site.state.to_snapshot(), &site.state).unwrap();
    assert!(copy == site.state);
}

#[test]
fn an_entry_proves_itself_from_the_charter() {
    let mut site = minted(3);
    let envelope = entry(&site, &heard(110));
    enter(&mut site, &heard(110));
    let at = site.now;
    // Trust goes on; the mint is judged under the trust of its time.
    site.must("olga", crate::support::remove("opal"), &[OLGA]);
    let trust = replay_log(&charter(), site.state.trust().log()).unwrap();
    let proof = Entry::open(&envelope).unwrap();
    assert_eq!(proof.node(), node(110));
    assert!(proof.verify(&trust, at).is_ok());
    assert!(matches!(proof.verify(&trust, at.plus(48 * HOUR)), Err(TokenError::Expired { .. })));
    let mut forged = said(&site, &heard(110));
    // An intent of the site that mints nothing.
    forged.mint = site.state.intents().values().find(|i| i.cites.index == 1).unwrap().envelope.clone();
    forged.mint_index = 1;
    let forged = Entry::open(&sign_entry(&forged, &key(FIRST))).unwrap();
    assert!(matches!(forged.verify(&trust, at), Err(TokenError::Mint(_))));
    // Another token's key under this mint.
    let other = Entry::open(&entry(&site, &Heard { token: 71, ..heard(110) })).unwrap();
    assert!(matches!(other.verify(&trust, at), Err(TokenError::Mint(_))));
}

#[test]
fn snapshots_and_audits_demand_the_entry() {
    let mut site = minted(1);
    enter(&mut site, &heard(110));
    let copy = SiteState::from_snapshot(&site.state.to_snapshot(), &site.state).unwrap();
    assert!(copy == site.state && copy.digest() == site.state.digest());
    let records: Vec<AuditRecord> = site.state.audit().iter().map(|r| (**r).clone()).collect();
    let proof = verify_chain(site.id(), &charter(), &records).unwrap();
    assert_eq!(proof.entries, 1);

    // One use, two nodes: whoever wrote that log forged it.
    let mut records = records;
    let before = site.state.chain_head();
    let second = entry(&site, &heard(111));
    let head =
        qb_model::chain::Head { index: before.0, hash: before.1, log_time: site.state.newest_head_time() };
    let digest = Entry::open(&second).unwrap().digest();
    let kind = qb_model::chain::AuditKind::TokenEntry;
    records.push(AuditRecord::after(&head, site.now, kind, digest, None, second));
    let broken = verify_chain(site.id(), &charter(), &records).unwrap_err();
    assert!(matches!(broken.why, ChainFault::NoToken), "{broken}");

    // A snapshot whose node rests on an entry of another node, or is not on probation.
    let honest = site.state.clone();
    let forged = crate::state::snapshots::without_probation(&honest, node(110));
    assert!(matches!(SiteState::from_snapshot(&forged, &honest), Err(SnapshotError::Unfounded { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// S50: nodes race for the uses of a token at several voters; entries come in any order, twice, and
    /// after a change of leader again. As many come in as there are uses, each once.
    #[test]
    fn races_for_a_token(uses in 1u16..4, tries in proptest::collection::vec((110u8..118, 0usize..2), 2..7)) {
        let mut site = RACE.with(Clone::clone);
        let action = mint(&site.0, uses);
        site.0.must("opal", action, &[OPAL]);
        let voters = [FIRST, 102];
        let entries: Vec<_> = tries
            .iter()
            .map(|(n, v)| (*n, entry(&site.0, &Heard { voter: voters[*v], ..heard(*n) })))
            .collect();
        let mut inside = std::collections::BTreeSet::new();
        for (n, envelope) in entries {
            let applied = site.0.propose(Command::TokenUse(envelope));
            let Applied::Token { outcome, .. } = applied else { panic!("{applied:?}") };
            match outcome {
                Outcome::Accepted { .. } => prop_assert!(inside.insert(n) && inside.len() <= usize::from(uses)),
                Outcome::Duplicate { .. } => prop_assert!(inside.contains(&n)),
                Outcome::Rejected(_) => prop_assert!(!inside.contains(&n) && inside.len() == usize::from(uses)),
                other => panic!("{other:?}"),
            }
        }
        let distinct: std::collections::BTreeSet<_> = tries.iter().map(|(n, _)| *n).collect();
        prop_assert_eq!(inside.len(), distinct.len().min(usize::from(uses)));
        prop_assert_eq!(usize::from(left(&site.0)), usize::from(uses) - inside.len());
    }
}

/// A site with two voters, made once.
#[derive(Clone)]
struct Race(Site);

thread_local! {
    static RACE: Race = {
        let mut site = Site::with_pool(2);
        assert_eq!(site.propose(Command::Seat(node(102))), Applied::Done);
        Race(site)
    };
}
