//! Views of a site in memory.

use qb_model::action::NodeRole;
use qb_model::chain::AuditKind;
use qb_model::envelope::Envelope;
use qb_model::facts::Facts;
use qb_model::intent::Intent;
use qb_model::outcome::Outcome;
use qb_model::{Digest, Generation, Millis};
use qb_portal::view::*;

use crate::site::FakeSite;

pub(crate) fn facts(number: u8) -> Facts {
    Facts {
        host: FakeSite::host(number),
        addresses: vec![format!("127.0.1.{number}")],
        cores: 4,
        memory_bytes: 1,
        disk_bytes: 2,
        disk_free_bytes: 1,
        os: "Debian".into(),
        kernel: "6.1".into(),
        arch: "x86_64".into(),
        agent: "0.1.0".into(),
        zone: String::new(),
    }
}

pub(crate) fn head(site: &FakeSite) -> Head {
    let state = site.lock();
    let (index, hash) = state.chain_head();
    Head { index, hash, trust: state.trust().head(), log_time: state.log_time() }
}

pub(crate) fn site(site: &FakeSite, number: u8) -> SiteView {
    SiteView {
        v: 1,
        id: site.id(),
        words: "these words are a lie".into(),
        name: site.name.clone(),
        founded: true,
        trust: "settled".into(),
        door: DoorView { node: site.node(number), host: FakeSite::host(number), agent: "0.1.0".into() },
        head: head(site),
        voters: vec![],
        leader: Some(site.node(101)),
        term: 1,
        may_fail: 0,
        relays: vec![],
        counts: Counts::default(),
        clusters: 0,
        agent_upgrade: None,
        waiting_on: vec![],
    }
}

pub(crate) fn nodes(site: &FakeSite) -> Vec<NodeView> {
    let view = |number: u8| NodeView {
        v: 1,
        id: site.node(number),
        name: FakeSite::host(number),
        words: "a b".into(),
        fingerprint: format!("f{number}"),
        state: NodeState::Pool,
        since: Millis(1),
        generation: Generation(1),
        knock: None,
        cluster: None,
        role: Some(NodeRole::Worker),
        rehearsal: false,
        roles: vec![],
        probation: false,
        labels: vec![],
        facts: Some(facts(number)),
        report_age_ms: Some(5),
        load_milli: None,
        memory_used_bytes: None,
        disk_bytes: None,
        disk_free_bytes: None,
        uptime_s: None,
        work: None,
        agent_upgrade: None,
        waiting_on: None,
    };
    vec![view(101), view(102)]
}

pub(crate) fn intents(site: &FakeSite) -> Vec<IntentView> {
    let digests: Vec<Digest> = {
        let state = site.lock();
        let intents = state.audit().iter().filter(|r| r.kind == AuditKind::Intent);
        intents.rev().map(|r| r.digest).collect()
    };
    digests.iter().filter_map(|digest| intent(site, digest)).collect()
}

pub(crate) fn intent(site: &FakeSite, digest: &Digest) -> Option<IntentView> {
    let state = site.lock();
    let record = state.audit().iter().find(|r| r.digest == *digest)?;
    let intent = Intent::parse(Envelope::parse(&record.body).unwrap().payload()).unwrap();
    let rejected = matches!(record.outcome, Some(Outcome::Rejected(_)));
    Some(IntentView {
        v: 1,
        digest: *digest,
        id: intent.id.clone(),
        by: intent.by.clone(),
        action: intent.action.name().to_owned(),
        sentence: "something".into(),
        state: if rejected { IntentState::Rejected } else { IntentState::Done },
        index: Some(record.index),
        generation: None,
        reason: None,
        detail: None,
        remedy: None,
        duplicate: false,
        at: Some(record.log_time),
        waiting_on: None,
        says: None,
        receipt: None,
    })
}
