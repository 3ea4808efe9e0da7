//! A site of one real agent, and a relay in the wrong hands whose key it trusts (security rules S27,
//! S28, S33, S35): whatever the relay does with bytes, views and keys, the site changes by what its
//! admins signed, each once, and `qb` says whose word is whose.

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qb_model::action::{Action, AuthorizedNode, Label};
use qb_model::attest::{Attestation, KeySignature, Proof, SignedBody, Verdict, judge, verify};
use qb_model::charter::Charter;
use qb_model::dsse::Signer as _;
use qb_model::outcome::Outcome;
use qb_model::statement::{Checkpoint, Receipt, Statement as _};
use qb_model::{Digest, Generation, Millis, NodeId, SiteId};
use qb_tests::binaries::Binaries;
use qb_tests::command::Ran;
use qb_tests::hostile::{Ask, Hostile, says};
use qb_tests::http::Answer;
use qb_tests::signing::{Signatory, now};
use qb_tests::site::{Layout, Site};
use qb_tests::views::Head;
use qb_tests::wait::eventually;
use serde_json::{Value, json};

use super::SOON;
use super::t45_schedules::digest;

/// A view is stale when its signed time is older than this.
const STALE_MS: u64 = 90_000;

/// A site of one agent whose relay is in the wrong hands.
pub(super) struct Taken {
    pub(super) site: Site,
    pub(super) relay: Hostile,
    pub(super) id: SiteId,
    pub(super) node: NodeId,
    pub(super) mira: Signatory,
    _dir: tempfile::TempDir,
}

impl Taken {
    /// With addresses 127.0.`net`.*, and the relay's port by the same number.
    pub(super) fn founded(net: u8) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("qb").tempdir()?;
        let layout = Layout { dir: dir.path().join("s"), name: "lyon".into(), net: [127, 0, net] };
        let mut site = Site::open(&layout, &Binaries::find()?)?;
        site.agents.truncate(1);
        site.ports_free()?;
        site.create()?;
        let relay = Hostile::open(18_400 + u16::from(net))?;
        let envelope = site.trust_relay(&relay.url(), relay.public_key(), true)?;
        let id = Charter::verify(&envelope)?.site_id();
        let mira = site.founder()?;
        site.start()?;
        super::waiting(&mut site, 1)?;
        site.qb.ok(&["node", "authorize", "--waiting", "-y"])?;
        let node = site.nodes()?.first().context("the founder")?.id.parse()?;
        let mut taken = Self { site, relay, id, node, mira, _dir: dir };
        eventually(SOON, "a member's link, and a proved view", || {
            let view: Value = taken.site.get("")?;
            ensure!(taken.relay.is_linked(), "no link: {view}");
            let waits = view["waiting_on"].as_array().context("a list")?;
            ensure!(waits.iter().all(|w| w["code"] != "relay.link"), "{view}");
            let proved = taken.site.qb.run(&["site", "verify"])?;
            ensure!(proved.code == 0, "{}", proved.stdout);
            Ok(())
        })?;
        Ok(taken)
    }

    pub(super) fn told(&self, result: Result<()>) {
        if let Err(e) = result {
            panic!("{e:#}\n{}", self.site.tails(15));
        }
    }

    /// `qb` through the relay alone.
    fn qb(&self, args: &[&str]) -> Result<Ran> {
        let door = self.relay.door();
        self.site.qb.run(&[&["--door", door.as_str()], args].concat())
    }

    pub(super) fn label(&self, value: &str) -> Result<Action> {
        let labels = vec![Label { key: "rack".parse()?, value: value.parse()? }];
        Ok(Action::NodeLabel { node: self.node, labels })
    }

    /// The node's labels by its own door.
    pub(super) fn labels(&mut self) -> Result<Vec<String>> {
        Ok(self.site.nodes()?.into_iter().next().context("the node")?.labels)
    }

    fn attestation(&mut self) -> Result<Attestation> {
        self.site.get("/attestation")
    }
}

/// What a relay that swallows intents says of them.
fn done(ask: &Ask, digest: &Digest, receipt: Option<String>) -> Option<Answer> {
    if !ask.path.contains("/intents") {
        return None;
    }
    let view = json!({
        "v": 1, "digest": digest, "id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "by": "mira", "action": "node.label",
        "sentence": "label node-1", "state": "done", "index": 9, "generation": 2, "reason": null,
        "detail": null, "remedy": null, "duplicate": false, "at": 1, "waiting_on": null,
        "says": "site", "receipt": receipt,
    });
    says(200, &view)
}

#[test]
fn t46_done_without_a_receipt_of_the_site_is_the_relays_word() {
    let mut taken = Taken::founded(47).expect("a site starts");
    let result = no_receipt(&mut taken);
    taken.told(result);
}

