//! S06: one reading of JSON.

use qb_model::charter::CharterBody;
use qb_model::envelope::{Envelope, EnvelopeError};
use qb_model::intent::Intent;
use qb_model::strict::{Rules, check};

use crate::support::{OPAL, World, charter_body, every_action, label, sign};

/// A text with one flaw, made from a good one. Shared with the golden vectors.
pub(crate) fn bad_payloads(good: &str) -> Vec<(&'static str, Vec<u8>)> {
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} is not in {good}");
        good.replacen(from, to, 1).into_bytes()
    };
    let issued = good.split("\"issued_ms\":").nth(1).unwrap().split(',').next().unwrap();
    let issued = format!("\"issued_ms\":{issued}");
    let bom = [b"\xef\xbb\xbf", good.as_bytes()].concat();
    let deep = "\"note\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":1}}}}}}}},\"v\":1";
    vec![
        ("duplicate_member", with("\"v\":1", "\"v\":1,\"v\":1")),
        ("duplicate_member_by_escape", with("\"v\":1", "\"v\":1,\"\\u0076\":1")),
        ("unknown_member", with("\"v\":1", "\"v\":1,\"w\":1")),
        ("missing_member", with("\"v\":1,", "")),
        ("exponent", with(&issued, "\"issued_ms\":1e3")),
        ("float", with(&issued, "\"issued_ms\":1000.0")),
        ("two_to_53", with(&issued, "\"issued_ms\":9007199254740992")),
        ("above_u64", with(&issued, "\"issued_ms\":18446744073709551616")),
        ("negative", with(&issued, "\"issued_ms\":-1")),
        ("minus_zero", with(&issued, "\"issued_ms\":-0")),
        ("leading_zero", with(&issued, "\"issued_ms\":01")),
        ("number_as_text", with(&issued, "\"issued_ms\":\"1000\"")),
        ("null_member", with("\"v\":1", "\"v\":null")),
        ("null_note", with("\"v\":1", "\"v\":1,\"note\":null")),
        ("null_after", with("\"v\":1", "\"v\":1,\"after\":null")),
        ("lone_surrogate", with("\"v\":1", "\"v\":1,\"note\":\"\\ud800\"")),
        ("control_character", with("\"v\":1", "\"v\":1,\"note\":\"a\\u0000b\"")),
        ("raw_control_character", with("\"v\":1", "\"v\":1,\"note\":\"a\tb\"")),
        ("delete_character", with("\"v\":1", "\"v\":1,\"note\":\"a\u{7f}b\"")),
        ("bidi_control", with("\"v\":1", "\"v\":1,\"note\":\"a\u{202e}b\"")),
        ("bom", bom),
        (
            "not_utf8",
            with("\"v\":1", "\"v\":1,\"note\":\"\u{1}\"")
                .iter()
                .map(|b| if *b == 1 { 0xff } else { *b })
                .collect(),
        ),
        ("trailing_bytes", [good.as_bytes(), b"{}"].concat()),
        ("trailing_newline", [good.as_bytes(), b"\n"].concat()),
        ("leading_space", [b" ", good.as_bytes()].concat()),
        ("depth_9", with("\"v\":1", deep)),
        ("list_for_object", with("\"expect\":[]", "\"expect\":{}")),
        ("struct_as_list", with("\"anchor\":{\"index\":", "\"anchor\":[").replace_last("}", "]")),
        ("comment", with("\"v\":1", "\"v\":1/**/")),
        ("trailing_comma", with("\"v\":1,", "\"v\":1,,")),
        ("long_note", with("\"v\":1", &format!("\"v\":1,\"note\":\"{}\"", "x".repeat(257)))),
        ("version_2", with("\"v\":1", "\"v\":2")),
    ]
}

trait ReplaceLast {
    fn replace_last(self, from: &str, to: &str) -> Vec<u8>;
}

impl ReplaceLast for Vec<u8> {
    /// Replaces the first closing brace after the anchor's list was opened.
    fn replace_last(self, from: &str, to: &str) -> Vec<u8> {
        let text = String::from_utf8(self).unwrap();
        let (head, tail) = text.split_once("\"anchor\":[").unwrap();
        let tail = tail.replacen("\"hash\":", "", 1).replacen(from, to, 1);
        format!("{head}\"anchor\":[{tail}").into_bytes()
    }
}

