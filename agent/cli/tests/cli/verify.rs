//! `qb site verify`: its texts from the golden vectors, and whole commands against a door whose view is
//! signed, forked, old, or no longer proved.

use std::path::PathBuf;

use qb_cli::client::memory::Memory;
use qb_cli::cmd::verify::{Shown, below, judged, overall, read, table};
use qb_cli::keyfile::KeyFile;
use qb_cli::out::paint::Paint;
use qb_cli::out::text::{Clock, now};
use qb_model::action::{Action, AuthorizedNode};
use qb_model::attest::{self, Attestation, KeySignature, Proof, SignedBody};
use qb_model::dsse::{Purpose, SecretKey, Signer};
use qb_model::intent::{Anchor, Expect, Intent};
use qb_model::key::Signature;
use qb_model::statement::{Checkpoint, Statement as _};
use qb_model::trust::required;
use qb_model::{Digest, Millis, SiteId};

use crate::door::Lab;

/// Two seconds after the newest signed time of the vectors.
const LOOKED: Millis = Millis(1_800_000_006_000);

fn clock() -> Clock {
    Clock { now: LOOKED, zone: jiff::tz::TimeZone::UTC }
}

fn vector(name: &str) -> Shown {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = path.join("../../consensus/model/tests/golden/attest.json");
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let all = file["vectors"].as_array().unwrap();
    let one = all.iter().find(|v| v["name"] == name).unwrap();
    let site: SiteId = one["site"].as_str().unwrap().parse().unwrap();
    read(site, &serde_json::from_value(one["document"].clone()).unwrap())
}

fn shown(doors: Vec<(&str, Shown)>, memory: &Memory) -> String {
    let doors = doors.into_iter().map(|(door, shown)| (door.to_owned(), shown)).collect();
    let rows = judged(doors, memory, LOOKED);
    table(&rows, &clock(), &Paint::PLAIN).render(&Paint::PLAIN, true, None)
        + &below(&rows, &clock(), &Paint::PLAIN)
}

#[test]
fn doors_that_agree_and_one_that_is_silent() {
    let doors = vec![
        ("unix:/a", vector("three_voters")),
        ("unix:/b", vector("all_sign_and_strangers_too")),
        ("unix:/c", Shown::Silent("unix:/c: no agent runs here".into())),
    ];
    let text = shown(doors, &Memory::default());
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("DOOR     INDEX  HEAD       SIGNED    VERDICT"), "{text}");
    assert!(lines[1].starts_with("unix:/a    812  ") && lines[1].ends_with("✓ verified, 2 s old"), "{text}");
    assert!(lines[3].starts_with("unix:/c") && lines[3].ends_with("○ unix:/c: no agent runs here"), "{text}");
    assert_eq!(lines[4], "✓ verified, 2 s old");
}

#[test]
fn a_forged_view_is_named_with_its_reason() {
    let doors = vec![("unix:/a", vector("three_voters")), ("unix:/b", vector("one_voter_and_a_stranger"))];
    let text = shown(doors, &Memory::default());
    let last = "✗ unverified: 1 of 3 voters signed, 2 must; 1 signature is by no voter";
    assert_eq!(text.lines().last(), Some(last), "one forged door is not outvoted: {text}");
}

#[test]
fn a_split_shows_both_heads() {
    let Shown::Proved(seen) = vector("three_voters") else { panic!() };
    let mut memory = Memory::default();
    memory.saw("unix:/a", &seen);
    memory.attested.as_mut().unwrap().chain_head = Digest([7; 32]);
    let text = shown(vec![("unix:/b", vector("three_voters"))], &memory);
    let expected = format!(
        "✗ SPLIT VIEW: index 812 has two heads\n  seen before  {}\n  unix:/b  {}\n  two histories of the site are signed: sign nothing, and call another owner\n",
        Digest([7; 32]),
        seen.chain_head
    );
    assert!(text.ends_with(&expected), "{text}");
}

#[test]
fn an_old_view_is_stale_and_none_is_unverified() {
    let late = Clock { now: Millis(LOOKED.0 + 600_000), ..clock() };
    let rows = judged(vec![("unix:/a".into(), vector("three_voters"))], &Memory::default(), late.now);
    assert_eq!(below(&rows, &late, &Paint::PLAIN), "○ stale since 08:00:04\n");
    let none = overall(&judged(vec![], &Memory::default(), late.now));
    assert!(!none.is_verified());
}

/// A site's founder, and the checkpoints of its one voter.
struct Voter {
    site: SiteId,
    charter: Vec<u8>,
    founding: Vec<u8>,
}