fn no_receipt(taken: &mut Taken) -> Result<()> {
    let site = taken.id;
    for forges in [false, true] {
        let seen = std::sync::Mutex::new(None);
        let key = taken.relay.key();
        taken.relay.lie(move |ask| {
            let mut seen = seen.lock().ok()?;
            if ask.method == "POST" && ask.path.contains("/intents") {
                *seen = digest(&ask.body).ok();
            }
            let intent = (*seen)?;
            // Of no node of the site: of its own.
            let node = NodeId(key.public_key().0);
            let outcome = Outcome::Accepted { generation: Generation(2) };
            let receipt = Receipt { v: 1, site, node, intent, outcome, index: 9, head: Digest([3; 32]) };
            let receipt = forges.then(|| STANDARD.encode(receipt.sign(&key).to_bytes()));
            done(ask, &intent, receipt)
        });
        let ran = taken.qb(&["node", "label", "node-1", "rack=lost", "-y", "--wait=2s"])?;
        ensure!(ran.code != 0, "forges {forges}: {} {}", ran.stdout, ran.stderr);
        ensure!(ran.stderr.contains("the relay says done, but"), "forges {forges}: {}", ran.stderr);
        let why = if forges {
            "no node of the site by what is proven here"
        } else {
            "no node of the site has signed"
        };
        ensure!(ran.stderr.contains(why), "forges {forges}: {}", ran.stderr);
        ensure!(!ran.stderr.contains("accepted by"), "forges {forges}: {}", ran.stderr);
    }
    ensure!(taken.labels()?.is_empty(), "nothing arrived");
    // The same relay when it passes on what the site says: done.
    taken.relay.lie(|_| None);
    taken.qb(&["node", "label", "node-1", "rack=true", "-y"])?.ended(0)?;
    ensure!(taken.labels()? == ["rack=true"], "it is in force");
    Ok(())
}

/// Another history of the same charter, at some place of the log: an owner founded it a second time, and
/// its only voter is a key of the relay's.
fn forked(taken: &Taken, truth: &Attestation, index: u64, at: Millis) -> Result<Attestation> {
    let voter = taken.relay.key();
    let node = NodeId(voter.public_key().0);
    let proof = truth.decode().map_err(|e| anyhow::anyhow!("{e}"))?;
    let held = verify(taken.id, &proof).map_err(|e| anyhow::anyhow!("{e}"))?;
    let nodes = vec![AuthorizedNode { node, host: "node-1".parse()?, knock: Digest([9; 32]) }];
    let start = Head { index: 0, hash: taken.id.0.to_string(), trust: held.trust_head.to_string() };
    let founding = taken.mira.intent(taken.id, &start, Action::SiteFound { nodes })?;
    let checkpoint = Checkpoint {
        v: 1,
        site: taken.id,
        epoch: held.epoch,
        index,
        term: held.term,
        log_time: at,
        chain_head: Digest([0xfa; 32]),
        trust_head: held.trust_head,
        state_hash: Digest([0xfb; 32]),
        voters_seq: 0,
    };
    let signed = checkpoint.sign(&voter);
    let signatures = vec![KeySignature { key: signed.key, sig: signed.sig }];
    let fork = Proof {
        founding: Some(taken.mira.sign(&founding)?),
        roster: Vec::new(),
        voters: Vec::new(),
        checkpoint: Some(SignedBody { body: signed.body, signatures }),
        ..proof
    };
    verify(taken.id, &fork).map_err(|e| anyhow::anyhow!("the fork is one that could be believed: {e}"))?;
    Ok(Attestation::from(&fork))
}

/// Shows a document in place of the site's own.
fn shows(relay: &Hostile, leaf: &'static str, document: Value) {
    relay.lie(move |ask| if ask.path.ends_with(leaf) { says(200, &document) } else { None });
}

#[test]
fn t47_a_second_history_is_a_split_view_and_nothing_is_signed_over_it() {
    let mut taken = Taken::founded(48).expect("a site starts");
    let result = two_heads(&mut taken);
    taken.told(result);
}

