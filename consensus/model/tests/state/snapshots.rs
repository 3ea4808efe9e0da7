//! S38: a snapshot comes from one member. What it says is believed as far as it is signed.

use std::collections::BTreeMap;

use qb_model::action::{Action, KeyClass, RevokeReason, Role};
use qb_model::chain::{AnchorRing, AuditRecord};
use qb_model::charter::Recovery;
use qb_model::ids::{Digest, Generation, HostName, Millis, Name, NodeId, PublicKey, RaftId, SiteId};
use qb_model::intent::ObjectRef;
use qb_model::replay::ReplayTable;
use qb_model::state::{
    Agents, Cluster, JoinToken, LiveIntent, NodePhase, NodeRecord, Seat, SiteState, SnapshotError, Tombstone,
};
use qb_model::trust::{Admin, AdminKey, KeyUse, Publisher, Relay, TrustEntry};
use serde::{Deserialize, Serialize};

use crate::support::site::{
    Site, attach_explicit, create, delete, detach, label, remove_addon, revoke, set_addon,
};
use crate::support::{OLGA, OPAL, VERA, charter, charter_body, key, name, node, public, remove};

/// The state with its doors open, as an intruder writes it.
#[derive(Clone, Serialize, Deserialize)]
struct Forged {
    format: u8,
    site: SiteId,
    name: Name,
    charter: Vec<u8>,
    founded: bool,
    epoch: u64,
    feature_level: u32,
    log_time: Millis,
    issued_floor: Millis,
    applied: u64,
    trust: ForgedTrust,
    replay: ReplayTable,
    anchors: AnchorRing,
    chain: Digest,
    chained: u64,
    nodes: BTreeMap<NodeId, NodeRecord>,
    tombstones: BTreeMap<NodeId, Tombstone>,
    clusters: BTreeMap<Name, Cluster>,
    generations: BTreeMap<ObjectRef, Generation>,
    intents: BTreeMap<Digest, LiveIntent>,
    seats: BTreeMap<RaftId, Seat>,
    agents: Agents,
    tokens: BTreeMap<PublicKey, JoinToken>,
    audit: Vec<AuditRecord>,
}

#[derive(Clone, Serialize, Deserialize)]
struct ForgedTrust {
    site: SiteId,
    charter: Vec<u8>,
    admins: BTreeMap<Name, Admin>,
    gone: BTreeMap<Name, Generation>,
    policy: qb_model::action::Policy,
    publishers: BTreeMap<PublicKey, Publisher>,
    relays: BTreeMap<PublicKey, Relay>,
    recovery: Option<Recovery>,
    former: BTreeMap<PublicKey, (KeyUse, RevokeReason)>,
    log: Vec<TrustEntry>,
    log_bytes: u64,
    head: Digest,
}

fn open(state: &SiteState) -> Forged {
    postcard::from_bytes(&state.to_snapshot()).unwrap()
}

/// A snapshot that says that a node is on probation no more.
pub(super) fn without_probation(state: &SiteState, node: NodeId) -> Vec<u8> {
    let mut forged = open(state);
    if let Some(record) = forged.nodes.get_mut(&node) {
        record.probation = false;
    }
    postcard::to_stdvec(&forged).unwrap()
}

fn blue(forged: &mut Forged) -> &mut Cluster {
    forged.clusters.get_mut(&name("blue")).unwrap()
}

/// `blue` runs on 102 and 103, 104 leaves it, 105 was revoked, vera removed.
fn lived() -> Site {
    let mut site = Site::with_blue(5, &[102], &[103, 104]);
    site.must("opal", detach("blue", &[104]), &[OPAL]);
    site.lead(&[]);
    site.must("opal", revoke(105), &[OPAL]);
    site.must("olga", remove("vera"), &[OLGA]);
    let version = "0.2.0".parse().unwrap();
    let first = vec![node(101)];
    site.must("opal", label("blue", 103, &[("disk", "ssd")], &["gpu"]), &[OPAL]);
    site.must("opal", set_addon("blue", "dns", &["kind: Service"]), &[OPAL]);
    site.must("opal", set_addon("blue", "old", &["kind: Service"]), &[OPAL]);
    site.must("opal", remove_addon("blue", "old"), &[OPAL]);
    site.must("olga", Action::AgentUpgrade { bundle: Digest([9; 32]), version, first, batch: 1 }, &[OLGA]);
    site
}

