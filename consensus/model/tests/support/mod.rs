//! A site in memory: a charter, a few admins, and the part of the state that intents are judged
//! against. Everything is made of fixed seeds.

pub(crate) mod actions;
pub(crate) mod site;

use std::collections::BTreeMap;

use qb_model::action::{
    Action, AuthorizedNode, KeyClass, NewKey, Placement, Policy, RevokeMode, RevokeReason, Role,
};
use qb_model::chain::{AnchorRing, AuditKind, AuditRecord, Head, tick_digest};
use qb_model::charter::{Charter, CharterBody, Founder};
use qb_model::dsse::{SecretKey, Signer};
use qb_model::envelope::Envelope;
use qb_model::ids::{Digest, Generation, IntentId, Millis, Name, NodeId, Nonce16, PublicKey, SiteId};
use qb_model::intent::{Anchor, Expect, Intent, ObjectRef};
use qb_model::judge::{Context, Verdict, judge};
use qb_model::outcome::Outcome;
use qb_model::replay::ReplayTable;
use qb_model::trust::{TrustState, required};

/// Noon of some day in 2027.
pub(crate) const NOW: u64 = 1_800_000_000_000;
pub(crate) const MINUTE: u64 = 60_000;
pub(crate) const HOUR: u64 = 60 * MINUTE;

/// Keys by number: who has which.
pub(crate) const OLGA: u8 = 1;
pub(crate) const OTTO: u8 = 2;
pub(crate) const OPAL: u8 = 3;
pub(crate) const OPAL_BROWSER: u8 = 4;
pub(crate) const VERA: u8 = 5;

pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32])
}

pub(crate) fn public(seed: u8) -> PublicKey {
    key(seed).public_key()
}