fn two_heads(taken: &mut Taken) -> Result<()> {
    let shown: Value = taken.site.qb.json(&["site", "verify"])?;
    let index = shown["doors"][0]["index"].as_u64().context("an index")?;
    let truth = taken.attestation()?;
    for (at, words) in [(index, "SPLIT VIEW: index"), (index - 1, "rolled back to index")] {
        let fork = forked(taken, &truth, at, now())?;
        shows(&taken.relay, "/attestation", json!(fork));
        let ran = taken.qb(&["site", "verify"])?.ended(1)?;
        ensure!(ran.stdout.contains(words), "{}", ran.stdout);
        let both: Value = {
            let (unix, relay) = (format!("unix:{}", taken.site.door()?.display()), taken.relay.door());
            let config = std::fs::read_to_string(&taken.site.qb.config)?;
            let two = config.replace(&format!("\"{unix}\""), &format!("\"{unix}\", \"{relay}\""));
            std::fs::write(&taken.site.qb.config, two)?;
            let ran = taken.site.qb.run(&["site", "verify", "-o", "json"])?.ended(1)?;
            std::fs::write(&taken.site.qb.config, config)?;
            ran.json()?
        };
        let doors = both["doors"].as_array().context("doors")?;
        ensure!(doors.len() == 2 && doors[0]["verified"] == true, "the site's own door stands: {both}");
        ensure!(doors[1]["verdict"].as_str().is_some_and(|v| v.contains(words)), "{both}");
        let ran = taken.qb(&["node", "label", "node-1", "rack=fork", "-y"])?.ended(3)?;
        ensure!(ran.stderr.contains(words) && ran.stderr.contains("Nothing was signed"), "{}", ran.stderr);
    }
    taken.relay.lie(|_| None);
    // What somebody signed over that head all the same: the true site knows no such place.
    let head = taken.site.head()?;
    let over = Head { hash: Digest([0xfa; 32]).to_string(), ..head };
    let envelope = taken.mira.sign(&taken.mira.intent(taken.id, &over, taken.label("fork")?)?)?;
    let answer = taken.site.send(&envelope)?;
    ensure!(
        answer.text("state") == "rejected" && answer.text("reason") == "anchor_unknown",
        "{}",
        answer.json()
    );
    ensure!(taken.labels()?.is_empty(), "nothing changed");
    // The door that tells the truth again is as good as before: nothing of the fork was learned.
    taken.qb(&["site", "verify"])?.ended(0)?;
    Ok(())
}

#[test]
fn t48_a_frozen_view_grows_old_by_its_signed_time() {
    let mut taken = Taken::founded(49).expect("a site starts");
    let result = frozen(&mut taken);
    taken.told(result);
}

fn frozen(taken: &mut Taken) -> Result<()> {
    let before = taken.attestation()?;
    shows(&taken.relay, "/attestation", json!(before));
    taken.site.qb.ok(&["node", "label", "node-1", "rack=new", "-y"])?;
    let seen = |shown: &Value| -> Result<(u64, u64)> {
        let door = &shown["doors"][0];
        Ok((door["index"].as_u64().context("an index")?, door["log_time"].as_u64().context("a time")?))
    };
    let old = seen(&taken.qb(&["site", "verify", "-o", "json"])?.json()?)?;
    eventually(SOON, "the site's own door signs on", || {
        let new = seen(&taken.site.qb.run(&["site", "verify", "-o", "json"])?.json()?)?;
        ensure!(new.0 > old.0 && new.1 > old.1, "{new:?} after {old:?}");
        Ok(())
    })?;
    // The relay answers, and its view stands still: its signed time is the one it had.
    let again = seen(&taken.qb(&["site", "verify", "-o", "json"])?.json()?)?;
    ensure!(again == old, "{again:?} {old:?}");
    // Of these very bytes the reader's clock says when it is too old.
    let proof = before.decode().map_err(|e| anyhow::anyhow!("{e}"))?;
    let shown = verify(taken.id, &proof).map_err(|e| anyhow::anyhow!("{e}"))?;
    let at = |ms: u64| judge(None, &shown, shown.log_time.plus(ms));
    ensure!(at(STALE_MS) == Verdict::Verified { age_ms: STALE_MS }, "{:?}", at(STALE_MS));
    ensure!(at(STALE_MS + 1) == Verdict::StaleSince(shown.log_time), "{:?}", at(STALE_MS + 1));
    Ok(())
}

#[test]
fn t49_a_relay_with_another_key_gets_no_link_and_no_login() {
    let mut taken = Taken::founded(51).expect("a site starts");
    let result = other_key(&mut taken);
    taken.told(result);
}

fn other_key(taken: &mut Taken) -> Result<()> {
    let trusted = taken.relay.public_key();
    taken.relay.swap_key()?;
    let new = taken.relay.public_key();
    eventually(SOON, "the site says why it has no link", || {
        let view: Value = taken.site.get("")?;
        let waits = view["waiting_on"].as_array().context("a list")?;
        let Some(why) = waits.iter().find(|w| w["code"] == "relay.link") else { bail!("{view}") };
        let text = why["text"].as_str().unwrap_or_default();
        let named = text.contains(&trusted.to_string()) && text.contains(&new.to_string());
        ensure!(named && text.contains("the site trusts"), "{why}");
        Ok(())
    })?;
    ensure!(!taken.relay.is_linked(), "a link to a relay that nobody trusts");
    let ran = taken.qb(&["node", "list"])?.ended(3)?;
    ensure!(ran.stderr.contains("another key than the one that is known of it"), "{}", ran.stderr);
    Ok(())
}
