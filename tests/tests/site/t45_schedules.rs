//! A relay in the wrong hands plays schedules against one real agent: it drops, delays, doubles, replays,
//! cuts off, edits and forges. Only what an admin signed counts, each once (security rule S26).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use qb_model::Digest;
use qb_model::envelope::Envelope;
use qb_model::intent::Intent;
use qb_model::outcome::Outcome;
use qb_tests::hostile::Part;
use qb_tests::site::Site;
use qb_tests::wait::eventually;
use serde_json::Value;

use super::SOON;
use super::t45_hostile::Taken;

/// Schedules that the relay plays.
const SCHEDULES: usize = 300;

/// xorshift64*: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap_or_default() % bound.max(1)
    }
}

/// What the admin signed, and what the relay did with it.
struct Play<'a> {
    taken: &'a mut Taken,
    random: Random,
    signed: BTreeMap<Digest, String>,
    /// Envelopes in the relay's hands.
    held: Vec<Vec<u8>>,
    /// Those that arrived whole.
    arrived: BTreeSet<Digest>,
    /// Sent in part.
    open: Vec<(Part, Digest)>,
}

pub(super) fn digest(envelope: &[u8]) -> Result<Digest> {
    Ok(Envelope::parse(envelope)?.digest())
}

impl Play<'_> {
    fn sign(&mut self) -> Result<()> {
        let value = format!("v{}", self.signed.len());
        let head = self.taken.site.head()?;
        let action = self.taken.label(&value)?;
        let intent = self.taken.mira.intent(self.taken.id, &head, action)?;
        let envelope = self.taken.mira.sign(&intent)?;
        self.signed.insert(digest(&envelope)?, value);
        self.held.push(envelope);
        Ok(())
    }

    /// Sends an envelope on some streams at once; all of them say the same of it.
    fn send(&mut self, envelope: &[u8], times: usize, whole: bool) -> Result<()> {
        for status in self.taken.relay.send("lyon", envelope, times)? {
            let good = if whole { matches!(status, 200 | 202) } else { (400..500).contains(&status) };
            ensure!(good, "{status} for {}", String::from_utf8_lossy(envelope));
        }
        if whole {
            self.arrived.insert(digest(envelope)?);
        }
        Ok(())
    }

    /// One thing that the relay does.
    fn step(&mut self) -> Result<()> {
        let at = self.random.below(self.held.len());
        let Some(envelope) = self.held.get(at).cloned() else { return self.sign() };
        match self.random.below(11) {
            0 | 1 => self.sign(),
            // Delivered, or replayed.
            2 => self.send(&envelope, 1, true),
            3 => self.send(&envelope, 2, true),
            4 if self.held.len() > 4 => {
                self.held.swap_remove(at);
                Ok(())
            }
            4 => self.sign(),
            5 => {
                let sent = self.random.below(envelope.len());
                self.taken.relay.begin("lyon", &envelope, sent).map(drop)
            }
            6 if self.open.len() < 8 => {
                let sent = self.random.below(envelope.len());
                let part = self.taken.relay.begin("lyon", &envelope, sent)?;
                self.open.push((part, digest(&envelope)?));
                Ok(())
            }
            6 | 7 => self.edited(envelope),
            8 => self.own_key(&envelope),
            9 => self.unsigned(&envelope),
            _ => {
                let bytes: Vec<u8> = (0..64).map(|_| self.random.below(256).to_le_bytes()[0]).collect();
                self.taken.relay.noise(&bytes)
            }
        }
    }

    /// One bit is another. Some leave the signed bytes and the signature as they are: then it is the
    /// same intent.
    fn edited(&mut self, mut envelope: Vec<u8>) -> Result<()> {
        let at = self.random.below(envelope.len());
        envelope[at] ^= 1 << self.random.below(8);
        let same = digest(&envelope).is_ok_and(|digest| self.signed.contains_key(&digest));
        if !same {
            return self.send(&envelope, 1, false);
        }
        let statuses = self.taken.relay.send("lyon", &envelope, 1)?;
        if statuses.iter().any(|status| matches!(status, 200 | 202)) {
            self.arrived.insert(digest(&envelope)?);
        }
        Ok(())
    }

    /// Its own words, signed with its own key.
    fn own_key(&mut self, envelope: &[u8]) -> Result<()> {
        let mut intent = Intent::parse(Envelope::parse(envelope)?.payload())?;
        intent.action = self.taken.label("forged")?;
        let forged = intent.sign(&[&self.taken.relay.key()])?.to_bytes();
        self.send(&forged, 1, false)
    }

    /// 64 bytes of nothing for a signature. Of an intent that is known the outcome is told again.
    fn unsigned(&mut self, envelope: &[u8]) -> Result<()> {
        let known = self.arrived.contains(&digest(envelope)?);
        let mut bare: Value = serde_json::from_slice(envelope)?;
        bare["signatures"][0]["sig"] = format!("{}==", "A".repeat(86)).into();
        self.send(&serde_json::to_vec(&bare)?, 1, known)
    }

    fn catch_up(&mut self) -> Result<()> {
        while !self.open.is_empty() {
            let at = self.random.below(self.open.len());
            let (part, digest) = self.open.swap_remove(at);
            let status = self.taken.relay.finish(part)?;
            ensure!(matches!(status, 200 | 202), "{status}");
            self.arrived.insert(digest);
        }
        Ok(())
    }

    /// What the site's own audit says: the intents that arrived, each once, and nothing else.
    fn check(&mut self, before: u64) -> Result<()> {
        let records = eventually(SOON, "what arrived has an outcome", || {
            let records = audit(&mut self.taken.site, before)?;
            let there: BTreeSet<&str> = records.iter().filter_map(|r| r["digest"].as_str()).collect();
            let lacks = self.arrived.iter().find(|d| !there.contains(d.to_string().as_str()));
            ensure!(lacks.is_none(), "{lacks:?}");
            Ok(records)
        })?;
        let (mut seen, mut last) = (BTreeSet::new(), None);
        for record in records.iter().filter(|r| r["by"] == "mira") {
            let digest: Digest = record["digest"].as_str().context("a digest")?.parse()?;
            let value = self.signed.get(&digest).with_context(|| format!("nobody signed {record}"))?;
            ensure!(record["outcome"] == "accepted" && seen.insert(digest), "refused, or twice: {record}");
            last = Some(format!("rack={value}"));
        }
        ensure!(seen == self.arrived, "{} applied, {} arrived", seen.len(), self.arrived.len());
        ensure!(self.taken.labels()?.first() == last.as_ref(), "the last label stands: {last:?}");
        ensure!(self.taken.site.nodes()?.len() == 1, "nobody was let in");
        Ok(())
    }
}