fn install(forged: &Forged, held: &SiteState) -> Result<SiteState, SnapshotError> {
    SiteState::from_snapshot(&postcard::to_stdvec(forged).unwrap(), held)
}

#[test]
fn the_true_one_is_installed() {
    let site = lived();
    let fresh = SiteState::new(charter().envelope()).unwrap();
    for held in [&fresh, &site.state] {
        assert!(install(&open(&site.state), held).unwrap() == site.state);
    }
    assert!(SiteState::from_own_snapshot(&site.state.to_snapshot()).unwrap() == site.state);
}

#[test]
fn s38_another_site_a_newer_format_or_no_snapshot() {
    let site = lived();
    let mut body = charter_body();
    body.name = name("plant-8");
    let other =
        SiteState::new(&body.sign(&[&key(crate::support::OLGA), &key(crate::support::OTTO)]).to_bytes());
    let error = install(&open(&other.unwrap()), &site.state).unwrap_err();
    assert!(matches!(error, SnapshotError::OtherSite { .. }));
    let mut forged = open(&site.state);
    forged.format = 2;
    assert_eq!(install(&forged, &site.state).unwrap_err(), SnapshotError::Format(2));
    let bytes = site.state.to_snapshot();
    for cut in [0, 1, 40, bytes.len() / 2, bytes.len() - 1] {
        assert!(SiteState::from_snapshot(&bytes[..cut], &site.state).is_err());
    }
}

#[test]
fn s38_trust_that_no_owner_signed() {
    let site = lived();
    let fresh = SiteState::new(charter().envelope()).unwrap();
    let keys = BTreeMap::from([(public(66), AdminKey { class: KeyClass::Cli, expires: None })]);
    let eve = Admin { name: "Eve".into(), role: Role::Owner, keys, generation: Generation(1) };
    type Change<'a> = &'a dyn Fn(&mut Forged);
    let rows: [Change<'_>; 8] = [
        &|f| drop(f.trust.admins.insert(name("eve"), eve.clone())),
        &|f| f.trust.admins.get_mut(&name("opal")).unwrap().role = Role::Owner,
        &|f| f.trust.admins.get_mut(&name("opal")).unwrap().keys.extend(&eve.keys),
        &|f| f.trust.former.retain(|key, _| *key != public(VERA)),
        &|f| f.trust.policy.anchor_max_age_ms *= 2,
        &|f| f.trust.log[0].envelope[80] ^= 1,
        &|f| f.trust.log.swap(0, 1),
        &|f| f.trust.head = Digest([1; 32]),
    ];
    for (at, row) in rows.into_iter().enumerate() {
        let mut forged = open(&site.state);
        row(&mut forged);
        let error = install(&forged, &fresh).unwrap_err();
        assert!(matches!(error, SnapshotError::Trust(_)), "{at}: {error:?}");
    }
}

#[test]
fn s38_without_the_last_revocations() {
    let mut site = Site::with_pool(4);
    let before = site.state.clone();
    site.must("olga", remove("vera"), &[OLGA]);
    let removed = site.state.clone();
    let error = install(&open(&before), &removed).unwrap_err();
    assert_eq!(error, SnapshotError::RollBack, "vera is back");
    site.must("opal", revoke(104), &[OPAL]);
    let error = install(&open(&removed), &site.state).unwrap_err();
    assert_eq!(error, SnapshotError::RollBack, "104 is back");
}

