//! Made-up documents, as a door shows them.

use qb_model::action::{NodeRole, PlacedNode};
use qb_model::charter::{Charter, Founder};
use qb_model::facts::Facts;
use qb_model::intent::Intent;
use qb_model::preflight::{Finding, Severity};
use qb_model::{Digest, Generation, Millis, Name, NodeId, Version};
use qb_portal::view::*;

use crate::site::taken;

/// 22 November 2026, 10:41:07 UTC.
pub(crate) const NOW: Millis = Millis(1_795_344_067_000);

pub(crate) fn ago(ms: u64) -> Millis {
    Millis(NOW.0 - ms)
}

pub(crate) fn waiting_node(number: u8) -> NodeView {
    let id =
        NodeId(qb_model::dsse::Signer::public_key(&qb_model::dsse::SecretKey::from_bytes(&[number; 32])).0);
    let host: qb_model::HostName = format!("lyon-r1-{number:02}").parse().unwrap();
    NodeView {
        v: 1,
        id,
        words: qb_model::words::words(&id.0).join(" "),
        fingerprint: qb_model::words::fingerprint(&id.0),
        state: NodeState::Waiting,
        since: ago(120_000),
        generation: Generation(0),
        knock: Some(Digest([number; 32])),
        cluster: None,
        role: None,
        rehearsal: false,
        roles: Vec::new(),
        probation: false,
        labels: Vec::new(),
        facts: Some(Facts {
            host: host.clone(),
            addresses: vec![format!("10.20.1.{number}")],
            cores: 32,
            memory_bytes: 128 << 30,
            disk_bytes: 1000 << 30,
            disk_free_bytes: 790 << 30,
            os: "Debian 12".into(),
            kernel: "6.1.0".into(),
            arch: "x86_64".into(),
            agent: "0.1.0".into(),
            zone: "rack-1".into(),
        }),
        report_age_ms: None,
        load_milli: None,
        memory_used_bytes: None,
        disk_bytes: None,
        disk_free_bytes: None,
        uptime_s: None,
        work: None,
        agent_upgrade: None,
        waiting_on: None,
        name: host,
    }
}

pub(crate) fn site(charter: &Charter, head: Head, first: &NodeView) -> SiteView {
    SiteView {
        v: 1,
        id: charter.site_id(),
        words: qb_cli::cmd::site::site_words(charter.site_id()),
        name: charter.body().name.clone(),
        founded: head.index > 0,
        trust: "provisional".into(),
        door: DoorView { node: first.id, host: first.name.clone(), agent: "0.1.0".into() },
        head,
        voters: Vec::new(),
        leader: None,
        term: 1,
        may_fail: 0,
        relays: vec![],
        counts: Counts::default(),
        clusters: 0,
        agent_upgrade: None,
        waiting_on: Vec::new(),
    }
}

pub(crate) fn admin(founder: &Founder) -> AdminView {
    let key = |k: &qb_model::action::NewKey| AdminKeyView {
        key: k.key,
        fingerprint: qb_model::words::fingerprint(&k.key.0),
        class: k.class,
        expires: None,
    };
    AdminView {
        admin: founder.admin.clone(),
        name: founder.name.clone(),
        role: qb_model::action::Role::Owner,
        generation: Generation(1),
        keys: founder.keys.iter().map(key).collect(),
    }
}

pub(crate) fn cluster(name: &Name, driver: &Name, version: &Version, bundle: Digest) -> ClusterView {
    ClusterView {
        v: 1,
        name: name.clone(),
        state: ClusterState::Empty,
        since: ago(180_000),
        generation: Generation(1),
        driver: driver.clone(),
        rehearsal: true,
        version: version.clone(),
        bundle,
        members: Vec::new(),
        endpoint: None,
        settings: None,
        findings: Vec::new(),
        upgrade: None,
        addons: Vec::new(),
        stages: Vec::new(),
        waiting_on: None,
    }
}

