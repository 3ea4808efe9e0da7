//! A site made by hand: charter, trust log, intents, orders, and nodes with keys.

use qb_drivers::bundle::manifest_digest;
use qb_exec::{MintRequest, Order};
use qb_model::action::{Action, KeyClass, NewKey, NodeRole, Placement};
use qb_model::assignment::{Assignment, Citation, Grounds, Member, Stage};
use qb_model::charter::{Charter, CharterBody, Founder};
use qb_model::dsse::{SecretKey, Signer};
use qb_model::envelope::Envelope;
use qb_model::ids::{Digest, Generation, Millis, Name, NodeId, Nonce16, SealKey, SiteId};
use qb_model::intent::{Anchor, Expect, Intent};
use qb_model::judge::verify_logged;
use qb_model::statement::{SealKeyRecord, SignedBytes, Statement as _};
use qb_model::trust::{TrustEntry, replay_log, required};

const HOUR: u64 = 3_600_000;
const NOW: u64 = 1_750_000_000_000;
const PUBLISHER: u8 = 50;

pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32])
}

pub(crate) fn node(n: u8) -> NodeId {
    NodeId(key(100 + n).public_key().0)
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A site whose nodes have addresses in 127.0.`net`.0/24.
pub(crate) struct Signed {
    pub(crate) charter: Charter,
    pub(crate) trust: Vec<TrustEntry>,
    pub(crate) bundle: Vec<u8>,
    manifest: Digest,
    create: (Vec<u8>, Citation),
    attach: (Vec<u8>, Citation),
    detach: (Vec<u8>, Citation),
    net: u8,
}

impl Signed {
    /// A site that trusts a publisher, with a cluster of nodes 1 (control plane) and 2 (worker).
    pub(crate) fn new(net: u8, nonce: u8) -> Self {
        let founder = Founder {
            admin: name("mira"),
            name: "Mira".into(),
            keys: vec![NewKey { key: key(1).public_key(), class: KeyClass::Cli, expires_ms: None }],
        };
        let body = CharterBody {
            v: 1,
            name: name("lyon"),
            nonce: Nonce16([nonce; 16]),
            founders: vec![founder],
            recovery: None,
            relays: vec![],
            issued_ms: Millis(NOW - HOUR),
        };
        let charter = Charter::verify(&body.sign(&[&key(1)]).to_bytes()).unwrap();
        let version = "1.0.0".parse().unwrap();
        let (manifest, artifacts) = qb_drivers::build_rehearsal_bundle(&version, Millis(1)).unwrap();
        let mut bundle = manifest.sign(&[&key(PUBLISHER)]);
        bundle.extend_from_slice(&artifacts);
        let nothing = (Vec::new(), Citation { digest: Digest([0; 32]), index: 0 });
        let mut site = Self {
            charter,
            trust: Vec::new(),
            bundle,
            manifest: manifest_digest(&manifest.manifest),
            create: nothing.clone(),
            attach: nothing.clone(),
            detach: nothing,
            net,
        };
        site.trusts(Action::PublisherAdd { publisher: name("kubex"), key: key(PUBLISHER).public_key() });
        let (cluster, driver, bundle) = (name("blue"), name("rehearsal"), site.manifest);
        let mut both = vec![node(1), node(2)];
        both.sort();
        let placement = Placement::Named { nodes: both.clone(), control_plane: 1 };
        site.create = site.intent(
            10,
            Action::ClusterCreate { cluster: cluster.clone(), driver, version, bundle, settings: None },
        );
        site.attach = site.intent(11, Action::ClusterAttach { cluster: cluster.clone(), placement });
        site.detach = site.intent(12, Action::ClusterDetach { cluster, nodes: both });
        site
    }

    pub(crate) fn id(&self) -> SiteId {
        self.charter.site_id()
    }

    /// The enrolment file.
    pub(crate) fn enrolment(&self) -> String {
        let charter = String::from_utf8(self.charter.envelope().to_vec()).unwrap();
        format!("{{\"v\":1,\"charter\":{charter},\"relays\":[],\"seeds\":[]}}")
    }

    fn envelope(&self, number: u64, action: Action) -> Envelope {
        let trust = replay_log(&self.charter, &self.trust).unwrap();
        let expect = match required(&action).names_trust {
            true => vec![Expect::Trust { hash: trust.head() }],
            false => vec![],
        };
        let id = format!("01JD00000000000000000000{number:02}");
        let intent = Intent {
            v: 1,
            site: self.id(),
            id: id.parse().unwrap(),
            by: name("mira"),
            issued_ms: Millis(NOW),
            expires_ms: Millis(NOW + HOUR),
            anchor: Anchor::founding(self.id()),
            after: None,
            expect,
            action,
            note: None,
        };
        intent.sign(&[&key(1) as &dyn Signer]).unwrap()
    }

    fn intent(&self, index: u64, action: Action) -> (Vec<u8>, Citation) {
        let envelope = self.envelope(index, action);
        (envelope.to_bytes(), Citation { digest: envelope.digest(), index })
    }

    /// Adds an entry to the trust log.
    pub(crate) fn trusts(&mut self, action: Action) {
        let trust = replay_log(&self.charter, &self.trust).unwrap();
        let index = 2 + self.trust.len() as u64;
        let envelope = self.envelope(index, action);
        verify_logged(&trust, &envelope.to_bytes(), Millis(NOW)).unwrap();
        self.trust.push(TrustEntry {
            parent: trust.head(),
            digest: envelope.digest(),
            index,
            log_time: Millis(NOW),
            envelope: envelope.to_bytes(),
        });
    }

    pub(crate) fn assignment(&self, n: u8, stage: Stage, generation: u64) -> Assignment {
        let member = |n: u8, role| Member {
            node: node(n),
            host: format!("lyon-r1-0{n}").parse().unwrap(),
            address: format!("127.0.{}.{n}", self.net),
            role,
            slot: u16::from(n) - 1,
        };
        let mut members = vec![member(1, NodeRole::ControlPlane), member(2, NodeRole::Worker)];
        members.sort_by_key(|m| m.node);
        let cites = if stage == Stage::Leave { self.detach.1 } else { self.attach.1 };
        Assignment {
            site: self.id(),
            node: node(n),
            generation: Generation(generation),
            cluster: name("blue"),
            driver: name("rehearsal"),
            version: "1.0.0".parse().unwrap(),
            bundle: self.manifest,
            settings: qb_model::settings::Settings::default(),
            role: if n == 1 { NodeRole::ControlPlane } else { NodeRole::Worker },
            stage,
            members,
            first: node(1),
            cites,
            created_by: self.create.1,
        }
    }

    pub(crate) fn grounds(&self, stage: Stage) -> Grounds {
        let cited = if stage == Stage::Leave { &self.detach.0 } else { &self.attach.0 };
        Grounds {
            charter: self.charter.envelope().to_vec(),
            trust_log: self.trust.clone(),
            order: (cited.clone(), Millis(NOW)),
            create: (self.create.0.clone(), Millis(NOW)),
        }
    }

    /// What node `n`'s agent hands to its executor.
    pub(crate) fn order(&self, n: u8, stage: Stage, generation: u64, seal: SealKey) -> Order {
        Order {
            assignment: self.assignment(n, stage, generation),
            grounds: self.grounds(stage),
            own: self.record(n, seal),
            join: None,
            bundle: None,
        }
    }

    /// A node's seal key record, signed by itself.
    pub(crate) fn record(&self, n: u8, key_: SealKey) -> SignedBytes {
        let not_after = Millis(u64::from(u32::MAX) * 1_000);
        let record = SealKeyRecord { v: 1, site: self.id(), node: node(n), key: key_, seq: 1, not_after };
        record.sign(&key(100 + n))
    }

    /// What the agent of node 1 asks for node 2.
    pub(crate) fn mint(&self, seal: SealKey) -> MintRequest {
        MintRequest {
            order: self.assignment(2, Stage::Join, 2),
            grounds: self.grounds(Stage::Join),
            seal: self.record(2, seal),
        }
    }
}