pub(crate) fn node(seed: u8) -> NodeId {
    NodeId(public(seed).0)
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn new_key(seed: u8, class: KeyClass) -> NewKey {
    NewKey { key: public(seed), class, expires_ms: None }
}

pub(crate) fn ulid(mut number: u64) -> IntentId {
    let alphabet = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let mut text = *b"01JD0000000000000000000000";
    for at in (10..26).rev() {
        text[at] = alphabet[(number % 32) as usize];
        number /= 32;
    }
    String::from_utf8(text.to_vec()).unwrap().parse().unwrap()
}

pub(crate) fn charter_body() -> CharterBody {
    let founder = |id: &str, person: &str, seed| Founder {
        admin: name(id),
        name: person.into(),
        keys: vec![new_key(seed, KeyClass::Cli)],
    };
    CharterBody {
        v: 1,
        name: name("plant-7"),
        nonce: Nonce16([7; 16]),
        founders: vec![founder("olga", "Olga Ørsted", OLGA), founder("otto", "Otto", OTTO)],
        recovery: None,
        relays: vec![],
        issued_ms: Millis(NOW - HOUR),
    }
}

pub(crate) fn charter() -> Charter {
    let envelope = charter_body().sign(&[&key(OLGA), &key(OTTO)]);
    Charter::verify(&envelope.to_bytes()).unwrap()
}

pub(crate) struct World {
    pub(crate) charter: Charter,
    pub(crate) trust: TrustState,
    pub(crate) replay: ReplayTable,
    pub(crate) ring: AnchorRing,
    pub(crate) head: Head,
    pub(crate) log_time: Millis,
    pub(crate) floor: Millis,
    pub(crate) records: Vec<AuditRecord>,
    pub(crate) pending: BTreeMap<Digest, Envelope>,
    pub(crate) made: u64,
}

impl World {
    /// A founded site whose time is [`NOW`], with two owners only.
    pub(crate) fn founded() -> Self {
        let charter = charter();
        let site = charter.site_id();
        let mut world = Self {
            trust: TrustState::from_charter(&charter),
            charter,
            replay: ReplayTable::new(),
            ring: AnchorRing::new(site),
            head: Head::beginning(site),
            log_time: Millis(0),
            floor: Millis(0),
            records: Vec::new(),
            pending: BTreeMap::new(),
            made: 0,
        };
        let mut found = world.intent("olga", Action::SiteFound { nodes: vec![authorized(101)] });
        found.issued_ms = Millis(NOW - MINUTE);
        found.expires_ms = Millis(NOW + HOUR);
        let outcome = world.send(&found, &[OLGA]);
        assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
        world.tick(NOW);
        world
    }

    /// A site with an operator (a cli and a browser key) and a viewer besides.
    pub(crate) fn staffed() -> Self {
        let mut world = Self::founded();
        let opal = vec![new_key(OPAL, KeyClass::Cli), new_key(OPAL_BROWSER, KeyClass::Browser)];
        world.must("olga", add("opal", Role::Operator, opal), &[OLGA]);
        world.must("olga", add("vera", Role::Viewer, vec![new_key(VERA, KeyClass::Cli)]), &[OLGA]);
        world
    }

    pub(crate) fn site(&self) -> SiteId {
        self.charter.site_id()
    }

    /// Moves time on and chains a tick if the newest head is old.
    pub(crate) fn tick(&mut self, ms: u64) {
        self.log_time = Millis(ms);
        self.replay.prune(self.log_time);
        if self.head.is_idle(self.log_time) {
            let body = format!("stamps of {ms}").into_bytes();
            self.chain(AuditKind::Tick, tick_digest(&body), None, body);
        }
    }

    pub(crate) fn chain(&mut self, kind: AuditKind, digest: Digest, outcome: Option<Outcome>, body: Vec<u8>) {
        let record = AuditRecord::after(&self.head, self.log_time, kind, digest, outcome, body);
        self.head = record.head();
        self.ring.push(self.head);
        self.records.push(record);
    }

    /// An intent that is fine as far as its form goes.
    pub(crate) fn intent(&mut self, by: &str, action: Action) -> Intent {
        self.made += 1;
        let founding = matches!(action, Action::SiteFound { .. });
        let expect = if required(&action).names_trust {
            vec![Expect::Trust { hash: self.trust.head() }]
        } else {
            vec![]
        };
        Intent {
            v: 1,
            site: self.site(),
            id: ulid(self.made),
            by: name(by),
            issued_ms: self.log_time,
            expires_ms: self.log_time.plus(HOUR),
            anchor: if founding { Anchor::founding(self.site()) } else { self.head.anchor() },
            after: None,
            expect,
            action,
            note: None,
        }
    }

    pub(crate) fn judge(&self, envelope: &[u8]) -> Verdict {
        self.judge_at_level(1, envelope)
    }

    /// As a site at this feature level judges it.
    pub(crate) fn judge_at_level(&self, feature_level: u32, envelope: &[u8]) -> Verdict {
        let context = Context {
            site: self.site(),
            trust: &self.trust,
            replay: &self.replay,
            anchors: &self.ring,
            feature_level,
            log_time: self.log_time,
            issued_floor: self.floor,
            generation: &|object| (*object == cluster("blue")).then_some(Generation(3)),
        };
        judge(&context, envelope)
    }

    /// Judges and applies, as a replica does.
    ///
    /// # Errors
    /// The verdict, if nothing is recorded.
    #[expect(clippy::result_large_err, reason = "tests match on the verdict itself")]
    pub(crate) fn submit(&mut self, envelope: &[u8]) -> Result<Outcome, Verdict> {
        let mut bytes = envelope.to_vec();
        if let Ok(mut parsed) = Envelope::parse(envelope)
            && let Some(kept) = self.pending.get(&parsed.digest())
        {
            parsed.merge(kept).unwrap();
            bytes = parsed.to_bytes();
        }
        let index = self.head.index + 1;
        let (record, outcome) = match self.judge(&bytes) {
            Verdict::Duplicate { outcome, index, .. } => {
                return Ok(Outcome::Duplicate { first: Box::new(outcome), index });
            }
            Verdict::Rejected { reason, record } => (record, Outcome::Rejected(reason)),
            Verdict::Pending { have, need, record, .. } => (record, Outcome::Pending { have, need }),
            Verdict::Pass(verified) => {
                let outcome = match &verified.intent().action {
                    Action::IntentCancel { intent } => {
                        let owner = verified.role() == Role::Owner;
                        self.replay
                            .cancel(*intent, verified.author(), owner, self.log_time)
                            .map(|()| Generation(1))
                    }
                    action if required(action).trust => {
                        self.trust.apply(&verified, index, self.log_time, &|_| None)
                    }
                    _ => Ok(Generation(1)),
                };
                let outcome =
                    outcome.map_or_else(Outcome::Rejected, |generation| Outcome::Accepted { generation });
                (verified.record().clone(), outcome)
            }
            other => return Err(other),
        };
        let waited = self.pending.remove(&record.digest).is_some();
        let kind = if waited { AuditKind::Approval } else { AuditKind::Intent };
        if outcome.is_final() {
            self.replay.record(&record, outcome.clone(), index, self.log_time);
        } else {
            self.pending.insert(record.digest, Envelope::parse(&record.envelope).unwrap());
        }
        self.chain(kind, record.digest, Some(outcome.clone()), record.envelope);
        Ok(outcome)
    }

    pub(crate) fn send(&mut self, intent: &Intent, seeds: &[u8]) -> Outcome {
        let envelope = sign(intent, seeds);
        self.submit(&envelope.to_bytes()).unwrap_or_else(|v| panic!("nothing is recorded: {v:?}"))
    }

    pub(crate) fn order(&mut self, by: &str, action: Action, seeds: &[u8]) -> Outcome {
        let intent = self.intent(by, action);
        self.send(&intent, seeds)
    }

    pub(crate) fn must(&mut self, by: &str, action: Action, seeds: &[u8]) {
        let outcome = self.order(by, action, seeds);
        assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
    }

    /// Asks that an order is rejected with this code.
    pub(crate) fn must_not(&mut self, by: &str, action: Action, seeds: &[u8], code: &str) {
        let outcome = self.order(by, action, seeds);
        assert_eq!(rejection(&outcome), Some(code), "{outcome:?}");
    }
}

pub(crate) fn rejection(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Rejected(reason) => Some(reason.code()),
        _ => None,
    }
}