pub(crate) fn member(nodes: &[NodeView], placed: &PlacedNode) -> MemberView {
    let host = nodes.iter().find(|n| n.id == placed.node).unwrap().name.clone();
    MemberView {
        node: placed.node,
        host,
        role: placed.role,
        done: "none".into(),
        work: None,
        unwell: Vec::new(),
        labels: Vec::new(),
        taints: Vec::new(),
        waiting_on: None,
        upkeep: None,
    }
}

fn stage(word: &str, done: u32, of: u32, began: Option<u64>, ended: Option<u64>) -> StageView {
    StageView { word: word.into(), done, of, began: began.map(ago), ended: ended.map(ago) }
}

/// Goes a step further with every look.
pub(crate) fn advance(cluster: &mut ClusterView, looks: u32) {
    let of = cluster.members.len() as u32;
    if of == 0 {
        return;
    }
    let stages = [
        stage("preflight", of, of, Some(60_000), (looks > 1).then_some(59_000)),
        stage("prepare", 1, of, (looks > 1).then_some(59_000), (looks > 2).then_some(38_000)),
        stage("initialize", 1, 1, (looks > 2).then_some(38_000), (looks > 3).then_some(14_000)),
        stage("join", 1, of - 1, (looks > 3).then_some(14_000), (looks > 4).then_some(0)),
    ];
    cluster.stages = stages.into();
    cluster.state = if looks > 4 { ClusterState::Ready } else { ClusterState::Initializing };
    if looks > 4 {
        cluster.endpoint = Some("10.20.1.1:6443".into());
        cluster.members.iter_mut().for_each(|m| m.done = "join".into());
    }
}

pub(crate) fn intent(digest: Digest, intent: &Intent, refused: Option<(String, String)>) -> IntentView {
    IntentView {
        v: 1,
        digest,
        id: intent.id.clone(),
        by: intent.by.clone(),
        action: intent.action.name().into(),
        sentence: intent.action.name().into(),
        state: if refused.is_some() { IntentState::Rejected } else { IntentState::Done },
        index: Some(1),
        generation: None,
        reason: refused.as_ref().map(|r| r.0.clone()),
        detail: refused.map(|r| r.1),
        remedy: None,
        duplicate: false,
        at: Some(NOW),
        waiting_on: None,
        says: None,
        receipt: None,
    }
}

pub(crate) fn plan(nodes: &[NodeView], intent: &Intent, head: Head) -> PlanView {
    let placed = match &intent.action {
        qb_model::action::Action::ClusterAttach { placement, .. } => taken(nodes, placement),
        _ => Vec::new(),
    };
    let planned = |(at, (id, role)): (usize, (NodeId, NodeRole))| PlannedNode {
        node: id,
        host: nodes.iter().find(|n| n.id == id).unwrap().name.clone(),
        role: Some(role),
        first: at == 0,
        zone: format!("rack-{}", at + 1),
        stages: vec![PlannedStage {
            word: "prepare".into(),
            steps: vec!["write 5 files".into(), "start containerd".into()],
        }],
    };
    PlanView {
        v: 1,
        sentence: "attach".into(),
        changes: vec!["~ cluster clus101  empty > ready, control plane 0 > 3".into()],
        nodes: placed.into_iter().enumerate().map(planned).collect(),
        rehearsal: true,
        findings: Vec::new(),
        rejected: None,
        digest: Digest([0xb8; 32]),
        head,
    }
}

pub(crate) fn preflight() -> PreflightView {
    let finding = Finding {
        code: "NET-ONE-WAY".into(),
        severity: Severity::Error,
        subject: "lyon-r1-03 > lyon-r3-02".into(),
        text: "8472/udp dropped, 5 of 5 probes".into(),
        remedy: "on lyon-r3-02: firewall-cmd --add-port=8472/udp".into(),
    };
    PreflightView { findings: vec![finding], hosts: 2, pairs: 2, probes: 28, ms: 300 }
}
