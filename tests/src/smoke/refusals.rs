//! Intents that must not change anything. What nobody who may sign has signed leaves no trace; what
//! is signed and wrong is rejected for good and recorded.

use anyhow::{Context as _, Result, ensure};
use qb_model::action::{Action, Label, RevokeReason};
use qb_model::intent::{Expect, Intent, ObjectRef};
use qb_model::limits::ENVELOPE_BYTES;
use qb_model::{Digest, Generation, Millis, SiteId};

use super::{SOON, Smoke};
use crate::http::Answer;
use crate::signing::{Signatory, altered, now};
use crate::wait::eventually;

/// The node whose labels are ordered.
const NODE: &str = "node-3";
/// A day.
const DAY_MS: u64 = 24 * 3_600_000;

/// How the site answers.
enum Answered {
    /// With a problem; nothing is recorded.
    Refused(u16, &'static str),
    /// With an outcome, which is recorded.
    Rejected(&'static str),
}

/// Sends bytes and expects an answer and an unchanged state.
fn expect(smoke: &mut Smoke, bytes: &[u8], answered: &Answered) -> Result<Answer> {
    let (head, desired) = (smoke.site.head()?, smoke.site.desired()?);
    let answer = smoke.site.send(bytes)?;
    let said = || String::from_utf8_lossy(&answer.body).into_owned();
    match answered {
        Answered::Refused(status, code) => {
            let fits = answer.status == *status && answer.text("type") == *code;
            ensure!(fits, "{} {}, expected was {status} {code}", answer.status, said());
            ensure!(smoke.site.head()? == head, "a refused intent is in the audit chain");
        }
        Answered::Rejected(reason) => {
            let fits = answer.status == 200 && answer.text("state") == "rejected";
            ensure!(fits, "{} {}, expected was rejected: {reason}", answer.status, said());
            ensure!(
                answer.text("reason") == *reason,
                "rejected for another reason than {reason}: {}",
                said()
            );
        }
    }
    ensure!(smoke.site.desired()? == desired, "the state is another than before: {}", said());
    Ok(answer)
}

/// Sends bytes and expects them to be accepted.
fn accepted(smoke: &mut Smoke, bytes: &[u8]) -> Result<Answer> {
    let answer = smoke.site.send(bytes)?;
    let fits = answer.status == 200 && ["done", "doing"].contains(&answer.text("state").as_str());
    ensure!(fits, "not accepted: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
    Ok(answer)
}

/// The order to give a node one label.
fn labelled(smoke: &mut Smoke, value: &str) -> Result<Action> {
    let labels = vec![Label { key: "smoke".to_owned(), value: value.to_owned() }];
    Ok(Action::NodeLabel { node: smoke.node_id(NODE)?, labels })
}

/// An intent of the owner, as it would be right.
fn right(smoke: &mut Smoke, action: Action) -> Result<Intent> {
    let head = smoke.site.head()?;
    smoke.owner()?.intent(smoke.id()?, &head, action)
}

fn create_cluster(smoke: &mut Smoke, name: &str) -> Result<Action> {
    let digest = |smoke: &mut Smoke| -> Result<Digest> {
        let bundles: serde_json::Value = smoke.site.get("/bundles")?;
        Ok(bundles[0]["digest"].as_str().context("the site holds no bundle")?.parse()?)
    };
    let (driver, version) = ("rehearsal".parse()?, "1.36.2".parse()?);
    Ok(Action::ClusterCreate {
        cluster: name.parse()?,
        driver,
        version,
        bundle: digest(smoke)?,
        settings: None,
    })
}

/// A right intent in the owner's name, signed by a key that nobody knows.
pub(super) fn wrong_key(smoke: &mut Smoke) -> Result<()> {
    let action = labelled(smoke, "forged")?;
    let intent = right(smoke, action)?;
    let forged = Signatory::fresh(smoke.owner()?.admin.as_str())?.sign(&intent)?;
    expect(smoke, &forged, &Answered::Refused(403, "unsigned")).map(drop)
}

/// One byte of what was signed is another.
pub(super) fn altered_byte(smoke: &mut Smoke) -> Result<()> {
    let action = labelled(smoke, "fine")?;
    let intent = right(smoke, action)?;
    let signed = smoke.owner()?.sign(&intent)?;
    let bad = altered(&signed, "fine", "fime")?;
    expect(smoke, &bad, &Answered::Refused(403, "unsigned")).map(drop)
}

/// For another site, by a key that both sites know.
pub(super) fn other_site(smoke: &mut Smoke) -> Result<()> {
    let action = labelled(smoke, "elsewhere")?;
    let mut intent = right(smoke, action)?;
    intent.site = SiteId(Digest([7; 32]));
    let signed = smoke.owner()?.sign(&intent)?;
    expect(smoke, &signed, &Answered::Rejected("wrong_site")).map(drop)
}

/// Its time is over.
pub(super) fn expired(smoke: &mut Smoke) -> Result<()> {
    let action = labelled(smoke, "late")?;
    let mut intent = right(smoke, action)?;
    intent.issued_ms = Millis(now().0 - DAY_MS);
    intent.expires_ms = intent.issued_ms.plus(60_000);
    let signed = smoke.owner()?.sign(&intent)?;
    expect(smoke, &signed, &Answered::Rejected("expired")).map(drop)
}

/// Sent once more, after a later one: the first outcome again, and nothing else.
pub(super) fn replayed(smoke: &mut Smoke) -> Result<()> {
    let mut sent = Vec::new();
    for value in ["one", "two"] {
        let action = labelled(smoke, value)?;
        let intent = right(smoke, action)?;
        let signed = smoke.owner()?.sign(&intent)?;
        accepted(smoke, &signed)?;
        sent.push(signed);
    }
    let (head, desired) = (smoke.site.head()?, smoke.site.desired()?);
    let again = accepted(smoke, &sent[0])?;
    ensure!(again.json()["duplicate"] == true, "it is not called a duplicate");
    ensure!(smoke.site.head()? == head && smoke.site.desired()? == desired, "a replay changed the site");
    let labels = smoke.node(NODE)?.labels;
    ensure!(labels == ["smoke=two"], "the labels are {labels:?}");
    Ok(())
}

/// Rejected once, then sent again when it would pass: rejected for good.
pub(super) fn replayed_after_rejection(smoke: &mut Smoke) -> Result<()> {
    let delete = Action::ClusterDelete { cluster: "later".parse()? };
    let intent = right(smoke, delete)?;
    let signed = smoke.owner()?.sign(&intent)?;
    expect(smoke, &signed, &Answered::Rejected("unknown_cluster"))?;
    let create = create_cluster(smoke, "later")?;
    let creation = right(smoke, create)?;
    let creation = smoke.owner()?.sign(&creation)?;
    accepted(smoke, &creation)?;
    let again = expect(smoke, &signed, &Answered::Rejected("unknown_cluster"))?;
    ensure!(again.json()["duplicate"] == true, "it is not called a duplicate");
    smoke.site.qb.ok(&["cluster", "delete", "later", "--confirm", "later"])?;
    eventually(SOON, "the cluster is gone", || {
        ensure!(smoke.site.clusters()?.is_empty(), "it is there");
        Ok(())
    })
}

/// Signed for a generation that is over.
pub(super) fn stale(smoke: &mut Smoke) -> Result<()> {
    let node = smoke.node(NODE)?;
    let action = labelled(smoke, "stale")?;
    let mut intent = right(smoke, action)?;
    let (object, generation) = (ObjectRef::Node(node.id.parse()?), Generation(node.generation - 1));
    intent.expect = vec![Expect::Generation { object, generation }];
    let signed = smoke.owner()?.sign(&intent)?;
    expect(smoke, &signed, &Answered::Rejected("stale_generation")).map(drop)
}

/// A viewer changes nothing.
pub(super) fn role(smoke: &mut Smoke) -> Result<()> {
    let viewer = Signatory::fresh("vera")?;
    let key = viewer.public_key().to_string();
    smoke.site.qb.ok(&["admin", "add", "vera", "--role", "viewer", &format!("--public-key={key}"), "-y"])?;
    let (head, action) = (smoke.site.head()?, create_cluster(smoke, "vera")?);
    let signed = viewer.sign(&viewer.intent(smoke.id()?, &head, action)?)?;
    expect(smoke, &signed, &Answered::Rejected("role")).map(drop)
}

/// A key in a browser deletes nothing, although its admin is an owner.
pub(super) fn key_class(smoke: &mut Smoke) -> Result<()> {
    let owner = smoke.owner()?.admin.to_string();
    let browser = Signatory::fresh(&owner)?;
    let key = browser.public_key().to_string();
    smoke.site.qb.ok(&["admin", "add-key", "--class=browser", "-y", "--", &owner, &key])?;
    smoke.site.qb.ok(&["cluster", "create", "kept", "-y"])?;
    let head = smoke.site.head()?;
    let delete = Action::ClusterDelete { cluster: "kept".parse()? };
    let signed = browser.sign(&browser.intent(smoke.id()?, &head, delete)?)?;
    expect(smoke, &signed, &Answered::Rejected("key_class"))?;
    smoke.site.qb.ok(&["cluster", "delete", "kept", "--confirm", "kept"])?;
    smoke.site.qb.ok(&["admin", "revoke-key", "-y", "--", &owner, &key]).map(drop)
}

/// The last owner stays.
pub(super) fn last_owner(smoke: &mut Smoke) -> Result<()> {
    let admin = smoke.owner()?.admin.clone();
    let remove = Action::AdminRemove { admin, reason: RevokeReason::Retired };
    let intent = right(smoke, remove)?;
    let signed = smoke.owner()?.sign(&intent)?;
    expect(smoke, &signed, &Answered::Rejected("last_owner")).map(drop)
}

/// Validly signed, but not exactly an intent; and no envelope at all.
pub(super) fn malformed(smoke: &mut Smoke) -> Result<()> {
    let action = labelled(smoke, "odd")?;
    let payload = String::from_utf8(right(smoke, action)?.to_payload())?;
    let unknown = payload.replacen("{\"v\":1,", "{\"v\":1,\"extra\":1,", 1);
    let twice = payload.replacen("{\"v\":1,", "{\"v\":1,\"v\":1,", 1);
    for odd in [unknown, twice, "{}".to_owned(), "[".repeat(2_000)] {
        let signed = smoke.owner()?.sign_payload(odd.into_bytes());
        expect(smoke, &signed, &Answered::Refused(403, "malformed"))?;
    }
    for bytes in [&b"{"[..], b"null", b"\xff\xfe", b""] {
        expect(smoke, bytes, &Answered::Refused(400, "envelope"))?;
    }
    Ok(())
}

/// More bytes than any envelope has.
pub(super) fn oversized(smoke: &mut Smoke) -> Result<()> {
    let body = vec![b' '; ENVELOPE_BYTES + 1];
    expect(smoke, &body, &Answered::Refused(413, "too_large"))?;
    let just = vec![b' '; ENVELOPE_BYTES];
    expect(smoke, &just, &Answered::Refused(400, "envelope")).map(drop)
}