impl Voter {
    fn of(lab: &Lab) -> Self {
        let charter = lab.site.charter.clone();
        let site = charter.site_id();
        let file = KeyFile::load(&lab.folder.path().join("config/keys/lyon.key")).unwrap();
        let owner = file.open(|| panic!("it has no passphrase")).unwrap();
        let first = lab.site.lock().nodes[0].clone();
        let named = AuthorizedNode { node: first.id, host: first.name, knock: Digest([1; 32]) };
        let action = Action::SiteFound { nodes: vec![named] };
        let expect = required(&action).names_trust.then_some(Expect::Trust { hash: site.0 });
        let intent = Intent {
            v: 1,
            site,
            id: "01JD0000000000000000000001".parse().unwrap(),
            by: "mira".parse().unwrap(),
            issued_ms: Millis(now().0 - 60_000),
            expires_ms: now().plus(60_000),
            anchor: Anchor::founding(site),
            after: None,
            expect: expect.into_iter().collect(),
            action,
            note: None,
        };
        let founding = intent.sign(&[&owner]).unwrap().to_bytes();
        Self { site, charter: charter.envelope().to_vec(), founding }
    }

    fn attests(&self, change: impl FnOnce(&mut Checkpoint)) -> Attestation {
        let mut body = Checkpoint {
            v: 1,
            site: self.site,
            epoch: 0,
            index: 812,
            term: 1,
            log_time: now(),
            chain_head: Digest([3; 32]),
            trust_head: self.site.0,
            state_hash: Digest([4; 32]),
            voters_seq: 0,
        };
        change(&mut body);
        let (key, body) = (SecretKey::from_bytes(&[1; 32]), body.to_body());
        let sig = Signature(key.sign(Purpose::Checkpoint, &body));
        let signatures = vec![KeySignature { key: key.public_key(), sig }];
        Attestation::from(&Proof {
            charter: self.charter.clone(),
            trust: vec![],
            founding: Some(self.founding.clone()),
            roster: vec![],
            voters: vec![],
            checkpoint: Some(SignedBody { body, signatures }),
            why: None,
        })
    }
}

fn founded() -> (Lab, Voter) {
    let lab = Lab::new(2);
    assert_eq!(lab.qb(&["node", "authorize", "--waiting", "-y"]).code, 0);
    let voter = Voter::of(&lab);
    (lab, voter)
}

#[test]
fn a_proved_door_is_verified_and_remembered() {
    let (lab, voter) = founded();
    assert_eq!(lab.qb(&["site", "verify"]).code, 4, "no door hands out a proof");
    lab.site.lock().proof = Some(voter.attests(|_| {}));
    let ran = lab.qb(&["site", "verify"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.lines().last().unwrap().starts_with("✓ verified, "), "{ran:?}");
    let status = lab.qb(&["site", "status"]);
    assert!(status.out.contains("proof     ✓ verified, "), "{}", status.out);
    let json: serde_json::Value =
        serde_json::from_str(&lab.qb(&["site", "verify", "-o", "json"]).out).unwrap();
    assert_eq!((&json["verified"], &json["doors"][0]["index"]), (&true.into(), &812.into()));

    // Somebody between takes the proof away: said before anything is signed, and no reason to stop.
    lab.site.lock().proof = None;
    let ran = lab.qb(&["node", "label", "lyon-r1-01", "zone=a", "-y"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("hands out no proof any more"), "{}", ran.err);
}

#[test]
fn nothing_is_signed_over_a_forked_or_rolled_back_view() {
    let (lab, voter) = founded();
    lab.site.lock().proof = Some(voter.attests(|_| {}));
    assert_eq!(lab.qb(&["site", "verify"]).code, 0);
    let sent = lab.sent().len();
    for (proof, says) in [
        (voter.attests(|c| c.chain_head = Digest([9; 32])), "SPLIT VIEW: index 812 has two heads"),
        (
            voter.attests(|c| (c.index, c.log_time) = (700, c.log_time.plus(1_000))),
            "unverified: rolled back to index 700, index 812 was seen before",
        ),
    ] {
        lab.site.lock().proof = Some(proof);
        let ran = lab.qb(&["site", "verify"]);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.out.contains(says), "{ran:?}");
        let ran = lab.qb(&["node", "label", "lyon-r1-01", "zone=a", "-y"]);
        assert_eq!(ran.code, 3, "{ran:?}");
        assert!(ran.err.contains(says) && ran.err.contains("door.sock"), "the door is named: {}", ran.err);
        assert!(ran.err.contains("Nothing was signed"), "{}", ran.err);
        assert_eq!(lab.sent().len(), sent);
    }
}

#[test]
fn an_old_view_warns_and_lets_sign() {
    let (lab, voter) = founded();
    lab.site.lock().proof = Some(voter.attests(|c| c.log_time = Millis(c.log_time.0 - 200_000)));
    let ran = lab.qb(&["site", "verify"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("stale since "), "{ran:?}");
    let ran = lab.qb(&["node", "label", "lyon-r1-01", "zone=a", "-y"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("this view is stale since "), "{}", ran.err);
}

#[test]
fn the_memory_of_doors_is_bounded() {
    let Shown::Proved(seen) = vector("three_voters") else { panic!() };
    let mut memory = Memory::default();
    for door in 0..100 {
        memory.saw(&format!("unix:/{door}"), &seen);
    }
    assert_eq!(memory.shown.len(), 32);
    assert_eq!(memory.attested, Some(attest::Memory::from(&*seen)));
}