#[test]
fn s06_every_flaw_is_refused() {
    let mut world = World::staffed();
    let good = String::from_utf8(world.intent("opal", label()).to_payload()).unwrap();
    Intent::parse(good.as_bytes()).unwrap();
    for (name, bad) in bad_payloads(&good) {
        assert!(Intent::parse(&bad).is_err(), "{name}: {}", String::from_utf8_lossy(&bad));
    }
    // White space, order and escapes do not matter: bytes are verified as received.
    let loose = good.replacen("{\"v\":1,", "{ \"\\u0076\" :\n1 , ", 1);
    Intent::parse(loose.as_bytes()).unwrap();
}

#[test]
fn s06_envelopes_are_exact() {
    let mut world = World::staffed();
    let intent = world.intent("opal", label());
    let good = String::from_utf8(sign(&intent, &[OPAL]).to_bytes()).unwrap();
    Envelope::parse(good.as_bytes()).unwrap();
    let sig = good.split("\"sig\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let line = format!("{{\"keyid\":\"\",\"sig\":\"{sig}\"}}");
    let mut cases = vec![
        ("unknown member", good.replacen('{', "{\"extra\":1,", 1)),
        ("duplicate member", good.replacen('{', "{\"payloadType\":\"x\",", 1)),
        ("no padding", good.replacen(&sig, sig.trim_end_matches('='), 1)),
        ("null signature", good.replacen(&format!("\"{sig}\""), "null", 1)),
        ("type swapped", good.replacen("intent.v1+json", "intent.v2+json", 1)),
        ("no signatures", {
            let start = good.find("\"signatures\":").unwrap();
            format!("{}\"signatures\":[]}}", &good[..start])
        }),
        (
            "17 signatures",
            good.replacen(
                "\"signatures\":[",
                &format!("\"signatures\":[{}", format!("{line},").repeat(16)),
                1,
            ),
        ),
    ];
    // The last character before "==" carries 4 unused bits.
    let (body, last) = (&sig[..85], sig.as_bytes()[85]);
    let twisted = char::from(if last == b'A' { b'B' } else { last + 1 });
    cases.push(("trailing bits", good.replacen(&sig, &format!("{body}{twisted}=="), 1)));
    for (name, bad) in cases {
        assert!(Envelope::parse(bad.as_bytes()).is_err(), "{name}: {bad}");
    }
    let url_safe = good.replacen(&sig, &"-_".repeat(43), 1);
    assert_eq!(Envelope::parse(url_safe.as_bytes()), Err(EnvelopeError::Base64("sig")));
}

#[test]
fn s06_limits_come_first() {
    let rules = Rules { max_bytes: 64 * 1024, null: false };
    assert!(check(&vec![b'['; 70_000], rules).is_err());
    let deep = |n: usize| format!("{}1{}", "{\"a\":".repeat(n), "}".repeat(n));
    assert!(check(deep(8).as_bytes(), rules).is_ok());
    assert!(check(deep(9).as_bytes(), rules).is_err());
    let many = |n: usize| format!("{{\"a\":[{}1]}}", "1,".repeat(n - 2));
    assert!(check(many(4096).as_bytes(), rules).is_ok());
    assert!(check(many(4097).as_bytes(), rules).is_err());
    let number = |n: u64| format!("{{\"a\":{n}}}");
    assert!(check(number((1 << 53) - 1).as_bytes(), rules).is_ok());
    assert!(check(number(1 << 53).as_bytes(), rules).is_err());
}

#[test]
fn every_action_round_trips() {
    let mut world = World::staffed();
    for action in every_action() {
        let intent = world.intent("olga", action);
        let payload = intent.to_payload();
        assert_eq!(Intent::parse(&payload).as_ref(), Ok(&intent), "{}", String::from_utf8_lossy(&payload));
    }
}

#[test]
fn nullable_members_must_be_there() {
    let good = String::from_utf8(charter_body().to_payload()).unwrap();
    CharterBody::parse(good.as_bytes()).unwrap();
    for missing in [good.replacen(",\"expires_ms\":null", "", 1), good.replacen("\"recovery\":null,", "", 1)]
    {
        assert_ne!(missing, good);
        assert!(CharterBody::parse(missing.as_bytes()).is_err());
    }
}