pub(crate) fn sign(intent: &Intent, seeds: &[u8]) -> Envelope {
    let keys: Vec<SecretKey> = seeds.iter().map(|s| key(*s)).collect();
    let signers: Vec<&dyn Signer> = keys.iter().map(|k| k as &dyn Signer).collect();
    intent.sign(&signers).unwrap()
}

pub(crate) fn authorized(seed: u8) -> AuthorizedNode {
    let host = format!("host-{seed}.plant").parse().unwrap();
    AuthorizedNode { node: node(seed), host, knock: Digest([seed; 32]) }
}

pub(crate) fn cluster(text: &str) -> ObjectRef {
    ObjectRef::Cluster(name(text))
}

pub(crate) fn add(admin: &str, role: Role, mut keys: Vec<NewKey>) -> Action {
    keys.sort_by_key(|k| k.key);
    Action::AdminAdd { admin: name(admin), name: admin.to_uppercase(), role, keys }
}

pub(crate) fn remove(admin: &str) -> Action {
    Action::AdminRemove { admin: name(admin), reason: RevokeReason::Retired }
}

pub(crate) fn label() -> Action {
    Action::NodeLabel { node: node(101), labels: vec![] }
}

pub(crate) fn policy(change: impl FnOnce(&mut Policy)) -> Action {
    let mut policy = Policy::default();
    change(&mut policy);
    Action::PolicySet { policy }
}