#[test]
fn s38_what_rests_on_no_intent() {
    let site = lived();
    let fresh = SiteState::new(charter().envelope()).unwrap();
    let host: HostName = "host-130.plant".parse().unwrap();
    let authorized = site.record(102).authorized;
    let stranger = NodeRecord::new(node(130), host, authorized, Millis(1));
    let attached = site.record(103).phase.clone();
    let created = site.blue().created;
    type Change<'a> = &'a dyn Fn(&mut Forged);
    let rows: [Change<'_>; 25] = [
        &|f| drop(f.nodes.insert(node(130), stranger.clone())),
        &|f| drop(f.intents.remove(&authorized.digest)),
        &|f| f.intents.get_mut(&authorized.digest).unwrap().envelope[70] ^= 1,
        &|f| f.nodes.get_mut(&node(102)).unwrap().node = node(103),
        &|f| {
            f.nodes.get_mut(&node(101)).unwrap().phase = NodePhase::Attached {
                cluster: name("blue"),
                role: qb_model::action::NodeRole::Worker,
                done: None,
                cites: authorized,
            }
        },
        &|f| {
            let cluster = name("green");
            let mut phase = attached.clone();
            if let NodePhase::Attached { cluster: c, .. } = &mut phase {
                *c = cluster;
            }
            f.nodes.get_mut(&node(103)).unwrap().phase = phase;
        },
        &|f| f.nodes.get_mut(&node(103)).unwrap().assignment.as_mut().unwrap().bundle = Digest([1; 32]),
        &|f| f.nodes.get_mut(&node(103)).unwrap().assignment.as_mut().unwrap().cites = created,
        &|f| f.clusters.get_mut(&name("blue")).unwrap().bundle = Digest([1; 32]),
        &|f| blue(f).settings.pods = "10.8.0.0/16".parse().unwrap(),
        &|f| blue(f).settings.endpoints.push("evil.example".parse().unwrap()),
        &|f| {
            let order = f.nodes.get_mut(&node(103)).unwrap().assignment.as_mut().unwrap();
            order.settings.services = "10.8.0.0/16".parse().unwrap();
        },
        &|f| f.clusters.get_mut(&name("blue")).unwrap().created = authorized,
        &|f| f.clusters.get_mut(&name("blue")).unwrap().deleting = Some(created),
        &|f| drop(f.clusters.insert(name("green"), f.clusters[&name("blue")].clone())),
        &|f| blue(f).marks.get_mut(&node(103)).unwrap().labels.clear(),
        &|f| blue(f).marks.get_mut(&node(103)).unwrap().cites = created,
        &|f| {
            let kept = blue(f).marks.remove(&node(103)).unwrap();
            drop(blue(f).marks.insert(node(102), kept));
        },
        &|f| blue(f).addons.get_mut(&name("dns")).unwrap().removed = true,
        &|f| blue(f).addons.get_mut(&name("dns")).unwrap().lines += 1,
        &|f| blue(f).addons.get_mut(&name("old")).unwrap().removed = false,
        &|f| {
            let kept = blue(f).addons.remove(&name("dns")).unwrap();
            blue(f).addons.insert(name("other"), kept);
        },
        &|f| f.tombstones.get_mut(&node(105)).unwrap().cites = authorized,
        &|f| f.agents.upgrade.as_mut().unwrap().version = "9.9.9".parse().unwrap(),
        &|f| f.agents.upgrade.as_mut().unwrap().cites = created,
    ];
    for (at, row) in rows.into_iter().enumerate() {
        let mut forged = open(&site.state);
        row(&mut forged);
        let error = install(&forged, &fresh).map(drop).unwrap_err();
        assert!(matches!(error, SnapshotError::Unfounded { .. }), "{at}: {error:?}");
    }
}

#[test]
fn snapshots_of_every_stage_are_installed() {
    let mut site = Site::with_pool(4);
    let fresh = SiteState::new(charter().envelope()).unwrap();
    let check = |site: &Site| assert!(install(&open(&site.state), &fresh).unwrap() == site.state);
    site.must("opal", create("blue"), &[OPAL]);
    site.must("opal", attach_explicit("blue", &[102], &[103]), &[OPAL]);
    for round in 0..8 {
        check(&site);
        if round == 5 {
            site.must("olga", delete("blue"), &[OLGA]);
        }
        site.lead(&[]);
        check(&site);
        for seed in site.busy() {
            site.done(seed);
        }
    }
    assert!(site.state.clusters().is_empty());
}