/// The records of the audit after one.
fn audit(site: &mut Site, after: u64) -> Result<Vec<Value>> {
    let (mut all, mut from) = (Vec::new(), after + 1);
    loop {
        let page: Value = site.get(&format!("/audit?from={from}&limit=500"))?;
        let records = page["records"].as_array().context("no records")?.clone();
        let Some(last) = records.last() else { return Ok(all) };
        from = last["number"].as_u64().context("a number")? + 1;
        all.extend(records);
    }
}

#[test]
fn t45_whatever_a_relay_does_with_a_real_agent_only_signed_intents_count_and_each_once() {
    let mut taken = Taken::founded(46).expect("a site starts");
    let result = schedules(&mut taken);
    taken.told(result);
}

fn schedules(taken: &mut Taken) -> Result<()> {
    let before = audit(&mut taken.site, 0)?;
    let before = before.last().and_then(|r| r["number"].as_u64()).unwrap_or_default();
    let (signed, arrived) = (BTreeMap::new(), BTreeSet::new());
    let random = Random(0x9e37_79b9_7f4a_7c15);
    let mut play = Play { taken, random, signed, held: Vec::new(), arrived, open: Vec::new() };
    for number in 1..=SCHEDULES {
        for _ in 0..3 + play.random.below(6) {
            play.step().with_context(|| format!("schedule {number}"))?;
        }
        play.catch_up()?;
        if number % 50 == 0 {
            play.check(before).with_context(|| format!("after schedule {number}"))?;
        }
    }
    ensure!(play.arrived.len() > 50, "a relay that delivers next to nothing proves nothing");
    let arrived = play.arrived.clone();
    eventually(SOON, "a receipt of the site for each", || {
        let receipts = taken.relay.receipts();
        let mine = receipts.iter().filter(|r| r.site == taken.id && r.node == taken.node);
        let accepted = mine.filter(|r| matches!(r.outcome, Outcome::Accepted { .. }));
        let had: BTreeSet<Digest> = accepted.map(|r| r.intent).collect();
        ensure!(arrived.is_subset(&had), "{} of {}", had.len(), arrived.len());
        Ok(())
    })
}