/// One action of each kind, in the order of the table.
pub(crate) fn every_action() -> Vec<Action> {
    let driver = name("rehearsal");
    vec![
        Action::SiteFound { nodes: vec![authorized(101)] },
        Action::NodeAuthorize { nodes: vec![authorized(102)] },
        Action::NodeRevoke { node: node(101), then: RevokeMode::Wipe },
        Action::NodeLabel {
            node: node(101),
            labels: vec![qb_model::action::Label { key: "example.com/rack".into(), value: "r7".into() }],
        },
        Action::ClusterCreate {
            cluster: name("blue"),
            driver,
            version: "1.2.3".parse().unwrap(),
            bundle: Digest([9; 32]),
            settings: None,
        },
        Action::ClusterAttach {
            cluster: name("blue"),
            placement: Placement::Auto { count: 3, control_plane: 0 },
        },
        Action::ClusterDetach { cluster: name("blue"), nodes: vec![node(101)] },
        Action::ClusterDelete { cluster: name("blue") },
        add("nina", Role::Operator, vec![new_key(20, KeyClass::Cli)]),
        remove("vera"),
        Action::AdminRole { admin: name("vera"), role: Role::Operator },
        Action::KeyAdd { admin: name("otto"), key: new_key(21, KeyClass::Cli) },
        Action::KeyRevoke {
            admin: name("opal"),
            key: public(OPAL_BROWSER),
            reason: RevokeReason::Compromised,
        },
        policy(|p| p.anchor_max_age_ms = 2 * HOUR),
        Action::PublisherAdd { publisher: name("acme"), key: public(30) },
        Action::PublisherRemove { key: public(30) },
        Action::RelayAdd { url: "https://relay.example".into(), key: public(31) },
        Action::RelayRemove { key: public(31) },
        Action::RelayRegister { org: name("acme"), key: public(31) },
        Action::IntentRelease { intent: Digest([8; 32]) },
        Action::IntentCancel { intent: Digest([8; 32]) },
        Action::AgentUpgrade {
            bundle: Digest([9; 32]),
            version: "0.2.0".parse().unwrap(),
            first: vec![node(101)],
            batch: 2,
        },
        Action::AgentUpgradeStop { upgrade: Digest([8; 32]) },
        Action::TokenMint {
            token: public(32),
            uses: 3,
            expires_ms: Millis(NOW + 24 * HOUR),
            host: Some("web-*".parse().unwrap()),
            addresses: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            labels: vec![qb_model::action::Label { key: "rack".into(), value: "r7".into() }],
        },
        Action::TokenRevoke { token: public(32) },
        Action::ClusterUpgrade {
            cluster: name("blue"),
            driver: name("kubeadm"),
            version: "1.36.3".parse().unwrap(),
            bundle: Digest([9; 32]),
            batch: 2,
            settings: None,
        },
        Action::ClusterUpgradeStop { cluster: name("blue"), upgrade: Digest([8; 32]) },
        Action::ClusterBackup { cluster: name("blue") },
        Action::ClusterRestore {
            cluster: name("blue"),
            node: node(101),
            backup: Digest([11; 32]),
            others: {
                let mut others = vec![node(102), node(103)];
                others.sort();
                others
            },
        },
        Action::ClusterLabel {
            cluster: name("blue"),
            node: node(101),
            host: "n101".parse().unwrap(),
            labels: vec![
                qb_model::action::Label { key: "disk".into(), value: "ssd".into() },
                qb_model::action::Label { key: "topology.kubernetes.io/zone".into(), value: "r7".into() },
            ],
            taints: vec![qb_model::action::Taint {
                key: "gpu".into(),
                effect: qb_model::action::TaintEffect::NoSchedule,
                value: String::new(),
            }],
        },
        Action::ClusterAddonSet {
            cluster: name("blue"),
            addon: name("hello"),
            manifest: ["apiVersion: v1", "kind: Namespace", "metadata: {name: \"hello\"}"]
                .map(str::to_owned)
                .to_vec(),
        },
        Action::ClusterAddonRemove { cluster: name("blue"), addon: name("hello") },
    ]
}
